"""The contract of events: schemas read off the classes, the gate that keeps readers unbroken, CloudEvents."""

import json
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import pytest
from cloudevents.core.formats.json import JSONFormat
from jsonschema import Draft7Validator, Draft202012Validator, FormatChecker

from scripts.event_schemas import FOLDER, META_SCHEMA, breaches, breaks, drift, invalid, write
from users.application import asyncapi
from users.application.cloud_events import cloud_event
from users.application.event_schemas import (
    ENVELOPE,
    EVENT_TYPES,
    HELP,
    SCHEMAS,
    SET_ASIDE,
    Schema,
    envelope_example,
    named,
    schema_of,
)
from users_domain.events import USER_EVENTS, UserCreated, UserEvent
from users_domain.value_objects import UserId


def valid(schema: dict[str, Any], value: Any) -> bool:
    return Draft202012Validator(schema, format_checker=FormatChecker()).is_valid(value)


# --- Schemas ------------------------------------------------------------------------------------------


def test_every_event_has_a_schema_and_so_have_tombstone_and_envelope() -> None:
    assert list(SCHEMAS) == [*EVENT_TYPES, "envelope"]
    assert {event.event_type for event in USER_EVENTS} | {SET_ASIDE} == set(EVENT_TYPES)


def test_a_schema_has_the_fields_of_the_class_in_their_types() -> None:
    content = schema_of(UserCreated).content

    assert content["required"] == list(content["properties"]) == ["user_id", "email", "name", "created_at"]
    good = {"user_id": str(UserId.new()), "email": "a", "name": "b", "created_at": "2026-01-31T09:30:00Z"}
    assert valid(content, good | {"new": "fields may come"})
    for field, wrong in [
        ("user_id", "nobody"),
        ("email", None),
        ("name", 1),
        ("created_at", "2026-01-31T09:30:00+01:00"),
    ]:
        assert not valid(content, good | {field: wrong}), field
        assert not valid(content, {name: value for name, value in good.items() if name != field}), field


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=lambda schema: schema.name)
def test_every_schema_is_explained_and_its_example_holds(schema: Any) -> None:
    assert schema.text
    assert not [name for name, field in schema.content["properties"].items() if not field["description"]]
    assert valid(schema.content, schema.example)
    if schema is not ENVELOPE:
        assert valid(ENVELOPE.content, envelope_example(schema))


def test_no_help_is_for_a_field_that_nobody_has() -> None:
    assert set(HELP) == {name for schema in SCHEMAS.values() for name in schema.content["properties"]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Odd(UserEvent):
    """Of types that no event has yet."""

    event_type = "user.odd"
    maybe: str | None
    times: list[datetime]
    number: int
    other: UUID


def test_types_that_no_event_has_yet_have_their_form_and_others_are_refused() -> None:
    content = schema_of(Odd).content
    good = {
        "user_id": str(UserId.new()),
        "maybe": None,
        "times": ["2026-01-31T09:30:00Z"],
        "number": 1,
        "other": str(UserId.new()),
    }
    assert valid(content, good)
    assert not valid(content, good | {"times": [None]})
    assert not valid(content, good | {"number": None})

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Strange(UserEvent):
        event_type = "user.strange"
        odd: complex

    with pytest.raises(TypeError, match="complex"):
        schema_of(Strange)


def test_a_schema_is_found_by_its_name_with_or_without_its_present_version() -> None:
    assert named("user.created") is named("user.created.v1") is SCHEMAS["user.created"]
    assert named("user.created.v2") is named("user") is named("") is None


# --- What may be in them --------------------------------------------------------------------------------

PERSONAL = {
    "user.created": {"email", "name"},
    "user.renamed": {"name"},
    "user.email_changed": {"email"},
}
"""All that DESIGN lets leave the service."""
HARMLESS = {"user_id", "event_type", "because", "roles", "reason", "session_id", "cause"}
SECRET = re.compile("pass|hash|secret|token|key", re.IGNORECASE)


@pytest.mark.parametrize("event_type", EVENT_TYPES)
def test_data_holds_no_secret_and_no_more_of_the_person_than_was_decided(event_type: str) -> None:
    fields = SCHEMAS[event_type].content["properties"]
    moments = {name for name, field in fields.items() if field.get("format") == "date-time"}

    assert not [name for name in fields if SECRET.search(name)]
    assert set(fields) - moments - HARMLESS == PERSONAL.get(event_type, set())


# --- The gate -------------------------------------------------------------------------------------------


def changed(**classes: Any) -> list[Any]:
    """All schemas, with another class for user.created."""
    return [classes["created"] if name == "user.created" else schema for name, schema in SCHEMAS.items()]


def variant(version: int = 1, *, without: str = "", **fields: Any) -> Any:
    """The schema of a class like UserCreated, with other fields."""
    own = {"email": str, "name": str, "created_at": datetime} | fields
    own.pop(without, None)
    members = {
        "__annotations__": own,
        "__doc__": "Changed.",
        "event_type": "user.created",
        "schema_version": version,
    }
    return schema_of(dataclass(frozen=True, kw_only=True)(type("Changed", (UserEvent,), members)))


@pytest.fixture
def folder(tmp_path: Any) -> Any:
    assert write(tmp_path, SCHEMAS.values()) == []
    return tmp_path


@pytest.mark.parametrize(
    ("how", "broken"),
    [
        ({"without": "name"}, "data.name: removed"),
        ({"name": int}, 'data.name: type was "string" and is "integer"'),
        ({"name": str | None}, 'data.name: type was "string" and is ["string", "null"]'),
        ({"name": list[str]}, 'data.name: type was "string" and is "array"'),
        ({"created_at": str}, 'data.created_at: format was "date-time" and is nothing'),
    ],
)
def test_a_change_that_breaks_readers_is_refused_and_nothing_is_written(
    folder: Any, how: dict[str, Any], broken: str
) -> None:
    before = {file.name: file.read_text() for file in folder.iterdir()}

    found = write(folder, changed(created=variant(**how)))

    assert f"user.created.v1.json: {broken}; raise schema_version of user.created" in found
    assert {file.name: file.read_text() for file in folder.iterdir()} == before


def test_with_another_version_the_same_change_appears_beside_the_old_schema(folder: Any) -> None:
    old = (folder / "user.created.v1.json").read_text()

    assert write(folder, changed(created=variant(2, without="name"))) == []

    assert (folder / "user.created.v1.json").read_text() == old
    assert "name" not in json.loads((folder / "user.created.v2.json").read_text())["properties"]


def test_a_version_never_falls(folder: Any) -> None:
    write(folder, changed(created=variant(2)))

    assert "versions only rise" in "".join(breaches(folder, SCHEMAS.values()))


def test_a_new_field_is_drift_but_breaks_nobody(folder: Any) -> None:
    more = changed(created=variant(nickname=str | None))

    assert list(breaches(folder, more)) == []
    assert list(drift(folder, more)) == ["user.created.v1.json is not what the code says"]
    assert write(folder, more) == []
    assert list(drift(folder, more)) == []


def test_an_event_that_is_gone_breaks_its_readers(folder: Any) -> None:
    rest = [schema for schema in SCHEMAS.values() if schema.name != "user.created"]

    assert "no event user.created any more" in "".join(breaches(folder, rest))


def test_a_schema_that_was_not_written_is_drift(folder: Any) -> None:
    (folder / "user.created.v1.json").unlink()

    assert list(drift(folder, SCHEMAS.values())) == ["user.created.v1.json is missing"]


OBJECT = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}


@pytest.mark.parametrize(
    ("old", "new", "breaking"),
    [
        ({"type": "string"}, {"type": "string", "description": "new words"}, False),
        ({"type": "string"}, {"type": "string", "maxLength": 5}, False),
        ({"type": "string", "maxLength": 5}, {"type": "string", "maxLength": 6}, True),
        ({"type": "string", "maxLength": 5}, {"type": "string", "maxLength": 4}, False),
        ({"type": "string", "maxLength": 5}, {"type": "string"}, True),
        ({"type": "integer", "minimum": 1}, {"type": "integer", "minimum": 0}, True),
        ({"type": "integer", "minimum": 1}, {"type": "integer", "minimum": 2}, False),
        ({"type": ["string", "null"]}, {"type": "string"}, False),
        ({"type": "string"}, {"type": ["string", "null"]}, True),
        ({"type": "number"}, {"type": "integer"}, False),
        ({"type": "integer"}, {"type": "number"}, True),
        ({"enum": ["a", "b"]}, {"enum": ["a"]}, False),
        ({"enum": ["a"]}, {"enum": ["a", "b"]}, True),
        ({"const": "a"}, {"const": "b"}, True),
        ({"pattern": "Z$"}, {"pattern": "z$"}, True),
        ({"type": "string"}, {}, True),
        (OBJECT, OBJECT | {"required": []}, True),
        (OBJECT | {"required": []}, OBJECT, False),
        (OBJECT, OBJECT | {"properties": {"a": {"type": "string"}}}, True),
        (OBJECT, OBJECT | {"properties": {}}, True),
        ({"type": "array", "items": OBJECT}, {"type": "array", "items": OBJECT | {"required": []}}, True),
        ({"type": "array", "items": OBJECT}, {"type": "array"}, True),
        ({"not": {"type": "null"}}, {"not": {"type": "string"}}, True),
    ],
)
def test_what_breaks_a_reader(old: dict[str, Any], new: dict[str, Any], breaking: bool) -> None:
    assert bool(list(breaks(old, new))) == breaking


def test_the_committed_schemas_are_those_of_the_code_and_break_nobody() -> None:
    assert list(breaches(FOLDER, SCHEMAS.values())) == []
    assert list(drift(FOLDER, SCHEMAS.values())) == [], "run `make schema`"


# --- AsyncAPI -------------------------------------------------------------------------------------------

DOCUMENT = asyncapi.document(version="1.0", stream="users.events")


def test_the_document_is_valid_by_the_official_meta_schema_which_finds_faults() -> None:
    Draft7Validator.check_schema(json.loads(META_SCHEMA.read_text()))
    assert list(invalid(DOCUMENT, SCHEMAS.values())) == []
    operation = {"action": "shout", "channel": {"$ref": "#/channels/users.events"}}
    assert list(invalid(DOCUMENT | {"operations": {"addToStream": operation}}, []))
    assert list(invalid(DOCUMENT, [Schema("x", 1, {"type": "strong"})]))


def references(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if "$ref" in node else []
        return own + [found for value in node.values() for found in references(value)]
    return [found for value in node for found in references(value)] if isinstance(node, list) else []


def resolved(reference: str) -> Any:
    node: Any = DOCUMENT
    for step in reference.removeprefix("#/").split("/"):
        node = node[step]
    return node


def test_every_reference_of_the_document_leads_somewhere() -> None:
    found = references(DOCUMENT)
    assert len(found) > 50
    assert all(resolved(reference) for reference in found)


def test_every_event_is_in_the_stream_and_on_a_channel_of_its_own() -> None:
    channels = DOCUMENT["channels"]
    assert list(channels["users.events"]["messages"]) == list(EVENT_TYPES)
    assert {name: channel["address"] for name, channel in channels.items()} == {
        name: name for name in ["users.events", *EVENT_TYPES]
    }
    assert len(DOCUMENT["operations"]) == len(channels)


def test_every_message_has_an_example_that_its_payload_allows() -> None:
    for name, message in DOCUMENT["components"]["messages"].items():
        schema = {**message["payload"], "components": DOCUMENT["components"]}
        (example,) = message["examples"]
        assert valid(schema, example["payload"]), name
        assert not valid(schema, example["payload"] | {"event_type": "user.other"}), name
        assert not valid(schema, example["payload"] | {"data": {}}), name


# --- CloudEvents ------------------------------------------------------------------------------------------

ANNOUNCED = envelope_example(SCHEMAS["user.created"])


def test_an_envelope_is_a_cloud_event_to_the_official_sdk() -> None:
    mapped = cloud_event(ANNOUNCED, source="user-service", dataschema="https://users.test/schema")

    read = JSONFormat().read(None, json.dumps(mapped))

    assert read.get_specversion() == "1.0"
    assert read.get_id() == ANNOUNCED["event_id"]
    assert read.get_source() == "user-service"
    assert read.get_type() == "user.created"
    assert read.get_subject() == ANNOUNCED["user_id"]
    assert read.get_time() == datetime.fromisoformat(ANNOUNCED["timestamp"])
    assert read.get_datacontenttype() == "application/json"
    assert read.get_dataschema() == "https://users.test/schema"
    assert read.get_data() == ANNOUNCED["data"]
    assert read.get_extension("userversion") == 1
    assert read.get_extension("requestid") == "order-4711"
    assert read.get_extension("actorid") == ANNOUNCED["actor_id"]


def test_names_of_attributes_are_as_the_specification_wants_them() -> None:
    mapped = cloud_event(ANNOUNCED, source="s", dataschema=None)

    assert all(re.fullmatch("[a-z0-9]{1,20}", name) for name in mapped)
    assert "dataschema" not in mapped


def test_what_is_not_known_is_left_out_instead_of_being_null() -> None:
    unknown = ANNOUNCED | {"request_id": None, "actor_id": None}

    assert not {"requestid", "actorid"} & cloud_event(unknown, source="s", dataschema=None).keys()


def test_sequences_sort_as_texts_up_to_the_largest() -> None:
    numbers = [1, 9, 10, 1042, 2**31, 2**63 - 1]
    texts = [
        cloud_event(ANNOUNCED | {"sequence": number}, source="s", dataschema=None)["sequence"]
        for number in numbers
    ]

    assert texts == sorted(texts)
    assert [int(text) for text in texts] == numbers
