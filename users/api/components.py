"""What the operations of the OpenAPI document share: problems, headers sent and answered, the token."""

from typing import Any

from users.api import serializers as forms
from users.api.errors import PROBLEMS
from users.api.operations import SESSION_ID, USER_ID, WEBHOOK_ID, Json

BEARER = "bearerAuth"


def problem_example(code: str) -> Json:
    problem = PROBLEMS[code]
    example = {
        "type": f"/problems/{code}",
        "title": problem.title,
        "status": problem.status,
        "error": code,
        "request_id": "0198c1a2-7c1d-7b20-8c33-6a1d2e3f4a5b",
    }
    if code == "events_gone":
        example["oldest"] = 1043
    if code == "invalid_request":
        example["details"] = [
            {"field": "name", "code": "too_short", "message": "A name has 2 to 100 characters."}
        ]
    return example


def problem_schema() -> Json:
    detail = {
        "type": "object",
        "properties": {
            "field": {"type": "string", "description": "Which one; `roles.0` is an item of a list."},
            "code": {"type": "string", "description": "How it is wrong: stable."},
            "message": {"type": "string", "description": "The same for people."},
        },
        "required": ["field", "code", "message"],
    }
    return {
        "type": "object",
        "description": "RFC 9457. Branch on `error`.",
        "properties": {
            "type": {"type": "string", "format": "uri-reference"},
            "title": {"type": "string", "description": "For people."},
            "status": {"type": "integer"},
            "error": {"type": "string", "enum": list(PROBLEMS), "description": "Stable."},
            "details": {
                "description": "When there is more to say: a sentence, or one entry for each wrong field.",
                "oneOf": [{"type": "string"}, {"type": "array", "items": detail, "minItems": 1}],
            },
            "request_id": {"type": "string", "description": "As in X-Request-ID."},
            "oldest": {
                "type": "integer",
                "minimum": 1,
                "description": "With `events_gone`: the first sequence that is still kept.",
            },
        },
        "required": ["type", "title", "status", "error", "request_id"],
    }


def _header(text: str, example: str, *, required: bool = True, **schema: Any) -> Json:
    typed = {"type": "string", **schema}
    return {"description": text, "required": required, "schema": typed, "example": example}


def _sent(name: str, text: str, example: str, **schema: Any) -> Json:
    return {
        "name": name,
        "in": "header",
        "description": text,
        "schema": {"type": "string", **schema},
        "example": example,
    }


_TAG = r'(W/)?"[!#-~]*"'
PARAMETERS: Json = {
    "user_id": {
        "name": "user_id",
        "in": "path",
        "required": True,
        "description": "A user's id, or `me` for your own.",
        "schema": {"type": "string", "pattern": f"^(me|{forms.USER_ID})$"},
        "examples": {"id": {"value": USER_ID}, "me": {"value": "me"}},
    },
    "session_id": {
        "name": "session_id",
        "in": "path",
        "required": True,
        "description": "A session's id: the claim `sid` of its tokens.",
        "schema": {"type": "string", "pattern": f"^{forms.USER_ID}$"},
        "example": SESSION_ID,
    },
    "webhook_id": {
        "name": "webhook_id",
        "in": "path",
        "required": True,
        "description": "A webhook's id.",
        "schema": {"type": "string", "pattern": f"^{forms.USER_ID}$"},
        "example": WEBHOOK_ID,
    },
    "If-Match": _sent(
        "If-Match",
        'Change it only at this version: its `ETag`, such as `"3"`. Another version is answered '
        "412 `version_mismatch`, and so is a weak tag.",
        '"1"',
        pattern=rf"^(\*|{_TAG}([ \t]*,[ \t]*{_TAG})*)$",
    ),
    "If-None-Match": _sent(
        "If-None-Match", "The `ETag` of the version you have: 304 while it is the current one.", '"7"'
    ),
    "Idempotency-Key": _sent(
        "Idempotency-Key",
        "Your own word for this request, 1 to 255 printable ASCII characters.",
        "6f1c2c5e-order-4711",
        pattern=r"^[!-~]([ -~]{0,253}[!-~])?$",
    ),
    "X-Request-ID": _sent(
        "X-Request-ID",
        "Kept when it is 1 to 64 of the characters `A-Za-z0-9_-`; otherwise replaced.",
        "order-4711",
    ),
}
HEADERS: Json = {
    # By name; where one header means different things, a word behind a point says which.
    "ETag": _header("The version, as a strong tag.", '"1"', pattern='^"[1-9][0-9]*"$'),
    "Location": _header("The address of what was made.", f"/users/{USER_ID}", format="uri-reference"),
    "Content-Disposition": _header("A file to keep.", f'attachment; filename="user-{USER_ID}.json"'),
    "ETag.content": _header(
        "Of these very bytes.", '"9f86d081884c7d659a2feaa0c55ad015"', pattern='^"[0-9a-f]{32}"$'
    ),
    "Link.next": _header(
        "The next page (RFC 8288); absent at the end.", '</events?after=42>; rel="next"', required=False
    ),
    "Retry-After.early": _header(
        "Only when you asked to `wait` and could not: seconds after which to ask again.",
        "1",
        required=False,
        pattern="^[1-9][0-9]*$",
    ),
    "RateLimit": _header(
        "Where you stand, by limit: `r` remain, and there is one more in `t` seconds; absent where no limit "
        "applies (draft-ietf-httpapi-ratelimit-headers).",
        '"login";r=7;t=90',
        required=False,
    ),
    "RateLimit-Policy": _header(
        "The limits that were counted under: `q` in `w` seconds.", '"login";q=10;w=900', required=False
    ),
    "Retry-After": _header("Seconds after which a new try makes sense.", "1", pattern="^[1-9][0-9]*$"),
    "WWW-Authenticate": _header("How to authenticate (RFC 6750).", 'Bearer realm="user-service"'),
    "X-Request-ID": _header("Finds this request in the log.", "order-4711", pattern="^[A-Za-z0-9_-]{1,64}$"),
}
LIMIT_HEADERS = ("RateLimit", "RateLimit-Policy")
HEADERS_OF_STATUS = {
    401: ("WWW-Authenticate",),
    429: ("Retry-After", *LIMIT_HEADERS),
    503: ("Retry-After",),
}
SECURITY_SCHEMES: Json = {
    BEARER: {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "An access token from `POST /auth/token`.",
    }
}
