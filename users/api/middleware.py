"""What every request gets: an id, a line in the log, a size limit. And, for the pages alone, sessions."""

import re
import time
from collections.abc import Callable, Mapping
from typing import Any, cast
from urllib.parse import unquote_to_bytes

from corsheaders.middleware import CorsMiddleware
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
from django.template.response import SimpleTemplateResponse
from django.utils.cache import patch_vary_headers
from django.utils.deprecation import MiddlewareMixin
from structlog.contextvars import bind_contextvars, reset_contextvars
from uuid_utils import uuid7

from users.api.errors import problem_response
from users.api.observation import STARTED, Exchange, Observed, observe, transport_of
from users.api.request_metrics import Figures, Kind, count_exception

GetResponse = Callable[[HttpRequest], HttpResponseBase]
_REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)


class RequestMiddleware:
    """Outermost. Keeps a well-formed inbound X-Request-ID, answers it on every response, and sees to it that
    the request is in the log and in the metrics."""

    def __init__(self, get_response: GetResponse) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        started = request.META.get(STARTED) or time.perf_counter()
        request_id = wanted_id(request.META) or str(uuid7())
        bound = bind_contextvars(request_id=request_id)
        try:
            response = self._get_response(request)
            response.headers["X-Request-ID"] = request_id
            if isinstance(response, HttpResponse) and response.status_code not in {204, 304}:
                response.headers.setdefault("Content-Length", str(len(response.content)))
            observe(
                Observed(
                    _exchange(request, response),
                    request_id,
                    at=time.time(),
                    seconds=time.perf_counter() - started,
                    view_seconds=getattr(request, "view_seconds", 0),
                )
            )
        finally:
            reset_contextvars(**bound)
        return response


def wanted_id(environ: Mapping[str, Any]) -> str | None:
    """The X-Request-ID that came along, where it is one that may be kept."""
    inbound: str = environ.get("HTTP_X_REQUEST_ID", "")
    return inbound if _REQUEST_ID.fullmatch(inbound) else None


def _exchange(request: HttpRequest, response: HttpResponseBase) -> Exchange:
    match = request.resolver_match
    return Exchange(
        method=request.method or "",
        route=f"/{match.route}" if match else None,
        operation=getattr(request, "operation", None),
        status=response.status_code,
        user_id=getattr(request, "caller_id", None),
        figures=getattr(request, "figures", None),
    )


class ViewMiddleware:
    """Innermost. Notes for the metrics what the views have made of a request, before anything is added."""

    def __init__(self, get_response: GetResponse) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        started = request.META.get(STARTED) or time.perf_counter()
        request.started = started  # type: ignore[attr-defined]
        response = self._get_response(request)
        request.view_seconds = time.perf_counter() - started  # type: ignore[attr-defined]
        request.figures = _figures(request, response)  # type: ignore[attr-defined]
        return response

    def process_view(self, request: HttpRequest, *view: Any) -> None:
        request.viewed = True  # type: ignore[attr-defined]

    def process_template_response(
        self, request: HttpRequest, response: SimpleTemplateResponse
    ) -> SimpleTemplateResponse:
        request.template = str(response.template_name)  # type: ignore[attr-defined]
        return response

    def process_exception(self, request: HttpRequest, error: Exception) -> None:
        seconds = time.perf_counter() - request.started  # type: ignore[attr-defined]
        count_exception(error, view=_view_name(request), method=request.method or "", seconds=seconds)


def _figures(request: HttpRequest, response: HttpResponseBase) -> Figures:
    kind = Kind(
        method=request.method or "",
        view=_view_name(request),
        viewed=getattr(request, "viewed", False),
        status=response.status_code,
        transport=transport_of(request.META),
        charset=response.charset,
        template=getattr(request, "template", None),
    )
    return Figures(
        kind,
        request_bytes=int(request.META.get("CONTENT_LENGTH") or 0),
        response_bytes=len(response.content) if isinstance(response, HttpResponse) else None,
        ajax=request.META.get("HTTP_X_REQUESTED_WITH") == "XMLHttpRequest",
    )


def _view_name(request: HttpRequest) -> str | None:
    return request.resolver_match.view_name if request.resolver_match else None


class OriginMiddleware(CorsMiddleware):
    """Without anything of CORS in a request there is nothing to look for. Who asks again with an Origin may
    be told something else, though, and caches have to know."""

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if "HTTP_ORIGIN" in request.META or "HTTP_ACCESS_CONTROL_REQUEST_METHOD" in request.META:
            return cast(HttpResponseBase, super().__call__(request))
        response = cast(HttpResponseBase, self.get_response(request))
        patch_vary_headers(response, ("origin",))
        return response


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
