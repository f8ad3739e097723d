"""The line that a request leaves in the log: the same JSON as every other, by a way that costs a tenth."""

import logging
import time
from datetime import UTC, datetime
from typing import Any

import orjson
from structlog.stdlib import ProcessorFormatter

_logger = logging.getLogger("users.request")
_made = logging.LogRecord(_logger.name, logging.INFO, __file__, 0, "", (), None)
_NOT_ASKED = ("thread", "threadName", "process", "processName", "taskName")
_SAME_FOR_ALL = vars(_made) | {name: None for name in _NOT_ASKED if hasattr(_made, name)}


class RequestRecord(logging.LogRecord):
    """`msg` is the line's fields. To find out which thread and which file it comes from, as logging does for
    every record, would take longer than to write it."""

    def __init__(self, fields: dict[str, Any]) -> None:
        self.__dict__.update(_SAME_FOR_ALL)
        self.created = time.time()
        self.msecs = self.created % 1 * 1000
        self.msg = fields


class JsonLines(ProcessorFormatter):
    """structlog's, for all but the lines of requests, which hold nothing that it would have to look at."""

    def format(self, record: logging.LogRecord) -> str:
        if type(record) is RequestRecord:
            return line_of(record)
        return super().format(record)


def line_of(record: RequestRecord) -> str:
    return orjson.dumps(record.msg).decode()


def write(fields: dict[str, Any], request_id: str) -> None:
    """One line, in one piece, where LOG_LEVEL lets requests through."""
    if not _logger.isEnabledFor(logging.INFO):
        return
    fields |= {
        "event": "request",
        "request_id": request_id,
        "level": "info",
        "timestamp": datetime.now(UTC).isoformat(timespec="microseconds")[:-6] + "Z",
    }
    _logger.handle(RequestRecord(fields))
