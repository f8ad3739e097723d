"""Every operation in words, for the OpenAPI document: keyed by the view's action, as the permissions are.

What follows from the address, the permission matrix and the forms is not repeated here; `users.api.schema`
adds it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rest_framework.serializers import Serializer

from users.api import serializers as forms
from users.api import shapes

Json = dict[str, Any]
CONDITIONAL = ("version_mismatch", "precondition_required", "concurrent_update")
"""What every command on one user may answer on account of his version."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """`problems` are those beyond what every operation of its kind may answer. `sends` and `answers_with`
    name header components; `leads_to` are operations that take the answered user's id and version."""

    tag: str
    summary: str
    text: str = ""
    body: type[Serializer[Any]] | None = None
    body_example: Json | None = None
    query: type[forms.StrictQuery] | None = None
    sends: tuple[str, ...] = ()
    status: int = 200
    answer: type[Serializer[Any]] | None = None
    answer_example: Any = None
    answers_with: tuple[str, ...] = ()
    not_modified: bool = False
    problems: tuple[str, ...] = ()
    leads_to: tuple[str, ...] = ()


USER_ID = "0198c1a2-7c1e-7d60-9b61-52f0a3a1f0c4"
USER: Json = {
    "id": USER_ID,
    "email": "ann@example.com",
    "name": "Ann Lee",
    "status": "active",
    "blocked": None,
    "roles": [],
    "email_verified": False,
    "created_at": "2026-01-31T09:30:00.000000Z",
    "updated_at": "2026-01-31T09:30:00.000000Z",
    "version": 1,
}
BLOCKED_USER: Json = USER | {
    "status": "blocked",
    "blocked": {
        "reason": "Charged back three orders",
        "at": "2026-02-01T08:00:00.000000Z",
        "until": "2099-03-01T00:00:00.000000Z",
        "by": "0198c1a2-0000-7000-8000-00000000000a",
    },
    "updated_at": "2026-02-01T08:00:00.000000Z",
    "version": 2,
}
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

OPERATIONS: Mapping[str, Operation] = {
    "register": Operation(
        tag="users",
        summary="Register a user",
        text="Anyone may, where registration is open; where it is closed, operators, admins and services. "
        "A token is not needed then, but one that is sent has to be good.\n\n"
        "With an `Idempotency-Key` a repeated request gets the first one's answer for 24 hours.",
        body=forms.RegisterBody,
        body_example={"email": "ann@example.com", "name": "Ann Lee", "password": "seven green umbrellas"},
        sends=("Idempotency-Key",),
        status=201,
        answer=shapes.UserShape,
        answer_example=USER,
        answers_with=("Location", "ETag"),
        problems=("user_already_exists", "concurrent_update", "idempotency_key_reused", "forbidden"),
        leads_to=("retrieve", "rename", "change_email", "change_roles", "block", "unblock", "history"),
    ),
    "list": Operation(
        tag="users",
        summary="List users",
        text="Newest first; all filters that are given must hold. There is no total count: follow `next` "
        "until it is null.",
        query=forms.ListQuery,
        answer=shapes.UserPageShape,
        answer_example={"results": [USER], "next": "/users?limit=1&cursor=WyIyMDI2LTAxLTMxV...:9-x2kQ"},
        problems=("forbidden",),
    ),
    "retrieve": Operation(
        tag="users",
        summary="Look up a user",
        query=forms.UserQuery,
        sends=("If-None-Match",),
        answer=shapes.UserShape,
        answer_example=USER,
        answers_with=("ETag",),
        not_modified=True,
        problems=("version_mismatch",),
        leads_to=("rename", "block", "history"),
    ),
    "rename": Operation(
        tag="users",
        summary="Rename a user",
        text="The name that the user has already is no change and makes no version.",
        body=forms.RenameBody,
        body_example={"name": "Ann Miller"},
        sends=("If-Match",),
        answer=shapes.UserShape,
        answer_example=USER | {"name": "Ann Miller", "version": 2},
        answers_with=("ETag",),
        problems=("forbidden", *CONDITIONAL),
        leads_to=("retrieve", "rename", "block"),
    ),
    "change_email": Operation(
        tag="users",
        summary="Change a user's email address",
        text="At once; the new address is unverified. Your own account takes your current password.",
        body=forms.ChangeEmailBody,
        body_example={"email": "ann.miller@example.com", "password": "seven green umbrellas"},
        sends=("If-Match",),
        answer=shapes.UserShape,
        answer_example=USER | {"email": "ann.miller@example.com", "version": 2},
        answers_with=("ETag",),
        problems=("wrong_password", "user_already_exists", "email_unchanged", *CONDITIONAL),
        leads_to=("retrieve", "change_email"),
    ),
    "change_password": Operation(
        tag="users",
        summary="Change your password",
        text="Every token issued before is refused from then on.",
        body=forms.ChangePasswordBody,
        body_example={
            "current_password": "seven green umbrellas",
            "new_password": "a staple, or several of them",
        },
        sends=("If-Match",),
        status=204,
        answers_with=("ETag",),
        problems=("wrong_password", *CONDITIONAL),
    ),
    "change_roles": Operation(
        tag="users",
        summary="Change a user's roles",
        text="The list replaces all that the user has. Every token issued to him before is refused from then "
        "on. The last active admin keeps that role.",
        body=forms.ChangeRolesBody,
        body_example={"roles": ["service"]},
        sends=("If-Match",),
        answer=shapes.UserShape,
        answer_example=USER | {"roles": ["service"], "version": 2},
        answers_with=("ETag",),
        problems=("forbidden", *CONDITIONAL),
        leads_to=("retrieve", "change_roles"),
    ),
    "block": Operation(
        tag="blocking",
        summary="Block a user",
        text="Until `until`, or until somebody unblocks. The user's tokens are refused from the next request "
        "on. Nobody blocks himself or the last active admin, and an operator no operator or admin.",
        body=forms.BlockBody,
        body_example={"reason": "Charged back three orders", "until": "2099-03-01T00:00:00Z"},
        sends=("If-Match",),
        answer=shapes.UserShape,
        answer_example=BLOCKED_USER,
        answers_with=("ETag",),
        problems=("forbidden", "user_already_blocked", *CONDITIONAL),
        leads_to=("retrieve", "unblock", "block"),
    ),
    "unblock": Operation(
        tag="blocking",
        summary="Unblock a user",
        body=forms.NoBody,
        body_example={},
        sends=("If-Match",),
        answer=shapes.UserShape,
        answer_example=USER | {"version": 3},
        answers_with=("ETag",),
        problems=("forbidden", "user_not_blocked", *CONDITIONAL),
        leads_to=("retrieve", "block", "unblock"),
    ),
    "history": Operation(
        tag="events",
        summary="List a user's events",
        text="Oldest first.",
        query=forms.PageQuery,
        answer=shapes.EventPageShape,
        answer_example={"results": [EVENT], "next": None},
    ),
    "feed": Operation(
        tag="events",
        summary="List all events",
        text="By sequence, for catching up: store the last sequence that you have dealt with, and ask for "
        "what comes `after` it.",
        query=forms.FeedQuery,
        answer=shapes.EventPageShape,
        answer_example={"results": [EVENT], "next": "/events?after=1&limit=1"},
        problems=("forbidden",),
    ),
    "log_in": Operation(
        tag="tokens",
        summary="Log in",
        text="An unknown address and a wrong password are answered alike; that an account is blocked learns "
        "only who knows its password.",
        body=forms.LogInBody,
        body_example={"email": "ann@example.com", "password": "seven green umbrellas"},
        answer=shapes.TokenShape,
        answer_example={"access": "eyJhbGciOiJFUzI1NiIsImtpZCI6Ii4uLiJ9.eyJzdWIiOiIuLi4ifQ.c2lnbmF0dXJl"},
        problems=("invalid_credentials", "user_blocked"),
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What is served outside DRF, to anyone, by GET. `content` is a schema for each media type."""

    operation_id: str
    tag: str = "service"
    summary: str
    text: str = ""
    parameters: tuple[Json, ...] = ()
    content: Mapping[str, Json] = field(default_factory=dict)
    problems: tuple[str, ...] = ()


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
}
