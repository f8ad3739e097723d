"""In front of Django: reading one user, which is asked more often than all else together.

What is answered say the parts that the view asks too (`plain_reads`). What every answer carries besides, this
has copied from Django's; and it remembers what was answered, to whom, and from what, so that the parts need
not be asked the very same again. Whatever is not plain, and all that goes wrong, is Django's to answer
(docs/adr/0012-a-front-for-reads.md)."""

import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, NamedTuple

import structlog
from django.conf import settings
from django.core.signals import setting_changed
from django.db import DatabaseError, InterfaceError, connection
from rest_framework.exceptions import APIException
from rest_framework_simplejwt.exceptions import TokenError
from structlog.contextvars import bound_contextvars
from uuid_utils import uuid7

from users.api.authentication import MET, Shown, give_up, look_up, shown_token
from users.api.conditions import etag
from users.api.middleware import wanted_id
from users.api.observation import Exchange, Observed, observe_later, settle
from users.api.plain_reads import (
    NOT_MODIFIED,
    OK,
    OPERATION,
    Environ,
    Found,
    Headers,
    Question,
    judge,
    may_read,
    plainly_named,
    question_of,
    standing_of,
)
from users.api.request_metrics import Figures, Kind
from users.application.errors import ApplicationError
from users.application.representation import UserView
from users.infrastructure.tokens import Bearer
from users_domain.errors import DomainError

log = structlog.get_logger(__name__)

Application = Callable[[Environ, Any], Iterable[bytes]]
ROUTE, VIEW = "/users/<str:user_id>", "user"
OWN = frozenset({"etag", "x-request-id", "content-length", "ratelimit", "ratelimit-policy"})
"""Headers that are made anew for each answer."""
PERSONAL = frozenset({"set-cookie"})
FORESEEN = (APIException, TokenError, DomainError, ApplicationError, DatabaseError, InterfaceError)
MOST_KNOWN = 4096
LONGEST_QUESTION = 4096
"""Characters. Nobody fills the memory with headers that nobody else sends."""


class Copied(NamedTuple):
    """What answers of Django's with one status carry, by one transport, and how they are counted."""

    headers: Headers
    kind: Kind


class Answer(NamedTuple):
    status: str
    headers: Headers
    body: bytes
    exchange: Exchange


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


class Front:
    def __init__(self, django: Application) -> None:
        self._django = django
        self._copied: dict[tuple[str | None, str], Copied] = {}
        self._known: dict[Question, Known] = {}
        self._under_way: deque[None] = deque()
        self._connections_are_pooled = bool(settings.DATABASE_POOL_SIZE)
        setting_changed.connect(self._forget)  # sent by tests alone

    def __call__(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] != "GET":
            return self._django(environ, start_response)
        question = question_of(environ)
        known = self._known.get(question)
        named = known.named if known else plainly_named(environ)
        if named is None:
            return self._django(environ, start_response)
        if not (known or self._knows_how(question, environ)):
            return self._django(environ, self._copying(question, start_response))
        body = self._read(environ, start_response, question, named, known)
        return self._django(environ, start_response) if body is None else (body,)

    def _knows_how(self, question: Question, environ: Environ) -> bool:
        """Whether the answers that may come of it were copied."""
        wanted = (OK, NOT_MODIFIED) if environ.get("HTTP_IF_NONE_MATCH") else (OK,)
        return all((question[0], status) in self._copied for status in wanted)

    def _read(
        self, environ: Environ, start_response: Any, question: Question, named: str, known: Known | None
    ) -> bytes | None:
        """None, and nothing begun, where Django has to answer."""
        started = time.perf_counter()
        request_id = wanted_id(environ) or str(uuid7())
        self._under_way.append(None)
        try:
            answered = self._answer(environ, question, named, known, request_id)
            if answered is None:
                environ["HTTP_X_REQUEST_ID"] = request_id  # what has been logged by now bears it
                return None
            answer, standing, query_seconds = answered
            start_response(answer.status, [*answer.headers, *standing, ("X-Request-ID", request_id)])
            seconds = time.perf_counter() - started
            observe_later(Observed(answer.exchange, request_id, time.time(), seconds, seconds, query_seconds))
            return answer.body
        finally:
            self._under_way.pop()
            if not self._under_way:  # whoever is the last to go
                settle()

    def _answer(
        self, environ: Environ, question: Question, named: str, known: Known | None, request_id: str
    ) -> tuple[Answer, Headers, float | None] | None:
        """With the headers about the limit, and how long the query took, unless it is counted already."""
        shown: Shown | None = None
        try:
            raw = known.raw if known else shown_token(environ["HTTP_AUTHORIZATION"])
            if raw is None:
                return None
            shown = look_up(raw, named, may_read=None if known else may_read)
            asked = time.perf_counter()
            if known and known.holds(shown):
                return known.answer, standing_of(shown.turn), time.perf_counter() - asked
            with bound_contextvars(request_id=request_id):
                found = judge(environ, shown, named)
            if found is None:
                return None
            answer = _answer_of(found, self._copied[question[0], found.status], environ)
            self._remember(question, shown, named, found, answer)
            return answer, found.standing, None
        except FORESEEN as error:
            environ[MET] = error
            if shown:
                give_up(shown)
            return None
        except Exception:
            log.exception("front_failed", request_id=request_id)
            return None
        finally:
            if self._connections_are_pooled:
                connection.close()

    def _remember(self, question: Question, shown: Shown, named: str, found: Found, answer: Answer) -> None:
        """Answers from the cache alone: that of others may have changed since."""
        came_from = {shown.bearer.user_id, found.view.id}
        if came_from != shown.cached.keys() or sum(map(len, filter(None, question))) > LONGEST_QUESTION:
            return
        if len(self._known) >= MOST_KNOWN:
            with suppress(RuntimeError):  # other threads remember too
                self._known.pop(next(iter(self._known), question), None)
        self._known[question] = Known(shown.raw, named, shown.bearer, shown.cached, answer)

    def _forget(self, **_: object) -> None:
        self._known.clear()

    def _copying(self, question: Question, start_response: Any) -> Any:
        """What Django answers for the first time tells how the next answers look."""

        def start(status: str, headers: Headers, *more: Any) -> Any:
            is_personal = any(name.lower() in PERSONAL for name, _ in headers)
            if status in {OK, NOT_MODIFIED} and not is_personal:
                copied = _copied(str(question[0]), status, headers)
                self._copied.setdefault((question[0], status), copied)
            return start_response(status, headers, *more)

        return start


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


def _answer_of(found: Found, copied: Copied, environ: Environ) -> Answer:
    headers = [*copied.headers, ("ETag", etag(found.view.version))]
    body = b""
    if found.status == OK:
        body = found.view.json
        headers.append(("Content-Length", str(len(body))))
    figures = Figures(
        copied.kind,
        request_bytes=0,
        response_bytes=len(body),
        ajax=environ.get("HTTP_X_REQUESTED_WITH") == "XMLHttpRequest",
    )
    exchange = Exchange("GET", ROUTE, OPERATION, copied.kind.status, found.caller_id, figures)
    return Answer(found.status, headers, body, exchange)
