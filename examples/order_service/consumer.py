"""Follows the user service's events: by the stream while there is one, by the feed where that has a gap.

The truth about how far we have come is in the store. The consumer group of Redis only spares us reading
what we have; it may be lost, and is made again at the stored position."""

import json
import logging
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, Protocol

from redis import Redis, RedisError, ResponseError

from .events import Event, MalformedEvent
from .handlers import Handlers, Users
from .store import DeadLetter, Store
from .users_api import EventsGone, ServiceAway

log = logging.getLogger("order_service.consumer")

AT_ONCE = 100
BLOCK_MS = 500
ATTEMPTS = 3
ATTEMPT_PAUSE_SECONDS = 0.05
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.1, 1.0
FEED_CHECK_SECONDS = 2.0
"""How often a quiet stream is held against the feed, which would show a relay that has stopped."""
FORGET_SECONDS = 60.0
RETRY_SECONDS = 1.0

Entry = tuple[bytes, dict[bytes, bytes] | None]


class Feed(Users, Protocol):
    """What the consumer asks the user service for. All of it raises ServiceAway."""

    def events(self, after: int) -> tuple[list[Any], bool]: ...

    def users(self) -> Iterator[dict[str, Any]]: ...


class Consumer:
    """`redis` must bound its waits, by more than BLOCK_MS. One at a time for each store: see
    Store.only_reader."""

    def __init__(
        self,
        redis: Redis,
        feed: Feed,
        store: Store,
        handlers: Handlers,
        *,
        stream: str,
        group: str,
        name: str,
    ) -> None:
        self._redis = redis
        self._feed = feed
        self._store = store
        self._handlers = handlers
        self._stream = stream
        self._group = group
        self._name = name
        self._position = store.position()
        self._heard_at = float("-inf")
        self._pause = FIRST_PAUSE_SECONDS
        self._due: dict[str, float] = {}
        self._stop = threading.Event()

    def silence(self) -> float:
        """Seconds since we last knew all that had happened."""
        return time.monotonic() - self._heard_at

    def run(self, stop: threading.Event) -> None:
        """Until `stop` is set. Nothing that Redis or the service does ends it; a store that fails does."""
        self._stop = stop
        with suppress(_Stopping):
            while not stop.is_set():
                try:
                    self._follow_stream()
                except (RedisError, ServiceAway) as error:
                    log.warning("stream left at %d: %s", self._position, _in_words(error))
                    self._go_on_without_stream()

    # --- the stream ---

    def _follow_stream(self) -> None:
        self._join_group()
        while not self._stop.is_set():
            self._read()
            self._do_by_the_clock()
            self._pause = FIRST_PAUSE_SECONDS

    def _join_group(self) -> None:
        """The group begins where we are, never at the stream's end: after a FLUSHALL that would skip what
        came meanwhile. What was delivered and never acknowledged, to us or to a reader that died, comes
        first."""
        try:
            self._redis.xgroup_create(self._stream, self._group, id=f"{self._position}-0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise
        self._take_over_pending()
        while pending := self._entries("0", block=None):
            self._take(pending)

    def _take_over_pending(self) -> None:
        """From all others: whoever holds the store is the only reader that lives."""
        start = b"0-0"
        while True:
            start, *_ = self._redis.xautoclaim(
                self._stream, self._group, self._name, min_idle_time=0, start_id=start, count=AT_ONCE
            )
            if start == b"0-0":
                return

    def _read(self) -> None:
        entries = self._entries(">", block=BLOCK_MS)
        arrived = time.monotonic()
        if not entries:
            self._look_around(arrived)
            return
        self._take(entries)
        if len(entries) < AT_ONCE and _sequence(entries[-1]) == self._position:
            self._heard_at = arrived

    def _entries(self, start: str, *, block: int | None) -> list[Entry]:
        answer: Any = self._redis.xreadgroup(
            self._group, self._name, {self._stream: start}, count=AT_ONCE, block=block
        )
        return list(answer[0][1]) if answer else []

    def _take(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            self._take_one(entry)
        self._redis.xack(self._stream, self._group, *[entry[0] for entry in entries])

    def _take_one(self, entry: Entry) -> None:
        """A repeat is skipped; the next one is applied. Before any other one some are missing, which Redis
        has trimmed, as it may have trimmed this one itself; what even the feed lacks was never there."""
        sequence, fields = _sequence(entry), entry[1]
        if sequence <= self._position:
            return
        if sequence > self._position + 1 or not fields:
            self._catch_up()
        if sequence > self._position and fields:
            self._handle(sequence, fields.get(b"event", b"").decode(errors="replace"))

    def _look_around(self, arrived: float) -> None:
        """The stream has nothing for us: because we have all of it, or because Redis has lost it. A top above
        our position means that it was trimmed, one below that the relay is filling it again."""
        top = self._redis.xinfo_stream(self._stream)["last-generated-id"]
        if int(top.partition(b"-")[0]) == self._position:
            self._heard_at = arrived
        else:
            self._catch_up()

    # --- the feed ---

    def _catch_up(self) -> None:
        """Applies all that the feed has. Raises ServiceAway."""
        more = True
        while more:
            if self._stop.is_set():
                raise _Stopping
            asked = time.monotonic()
            try:
                envelopes, more = self._page()
            except EventsGone as gone:
                self._rebuild(gone.oldest)
                continue
            for envelope in envelopes:
                self._handle(_sequence_of(envelope), json.dumps(envelope))
        self._heard_at = asked

    def _page(self) -> tuple[list[Any], bool]:
        """What follows, and whether there is more. Raises EventsGone, for a newborn too: who asks from 0 on
        is told what there is, without a word about what there was."""
        envelopes, more = self._feed.events(self._position)
        if self._position == 0 and not envelopes:
            self._feed.events(1)
        elif self._position == 0 and _sequence_of(envelopes[0]) > 1:
            raise EventsGone(_sequence_of(envelopes[0]))
        return envelopes, more

    def _rebuild(self, oldest: int) -> None:
        """A new copy, as some events are gone for good. The feed goes on from its oldest: what the copy has
        already of those, it knows by the users' versions."""
        log.warning("the feed begins at %d, we are at %d: reading all users anew", oldest, self._position)
        self._handlers.rebuild(self._feed.users(), position=oldest - 1)
        self._position = oldest - 1

    def _go_on_without_stream(self) -> None:
        with suppress(ServiceAway):
            self._catch_up()
        self._do_by_the_clock()
        self._stop.wait(self._pause)
        self._pause = min(self._pause * 2, LONGEST_PAUSE_SECONDS)

    # --- one event ---

    def _handle(self, sequence: int, text: str) -> None:
        """Applies it, or buries it after a few attempts; the stream goes on either way."""
        event: Event | None = None
        try:
            event = _parse(sequence, text)
            self._attempt(event)
        except Exception as error:
            log.exception("dead letter %d", sequence)
            self._handlers.give_up(sequence, event, text, _in_words(error))
        self._position = sequence

    def _attempt(self, event: Event) -> None:
        for _ in range(ATTEMPTS - 1):
            try:
                return self._handlers.apply(event)
            except ServiceAway:
                raise  # the others need not wait for it; a dead letter is tried again soon
            except Exception as error:  # noqa: BLE001
                log.warning("event %d failed: %s", event.sequence, _in_words(error))
                self._stop.wait(ATTEMPT_PAUSE_SECONDS)
        return self._handlers.apply(event)

    # --- by the clock ---

    def _do_by_the_clock(self) -> None:
        now = time.monotonic()
        for duty, every_seconds in (
            (self._retry_dead_letters, RETRY_SECONDS),
            (self._check_feed, FEED_CHECK_SECONDS),
            (self._handlers.forget_old, FORGET_SECONDS),
        ):
            if now >= self._due.get(duty.__name__, 0):
                self._due[duty.__name__] = now + every_seconds
                duty()

    def _check_feed(self) -> None:
        with suppress(ServiceAway):
            self._catch_up()

    def _retry_dead_letters(self) -> None:
        for letter in self._store.dead_letters(due=time.time()):
            try:
                self._handlers.apply_late(self._event_of(letter))
            except Exception as error:  # noqa: BLE001 - it stays where it is
                self._store.still_dead(letter, _in_words(error), now=time.time())

    def _event_of(self, letter: DeadLetter) -> Event:
        """What came malformed, the feed may tell better."""
        with suppress(MalformedEvent):
            return _parse(letter.sequence, letter.envelope)
        envelopes, _ = self._feed.events(letter.sequence - 1)
        return _parse(letter.sequence, json.dumps(next(iter(envelopes), None)))


class _Stopping(Exception):
    """Asked to stop in the middle of catching up."""


def _sequence(entry: Entry) -> int:
    return int(entry[0].partition(b"-")[0])


def _sequence_of(envelope: Any) -> int:
    try:
        return int(envelope["sequence"])
    except (KeyError, TypeError, ValueError) as error:
        raise ServiceAway("the feed tells an event without a sequence") from error


def _parse(sequence: int, text: str) -> Event:
    """Raises MalformedEvent."""
    try:
        event = Event.parse(json.loads(text))
    except ValueError as error:
        raise MalformedEvent(f"no JSON: {error}") from error
    if event.sequence != sequence:
        raise MalformedEvent(f"says that it is number {event.sequence}")
    return event


def _in_words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
