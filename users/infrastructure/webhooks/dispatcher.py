"""Delivers the feed to each endpoint: in order, one message at a time, the position moved when the receiver
has accepted. No transaction is open while a receiver is being waited for."""

import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import structlog
from django.db import DatabaseError, InterfaceError, close_old_connections, connection

from users.application.ports import Clock
from users.application.webhook_endpoint import Answer, Message
from users.infrastructure.webhooks import retries
from users.infrastructure.webhooks.feed import DatabaseFeed
from users.infrastructure.webhooks.leases import Lease, Leases
from users.infrastructure.webhooks.sender import HttpSender, Send
from users.infrastructure.webhooks.store import entry

log = structlog.get_logger(__name__)

LEASE_MARGIN_SECONDS = 10.0
"""How much longer than an attempt a lease lasts."""

BATCH = 50


class Dispatcher:
    """A thread for each endpoint that has something waiting, `threads` at most; half of them for endpoints
    that fail, so that however many of those hang, the others are served; and one for those alone, so that
    however busy the others are, they are tried again."""

    def __init__(
        self,
        feed: DatabaseFeed,
        sender: HttpSender,
        *,
        clock: Clock,
        retry_for: timedelta,
        sent: Callable[[Answer], None],
        threads: int = 8,
        turn_seconds: float = 5,
        lease_seconds: float | None = None,
        delay: Callable[[int, float | None], float] = retries.delay,
    ) -> None:
        """`retry_for`: after so long without anything accepted an endpoint is paused. `turn_seconds`: after
        so long an endpoint with much to deliver makes room for others. `sent` is told what came of each
        message. `delay`: seconds until the next attempt, by failures in a row and the receiver's wish."""
        self._feed = feed
        self._sender = sender
        self._clock = clock
        self._retry_for = retry_for
        self._sent = sent
        self._threads = threads
        self._turn_seconds = turn_seconds
        self._delay = delay
        self._leases = Leases(
            seconds=lease_seconds or sender.timeout_seconds + LEASE_MARGIN_SECONDS, clock=clock
        )
        self._stopping = threading.Event()
        self._at_work: dict[threading.Thread, bool] = {}

    def start_due(self) -> int:
        """Begins with the endpoints that are due, as far as there are threads, and answers how many. Waits
        for none of them."""
        self._at_work = {thread: kind for thread, kind in self._at_work.items() if thread.is_alive()}
        started = 0
        for retrying in (False, True):
            for lease in self._leases.take(self._room(retrying=retrying), retrying=retrying):
                self._start(lease, retrying=retrying)
                started += 1
        return started

    def finish(self) -> None:
        """Comes back when the messages under way are answered or given up; no others are begun."""
        self._stopping.set()
        for thread in self._at_work:
            thread.join()

    def _room(self, *, retrying: bool) -> int:
        free = self._threads - len(self._at_work)
        failing = sum(self._at_work.values())
        if retrying:
            return min(free, max(1, self._threads // 2) - failing)
        return min(free, max(1, self._threads - 1) - (len(self._at_work) - failing))

    def _start(self, lease: Lease, *, retrying: bool) -> None:
        thread = threading.Thread(target=self._work, args=(lease,), name="webhook")
        self._at_work[thread] = retrying
        thread.start()

    def _work(self, lease: Lease) -> None:
        """Whatever goes wrong on our side ends the turn without a release; the lease's end is the pause."""
        with structlog.contextvars.bound_contextvars(endpoint_id=lease.endpoint.id):
            try:
                close_old_connections()
                self._take_turn(lease)
            except (DatabaseError, InterfaceError) as error:
                log.warning("webhook_waits", error=type(error).__name__)
            except Exception:
                log.exception("webhook_dispatch_failed")
            finally:
                connection.close()

    def _take_turn(self, lease: Lease) -> None:
        ends = time.monotonic() + self._turn_seconds
        with self._sender.line() as send:
            held: Lease | None = lease
            while held and not self._stopping.is_set() and time.monotonic() < ends:
                held = self._deliver_some(held, send, ends)
            if held:
                self._leases.release(held, held.endpoint)

    def _deliver_some(self, lease: Lease, send: Send, ends: float) -> Lease | None:
        """A batch, or what there is. None when the lease has been given back or lost."""
        endpoint = lease.endpoint
        end = self._feed.end(endpoint.event_types)
        found = self._feed.messages(endpoint.position, endpoint.event_types, BATCH)
        # Asked last: what was deleted before the messages were read, or in the middle of that, is seen here.
        pruned = self._feed.pruned()
        if endpoint.position < pruned:
            self._pause_for_lost_events(lease, pruned)
            return None
        messages = [message for message in found if (message.sequence or 0) <= end]
        for message in messages:
            if self._stopping.is_set() or time.monotonic() > ends:
                return lease
            if not self._leases.holds(lease, seconds=self._sender.timeout_seconds):
                return None  # frozen for a while, or the machine is: somebody else's turn
            held = self._deliver(lease, message, send)
            if held is None:
                return None
            lease = held
        if len(messages) < BATCH:
            # What is wanted up to `end`, which was read before, has been delivered.
            position = max(lease.endpoint.position, end)
            self._leases.release(lease, lease.endpoint.accepted(position, self._clock()))
            return None
        return lease

    def _deliver(self, lease: Lease, message: Message, send: Send) -> Lease | None:
        """Goes on holding the endpoint only when the message was accepted."""
        endpoint, at = lease.endpoint, self._clock()
        answer = send(endpoint, message)
        self._sent(answer)
        noted = entry(endpoint, message, answer, kind="event", at=at)
        if answer.error:
            self._give_back(lease, message, answer, noted)
            return None
        position = message.sequence or endpoint.position
        held = self._leases.keep(lease, endpoint.accepted(position, self._clock()), noted)
        if held and endpoint.failures:
            log.info("webhook_recovered", failures=endpoint.failures, sequence=message.sequence)
        return held

    def _give_back(self, lease: Lease, message: Message, answer: Answer, noted: dict[str, Any]) -> None:
        delay = self._delay(lease.endpoint.failures + 1, answer.retry_after)
        failed = lease.endpoint.failed(answer, delay=delay, retry_for=self._retry_for, now=self._clock())
        if not self._leases.give_back(lease, failed, noted):
            return
        what = {"sequence": message.sequence, "status": answer.status, "error": answer.error}
        if failed.paused_at:
            log.error("webhook_paused", because=failed.paused_because, position=failed.position, **what)
        else:
            log.warning("webhook_failed", failures=failed.failures, **what)

    def _pause_for_lost_events(self, lease: Lease, pruned: int) -> None:
        """Nothing is left out silently: an admin has to say that the receiver can go on without."""
        paused = lease.endpoint.paused(
            f"Events up to {pruned} are no longer kept, and were not delivered.", self._clock()
        )
        if self._leases.release(lease, paused):
            log.error("webhook_paused", because=paused.paused_because, position=paused.position)
