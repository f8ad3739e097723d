"""What happened: to one user, and to all."""

from collections.abc import Mapping

from users.api import serializers as forms
from users.api import shapes
from users.api.operations.operation import Json, Operation
from users.api.operations.users import USER_ID
from users.application.cloud_events import BATCH, cloud_event

EVENT: Json = {
    "event_type": "user.created",
    "event_id": "0198c1a2-7c1f-7a10-8a55-1f6b1c8f2f11",
    "timestamp": "2026-01-31T09:30:00.000000Z",
    "data": {
        "user_id": USER_ID,
        "email": "ann@example.com",
        "name": "Ann Lee",
        "created_at": "2026-01-31T09:30:00.000000Z",
    },
    "user_id": USER_ID,
    "user_version": 1,
    "sequence": 1,
    "request_id": "0198c1a2-7c1d-7b20-8c33-6a1d2e3f4a5b",
    "actor_id": None,
}
CLOUD_EVENT = cloud_event(
    EVENT, source="user-service", dataschema="https://users.example.com/schema/events/user.created.v1"
)
_WORD: Json = {"type": "string", "minLength": 1}
CLOUD_EVENTS: Json = {
    "type": "array",
    "items": {
        "type": "object",
        "description": "CloudEvents 1.0, JSON event format.",
        "properties": {
            "specversion": {"const": "1.0"},
            "id": _WORD,
            "source": _WORD | {"format": "uri-reference"},
            "type": _WORD,
            "subject": _WORD,
            "time": {"type": "string", "format": "date-time"},
            "datacontenttype": {"const": "application/json"},
            "dataschema": _WORD | {"format": "uri", "description": "Of `data`, at its version."},
            "sequence": {"type": "string", "pattern": "^[0-9]{19}$", "description": "With leading zeros."},
            "userversion": {"type": "integer"},
            "requestid": _WORD,
            "actorid": _WORD,
            "data": {"type": "object"},
        },
        "required": [
            "specversion",
            "id",
            "source",
            "type",
            "subject",
            "time",
            "datacontenttype",
            "sequence",
            "userversion",
            "data",
        ],
    },
}

EVENT_OPERATIONS: Mapping[str, Operation] = {
    "history": Operation(
        tag="events",
        summary="List a user's events",
        about="user",
        text="Oldest first.",
        query=forms.PageQuery,
        answer=shapes.EventPageShape,
        answer_example={"results": [EVENT], "next": None},
    ),
    "feed": Operation(
        tag="events",
        summary="List all events",
        text="By sequence: store the last sequence that you have dealt with, and ask for what comes `after` "
        "it. With `types` you skip the others; `after` stays the sequence of the last one you have seen.\n\n"
        "With `wait` an answer that has nothing new for you is held back until there is something, or the "
        "time is up: an empty page, or one that `If-None-Match` names. `Retry-After` on such an answer says "
        "that it came early: too many are waiting, or this process is about to stop.",
        query=forms.FeedQuery,
        sends=("If-None-Match",),
        answer=shapes.EventPageShape,
        answer_example={"results": [EVENT], "next": "/events?after=1&limit=1"},
        also_as={BATCH: (CLOUD_EVENTS, [CLOUD_EVENT])},
        answers_with=("ETag.content", "Link.next", "Retry-After.early"),
        not_modified=True,
        problems=("forbidden", "events_gone"),
    ),
}
