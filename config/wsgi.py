"""The WSGI callable, for any server; `config.server` is ours."""

import os
import re
from collections.abc import Iterable
from importlib import import_module
from typing import Any

from django.conf import settings
from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
_django = get_wsgi_application()

from users import checks, wiring  # noqa: E402 - models are there only now
from users.api.front import Front  # noqa: E402
from users.api.plain_requests import take_in  # noqa: E402

checks.refuse_dangers()
import_module(settings.ROOT_URLCONF)  # with all views, not only when the first request comes
wiring.service()  # a signing key that is none stops the start, not the first login
_BOUNDARY = re.compile(r';\s*(boundary=(?:"[^"]*"|[^;"\s]+))', re.IGNORECASE)


def _guarded(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Django, spared what it cannot take: it believes a charset, `base64` for instance, even of a query
    string, and falls over before any middleware; and it takes a body in chunks for an empty one."""
    environ["CONTENT_TYPE"] = _media_type(environ.get("CONTENT_TYPE") or "")
    if _is_too_large(environ):
        return _django(environ, _closing(start_response))
    return _django(environ, start_response)


def _is_too_large(environ: dict[str, Any]) -> bool:
    """Takes the body in, so that whoever is refused without a look at it may go on using his connection;
    leaves one that is over the limit where it is, to be cut off."""
    length = environ.get("CONTENT_LENGTH") or ""
    chunked = not length and "chunked" in environ.get("HTTP_TRANSFER_ENCODING", "").lower()
    if not chunked and not length.isdecimal():
        return False
    if length and int(length) > settings.MAX_BODY_BYTES:
        return True
    return len(take_in(environ)) > settings.MAX_BODY_BYTES


def _closing(start_response: Any) -> Any:
    def start(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
        return start_response(status, [*headers, ("Connection", "close")], *more)

    return start


def _media_type(content_type: str) -> str:
    """Without parameters, as text is UTF-8 here whatever they say, but for the boundary of a form."""
    media_type = content_type.partition(";")[0].strip()
    boundary = _BOUNDARY.search(content_type) if media_type.lower().startswith("multipart/") else None
    return f"{media_type}; {boundary[1]}" if boundary else media_type


application = Front(_guarded) if settings.FAST_READS else _guarded
