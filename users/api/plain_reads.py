"""Reading one user as most requests do: how such a request is known, and what the parts say to it.

It decides nothing of its own. Who calls, what he may, what the cache and the primary hold, what has changed:
that say the parts which the view asks too."""

from functools import lru_cache, partial
from typing import Any, NamedTuple

from django.conf import settings
from django.http.request import split_domain_port, validate_host

from users import wiring
from users.api.authentication import RECOGNISED, Shown, named_user, recognise
from users.api.conditions import etag, has_tag
from users.api.limits import limit_headers
from users.api.observation import transport_of
from users.api.permissions import is_allowed, require
from users.application.limits import noted_standings
from users.application.representation import UserView
from users.infrastructure.rate_limits import Turn

Environ = dict[str, Any]
Headers = list[tuple[str, str]]
Question = tuple[str | None, ...]
PREFIX = "/users/"
OPERATION = "retrieve"
OK, NOT_MODIFIED = "200 OK", "304 Not Modified"
PLAIN_ACCEPT = frozenset({None, "*/*", "application/json"})
NOTHING = frozenset({None, "", "0"})
NOT_PLAIN = ("SCRIPT_NAME", "QUERY_STRING", "HTTP_ORIGIN", "HTTP_COOKIE", "HTTP_TRANSFER_ENCODING")
ASKED_BY = (
    "PATH_INFO",
    "HTTP_AUTHORIZATION",
    "HTTP_IF_NONE_MATCH",
    "HTTP_ACCEPT",
    "HTTP_HOST",
    "HTTP_X_REQUESTED_WITH",
    "CONTENT_LENGTH",
    *NOT_PLAIN,
)


def question_of(environ: Environ) -> Question:
    """All of a GET that the answer, and what is counted, depends on; the transport comes first."""
    return transport_of(environ), *map(environ.get, ASKED_BY)


def plainly_named(environ: Environ) -> str | None:
    """Whom a GET asks for that is as most are; None for every other."""
    path: str = environ.get("PATH_INFO", "")
    named = path[len(PREFIX) :]
    is_plain = (
        path.startswith(PREFIX)
        and "/" not in named
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


class Found(NamedTuple):
    """The user who was asked for, what of him is answered, to whom, and where the caller stands with his
    limit."""

    view: UserView
    status: str
    caller_id: str
    standing: Headers


may_read = partial(is_allowed, OPERATION)


def judge(environ: Environ, shown: Shown, named: str) -> Found | None:
    """None where nobody is named. Raises what the parts raise."""
    recognised = environ[RECOGNISED] = recognise(shown)
    caller = recognised.caller
    standing = standing_of(recognised.turn)
    require(OPERATION, caller, named)
    target = named_user(named, caller.id)
    if target is None:
        return None
    view = wiring.service().queries.get(target, seen=caller.seen.get(target))
    is_known = has_tag(environ.get("HTTP_IF_NONE_MATCH", ""), etag(view.version))
    return Found(view, NOT_MODIFIED if is_known else OK, caller.id, standing)


def standing_of(turn: Turn | None) -> Headers:
    """The headers that tell a caller how much is left to him. Raises RateLimited."""
    if turn is None:
        return []
    with noted_standings() as standings:
        turn.enforce()
    return [*limit_headers(standings.values()).items()]
