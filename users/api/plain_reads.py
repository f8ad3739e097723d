"""Reading one user as most requests do: how such a request is known, what the parts say to it, what was
answered to it before.

It decides nothing of its own. Who calls, what he may, what the cache and the primary hold, what has changed:
that say the parts which the view asks too. It remembers what was answered, to whom, and from what, so that
the parts need not be asked the very same again."""

import time
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial
from typing import Any, NamedTuple

from django.core.signals import setting_changed
from structlog.contextvars import bound_contextvars

from users import wiring
from users.api.authentication import Shown, give_up, look_up, shown_token
from users.api.conditions import etag, has_tag
from users.api.observation import transport_of
from users.api.permissions import is_allowed
from users.api.plain_requests import (
    NOT_PLAIN,
    NOTHING,
    OK,
    Answer,
    Answered,
    Copies,
    Environ,
    Headers,
    admit,
    is_plain,
    standing_of,
)
from users.api.reserve import Reserve
from users.application.representation import UserView
from users.infrastructure.tokens import Bearer

Question = tuple[str | None, ...]
PREFIX = "/users/"
OPERATION = "retrieve"
NOT_MODIFIED = "304 Not Modified"
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
MOST_KNOWN = 4096
LONGEST_QUESTION = 4096
"""Characters. Nobody fills the memory with headers that nobody else sends."""


def question_of(environ: Environ) -> Question:
    """All of a GET that the answer, and what is counted, depends on; the transport comes first."""
    return transport_of(environ), *map(environ.get, ASKED_BY)


def plainly_named(environ: Environ) -> str | None:
    """Whom a GET asks for that is as most are; None for every other."""
    path: str = environ.get("PATH_INFO", "")
    named = path[len(PREFIX) :]
    is_of_one = path.startswith(PREFIX) and "/" not in named
    return named if is_of_one and environ.get("CONTENT_LENGTH") in NOTHING and is_plain(environ) else None


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
    admitted = admit(environ, shown, OPERATION, named)
    if admitted is None:
        return None
    caller, target, standing = admitted
    view = wiring.service().queries.get(target, seen=caller.seen.get(target))
    is_known = has_tag(environ.get("HTTP_IF_NONE_MATCH", ""), etag(view.version))
    return Found(view, NOT_MODIFIED if is_known else OK, caller.id, standing)


class Known(NamedTuple):
    """What was answered to a question, and from what. It is the answer as long as the token still says the
    same and the cache holds the same, which is looked up every time."""

    raw: bytes
    named: str
    bearer: Bearer
    cached: dict[str, UserView]
    answer: Answer

    def holds(self, shown: Shown) -> bool:
        is_let_through = shown.turn is None or shown.turn.is_free
        return is_let_through and shown.bearer is self.bearer and shown.cached == self.cached


class Read(NamedTuple):
    """A read that is asked for plainly, and what was answered to it the last time."""

    question: Question
    named: str
    known: Known | None


class Reads:
    """Answers them, and remembers how."""

    carries_out = False

    def __init__(self, copies: Copies, reserve: Reserve) -> None:
        self._copies = copies
        self._reserve = reserve
        self._known: dict[Question, Known] = {}
        setting_changed.connect(self._forget)  # sent by tests alone

    def asked(self, environ: Environ) -> Read | None:
        question = question_of(environ)
        known = self._known.get(question)
        named = known.named if known else plainly_named(environ)
        return None if named is None else Read(question, named, known)

    def copying(self, environ: Environ, read: Read, start_response: Any) -> Any:
        if read.known:
            return None
        transport = str(read.question[0])
        wanted = (OK, NOT_MODIFIED) if environ.get("HTTP_IF_NONE_MATCH") else (OK,)
        if all(self._copies.of(transport, OPERATION, status) for status in wanted):
            return None
        return self._copies.copying(environ, transport, OPERATION, (OK, NOT_MODIFIED), start_response)

    def answer(self, environ: Environ, read: Read, request_id: str) -> Answered | None:
        known = read.known
        raw = known.raw if known else shown_token(environ["HTTP_AUTHORIZATION"])
        if raw is None:
            return None
        shown = look_up(raw, read.named, may_read=None if known else may_read)
        asked = time.perf_counter()
        if known and known.holds(shown):
            return Answered(known.answer, standing_of(shown.turn), time.perf_counter() - asked)
        try:
            with bound_contextvars(request_id=request_id), self._place_of(shown, read.known):
                found = judge(environ, shown, read.named)
        except Exception:
            give_up(shown)
            raise
        if found is None:
            return None
        answer = self._put_together(environ, read, found)
        self._remember(read, shown, found, answer)
        return Answered(answer, found.standing)

    def _place_of(self, shown: Shown, known: Known | None) -> AbstractContextManager[None]:
        """In which others work when somebody has to be looked for in PostgreSQL."""
        about = known.cached.keys() if known else {shown.bearer.user_id}
        is_in_the_cache = about <= shown.cached.keys() and not shown.missed
        return nullcontext() if is_in_the_cache else self._reserve.away()

    def _put_together(self, environ: Environ, read: Read, found: Found) -> Answer:
        copied = self._copies.of(str(read.question[0]), OPERATION, found.status)
        if copied is None:
            raise LookupError(found.status)
        body = found.view.json if found.status == OK else b""
        return copied.answer(found.view.version, body, environ=environ, caller_id=found.caller_id)

    def _remember(self, read: Read, shown: Shown, found: Found, answer: Answer) -> None:
        """Answers from the cache alone: that of others may have changed since."""
        question = read.question
        came_from = {shown.bearer.user_id, found.view.id}
        if came_from != shown.cached.keys() or sum(map(len, filter(None, question))) > LONGEST_QUESTION:
            return
        if len(self._known) >= MOST_KNOWN:
            with suppress(RuntimeError):  # other threads remember too
                self._known.pop(next(iter(self._known), question), None)
        self._known[question] = Known(shown.raw, read.named, shown.bearer, shown.cached, answer)

    def _forget(self, **_: object) -> None:
        self._known.clear()
