"""Writes down all that is kept of one user, as he may ask for."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from django.core.management.base import CommandError, CommandParser

from users import wiring
from users.management.command import USAGE_ERROR, OperatorCommand
from users.management.selection import choose


class Command(OperatorCommand):
    help = "Prints all that is kept of one user, as one JSON object without secrets."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("user", metavar="USER", help="an id or an email address")
        parser.add_argument(
            "--output",
            type=Path,
            metavar="FILE",
            help="writes to this new file, for your own eyes (mode 0600)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        (chosen,) = choose([options["user"].strip()])
        if chosen.user_id is None:
            raise CommandError(str(chosen.refusal))
        pieces = wiring.service().privacy.export(chosen.user_id)
        if options["output"] is None:
            for piece in pieces:
                self.stdout.write(piece.decode(), ending="")
            self.stdout.write("")
            return
        with _new_file(options["output"]) as file:
            file.writelines(pieces)
        self.stderr.write(f"Written to {options['output']}")


@contextmanager
def _new_file(path: Path) -> Iterator[IO[bytes]]:
    """Nobody else may read it, from its first byte on. Half of it is none."""
    try:
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}", returncode=USAGE_ERROR) from error
    try:
        with os.fdopen(opened, "wb") as file:
            yield file
    except BaseException:
        with suppress(OSError):
            path.unlink()
        raise
