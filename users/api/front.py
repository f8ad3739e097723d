"""In front of Django: what is asked more often than all else together.

What is answered say the parts that the views ask too (`plain_reads`, `plain_commands`); what every answer
carries besides was copied from Django's (`plain_requests`). Whatever is not plain, and all that goes wrong,
is Django's to answer (docs/adr/0012-a-front-for-reads.md)."""

import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from threading import get_ident
from typing import Any, Protocol

import structlog
from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection
from rest_framework.exceptions import APIException
from rest_framework_simplejwt.exceptions import TokenError
from uuid_utils import uuid7

from users.api.authentication import MET
from users.api.middleware import wanted_id
from users.api.observation import STARTED, Observed, observe_later, settle
from users.api.plain_commands import Commands
from users.api.plain_reads import Reads
from users.api.plain_requests import Answered, Copies, Environ
from users.api.reserve import GRANIAN, LastAnswer, Reserve
from users.application.errors import ApplicationError
from users_domain.errors import DomainError

log = structlog.get_logger(__name__)

Application = Callable[[Environ, Any], Iterable[bytes]]
FORESEEN = (APIException, TokenError, DomainError, ApplicationError, DatabaseError, InterfaceError)


class Desk(Protocol):
    """Where requests of one method are answered. `carries_out`: whether something is done there, which must
    not be done again."""

    carries_out: bool

    def asked(self, environ: Environ) -> Any:
        """What is asked for, where it is asked for plainly; None where it is Django's."""
        ...

    def copying(self, environ: Environ, asked: Any, start_response: Any) -> Any:
        """As long as an answer of Django's has to be copied first, what it is to start with; then None."""
        ...

    def answer(self, environ: Environ, asked: Any, request_id: str) -> Answered | None:
        """None where Django has to. Raises what the parts raise."""
        ...


class Front:
    def __init__(self, django: Application) -> None:
        self._django = django
        self._copies = Copies()
        self.reserve = Reserve()
        self._reads = Reads(self._copies, self.reserve)
        self._desks: dict[str, Desk] = {"GET": self._reads, "POST": Commands(self._copies)}
        self._under_way: set[int] = set()  # the threads that read
        self._connections_are_pooled = bool(settings.DATABASE_POOL_SIZE)

    def __call__(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        desk = self._desks.get(environ["REQUEST_METHOD"])
        if desk is not self._reads:
            self.reserve.call()  # before a body is taken in, which may be long in coming
        asked = desk.asked(environ) if desk else None
        if desk is None or asked is None:
            return self._by_django(desk, environ, start_response)
        if copying := desk.copying(environ, asked, start_response):
            return self._by_django(desk, environ, copying)
        body = self._answer(desk, environ, asked, start_response)
        return body or self._by_django(desk, environ, start_response)

    def _by_django(self, desk: Desk | None, environ: Environ, start_response: Any) -> Iterable[bytes]:
        if desk is self._reads:
            self.reserve.call()
        return self._django(environ, start_response)

    def _answer(self, desk: Desk, environ: Environ, asked: Any, start_response: Any) -> list[bytes] | None:
        """None where Django has to. A list, which granian sends at once: whatever else it takes for a stream,
        and closes."""
        started, thread = time.perf_counter(), get_ident()
        request_id = wanted_id(environ) or str(uuid7())
        if not desk.carries_out:  # who may wait long for a row, keeps nobody's line waiting
            self._under_way.add(thread)
        try:
            answered = self._answered(desk, environ, asked, request_id)
            if answered is None:
                environ["HTTP_X_REQUEST_ID"] = request_id  # what has been logged by now bears it
                environ[STARTED] = started
                return None
            answer, standing, query_seconds = answered
            start_response(answer.status, [*answer.headers, *standing, ("X-Request-ID", request_id)])
            seconds = time.perf_counter() - started
            observe_later(Observed(answer.exchange, request_id, time.time(), seconds, seconds, query_seconds))
        finally:
            self._under_way.discard(thread)
            if not self._under_way:  # whoever is the last to go
                settle()
        may_rest = query_seconds is not None and environ.get("SERVER_SOFTWARE") == GRANIAN
        if may_rest and self.reserve.can_spare(others=len(self._under_way)):
            return LastAnswer(answer.body, self.reserve)
        return [answer.body]

    def _answered(self, desk: Desk, environ: Environ, asked: Any, request_id: str) -> Answered | None:
        try:
            return desk.answer(environ, asked, request_id)
        except FORESEEN as error:
            environ[MET] = error
            return None
        except Exception as error:
            if desk.carries_out:
                environ[MET] = error
            else:
                log.exception("front_failed", request_id=request_id)
            return None
        finally:
            if self._connections_are_pooled:
                with suppress(DatabaseError, InterfaceError):  # what was done is done
                    connection.close()
