"""Content-Security-Policy on every answer: what a browser may do with it, mostly nothing."""

from collections.abc import Callable

from django.http import HttpRequest
from django.http.response import HttpResponseBase

_CLOSED = "object-src 'none'; base-uri 'none'; frame-ancestors 'none'"
DATA = f"default-src 'none'; {_CLOSED}"
"""Nobody renders it, whatever somebody has written into it."""
PAGE = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    f"connect-src 'self'; form-action 'self'; {_CLOSED}"
)
DEVELOPERS_PAGE = PAGE.replace("style-src 'self'", "style-src 'self' 'unsafe-inline'") + "; worker-src blob:"
"""The documentation and the browsable API style themselves within the page; Redoc searches in a worker."""


class ContentPolicyMiddleware:
    """Outside of all that may answer, so that no answer goes without."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self._get_response(request)
        response.headers.setdefault("Content-Security-Policy", _policy(request, response))
        return response


def _policy(request: HttpRequest, response: HttpResponseBase) -> str:
    if not response.headers.get("Content-Type", "").startswith("text/html"):
        return DATA
    return PAGE if request.path_info.startswith("/admin") else DEVELOPERS_PAGE
