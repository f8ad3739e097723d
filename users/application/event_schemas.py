"""The contract of events as JSON Schema (2020-12), read off the domain's classes: one schema for the `data`
of each type, and one for the envelope around it. Readers ignore fields that they do not know, so no schema
is closed."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints
from uuid import UUID

from users_domain.events import USER_EVENTS, UserEvent

Json = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
FOLDER = Path(__file__).parent / "schemas"
"""Every version that was ever published, a file each, as `make schema` wrote it."""
SET_ASIDE = "user.set_aside"
"""The type of a tombstone, which stands in the place of an event that cannot be told."""
EVENT_TYPES = (*(event.event_type for event in USER_EVENTS), SET_ASIDE)
"""All that a reader may meet."""

_TYPES: Mapping[Any, Json] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    bool: {"type": "boolean"},
    datetime: {"type": "string", "format": "date-time", "pattern": "Z$"},
    UUID: {"type": "string", "format": "uuid"},
    dict: {"type": "object"},
}


@dataclass(frozen=True, slots=True)
class Help:
    text: str
    example: Any


_TIME = "2026-01-31T09:30:00.000000Z"
_USER = "0198c1a2-7c1e-7d60-9b61-52f0a3a1f0c4"
HELP: Mapping[str, Help] = {
    # of the envelope
    "event_type": Help("What happened.", "user.created"),
    "event_id": Help("The same for every repeat of the event.", "0198c1a2-7c1f-7a10-8a55-1f6b1c8f2f11"),
    "timestamp": Help("When it happened, in UTC.", _TIME),
    "data": Help("The event's own fields, by the schema of its type.", {}),
    "user_id": Help("Whom it happened to.", _USER),
    "user_version": Help("The version that the user has since: each event makes one.", 1),
    "sequence": Help("The place among all events, without holes.", 1042),
    "request_id": Help("Of the request that caused it.", "order-4711"),
    "actor_id": Help(
        "Who acted: a user's id, `cli`, `system`, or null for somebody unknown.",
        "0198c1a2-0000-7000-8000-00000000000a",
    ),
    # of data
    "email": Help("The address in its canonical form.", "ann@example.com"),
    "name": Help("The name as shown.", "Ann Lee"),
    "roles": Help("All roles as they are now.", ["operator"]),
    "reason": Help("Why, in the words of whoever blocked.", "Charged back three orders"),
    "because": Help("Why the event cannot be told.", "it cannot be read"),
    "created_at": Help("When he was registered.", _TIME),
    "renamed_at": Help("When the name changed.", _TIME),
    "changed_at": Help("When it changed.", _TIME),
    "blocked_at": Help("Since when.", _TIME),
    "unblocked_at": Help("Since when.", _TIME),
    "verified_at": Help("When it was proven.", _TIME),
    "session_id": Help(
        "Which session, as in the claim `sid` of its tokens; null for all of them.",
        "0198c1a2-7c20-7b3c-8d11-0c5e1f2a3b4c",
    ),
    "cause": Help(
        "`log_out`, `log_out_everywhere`, `revoked`, `replaced` by newer ones, or `token_reused`.", "log_out"
    ),
    "ended_at": Help("Since when.", _TIME),
    "erased_at": Help("Since when.", _TIME),
}
"""Of fields by name; a test asks for each. Those that mean something else in one event have no place here."""


@dataclass(frozen=True, slots=True)
class Schema:
    """`example` is one that holds."""

    name: str
    version: int
    content: Json

    @property
    def versioned_name(self) -> str:
        """As its file and its address are called."""
        return f"{self.name}.v{self.version}"

    @property
    def text(self) -> str:
        return str(self.content["description"])

    @property
    def example(self) -> Json:
        (example,) = self.content["examples"]
        return dict(example)


def schema_of(event: type[UserEvent]) -> Schema:
    """Of the event's `data`. Raises TypeError for a field of a type that has no known form."""
    envelope = {field.name for field in fields(UserEvent)}
    types = get_type_hints(event)
    own = {field.name: types[field.name] for field in fields(event) if field.name not in envelope}
    text = " ".join((event.__doc__ or "").split())
    return _schema(event.event_type, event.schema_version, text, {"user_id": UUID, **own})


def _schema(name: str, version: int, text: str, types: Mapping[str, Any], **example: Any) -> Schema:
    content = {
        "$schema": DIALECT,
        "title": f"{name}, version {version}",
        "description": text,
        "type": "object",
        "properties": {field: _property(field, type_) for field, type_ in types.items()},
        "required": list(types),
        "examples": [{field: _help(field).example for field in types} | example],
    }
    return Schema(name, version, content)


def _property(field: str, type_: Any) -> Json:
    return {**_form(type_), "description": _help(field).text}


def _help(field: str) -> Help:
    return HELP.get(field) or Help("", None)


def _form(type_: Any) -> Json:
    if type_ in _TYPES:
        return _TYPES[type_]
    if get_origin(type_) is list:
        (item,) = get_args(type_)
        return {"type": "array", "items": _form(item)}
    if get_origin(type_) in {Union, UnionType}:
        some = [part for part in get_args(type_) if part is not NoneType]
        if len(some) == 1:
            form = _form(some[0])
            return {**form, "type": [form["type"], "null"]}
    raise TypeError(f"no JSON Schema is known for {type_}")


ENVELOPE = _schema(
    "envelope",
    1,
    "What every event comes in, on the stream, over Pub/Sub, in the feed and by webhook.",
    {
        "event_type": str,
        "event_id": UUID,
        "timestamp": datetime,
        "data": dict,
        "user_id": UUID,
        "user_version": int,
        "sequence": int,
        "request_id": str | None,
        "actor_id": str | None,
    },
    data=schema_of(USER_EVENTS[0]).example,
)
TOMBSTONE = _schema(
    SET_ASIDE,
    1,
    "In the place of an event that cannot be told: something happened to this user, read him anew. "
    "`event_type` is what it was.",
    {"user_id": UUID, "event_type": str, "because": str},
)
SCHEMAS: Mapping[str, Schema] = {
    schema.name: schema for schema in (*map(schema_of, USER_EVENTS), TOMBSTONE, ENVELOPE)
}
"""By event type; the envelope's under `envelope`."""


def named(name: str) -> Schema | None:
    """By its name: alone, the present version; with a version, that one, former ones too."""
    present = {**SCHEMAS, **{schema.versioned_name: schema for schema in SCHEMAS.values()}}
    return present.get(name) or _committed().get(name)


@cache
def _committed() -> Mapping[str, Schema]:
    """By versioned name."""
    found = {}
    for file in FOLDER.glob("*.json"):
        name, _, version = file.stem.rpartition(".v")
        found[file.stem] = Schema(name, int(version), json.loads(file.read_text()))
    return found


def envelope_example(schema: Schema) -> Json:
    """A whole event of this type."""
    return ENVELOPE.example | {"event_type": schema.name, "data": schema.example}
