"""The relay: takes committed events to the stream, in order and without a gap.

One round: give sequences to new rows (durably), publish what is behind the known position, move the
position forward. Any number of workers and post-commit hooks may do so at the same time; why that is
safe stands in docs/adr/0003-outbox-sequence-after-commit.md."""

import math
import threading
import time
from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import Any

import structlog

from users.application.representation import UserView
from users.infrastructure import outbox
from users.infrastructure.event_bus import EventBus
from users.infrastructure.redis_link import RedisAway

log = structlog.get_logger(__name__)

NOBODY: Mapping[str, int] = MappingProxyType({})


class Relay:
    """`renew` brings the cache up to date for the users of a batch, which repairs what a crash between
    commit and hook left behind; `distrust` tells the cache that Redis has lost data; `published` is told
    of every envelope that went into the stream."""

    def __init__(
        self,
        bus: EventBus,
        *,
        renew: Callable[[Collection[str]], None],
        distrust: Callable[[], None],
        published: Callable[[dict[str, Any]], None],
        batch_size: int = 500,
    ) -> None:
        self._bus = bus
        self._renew = renew
        self._distrust = distrust
        self._published = published
        self._batch_size = batch_size
        self._draining = threading.Lock()
        self._wanted = threading.Event()

    def drain(self, *, seconds: float, fresh: Mapping[str, int] = NOBODY) -> int:
        """Publishes what is waiting, for about `seconds` at most, and answers how many events went out.
        `fresh` are users whose cache entry the caller has just renewed, and the versions they have there.

        One thread of a process drains at a time; another that comes meanwhile leaves its wish and goes.
        What is waiting when the time is up waits for the next drain, the worker's at the latest.
        Raises RedisAway, and the database's errors; nothing is lost by either."""
        deadline = time.monotonic() + seconds
        sent = 0
        self._wanted.set()
        while self._wanted.is_set() and self._draining.acquire(blocking=False):
            try:
                self._wanted.clear()
                sent += self._rounds(deadline, fresh)
            finally:
                self._draining.release()
            if time.monotonic() > deadline:
                break
        return sent

    def check_stream(self, *, seconds: float = math.inf) -> None:
        """Compares the stream with the table: publishes again what Redis has lost, for about `seconds` at
        most, and steps over numbers that the stream has and the table has not. Raises RedisAway."""
        sequenced, published = outbox.position()
        top = self._bus.top()
        if top < published:
            self._publish_again(top, sequenced, time.monotonic() + seconds)
        else:
            self._step_over(top)

    def _rounds(self, deadline: float, fresh: Mapping[str, int]) -> int:
        sent = 0
        while True:
            outbox.give_sequences(self._batch_size)  # whoever reads GET /events needs no Redis
            self._bus.require()
            _, published = outbox.position()
            waiting = outbox.batch(published, self._batch_size)
            if not waiting:
                return sent
            sent += self._send(waiting, published, fresh, deadline)
            if time.monotonic() > deadline:
                return sent

    def _send(
        self, envelopes: list[dict[str, Any]], floor: int, fresh: Mapping[str, int], deadline: float
    ) -> int:
        users = {
            envelope["user_id"]
            for envelope in envelopes
            if envelope["user_version"] > fresh.get(envelope["user_id"], 0)
        }
        if users:
            self._renew(users)
        top, added = self._bus.publish(envelopes, floor=floor)
        last = envelopes[-1]["sequence"]
        if top < floor:
            self._publish_again(top, last, deadline)
            return 0
        if added < len(envelopes) and self._step_over(top):
            return 0
        outbox.mark_published(last)
        for envelope in envelopes[len(envelopes) - added :]:
            self._published(envelope)
        return added

    def _step_over(self, top: int) -> bool:
        """Whether the stream's `top` was ahead of the table; numbering then goes on behind it."""
        sequenced, _ = outbox.position()  # younger than `top`, and numbers are durable before they are sent
        if top <= sequenced:
            return False
        log.error("stream_ahead_of_outbox", top=top, sequenced=sequenced)
        outbox.step_over(top)
        return True

    def _publish_again(self, top: int, until: int, deadline: float) -> None:
        """Fills the stream from `top` up to the sequence `until`, no further back than it would keep. What is
        missing when the time is up, the next round finds missing still."""
        log.warning("stream_rewound", top=top, until=until)
        self._distrust()
        position = max(top, until - self._bus.maxlen)
        floor = top
        while waiting := outbox.batch(position, self._batch_size):
            top, added = self._bus.publish(waiting, floor=floor)
            if top < floor:
                return  # lost once more; the next round begins anew
            position = floor = waiting[-1]["sequence"]
            outbox.mark_published(position)
            for envelope in waiting[len(waiting) - added :]:
                self._published(envelope)
            if time.monotonic() > deadline:
                return


class CacheThenEvents:
    """What follows a commit: the cache first, so that nobody who hears of an event reads an older user;
    then the events. Redis away or anything else amiss fails no command: the worker does it again."""

    def __init__(
        self, put: Callable[[Collection[UserView]], None], relay: Relay, *, budget_seconds: float = 0.05
    ) -> None:
        self._put = put
        self._relay = relay
        self._budget = budget_seconds

    def __call__(self, views: Collection[UserView]) -> None:
        self._put(views)
        try:
            self._relay.drain(seconds=self._budget, fresh={view.id: view.version for view in views})
        except RedisAway:
            log.debug("events_wait_for_redis")
