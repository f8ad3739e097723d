"""What may stand in no line of the log: addresses, passwords, tokens, hashes, keys.

Every line that the service logs while tests run is searched: those of this process where they are formatted,
those of servers that tests start in their files. Whatever is found fails the test that was running."""

import logging
import re
from pathlib import Path

from structlog.stdlib import ProcessorFormatter

from users.api import request_log

PASSWORDS = ("correct horse", "battery horse", "open sesame", "grey elephants")
HASHES = ("bcrypt_sha256$", "$2a$", "$2b$", "$2y$", "argon2$", "$argon2", "pbkdf2_sha", "scrypt$")
OTHERS = ("PRIVATE KEY-----", "whsec_")
TOKEN = re.compile(r"eyJ[\w-]{10,}\.[\w-]+")
LINK = re.compile(r":[A-Za-z0-9]{6}:[\w-]{43}(?![\w-])")
"""The end of what Django's signer makes: a time, and a signature."""
ADDRESS = re.compile(r"(?<![\w.+%-])[\w.+%-]+@(?:[\w-]+\.)+[a-zA-Z][\w-]+")
IDENTIFIER = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
"""Lines of the log may name a user or a request by it, labels of metrics may not."""

_found: list[str] = []
_files: dict[Path, int] = {}
_only: dict[Path, bytes] = {}


def findings(text: str) -> list[str]:
    """What of `text` is a secret or an address, with what stands around it. Quick where there is none."""
    places = [text.index(literal) for literal in (*PASSWORDS, *HASHES, *OTHERS) if literal in text]
    patterns = [TOKEN] * ("eyJ" in text) + [ADDRESS] * ("@" in text) + [LINK]
    places += [match.start() for pattern in patterns for match in pattern.finditer(text)]
    return [text[max(0, place - 200) : place + 100] for place in places]


def watch_formatters() -> None:
    """All that are ever made, for a command that a test calls may set the log up anew; whatever else becomes
    of the line, it was written."""
    format_, line_of = ProcessorFormatter.format, request_log.line_of

    def format_and_search(self: ProcessorFormatter, record: logging.LogRecord) -> str:
        line = format_(self, record)
        _found.extend(findings(line))
        return line

    def line_searched(record: request_log.RequestRecord) -> str:
        line = line_of(record)
        _found.extend(findings(line))
        return line

    request_log.line_of = line_searched
    ProcessorFormatter.format = format_and_search  # type: ignore[method-assign]


def follow(file: Path, *, only: str = "") -> None:
    """From now on what is added to the file is searched after each test; `only`: lines that begin like this,
    where others are meant for the eyes of whoever started it."""
    _files.setdefault(file, 0)
    _only[file] = only.encode()


def found() -> list[str]:
    """Since it was asked last."""
    for file in list(_files):
        _found.extend(findings(_added(file)))
    told = _found[:]
    _found.clear()
    return told


def _added(file: Path) -> str:
    """Whole lines; the rest of the last one is yet to come."""
    try:
        with file.open("rb") as log:
            log.seek(_files[file])
            added = log.read()
    except OSError:
        return ""
    whole = added.rfind(b"\n") + 1
    _files[file] += whole
    lines = [line for line in added[:whole].splitlines() if line.startswith(_only[file])]
    return b"\n".join(lines).decode(errors="replace")
