"""What is served outside DRF."""

from collections.abc import Mapping

from users.api.operations.operation import Json, Page


def _object(**properties: Json) -> Json:
    return {"type": "object", "properties": properties, "required": sorted(properties)}


_TEXT: Json = {"type": "string"}
_HEALTH = _object(status={"type": "string", "enum": ["ok", "degraded"]})
_CHECKS: Json = {"type": "object", "additionalProperties": _TEXT}
_KEY = _object(kty=_TEXT, kid=_TEXT, alg={"enum": ["RS256", "ES256", "EdDSA"]}, use={"const": "sig"})

PAGES: Mapping[str, Page] = {
    "/.well-known/jwks.json": Page(
        operation_id="jwks",
        tag="tokens",
        summary="The public keys",
        text="With these a gateway verifies access tokens without asking us (RFC 7517).",
        content={"application/json": _object(keys={"type": "array", "items": _KEY, "minItems": 1})},
    ),
    "/problems/{code}": Page(
        operation_id="problem",
        summary="What a problem means",
        text="Where the `type` of a problem leads.",
        parameters=(
            {"name": "code", "in": "path", "required": True, "schema": _TEXT, "example": "user_not_found"},
        ),
        content={
            "application/json": _object(error=_TEXT, status={"type": "integer"}, title=_TEXT, meaning=_TEXT)
        },
        problems=("not_found",),
    ),
    "/health/live": Page(
        operation_id="live",
        summary="Is the process there?",
        text="No I/O: a lost database restarts nobody.",
        content={"application/json": _HEALTH},
    ),
    "/health/ready": Page(
        operation_id="ready",
        summary="Should requests be sent here?",
        text="`degraded` when only Redis is away; the problem `unavailable` while PostgreSQL is unreachable, "
        "migrations are pending, or the process drains.",
        content={"application/json": {**_HEALTH, "properties": _HEALTH["properties"] | {"checks": _CHECKS}}},
        problems=("unavailable",),
    ),
    "/metrics": Page(
        operation_id="metrics",
        summary="Prometheus metrics",
        content={"text/plain": _TEXT},
    ),
    "/schema": Page(
        operation_id="schema",
        summary="This document",
        text="JSON, or YAML to whoever prefers it by `Accept`.",
        content={"application/yaml": {"type": "object"}, "application/json": {"type": "object"}},
    ),
    "/schema/events": Page(
        operation_id="event_schemas",
        tag="events",
        summary="The events as AsyncAPI 3.0",
        text="What is sent where, with the schema of every event; JSON, or YAML to whoever prefers it by "
        "`Accept`.",
        content={"application/yaml": {"type": "object"}, "application/json": {"type": "object"}},
    ),
    "/schema/events/{name}": Page(
        operation_id="event_schema",
        tag="events",
        summary="The JSON Schema of an event's data",
        text="By event type, with or without the version: `user.created`, `user.created.v1`. `envelope` is "
        "what all events come in.",
        parameters=(
            {"name": "name", "in": "path", "required": True, "schema": _TEXT, "example": "user.created"},
        ),
        content={"application/schema+json": {"type": "object"}},
        problems=("not_found",),
    ),
}
