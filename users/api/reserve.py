"""Threads that reads can do without.

Python runs one thread at a time. A few keep it at work on reads, one going on while others wait for Redis or
PostgreSQL; more only push each other aside, which slows all down, the slowest most of all. How many there
are is decided by those who wait long: for a hash, a row, news. So whoever has answered a read as one of too
many rests, until one of the others is about to be away (docs/adr/0012-a-front-for-reads.md)."""

import math
import random
import threading
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress

WORK_SECONDS = 50e-6
"""Of what a read takes at the least; the rest of it is waiting, in which others can go on."""
HANDING_OVER = 2
"""So many more: the server's part of each request, and one who is just being woken up."""
FORGETTING = 1.0001
"""By each read, so that the shortest of many thousands ago no longer counts."""
STUCK_SECONDS = 0.05
"""After which a read is waiting for something, not for its turn."""
REST_SECONDS = (0.5, 1.5)
"""Between these, should nobody call: so some are always about to be back, and never all at once."""


class Reserve:
    def __init__(self) -> None:
        self.resting: deque[threading.Lock] = deque()
        self._shortest = {True: math.inf, False: math.inf}

    def can_spare(self, seconds: float, *, remembered: bool, others: Mapping[int, float]) -> bool:
        """Whoever has answered a read within `seconds`, as it was answered before or anew. `others`: when
        those reads have begun, by `time.perf_counter`, that are still under way. Who began long ago is stuck,
        and does not count."""
        # The shortest of lately: nobody was in its way.
        shortest = self._shortest[remembered] = min(seconds, self._shortest[remembered] * FORGETTING)
        enough = HANDING_OVER + math.ceil(shortest / WORK_SECONDS)
        if len(others) < enough:
            return False
        stuck = time.perf_counter() - STUCK_SECONDS
        return sum(began > stuck for began in list(others.values())) >= enough

    def rest(self) -> None:
        """Until called, or for a while."""
        bell = threading.Lock()
        bell.acquire()
        self.resting.append(bell)
        if not bell.acquire(timeout=random.uniform(*REST_SECONDS)):  # noqa: S311 - no secret
            with suppress(ValueError):  # called just now
                self.resting.remove(bell)

    def call(self) -> None:
        """One of those who rest, in place of a caller who may be away for long."""
        if self.resting:
            with suppress(IndexError):  # somebody else was quicker
                self.resting.pop().release()


class LastAnswer(list[bytes]):
    """After which its thread rests: once the server has sent it, and lets go of it."""

    def __init__(self, body: bytes, reserve: Reserve) -> None:
        super().__init__((body,))
        self._reserve = reserve

    def __del__(self) -> None:
        self._reserve.rest()
