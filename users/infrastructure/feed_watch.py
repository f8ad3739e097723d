"""FeedWatch over PostgreSQL: one thread a process asks how far the feed reaches while somebody waits, and
wakes them all. So many waiting readers cost as much as one, and Redis may be away. It is no LISTEN, which a
pooler in transaction mode breaks, and whose NOTIFY takes a global lock at commit."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog
from django.db import close_old_connections, connections

from users.infrastructure import outbox

POLL_SECONDS = 0.1
LINGER_SECONDS = 1.0
"""A reader who asks again at once finds the thread and its connection still there."""
THREAD = "feed-watch"

log = structlog.get_logger(__name__)


class PolledFeedWatch:
    def __init__(self, *, places: int, draining: Callable[[], bool]) -> None:
        """`places`: how many may wait at once. `draining`: whether the process is about to stop."""
        self._places = places
        self._draining = draining
        self._changed = threading.Condition()
        self._taken = 0
        self._watching = False
        self._reach = 0
        self._failures = 0
        self._stopping = False

    @contextmanager
    def place(self, seconds: float) -> Iterator["_Wait | None"]:
        if self._draining() or not self._take():
            yield None
            return
        try:
            yield _Wait(self, time.monotonic() + seconds)
        finally:
            with self._changed:
                self._taken -= 1

    def _take(self) -> bool:
        with self._changed:
            if self._taken == self._places:
                return False
            if self._taken == 0:
                self._reach = 0  # of long ago: in a database restored since, the feed may reach less far
            self._taken += 1
            self._changed.notify_all()
            if not self._watching:
                self._watching = True
                threading.Thread(target=self._watch, name=THREAD, daemon=True).start()
            return True

    def sleep(self, sequence: int, until: float) -> int | None:
        """As FeedWait.beyond, with the end of the wait as time.monotonic() has it."""
        # Given back to its pool, if there is one; a thread's own is looked after before its next use.
        close_old_connections()
        with self._changed:
            failures = self._failures
            woken = self._changed.wait_for(
                lambda: self._stopping or self._reach > sequence or self._failures > failures,
                max(0, until - time.monotonic()),
            )
            return max(sequence, self._reach) if woken and not self._stopping else None

    @property
    def stopping(self) -> bool:
        return self._stopping

    def _watch(self) -> None:
        try:
            while self._somebody_waits():
                self._look()
                time.sleep(POLL_SECONDS)
        finally:
            connections.close_all()

    def _somebody_waits(self) -> bool:
        with self._changed:
            self._watching = self._changed.wait_for(lambda: self._taken > 0, LINGER_SECONDS)
            return self._watching

    def _look(self) -> None:
        reach = self._asked()
        with self._changed:
            # Where it cannot be found out, all are woken to read for themselves, and so to say what is wrong.
            self._failures += reach is None
            self._reach = reach or 0
            self._stopping = self._draining()
            self._changed.notify_all()

    def _asked(self) -> int | None:
        try:
            return outbox.position()[0]
        except Exception as error:  # noqa: BLE001 - the thread goes on whatever happens, for others depend on it
            log.warning("feed_watch_failed", error=type(error).__name__)
            return None
        finally:
            close_old_connections()


class _Wait:
    def __init__(self, watch: PolledFeedWatch, until: float) -> None:
        self._watch = watch
        self._until = until

    @property
    def cut_short(self) -> bool:
        return self._watch.stopping

    def beyond(self, sequence: int) -> int | None:
        return self._watch.sleep(sequence, self._until)
