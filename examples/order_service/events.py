"""An event as it comes from the stream or the feed: the envelope of the user service's docs/events.md."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

SET_ASIDE = "user.set_aside"
"""A tombstone: something happened to the user that cannot be told as an event."""


class MalformedEvent(Exception):
    """This is no envelope."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """`timestamp` is when it happened, in seconds since 1970 by the user service's clock."""

    sequence: int
    type: str
    user_id: str
    user_version: int
    timestamp: float
    data: Mapping[str, Any]

    @classmethod
    def parse(cls, envelope: Any) -> "Event":
        """Raises MalformedEvent. Fields that we do not know are none of our business."""
        try:
            return cls(
                sequence=_whole(envelope["sequence"]),
                type=_text(envelope["event_type"]),
                user_id=_text(envelope["user_id"]),
                user_version=_whole(envelope["user_version"]),
                timestamp=datetime.fromisoformat(_text(envelope["timestamp"])).timestamp(),
                data=dict(envelope["data"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise MalformedEvent(f"{type(error).__name__}: {error}") from error


def _whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError("not a number from 1 on")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("not a text")
    return value
