"""Sends what is in the queue: one connection for many mails, one mail claimed at a time. No transaction is
open while a server is being waited for.

Between the server's "accepted" and our note of it a crash can fall, and then a mail is sent twice, under one
Message-ID; SMTP has no way round that. Everything else comes out as exactly one."""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import structlog
from django.core.mail import EmailMessage, get_connection
from django.db import DatabaseError, InterfaceError, connection

from users.infrastructure.mail import queue
from users.infrastructure.mail.faults import INTERNATIONAL, Fault, judged
from users.infrastructure.mail.mailbox import Outcome
from users.models import Mail

log = structlog.get_logger(__name__)

LEASE_SECONDS = 180.0
"""Longer than any server that answers at all takes for one mail."""

FIRST_SECONDS, LONGEST_SECONDS = 30.0, 3600.0
LONGEST_PAUSE_SECONDS = 60.0

Line = Any
"""A connection of Django's mail backends."""


def delay(attempts: int, *, draw: Callable[[float, float], float] = random.uniform) -> float:
    """Seconds until a mail is tried again: doubled each time up to an hour, less up to a quarter drawn."""
    doubled = min(LONGEST_SECONDS, FIRST_SECONDS * 2.0 ** min(attempts - 1, 30))
    return draw(0.75 * doubled, doubled)


class Sender:
    """`compose` makes the message, None for nobody; `outcome` is told what became of each mail."""

    def __init__(
        self,
        compose: Callable[[Mail], EmailMessage | None],
        *,
        outcome: Outcome,
        connect: Callable[[], Line] = get_connection,
        monotonic: Callable[[], float] = time.monotonic,
        lease_seconds: float = LEASE_SECONDS,
        turn_seconds: float = 5,
    ) -> None:
        self._compose = compose
        self._outcome = outcome
        self._connect = connect
        self._monotonic = monotonic
        self._lease_seconds = lease_seconds
        self._turn_seconds = turn_seconds
        self._away = 0  # times in a row
        self._resume_at = 0.0
        self._sent: list[Mail] = []  # but not noted yet

    def send_due(self) -> bool:
        """What is due, for as long as a turn takes. Whether there may be more."""
        self._note_sent()
        if self._monotonic() < self._resume_at or not queue.is_any_due():
            return False
        ends = self._monotonic() + self._turn_seconds
        with self._line() as line:
            while line and self._monotonic() < ends:
                mail = queue.claim(seconds=self._lease_seconds)
                if mail is None or not self._handle(mail, line):
                    return False
            return line is not None

    def finish(self) -> None:
        self._note_sent()

    @contextmanager
    def _line(self) -> Iterator[Line | None]:
        """Opened before anything is claimed: while the server is away no mail loses an attempt."""
        line = self._connect()
        try:
            line.open()
        except Exception as error:  # noqa: BLE001 - whatever keeps a backend from its server
            self._pause(error)
            yield None
            return
        if self._away:
            log.info("mail_server_back", failures=self._away)
        self._away = 0
        try:
            yield line
        finally:
            with suppress(Exception):
                line.close()

    def _pause(self, error: Exception) -> None:
        self._away += 1
        longest = min(LONGEST_PAUSE_SECONDS, 2.0 ** min(self._away - 1, 30))
        self._resume_at = self._monotonic() + random.uniform(longest / 2, longest)  # noqa: S311
        self._outcome("any", "server_away")
        log.warning("mail_server_away", error=type(error).__name__, failures=self._away)

    def _handle(self, mail: Mail, line: Line) -> bool:
        """Whether more can be sent over the line."""
        try:
            message = self._compose(mail)
        except (DatabaseError, InterfaceError):
            raise  # about all mails; the lease's end brings this one back
        except Exception as error:  # noqa: BLE001 - about this one, and no reason to stop the others
            self._failed(mail, Fault(type(error).__name__))
            return True
        if message is None:
            queue.drop(mail)
            self._outcome(mail.kind, "dropped")
            return True
        if not all(map(str.isascii, message.recipients())):
            self._failed(mail, Fault(INTERNATIONAL, permanent=True))
            return True
        try:
            line.send_messages([message])
        except Exception as error:  # noqa: BLE001 - any backend's
            fault = judged(error)
            self._failed(mail, fault)
            return not fault.line_lost
        self._outcome(mail.kind, "sent")
        self._sent.append(mail)
        self._note_sent()
        return True

    def _note_sent(self) -> None:
        """First of all, and again until PostgreSQL has taken it: what is not noted is sent once more."""
        while self._sent:
            mail = self._sent[0]
            try:
                own = queue.mark_sent(mail)
            except (DatabaseError, InterfaceError):
                connection.close()
                raise
            self._sent.pop(0)
            said = {"mail_id": mail.id, "kind": mail.kind, "attempts": mail.attempts}
            if own:
                log.info("mail_sent", **said)
            else:
                log.error("mail_lease_lost", **said)

    def _failed(self, mail: Mail, fault: Fault) -> None:
        said = {"mail_id": mail.id, "kind": mail.kind, "attempts": mail.attempts, "error": fault.reason}
        if fault.permanent:
            queue.give_up(mail, error=fault.reason)
            self._outcome(mail.kind, "given_up")
            log.error("mail_given_up", **said)
        else:
            queue.put_back(mail, seconds=delay(mail.attempts), error=fault.reason)
            self._outcome(mail.kind, "failed")
            log.warning("mail_failed", **said)
