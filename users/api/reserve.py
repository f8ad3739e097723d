"""Threads that cached reads can do without.

Python runs one thread at a time. A few keep it at work on reads from the cache, one going on while others
wait for Redis; more only push each other aside, which slows all down, the slowest most of all. How many there
are is decided by those who wait long: for PostgreSQL, a hash, a row, news. So whoever has answered from the
cache as one of too many rests, until one of the others is about to be away
(docs/adr/0012-a-front-for-reads.md)."""

import random
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Lock, get_ident

from users.infrastructure.passwords.bulkhead import HASHING

GRANIAN = "Granian"
"""As it calls itself. It lets go of what it was answered when that is sent; gunicorn, for one, has its
connection still to see to."""
FEW = 3
"""Keep the interpreter at work where Redis is near."""
BUSY = 0.97
"""Of a processor's time: with less, whatever the reason, one more is at work."""
LOOK_SECONDS = 0.05
FORGETTING = 1.0001
"""By each cached read, so that what was lately counts, and not what was many thousands ago."""
_CLOCK_OF_A_THREAD = 0b110
"""Linux, posix-timers.h: CPUCLOCK_PERTHREAD_MASK and CPUCLOCK_SCHED."""
REST_SECONDS = (0.5, 1.5)
"""Between these, should nobody call: so some are always about to be back, and never all at once."""


class Reserve:
    def __init__(self) -> None:
        self.resting: deque[Lock] = deque()
        self._away: set[int] = set()
        self._most_away = 0.0
        self._more = 0
        self._looked_at, self._worked = time.perf_counter(), _worked()

    def can_spare(self, *, others: int) -> bool:
        """Whoever has answered from the cache, while so many other reads are under way."""
        if time.perf_counter() - self._looked_at > LOOK_SECONDS:
            self._look(others)
        self._most_away = most_away = max(len(self._away), self._most_away / FORGETTING)
        return others >= FEW + self._more + round(most_away)

    def _look(self, others: int) -> None:
        """Where the processor has time to spare, all may be waiting, as for a Redis that is far off."""
        since, self._looked_at = self._looked_at, time.perf_counter()
        before, self._worked = self._worked, _worked()
        if self._worked - before >= BUSY * (self._looked_at - since):
            self._more = max(self._more - 1, 0)
        elif self._more < others:
            self._more += 1
            self.call()

    @contextmanager
    def away(self) -> Iterator[None]:
        """For a read that waits for PostgreSQL: as many as do so at once, lately, are there besides those at
        work."""
        thread = get_ident()
        self._away.add(thread)
        if len(self._away) > round(self._most_away):
            self._most_away = len(self._away)
            self.call()
        try:
            yield
        finally:
            self._away.discard(thread)

    def rest(self) -> None:
        """Until called, or for a while."""
        bell = Lock()
        bell.acquire()
        self.resting.append(bell)
        if not bell.acquire(timeout=random.uniform(*REST_SECONDS)):  # noqa: S311 - no secret
            with suppress(ValueError):  # called just now
                self.resting.remove(bell)

    def call(self) -> None:
        """One of those who rest, in place of a caller who may be away for long."""
        with suppress(IndexError):
            self.resting.pop().release()


def _worked() -> float:
    """Seconds of processors that this process had, but for hashes, for which nobody needs the interpreter."""
    hashing = [thread.native_id for thread in threading.enumerate() if thread.name.startswith(HASHING)]
    return time.process_time() - sum(worked_by(thread) for thread in hashing if thread)


def worked_by(native_id: int) -> float:
    """The seconds of a thread; 0 for one that has just ended, and where no thread can be told from others.
    `time.pthread_getcpuclockid` names the same clock, but may crash when the thread has ended."""
    if sys.platform != "linux":
        return 0.0
    with suppress(OSError):
        return time.clock_gettime(~native_id << 3 | _CLOCK_OF_A_THREAD)
    return 0.0


class LastAnswer(list[bytes]):
    """After which its thread rests, as soon as the server lets go of it."""

    def __init__(self, body: bytes, reserve: Reserve) -> None:
        super().__init__((body,))
        self._reserve = reserve

    def __del__(self) -> None:
        self._reserve.rest()
