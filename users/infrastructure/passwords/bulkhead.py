"""A bulkhead around what costs a core: so much at once and no more, in threads that let others go first."""

import contextlib
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from functools import partial
from typing import TypeVar

from users.application.errors import Unavailable

Result = TypeVar("Result")

HASHING = "hashing"
"""How the names of its threads begin."""
RETRY_WHEN_FULL, RETRY_AFTER_WAITING = 2, 5
"""Seconds until another try makes sense."""
LONGEST_SECONDS = 30
"""For what has its turn. The dearest hash takes a second of a core, but others go before it."""


class Bulkhead:
    """At most `concurrency` threads of its own work, and at most `queue` callers more may be inside, where
    each holds a thread of the server: they wait for their turn, in the order in which they came, or pause.

    The threads start when they are first needed, so that a process may fork before. `niceness` is added to
    theirs on Linux, where each thread has its own: short requests then come first even where all cores are
    busy, and still some of the work gets done. `let_go` is called before each wait, to give back what others
    could use meanwhile."""

    def __init__(
        self,
        *,
        concurrency: int,
        queue: int,
        niceness: int = 0,
        let_go: Callable[[], object] = lambda: None,
    ) -> None:
        self._let_go = let_go
        self._lock = threading.Lock()
        self._room = concurrency + queue
        self._places = concurrency
        self._turns: deque[threading.Event] = deque()
        self._threads = ThreadPoolExecutor(concurrency, HASHING, partial(lower_priority, niceness))

    @contextmanager
    def room(self) -> Iterator[None]:
        """For one caller, while the block runs. Raises Unavailable at once where there is none."""
        with self._lock:
            if not self._room:
                raise _unavailable(RETRY_WHEN_FULL)
            self._room -= 1
        try:
            yield
        finally:
            with self._lock:
                self._room += 1

    def run(
        self, work: Callable[[], Result], *, wait_seconds: float, first: Callable[[], object] = lambda: None
    ) -> Result:
        """What `work` answers or raises in one of the threads. `first` runs in the caller's own, when his
        turn has come; what it raises saves the work. Raises Unavailable where the turn does not come."""
        self._let_go()
        self._await_turn(wait_seconds)
        try:
            first()
            self._let_go()
            done = self._threads.submit(copy_context().run, self._ending_turn, work)
        except BaseException:
            self._end_turn()
            raise
        try:
            return done.result(LONGEST_SECONDS)
        except TimeoutError:
            if done.cancel():
                self._end_turn()
            raise _unavailable(RETRY_AFTER_WAITING) from None

    def _await_turn(self, seconds: float) -> None:
        with self._lock:
            if self._places:  # then nobody waits
                self._places -= 1
                return
            turn = threading.Event()
            self._turns.append(turn)
        if not turn.wait(seconds):
            self._give_up(turn)

    def _give_up(self, turn: threading.Event) -> None:
        with self._lock:
            if turn.is_set():  # at the last moment
                return
            self._turns.remove(turn)
        raise _unavailable(RETRY_AFTER_WAITING)

    def _ending_turn(self, work: Callable[[], Result]) -> Result:
        """Before the caller has his answer: whoever asks next finds the place free."""
        try:
            return work()
        finally:
            self._end_turn()

    def _end_turn(self) -> None:
        with self._lock:
            if self._turns:
                self._turns.popleft().set()
            else:
                self._places += 1


def lower_priority(by: int) -> None:
    """Of the calling thread alone, on Linux. Elsewhere, and where that is refused, all stays as it is."""
    if sys.platform != "linux":
        return
    with contextlib.suppress(OSError):
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + by)


def _unavailable(retry_after: int) -> Unavailable:
    return Unavailable("Too many passwords are being checked at once.", retry_after=retry_after)
