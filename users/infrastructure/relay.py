"""The relay: takes committed events to the stream, in order and without a gap.

One round: give sequences to new rows (durably), publish what is behind the known position, move the
position forward. Any number of workers and post-commit hooks may do so at the same time; why that is
safe stands in docs/adr/0003-outbox-sequence-after-commit.md."""

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

import structlog
from django.db import DatabaseError, InterfaceError, OperationalError
from redis import ResponseError

from users.application.envelope import Envelope
from users.application.event_schemas import SET_ASIDE
from users.application.representation import UserView
from users.infrastructure import outbox
from users.infrastructure.cache import Puts
from users.infrastructure.event_bus import NO_PUTS, EventBus
from users.infrastructure.redis_link import RedisAway

log = structlog.get_logger(__name__)

REASONS = ("redis_away", "redis_refused", "postgresql", "cache", "other")
"""Why an attempt fails: Redis does not answer; it does, but takes nothing (out of memory, read-only, a key of
another type); PostgreSQL; a user who cannot be renewed in the cache, which stops nothing; anything else."""


def reason_of(error: Exception) -> str:
    """One of REASONS."""
    if isinstance(error, RedisAway):
        return "redis_refused" if isinstance(error.__cause__, ResponseError) else "redis_away"
    return "postgresql" if isinstance(error, DatabaseError | InterfaceError) else "other"


def nothing(_: object) -> None:
    """For those who need not know."""


@dataclass(slots=True)
class DuePuts:
    """Users who were saved in this process, and have to be put into the cache before the answer; `done` once
    somebody has."""

    views: Sequence[UserView]
    done: bool = False


class Relay:
    """`renew` brings the cache up to date for the users of a batch, who have these versions at least, which
    repairs what a crash between commit and hook left behind; `distrust` tells the cache that Redis has lost
    data, or that one of its entries cannot be renewed; `published` is told which envelopes went into the
    stream, `waited` how many seconds each had waited for that since its commit, `failed` why an attempt has
    failed; `puts` makes of views what `EventBus.publish` takes along, or None while the cache is not
    trusted: a put is no more than `distrust` then."""

    def __init__(
        self,
        bus: EventBus,
        *,
        renew: Callable[[Mapping[str, int]], None],
        distrust: Callable[[], None],
        published: Callable[[Collection[Envelope]], None],
        waited: Callable[[Collection[float]], None] = nothing,
        failed: Callable[[str], None] = nothing,
        puts: Callable[[Collection[UserView]], Puts | None] = lambda views: NO_PUTS,
        batch_size: int = 500,
    ) -> None:
        self._bus = bus
        self._renew = renew
        self._distrust = distrust
        self._published = published
        self._waited = waited
        self._failed = failed
        self._puts = puts
        self._batch_size = batch_size
        self._draining = threading.Lock()
        self._wanted = threading.Event()
        # Bounded, should nobody get to drain for long; who is forgotten here is renewed like a stranger.
        self._due: deque[DuePuts] = deque(maxlen=1000)
        self._in_hand: Mapping[str, int] = {}

    def drain(self, *, seconds: float, due: DuePuts | None = None) -> int:
        """Publishes what is waiting, for about `seconds` at most, and answers how many events went out.
        `due` are users whose events may be among these: then whoever publishes them puts them along with
        their events, but not for sure; the caller looks whether they are `done`, and publishes once, for
        others no longer than for himself.

        One thread of a process drains at a time; another that comes meanwhile leaves its wish and goes.
        What is waiting when the time is up waits for the next drain, the worker's at the latest.
        Raises RedisAway, and the database's errors; nothing is lost by either."""
        deadline = time.monotonic() + seconds
        sent = 0
        if due:
            self._due.append(due)
        self._wanted.set()
        while self.is_wanted and self._draining.acquire(blocking=False):
            try:
                sent += self._fulfil(deadline)
            finally:
                self._draining.release()
            if due or time.monotonic() > deadline:
                break
        return sent

    def drain_for_others(self, *, seconds: float) -> None:
        """As long as they leave wishes, for about `seconds` at most. Raises as `drain`."""
        deadline = time.monotonic() + seconds
        while self.is_wanted and self._draining.acquire(blocking=False):
            try:
                while self.is_wanted and time.monotonic() <= deadline:
                    self._fulfil(deadline)
            finally:
                self._draining.release()
            if time.monotonic() > deadline:
                break

    @property
    def is_wanted(self) -> bool:
        """Whether somebody has left a wish that nobody has taken up yet."""
        return self._wanted.is_set()

    @property
    def is_neglected(self) -> bool:
        """Whether there is nobody either who will: whoever drains looks once more when he is through."""
        return self.is_wanted and not self._draining.locked()

    def _fulfil(self, deadline: float) -> int:
        self._wanted.clear()
        with self._noting_failure():
            return self._rounds(deadline)

    def has_in_hand(self, views: Collection[UserView]) -> bool:
        """Whether a thread of this process is publishing the events of these users, as they are here, or has
        just done so; it came upon them between their commit and this question."""
        return all(view.version <= self._in_hand.get(view.id, 0) for view in views)

    def check_stream(self, *, seconds: float = math.inf) -> None:
        """Compares the stream with the table: publishes again what Redis has lost, for about `seconds` at
        most, and steps over numbers that the stream has and the table has not. Raises RedisAway."""
        with self._noting_failure():
            sequenced, published = outbox.position()
            top = self._bus.top()
            if top < published:
                self._publish_again(top, published, sequenced, time.monotonic() + seconds)
            else:
                self._step_over(top)

    @contextmanager
    def _noting_failure(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self._failed(reason_of(error))
            raise

    def _rounds(self, deadline: float) -> int:
        sent = 0
        while True:
            batch = outbox.next_batch(self._batch_size)  # numbers: whoever reads GET /events needs no Redis
            self._in_hand = _last_versions(batch.envelopes)
            due = self._take_due()
            self._bus.require()
            if not batch.envelopes:
                return sent
            went = self._send(self._bus.fitting(batch.envelopes), batch.after, due, deadline)
            sent += went
            all_went = went == len(batch.envelopes) and not batch.more
            if all_went or time.monotonic() > deadline:
                return sent

    def _take_due(self) -> list[DuePuts]:
        """After the numbering: those whose events it found have left their wish just before, or do so now."""
        taken = []
        while self._due:
            taken.append(self._due.popleft())
        return taken

    def _send(self, envelopes: list[Envelope], floor: int, due: Collection[DuePuts], deadline: float) -> int:
        known = {view.id: view.version for each in due for view in each.views}
        users = {
            user_id: version
            for user_id, version in _last_versions(envelopes).items()
            if version > known.get(user_id, 0)
        }
        if users:
            self._renew_cache(users)
        waiting = [each for each in due if not each.done]
        puts = self._puts([view for each in waiting for view in each.views]) if waiting else NO_PUTS
        if puts is None:
            self._distrust()
        done = self._bus.publish(envelopes, floor=floor, puts=puts or NO_PUTS)
        for each in waiting:
            each.done = True
        last = envelopes[-1]["sequence"]
        if done.top < floor:
            self._publish_again(done.top, floor, last, deadline)
            return 0
        if done.added < len(envelopes) and self._step_over(done.top, stranger=done.stranger):
            return 0
        outbox.mark_published(last)
        self._note(envelopes[len(envelopes) - done.added :])
        return done.added

    def _renew_cache(self, users: Mapping[str, int]) -> None:
        """A user whose row cannot be read, say, holds up no event, his own included."""
        try:
            self._renew(users)
        except (RedisAway, OperationalError, InterfaceError):
            raise  # this is about no user
        except Exception:
            if len(users) > 1:
                for user_id, version in users.items():
                    self._renew_cache({user_id: version})
            else:
                log.exception("cache_not_renewed", user_id=next(iter(users)))
                self._failed("cache")
                self._distrust()  # there may be an entry of his, and it may be old

    def _note(self, envelopes: Collection[Envelope]) -> None:
        now = time.time()
        self._published(envelopes)
        self._waited(
            [
                now - datetime.fromisoformat(envelope["timestamp"]).timestamp()
                for envelope in envelopes
                if envelope["event_type"] != SET_ASIDE  # whose timestamp is another
            ]
        )

    def _step_over(self, top: int, *, stranger: bool = False) -> bool:
        """Whether the stream was ahead of the table, by its `top` or by a `stranger` in the place of an event
        of ours; numbering then goes on behind it, if another worker has not seen to that already."""
        sequenced, _ = outbox.position()  # younger than `top`, and numbers are durable before they are sent
        if top <= sequenced and not stranger:
            return False
        if outbox.step_over(self._bus.top, self._bus.event_ids):
            log.error("stream_ahead_of_outbox", top=top, sequenced=sequenced)
        return True

    def _publish_again(self, top: int, published: int, until: int, deadline: float) -> None:
        """Fills the stream from `top` up to the sequence `until`, no further back than it would keep, without
        telling anybody by Pub/Sub what happened long ago. What is missing when the time is up, the next round
        finds missing still; what retention has deleted stays away, and the stream goes on behind it."""
        log.warning("stream_rewound", top=top, until=until)
        self._distrust()
        position = max(top, until - self._bus.maxlen)
        floor = top
        while waiting := self._bus.fitting(outbox.batch(position, self._batch_size)):
            done = self._bus.publish(waiting, floor=floor, told=published)
            if done.top < floor:
                return  # lost once more; the next round begins anew
            position = floor = waiting[-1]["sequence"]
            outbox.mark_published(position)
            self._published(waiting[len(waiting) - done.added :])
            if time.monotonic() > deadline:
                return
        if floor < published:  # the last rows are gone: without this it would look rewound for ever
            self._bus.go_on_behind(published, floor=floor)


def _last_versions(envelopes: Collection[Envelope]) -> dict[str, int]:
    """Of each user; the last is the highest."""
    return {envelope["user_id"]: envelope["user_version"] for envelope in envelopes}
