"""The AsyncAPI 3.0 document: what is sent where, made from the schemas of the events."""

from collections.abc import Iterable
from typing import Any

from users.application.event_schemas import ENVELOPE, SCHEMAS, Schema, envelope_example

Json = dict[str, Any]
_EVENTS = [schema for schema in SCHEMAS.values() if schema is not ENVELOPE]


def document(*, version: str, stream: str) -> Json:
    """`stream`: the name of the Redis stream."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "User service: events",
            "version": version,
            "description": "What happened to each user. What is promised, and how to read it well: "
            "docs/events.md. The same events over HTTP: `GET /events` in the OpenAPI document.",
        },
        "defaultContentType": "application/json",
        "servers": {
            "redis": {
                "host": "{address}",
                "protocol": "redis",
                "description": "The Redis of `REDIS_URL`.",
                "variables": {"address": {"default": "localhost:6379", "description": "Host and port."}},
            }
        },
        "channels": {
            stream: _channel(
                stream,
                "The stream: all events, durable, in the order of their sequence. An entry's id is "
                "`<sequence>-0`; its one field `event` holds the message as JSON.",
                _EVENTS,
            ),
            **{event.name: _pub_sub(event) for event in _EVENTS},
        },
        "operations": {
            "addToStream": _send(stream, "Add an event to the stream (XADD).", _EVENTS),
            **{
                f"announce.{event.name}": _send(event.name, f"Announce {event.name} (PUBLISH).", [event])
                for event in _EVENTS
            },
        },
        "components": {
            "messages": {event.name: _message(event) for event in _EVENTS},
            "schemas": {schema.name: _without_dialect(schema) for schema in SCHEMAS.values()},
        },
    }


def _channel(address: str, text: str, events: Iterable[Schema]) -> Json:
    return {
        "address": address,
        "description": text,
        "servers": [{"$ref": "#/servers/redis"}],
        "messages": {event.name: {"$ref": f"#/components/messages/{event.name}"} for event in events},
    }


def _pub_sub(event: Schema) -> Json:
    text = "Pub/Sub: the same message as in the stream, for those who listen at this moment, and never again."
    return _channel(event.name, text, [event])


def _send(channel: str, summary: str, events: Iterable[Schema]) -> Json:
    return {
        "action": "send",
        "summary": summary,
        "channel": {"$ref": f"#/channels/{channel}"},
        "messages": [{"$ref": f"#/channels/{channel}/messages/{event.name}"} for event in events],
    }


def _message(event: Schema) -> Json:
    payload = {
        "allOf": [
            {"$ref": "#/components/schemas/envelope"},
            {
                "type": "object",
                "properties": {
                    "event_type": {"const": event.name},
                    "data": {"$ref": f"#/components/schemas/{event.name}"},
                },
            },
        ]
    }
    return {
        "name": event.name,
        "title": event.name,
        "summary": event.text,
        "contentType": "application/json",
        "payload": payload,
        "examples": [{"name": event.versioned_name, "payload": envelope_example(event)}],
    }


def _without_dialect(schema: Schema) -> Json:
    """As AsyncAPI has its own, of which these keywords are all part."""
    return {name: value for name, value in schema.content.items() if name != "$schema"}
