"""Requests as most are, that need nothing of Django's: how they are known, and what answers look like."""

from collections.abc import Iterable
from functools import lru_cache
from io import BytesIO
from typing import Any, NamedTuple

from django.conf import settings
from django.http.request import split_domain_port, validate_host
from django.urls import resolve

from users.api.authentication import RECOGNISED, Caller, Shown, named_user, recognise
from users.api.conditions import etag
from users.api.limits import limit_headers
from users.api.observation import Exchange
from users.api.permissions import require
from users.api.request_metrics import Figures, Kind
from users.application.limits import noted_standings
from users.infrastructure.rate_limits import Turn

Environ = dict[str, Any]
Headers = list[tuple[str, str]]
OK = "200 OK"
PLAIN_ACCEPT = frozenset({None, "*/*", "application/json"})
NOTHING = frozenset({None, "", "0"})
NOT_PLAIN = ("SCRIPT_NAME", "QUERY_STRING", "HTTP_ORIGIN", "HTTP_COOKIE", "HTTP_TRANSFER_ENCODING")
OWN = frozenset({"etag", "x-request-id", "content-length", "ratelimit", "ratelimit-policy"})
"""Headers that are made anew for each answer."""
PERSONAL = frozenset({"set-cookie"})


def is_plain(environ: Environ) -> bool:
    """All but method, address and body."""
    return (
        "HTTP_AUTHORIZATION" in environ
        and environ.get("HTTP_ACCEPT") in PLAIN_ACCEPT
        and not any(map(environ.get, NOT_PLAIN))
        and _is_served(environ.get("HTTP_HOST", ""), tuple(settings.ALLOWED_HOSTS))
    )


@lru_cache(1000)
def _is_served(host: str, allowed: tuple[str, ...]) -> bool:
    """As Django decides it."""
    domain, _ = split_domain_port(host)
    return bool(domain) and validate_host(domain, allowed)


class Admitted(NamedTuple):
    """Who calls, whom he names, and where he stands with his limit."""

    caller: Caller
    target: str
    standing: Headers


def admit(environ: Environ, shown: Shown, operation: str, named: str) -> Admitted | None:
    """None where nobody is named. Raises what the parts raise."""
    recognised = environ[RECOGNISED] = recognise(shown)
    caller = recognised.caller
    standing = standing_of(recognised.turn)
    require(operation, caller, named)
    target = named_user(named, caller.id)
    return None if target is None else Admitted(caller, target, standing)


def standing_of(turn: Turn | None) -> Headers:
    """The headers that tell a caller how much is left to him. Raises RateLimited."""
    if turn is None:
        return []
    with noted_standings() as standings:
        turn.enforce()
    return [*limit_headers(standings.values()).items()]


def take_in(environ: Environ) -> bytes:
    """The body, as far as it is looked at, which is a byte more than it may be long. Whoever comes next reads
    the same. The server has to end it where it ends, as ours does."""
    body: bytes = environ["wsgi.input"].read(settings.MAX_BODY_BYTES + 1)
    environ |= {"wsgi.input": BytesIO(body), "CONTENT_LENGTH": str(len(body))}
    return body


class Answer(NamedTuple):
    status: str
    headers: Headers
    body: bytes
    exchange: Exchange


class Answered(NamedTuple):
    """With the headers about the limit, and how long the query took, unless it is counted already."""

    answer: Answer
    standing: Headers
    query_seconds: float | None = None


class Copied(NamedTuple):
    """What Django's answers to one operation with one status carry, by one transport, and how they are
    counted and logged."""

    status: str
    headers: Headers
    operation: str
    route: str
    kind: Kind

    def answer(self, version: int, body: bytes, *, environ: Environ, caller_id: str) -> Answer:
        """One like it, with this user's version and this body."""
        headers = [*self.headers, ("ETag", etag(version))]
        if self.status == OK:
            headers.append(("Content-Length", str(len(body))))
        kind = self.kind
        figures = Figures(
            kind,
            request_bytes=int(environ.get("CONTENT_LENGTH") or 0),
            response_bytes=len(body),
            ajax=environ.get("HTTP_X_REQUESTED_WITH") == "XMLHttpRequest",
        )
        exchange = Exchange(kind.method, self.route, self.operation, kind.status, caller_id, figures)
        return Answer(self.status, headers, body, exchange)


class Copies:
    """By transport, operation and status, what the first such answer of Django's was like."""

    def __init__(self) -> None:
        self._copied: dict[tuple[str, str, str], Copied] = {}

    def of(self, transport: str, operation: str, status: str) -> Copied | None:
        return self._copied.get((transport, operation, status))

    def copying(
        self, environ: Environ, transport: str, operation: str, statuses: Iterable[str], start_response: Any
    ) -> Any:
        """What Django answers for the first time tells how the next answers look."""
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]

        def start(status: str, headers: Headers, *more: Any) -> Any:
            is_personal = any(name.lower() in PERSONAL for name, _ in headers)
            key = transport, operation, status
            if status in statuses and not is_personal and key not in self._copied:
                kept = [(name, value) for name, value in headers if name.lower() not in OWN]
                match = resolve(path)
                kind = _kind(method, match.view_name, int(status[:3]), transport)
                self._copied[key] = Copied(status, kept, operation, f"/{match.route}", kind)
            return start_response(status, headers, *more)

        return start


def _kind(method: str, view: str, status: int, transport: str) -> Kind:
    return Kind(
        method=method,
        view=view,
        viewed=True,
        status=status,
        transport=transport,
        charset="utf-8",
        template="None",  # what django-prometheus takes DRF's answers for
    )
