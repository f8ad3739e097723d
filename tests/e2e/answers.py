"""What an answer has to look like, said once for all tests over HTTP."""

import re
from typing import Any

from django.http import HttpResponse

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
UUID7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
STATUS = {
    "invalid_request": 400,
    "missing_token": 401,
    "invalid_token": 401,
    "invalid_credentials": 401,
    "forbidden": 403,
    "user_blocked": 403,
    "wrong_password": 403,
    "user_not_found": 404,
    "session_not_found": 404,
    "webhook_not_found": 404,
    "event_not_found": 404,
    "not_found": 404,
    "method_not_allowed": 405,
    "user_already_exists": 409,
    "user_already_blocked": 409,
    "user_not_blocked": 409,
    "email_unchanged": 409,
    "concurrent_update": 409,
    "events_gone": 410,
    "version_mismatch": 412,
    "payload_too_large": 413,
    "unsupported_media_type": 415,
    "idempotency_key_reused": 422,
    "precondition_required": 428,
    "rate_limited": 429,
    "internal_error": 500,
    "unavailable": 503,
}
"""The contract's codes, those of feed and webhooks, and the three that Django's own refusals need."""

USER_FIELDS = [
    "id",
    "email",
    "name",
    "status",
    "blocked",
    "roles",
    "email_verified",
    "created_at",
    "updated_at",
    "version",
]
ENVELOPE_FIELDS = {
    "event_type",
    "event_id",
    "timestamp",
    "data",
    "user_id",
    "user_version",
    "sequence",
    "request_id",
    "actor_id",
}


def problem(response: HttpResponse, code: str) -> dict[str, Any]:
    """The body, having made sure that the answer is this problem and a whole one."""
    assert response["Content-Type"] == "application/problem+json", (response.status_code, response.content)
    body: dict[str, Any] = response.json()
    assert body["error"] == code, body
    assert response.status_code == body["status"] == STATUS[code], body
    assert body["type"] == f"/problems/{code}"
    assert isinstance(body["title"], str)
    assert body["title"]
    assert body["request_id"] == response["X-Request-ID"]
    assert set(body) <= {"type", "title", "status", "error", "details", "request_id", "checks", "oldest"}
    _check_details(body.get("details", "none"))
    if response.status_code == 401:
        assert response["WWW-Authenticate"].startswith("Bearer ")
    if code in {"unavailable", "rate_limited"}:
        assert int(response["Retry-After"]) >= 1
    return body


def _check_details(details: Any) -> None:
    if isinstance(details, str):
        assert details
    else:
        assert details
        assert all(set(detail) == {"field", "code", "message"} for detail in details)
        assert all(isinstance(text, str) for detail in details for text in detail.values())


def faults(response: HttpResponse) -> set[tuple[str, str]]:
    """Which field is wrong and how, of a 400."""
    details = problem(response, "invalid_request")["details"]
    assert isinstance(details, list), details
    return {(detail["field"], detail["code"]) for detail in details}


def same_but_for_request_id(one: HttpResponse, other: HttpResponse) -> bool:
    bodies = [
        re.sub(rb'"request_id":"[^"]*"', b'"request_id":""', response.content) for response in (one, other)
    ]
    return bodies[0] == bodies[1] and one.status_code == other.status_code


def user(response: HttpResponse, status: int = 200) -> dict[str, Any]:
    """The user in the body, having made sure that he is a whole one, with the headers that belong to him."""
    assert response.status_code == status, response.content
    assert response["Content-Type"] == "application/json"
    body: dict[str, Any] = response.json()
    assert_user(body)
    assert response["ETag"] == f'"{body["version"]}"'
    assert response["Cache-Control"] == "private, no-cache"
    assert "Authorization" in response["Vary"]
    assert UUID7.fullmatch(response["X-Request-ID"])
    return body


def assert_user(body: dict[str, Any]) -> None:
    assert list(body) == USER_FIELDS
    assert UUID7.fullmatch(body["id"])
    assert TIME.fullmatch(body["created_at"])
    assert TIME.fullmatch(body["updated_at"])
    assert isinstance(body["version"], int)
    if body["status"] == "blocked":
        assert list(body["blocked"]) == ["reason", "at", "until", "by"]
    else:
        assert body["blocked"] is None


def results(response: HttpResponse) -> list[Any]:
    """A page's content."""
    assert response.status_code == 200, response.content
    assert response["Content-Type"] == "application/json"
    assert list(response.json()) == ["results", "next"]
    found: list[Any] = response.json()["results"]
    return found
