"""Secrets of a development machine: files that whoever comes first makes, and everybody else reads. Imports
the standard library only, for the settings use it too."""

import os
from collections.abc import Callable
from pathlib import Path
from tempfile import mkstemp


def made_once(path: Path, make: Callable[[], bytes]) -> bytes:
    """What is in the file at `path`; made first, for its owner's eyes only, when there is none. Of several
    processes that come at once the first one's content stays, and nobody reads half of it."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, unfinished = mkstemp(prefix=f"{path.name}.", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(make())
            os.link(unfinished, path)  # fails where somebody was faster, and never shows half a file
        except FileExistsError:
            pass
        finally:
            Path(unfinished).unlink()
    return path.read_bytes()
