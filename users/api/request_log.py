"""The line that a request leaves in the log: the same JSON as every other, by a way that costs a tenth."""

import logging
import os
import select
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from typing import NamedTuple, TextIO, TypeGuard

import orjson
from structlog.stdlib import ProcessorFormatter

_logger = logging.getLogger("users.request")
_made = logging.LogRecord(_logger.name, logging.INFO, __file__, 0, "", (), None)
_NOT_ASKED = ("thread", "threadName", "process", "processName", "taskName")
_ONE_LINE = orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z
_SAME_FOR_ALL = vars(_made) | {name: None for name in _NOT_ASKED if hasattr(_made, name)}


class RequestRecord(logging.LogRecord):
    """`msg` is the line's fields. To find out which thread and which file it comes from, as logging does for
    every record, would take longer than to write it."""

    def __init__(self, line: bytes, at: float) -> None:
        self.__dict__.update(_SAME_FOR_ALL)
        self.created = at
        self.msecs = self.created % 1 * 1000
        self.msg = orjson.loads(line)


class JsonLines(ProcessorFormatter):
    """structlog's, for all but the lines of requests, which hold nothing that it would have to look at."""

    def format(self, record: logging.LogRecord) -> str:
        if type(record) is RequestRecord:
            return line_of(record)
        return super().format(record)


class Lines(logging.StreamHandler[TextIO]):
    """Where all lines go. Those of requests, past logging, which holds a lock while it writes: one write of
    the system's keeps the lines of threads apart by itself."""

    def write_lines(self, lines: Iterable[bytes]) -> None:
        """A log that takes nothing stops no request, as with logging's own."""
        for piece in _pieces(lines):
            with suppress(OSError, ValueError):
                self._write_all(piece)

    def _write_all(self, piece: bytes) -> None:
        while piece:
            piece = piece[os.write(self.stream.fileno(), piece) :]


def _pieces(lines: Iterable[bytes]) -> Iterable[bytes]:
    """So many lines together as a pipe takes in one piece, whoever else writes to it (POSIX, write)."""
    piece = b""
    for line in lines:
        if len(piece) + len(line) > select.PIPE_BUF:
            yield piece
            piece = b""
        piece += line
    yield piece


def line_of(record: RequestRecord) -> str:
    return orjson.dumps(record.msg).decode()


class Line(NamedTuple):
    """What there is to say of one request, which was over `at` this Unix time. `common` is what every request
    like it says: an object in JSON, and not an empty one."""

    common: bytes
    request_id: str
    at: float
    seconds: float


def write(lines: Iterable[Line]) -> None:
    """Each in one piece, where LOG_LEVEL lets requests through; else they are not even made."""
    if not _logger.isEnabledFor(logging.INFO):
        return
    if _writes_alone(logging.root.handlers):
        logging.root.handlers[0].write_lines(map(_as_json, lines))
    else:
        for line in lines:
            _logger.handle(RequestRecord(_as_json(line), line.at))


def _as_json(line: Line) -> bytes:
    own = {
        "request_id": line.request_id,
        "duration_ms": round(line.seconds * 1000, 2),
        "timestamp": datetime.fromtimestamp(line.at, UTC),
    }
    return line.common[:-1] + b"," + orjson.dumps(own, option=_ONE_LINE)[1:]


def _writes_alone(handlers: list[logging.Handler]) -> TypeGuard[list[Lines]]:
    """Whether nobody else listens, as test runners do."""
    return len(handlers) == 1 and type(handlers[0]) is Lines
