"""In front of Django: reading one user, which is asked more often than all else together.

It decides nothing of its own. Who calls, what he may, what the cache and the primary hold, what has changed:
that say the parts which the view asks too; what every answer carries besides, it has copied from Django's.
Whatever is not plain, and all that goes wrong, is Django's to answer (docs/adr/0012-a-front-for-reads.md)."""

import time
from collections import deque
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, NamedTuple

import structlog
from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection
from django.http.request import split_domain_port, validate_host
from rest_framework.exceptions import APIException
from rest_framework_simplejwt.exceptions import TokenError
from structlog.contextvars import bind_contextvars, reset_contextvars
from uuid_utils import uuid7

from users import wiring
from users.api.authentication import MET, RECOGNISED, named_user, recognise, shown_token
from users.api.conditions import etag, has_tag
from users.api.limits import limit_headers
from users.api.middleware import wanted_id
from users.api.observation import Observed, observe_of_many, transport_of
from users.api.permissions import require
from users.api.request_metrics import Figures, Kind, settle
from users.application.errors import ApplicationError
from users.application.limits import noted_standings
from users.application.representation import UserView
from users_domain.errors import DomainError

log = structlog.get_logger(__name__)

Environ = dict[str, Any]
Headers = list[tuple[str, str]]
Application = Callable[[Environ, Any], Iterable[bytes]]
PREFIX = "/users/"
ROUTE, VIEW, OPERATION = "/users/<str:user_id>", "user", "retrieve"
OK, NOT_MODIFIED = "200 OK", "304 Not Modified"
PLAIN_ACCEPT = frozenset({None, "*/*", "application/json"})
NOTHING = frozenset({None, "", "0"})
OWN = frozenset({"etag", "x-request-id", "content-length", "ratelimit", "ratelimit-policy"})
"""Headers that are made anew for each answer."""
NOT_PLAIN = ("QUERY_STRING", "HTTP_ORIGIN", "HTTP_COOKIE", "HTTP_TRANSFER_ENCODING")
PERSONAL = frozenset({"set-cookie"})
FORESEEN = (APIException, TokenError, DomainError, ApplicationError, DatabaseError, InterfaceError)


class Copied(NamedTuple):
    """What answers of Django's with one status carry, by one transport, and how they are counted."""

    headers: Headers
    kind: Kind


class Front:
    def __init__(self, django: Application) -> None:
        self._django = django
        self._copied: dict[tuple[str, str], Copied] = {}
        self._under_way: deque[None] = deque()
        self._connections_are_pooled = bool(settings.DATABASE_POOL_SIZE)

    def __call__(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        named = _plainly_named(environ)
        if named is None:
            return self._django(environ, start_response)
        transport = transport_of(environ)
        if not self._knows_how(environ, transport):
            return self._django(environ, self._copying(transport, start_response))
        body = self._read(environ, start_response, named, transport)
        return self._django(environ, start_response) if body is None else (body,)

    def _knows_how(self, environ: Environ, transport: str) -> bool:
        """Whether the answers that may come of it were copied."""
        wanted = (OK, NOT_MODIFIED) if environ.get("HTTP_IF_NONE_MATCH") else (OK,)
        return all((transport, status) in self._copied for status in wanted)

    def _read(self, environ: Environ, start_response: Any, named: str, transport: str) -> bytes | None:
        """None, and nothing begun, where Django has to answer."""
        started = time.perf_counter()
        request_id = wanted_id(environ) or str(uuid7())
        self._under_way.append(None)
        try:
            answer = self._answer(environ, transport, named, request_id)
            if answer is None:
                environ["HTTP_X_REQUEST_ID"] = request_id  # what has been logged by now bears it
                return None
            start_response(answer.status, [*answer.headers, ("X-Request-ID", request_id)])
            _observe(environ, answer, request_id, time.perf_counter() - started)
            return answer.body
        finally:
            self._under_way.pop()
            if not self._under_way:  # whoever is the last to go
                settle()

    def _answer(self, environ: Environ, transport: str, named: str, request_id: str) -> "Answer | None":
        bound = bind_contextvars(request_id=request_id)
        try:
            found = _find(environ, named)
            return found and _answer(found, self._copied[transport, found.status])
        except FORESEEN as error:
            environ[MET] = error
            return None
        except Exception:
            log.exception("front_failed")
            return None
        finally:
            reset_contextvars(**bound)
            if self._connections_are_pooled:
                connection.close()

    def _copying(self, transport: str, start_response: Any) -> Any:
        """What Django answers for the first time tells how the next answers look."""

        def start(status: str, headers: Headers, *more: Any) -> Any:
            is_personal = any(name.lower() in PERSONAL for name, _ in headers)
            if status in {OK, NOT_MODIFIED} and not is_personal:
                self._copied.setdefault((transport, status), _copied(transport, status, headers))
            return start_response(status, headers, *more)

        return start


class Found(NamedTuple):
    """The user who was asked for, what of him is answered, and where the caller stands with his limit."""

    view: UserView
    status: str
    caller_id: str
    standing: Headers


class Answer(NamedTuple):
    status: str
    headers: Headers
    body: bytes
    kind: Kind
    caller_id: str


def _plainly_named(environ: Environ) -> str | None:
    """Whom a request asks for that is as most are; None for every other."""
    path: str = environ.get("PATH_INFO", "")
    if environ["REQUEST_METHOD"] != "GET" or not path.startswith(PREFIX) or environ.get("SCRIPT_NAME"):
        return None
    named = path[len(PREFIX) :]
    is_plain = (
        "/" not in named
        and "HTTP_AUTHORIZATION" in environ
        and environ.get("HTTP_ACCEPT") in PLAIN_ACCEPT
        and environ.get("CONTENT_LENGTH") in NOTHING
        and not any(map(environ.get, NOT_PLAIN))
        and _is_served(environ.get("HTTP_HOST", ""), tuple(settings.ALLOWED_HOSTS))
    )
    return named if is_plain else None


@lru_cache(1000)
def _is_served(host: str, allowed: tuple[str, ...]) -> bool:
    """As Django decides it."""
    domain, _ = split_domain_port(host)
    return bool(domain) and validate_host(domain, allowed)


def _find(environ: Environ, named: str) -> Found | None:
    """Raises what the parts raise."""
    raw = shown_token(environ["HTTP_AUTHORIZATION"])
    if raw is None:
        return None
    recognised = environ[RECOGNISED] = recognise(raw, named)
    caller = recognised.caller
    with noted_standings() as standings:
        recognised.enforce_limit()
    require(OPERATION, caller, named)
    target = named_user(named, caller.id)
    if target is None:
        return None
    view = wiring.service().queries.get(target, seen=caller.seen.get(target))
    is_known = has_tag(environ.get("HTTP_IF_NONE_MATCH", ""), etag(view.version))
    standing = [*limit_headers(standings.values()).items()] if standings else []
    return Found(view, NOT_MODIFIED if is_known else OK, caller.id, standing)


def _answer(found: Found, copied: Copied) -> Answer:
    headers = [*copied.headers, ("ETag", etag(found.view.version)), *found.standing]
    body = b""
    if found.status == OK:
        body = found.view.json
        headers.append(("Content-Length", str(len(body))))
    return Answer(found.status, headers, body, copied.kind, found.caller_id)


def _copied(transport: str, status: str, headers: Headers) -> Copied:
    kind = Kind(
        method="GET",
        view=VIEW,
        viewed=True,
        status=int(status[:3]),
        transport=transport,
        charset="utf-8",
        template="None",  # what django-prometheus takes DRF's answers for
    )
    return Copied([(name, value) for name, value in headers if name.lower() not in OWN], kind)


def _observe(environ: Environ, answer: Answer, request_id: str, seconds: float) -> None:
    ajax = environ.get("HTTP_X_REQUESTED_WITH") == "XMLHttpRequest"
    seen = Figures(answer.kind, seconds, request_bytes=0, response_bytes=len(answer.body), ajax=ajax)
    observed = Observed(
        method="GET",
        route=ROUTE,
        operation=OPERATION,
        status=answer.kind.status,
        seconds=seconds,
        user_id=answer.caller_id,
        request_id=request_id,
        seen=seen,
    )
    observe_of_many(observed, seen)
