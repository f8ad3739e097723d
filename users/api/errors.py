"""One error table: every refusal, ours, DRF's and Django's, as application/problem+json (RFC 9457)."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
import structlog
from django.core.exceptions import BadRequest, PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse
from rest_framework import exceptions as drf
from rest_framework.response import Response
from rest_framework_simplejwt.exceptions import TokenError

from users.api.renderers import ReadyJSONRenderer
from users.application import errors as application
from users_domain import errors as domain

MEDIA_TYPE = "application/problem+json"
Details = str | list[dict[str, str]] | None


@dataclass(frozen=True, slots=True)
class Problem:
    status: int
    title: str
    meaning: str


PROBLEMS: Mapping[str, Problem] = {
    "invalid_request": Problem(400, "Invalid request", "The request breaks a rule; `details` says which."),
    "missing_token": Problem(401, "Missing token", "Send `Authorization: Bearer <access token>`."),
    "invalid_token": Problem(
        401,
        "Invalid token",
        "The token is malformed, expired, or was made worthless by a change of the account.",
    ),
    "invalid_credentials": Problem(
        401, "Invalid credentials", "No account has this email address and password."
    ),
    "forbidden": Problem(403, "Forbidden", "You may not do this; `details` says why where it can be told."),
    "user_blocked": Problem(403, "Account blocked", "The password is right, but the account is blocked."),
    "wrong_password": Problem(403, "Wrong password", "The current password that came along is wrong."),
    "user_not_found": Problem(404, "No such user", "There is no such user, or none that you may know of."),
    "session_not_found": Problem(404, "No such session", "There is no such session, or it has ended."),
    "webhook_not_found": Problem(404, "No such webhook", "There is no such webhook."),
    "event_not_found": Problem(404, "No such event", "There is no such event, or it is no longer kept."),
    "not_found": Problem(404, "Not found", "Nothing is served at this address."),
    "method_not_allowed": Problem(
        405, "Method not allowed", "`Allow` lists the methods that this address knows."
    ),
    "user_already_exists": Problem(409, "User exists", "Another user has this email address."),
    "user_already_blocked": Problem(409, "Already blocked", "The user is blocked already; unblock first."),
    "user_not_blocked": Problem(409, "Not blocked", "The user is not blocked."),
    "email_unchanged": Problem(409, "Email unchanged", "This is the user's email address already."),
    "concurrent_update": Problem(
        409,
        "Concurrent update",
        "Others were changing the user at the same time; nothing was changed, try again.",
    ),
    "events_gone": Problem(
        410,
        "Events gone",
        "The feed no longer reaches back that far: read the users anew, then go on from the oldest event.",
    ),
    "version_mismatch": Problem(
        412, "Version mismatch", "There is another version by now than the one named; nothing was changed."
    ),
    "payload_too_large": Problem(413, "Payload too large", "A body has at most 64 KiB."),
    "unsupported_media_type": Problem(
        415, "Unsupported media type", "Send `Content-Type: application/json`."
    ),
    "idempotency_key_reused": Problem(
        422, "Idempotency-Key reused", "This key came with another request before; take a new one."
    ),
    "precondition_required": Problem(
        428, "Precondition required", "Send `If-Match` with the version you know."
    ),
    "rate_limited": Problem(429, "Too many requests", "Come back after `Retry-After` seconds."),
    "internal_error": Problem(500, "Internal error", "A fault of ours; `request_id` finds it in the log."),
    "unavailable": Problem(503, "Unavailable", "Come back after `Retry-After` seconds; nothing is lost."),
}
"""By stable code. Never renamed, never reused; docs/api.md lists them."""

STATUS_OF = {
    domain.InvalidValue: 400,
    domain.NotFound: 404,
    domain.Conflict: 409,
    domain.VersionMismatch: 412,
    domain.Refused: 403,
    application.InvalidCredentials: 401,
    application.IdempotencyKeyReused: 422,
    application.InvalidQuery: 400,
    application.EventsGone: 410,
    application.EventNotFound: 404,
    application.InvalidWebhook: 400,
    application.WebhookNotFound: 404,
    application.InvalidLink: 400,
    application.Forbidden: 403,
    application.InvalidToken: 401,
    application.SessionNotFound: 404,
    application.RateLimited: 429,
    application.Unavailable: 503,
}
"""The bases of our error trees; a test holds each leaf's code against PROBLEMS."""

REALM = 'Bearer realm="user-service"'
CHALLENGES = {
    "missing_token": REALM,
    "invalid_credentials": REALM,
    "invalid_token": f'{REALM}, error="invalid_token"',
}

log = structlog.get_logger(__name__)


class PreconditionRequired(Exception):
    """A command came without If-Match where that is demanded."""


def problem_fields(code: str, details: Details = None) -> dict[str, Any]:
    """The body of a problem."""
    problem = PROBLEMS[code]
    fields = {"type": f"/problems/{code}", "title": problem.title, "status": problem.status, "error": code}
    if details:
        fields["details"] = details
    fields["request_id"] = structlog.contextvars.get_contextvars().get("request_id")
    return fields


def problem_headers(code: str, retry_after: int = 1) -> dict[str, str]:
    headers = {"Cache-Control": "no-store"}
    if code in CHALLENGES:
        headers["WWW-Authenticate"] = CHALLENGES[code]
    if code in {"unavailable", "rate_limited"}:
        headers["Retry-After"] = str(retry_after)
    return headers


def problem_response(
    code: str, *, details: Details = None, retry_after: int = 1, **more: Any
) -> HttpResponse:
    """Outside DRF: middleware, Django's own handlers, health. `more` are further members of the body."""
    body = orjson.dumps(problem_fields(code, details) | more)
    response = HttpResponse(body, status=PROBLEMS[code].status, content_type=MEDIA_TYPE)
    for name, value in problem_headers(code, retry_after).items():
        response[name] = value
    return response


def exception_handler(error: Exception, context: Mapping[str, Any]) -> Response | None:
    """DRF's hook. None, for what nobody expected, leads to Django's handler500."""
    named = name_problem(error)
    if named is None:
        return None
    code, details = named
    headers = problem_headers(code, retry_after=getattr(error, "retry_after", None) or 1)
    fields = problem_fields(code, details)
    if isinstance(error, application.EventsGone):
        fields["oldest"] = error.oldest  # an extension member (RFC 9457, 3.2): consumers go on from there
    response = Response(fields, status=PROBLEMS[code].status, headers=headers)
    request = context["request"]
    if getattr(getattr(request, "accepted_renderer", None), "format", None) != "api":
        # Whatever the view speaks when all is well, YAML or a page: problems are JSON.
        request.accepted_renderer, request.accepted_media_type = ReadyJSONRenderer(), MEDIA_TYPE
        response.content_type = MEDIA_TYPE
    return response


def name_problem(error: BaseException | None) -> tuple[str, Details] | None:  # noqa: PLR0911, PLR0912
    """The stable code and what more there is to say; None for a fault of ours."""
    match error:
        case domain.InvalidValue():
            return error.code, [{"field": error.at, "code": error.reason, "message": str(error)}]
        case application.InvalidWebhook() | application.InvalidLink():
            return error.code, [{"field": error.field, "code": error.reason, "message": str(error)}]
        case application.InvalidQuery():
            return error.code, [{"field": error.field, "code": "invalid", "message": str(error)}]
        case domain.DomainError() | application.ApplicationError():
            return error.code, str(error)
        case drf.ValidationError():
            return "invalid_request", _field_details(error.get_full_details())
        case drf.NotAuthenticated():
            return "missing_token", None
        case drf.AuthenticationFailed() | TokenError():
            return "invalid_token", None
        case drf.UnsupportedMediaType():
            return "unsupported_media_type", None
        case drf.MethodNotAllowed():
            return "method_not_allowed", str(error.detail)
        case PermissionDenied() | drf.PermissionDenied():
            return "forbidden", None
        case Http404():
            return "not_found", None
        case PreconditionRequired():
            return "precondition_required", None
        case RequestDataTooBig():
            return "payload_too_large", None
        case drf.ParseError():
            return "invalid_request", str(error.detail)
        case SuspiciousOperation() | BadRequest() | drf.APIException(status_code=400):
            return "invalid_request", "The request is malformed."
        case OperationalError() | InterfaceError():
            log.warning("database_unavailable", error=type(error).__name__)
            return "unavailable", None
    return None


def _field_details(full: Any, field: str = "") -> list[dict[str, str]]:
    """Flattens DRF's nested details: `roles.0` is the first item of the field `roles`."""
    if isinstance(full, Mapping) and "message" in full and "code" in full:
        return [{"field": field, "code": str(full["code"]), "message": str(full["message"])}]
    items = full.items() if isinstance(full, Mapping) else enumerate(full)
    found = []
    for name, value in items:
        inside = isinstance(full, list) and isinstance(value, Mapping) and "message" in value
        path = field if inside or name == "non_field_errors" else f"{field}.{name}".strip(".")
        found += _field_details(value, path)
    return found


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    code, details = name_problem(exception) or ("invalid_request", None)
    return problem_response(code, details=details)


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponse:
    return problem_response("forbidden")


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    return problem_response(
        "forbidden", details="This form has expired; go back, reload the page and try again."
    )


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    return problem_response("not_found")


def server_error(request: HttpRequest) -> HttpResponse:
    named = name_problem(sys.exc_info()[1])
    if named is None:
        log.exception("internal_error")
        return problem_response("internal_error")
    code, details = named
    return problem_response(code, details=details)
