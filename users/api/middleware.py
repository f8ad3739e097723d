"""What every request gets: an id, a line in the log, a size limit. And, for the pages alone, sessions."""

import re
import time
from collections.abc import Callable
from typing import Any, cast
from urllib.parse import unquote_to_bytes

import structlog
from django.conf import settings
from django.contrib.auth.middleware import AuthenticationMiddleware
from django.contrib.messages.middleware import MessageMiddleware
from django.contrib.sessions.middleware import SessionMiddleware
from django.core.exceptions import DisallowedHost
from django.http import (
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    HttpResponseForbidden,
    HttpResponseNotAllowed,
)
from django.middleware.csrf import CsrfViewMiddleware
from django.utils.deprecation import MiddlewareMixin
from django_prometheus.middleware import PrometheusAfterMiddleware
from uuid_utils.compat import uuid7

from users.api.errors import problem_response

log = structlog.get_logger("users.request")

GetResponse = Callable[[HttpRequest], HttpResponseBase]
_REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)


class RequestMiddleware:
    """Keeps a well-formed inbound X-Request-ID, answers it on every response, and logs one line a request
    by its route, never by its raw path or query, which may hold an address."""

    def __init__(self, get_response: GetResponse) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        started = time.perf_counter()
        inbound = request.headers.get("X-Request-ID", "")
        request_id = inbound if _REQUEST_ID.fullmatch(inbound) else str(uuid7())
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            response = self._get_response(request)
            response["X-Request-ID"] = request_id
            if isinstance(response, HttpResponse) and response.status_code not in {204, 304}:
                response.headers.setdefault("Content-Length", str(len(response.content)))
            self._log(request, response, time.perf_counter() - started)
        return response

    def _log(self, request: HttpRequest, response: HttpResponseBase, seconds: float) -> None:
        match = request.resolver_match
        log.info(
            "request",
            method=request.method,
            route=f"/{match.route}" if match else None,
            operation=getattr(request, "operation", None),
            status=response.status_code,
            duration_ms=round(seconds * 1000, 2),
            user_id=getattr(request, "caller_id", None),
        )


class GateMiddleware:
    """Turns away what no view needs to see, within CORS, so that browsers may read why; and puts Django's
    own refusal of a method, which has no body, into our words."""

    def __init__(self, get_response: GetResponse) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self._refusal(request) or self._get_response(request)
        if isinstance(response, HttpResponseNotAllowed):
            problem = problem_response(
                "method_not_allowed", details=f'Method "{request.method}" not allowed.'
            )
            problem["Allow"] = response["Allow"]
            return problem
        return response

    def _refusal(self, request: HttpRequest) -> HttpResponseBase | None:
        length = request.META.get("CONTENT_LENGTH") or "0"
        if not length.isdecimal():
            return problem_response("invalid_request", details="Content-Length is a number.")
        if int(length) > settings.MAX_BODY_BYTES:
            return problem_response("payload_too_large")
        try:
            unquote_to_bytes(request.META.get("QUERY_STRING", "").encode("latin-1")).decode()
        except UnicodeDecodeError:
            return problem_response("invalid_request", details="The query string is not UTF-8.")
        try:
            # Before anything is done. Probes and scrapers name hosts by address and may.
            _ = request.path_info.startswith(("/health/", "/metrics")) or request.get_host()
        except DisallowedHost:
            return problem_response(
                "invalid_request", details="This host is not served here (ALLOWED_HOSTS)."
            )
        return None


class MetricsMiddleware(PrometheusAfterMiddleware):
    """django-prometheus' own makes a histogram of every word that a stranger sends as a method."""

    def label_metric(self, metric: Any, request: HttpRequest, response: Any = None, **labels: Any) -> Any:
        if "method" in labels:
            labels["method"] = self._method(request)  # type: ignore[no-untyped-call]
        return super().label_metric(metric, request, response, **labels)  # type: ignore[no-untyped-call]


def _is_page(request: HttpRequest) -> bool:
    """Whether people with a browser session come here: the admin, and in development the browsable API."""
    return settings.BROWSABLE_API or request.path_info.startswith("/admin")


class PagesOnly(MiddlewareMixin):
    """Mixed into a middleware: the API does not pay for it."""

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if not _is_page(request):
            return cast(HttpResponseBase, self.get_response(request))
        return cast(HttpResponseBase, super().__call__(request))


class PageSessionMiddleware(PagesOnly, SessionMiddleware):
    def process_request(self, request: HttpRequest) -> None:
        """A key that we never give out is nobody's; some, such as NUL, PostgreSQL cannot even look for."""
        key = request.COOKIES.get(settings.SESSION_COOKIE_NAME, "")
        request.session = self.SessionStore(key if key.isascii() and key.isalnum() else None)


class PageCsrfMiddleware(PagesOnly, CsrfViewMiddleware):
    def process_view(self, request: HttpRequest, *view: Any) -> HttpResponseForbidden | None:
        """Django calls this for every view, whether `__call__` let us in or not. The browsable API checks
        for itself, and only who comes by session."""
        return super().process_view(request, *view) if request.path_info.startswith("/admin") else None


class PageAuthenticationMiddleware(PagesOnly, AuthenticationMiddleware):
    pass


class PageMessageMiddleware(PagesOnly, MessageMiddleware):
    pass
