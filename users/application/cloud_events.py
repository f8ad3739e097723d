"""Our events as CloudEvents 1.0."""

from collections.abc import Mapping
from typing import Any

BATCH = "application/cloudevents-batch+json"
_DIGITS = 19


def cloud_event(envelope: Mapping[str, Any], *, source: str, dataschema: str | None) -> dict[str, Any]:
    """The envelope in the JSON event format. Extensions: `sequence`, with leading zeros, as the sequence
    extension wants texts that sort; `userversion`; `requestid` and `actorid` where they are known."""
    optional = {
        "dataschema": dataschema,
        "requestid": envelope["request_id"],
        "actorid": envelope["actor_id"],
    }
    return {
        "specversion": "1.0",
        "id": envelope["event_id"],
        "source": source,
        "type": envelope["event_type"],
        "subject": envelope["user_id"],
        "time": envelope["timestamp"],
        "datacontenttype": "application/json",
        "sequence": str(envelope["sequence"]).zfill(_DIGITS),
        "userversion": envelope["user_version"],
        **{name: value for name, value in optional.items() if value is not None},
        "data": envelope["data"],
    }
