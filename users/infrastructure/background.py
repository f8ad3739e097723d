"""A thread for what should be done soon, and what nobody waits for."""

import threading
from collections.abc import Callable

import structlog
from django.db import close_old_connections, connection

log = structlog.get_logger(__name__)

LINGER_SECONDS = 1.0
"""So long it is kept, with its connection to PostgreSQL, when it has nothing to do."""


class Background:
    """Does `act` soon after each `wake`, once for several of them. There is a thread only while it is wanted,
    and a while longer. What `act` raises is logged, and no more: somebody else sees to what it has left."""

    def __init__(self, name: str, act: Callable[[], object]) -> None:
        self._name = name
        self._act = act
        self._lock = threading.Lock()
        self._woken = threading.Event()
        self._thread: threading.Thread | None = None

    def wake(self) -> None:
        with self._lock:
            self._woken.set()
            if self._thread is None or not self._thread.is_alive():  # of before a fork, for instance
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()

    def _run(self) -> None:
        try:
            while self._is_wanted():
                self._woken.clear()
                try:
                    close_old_connections()  # as Django does around each request
                    self._act()
                    close_old_connections()
                except Exception:
                    log.exception("background_failed", thread=self._name)
        finally:
            connection.close()

    def _is_wanted(self) -> bool:
        """Whether somebody wakes it before its time is up; after that, a wake is the next thread's."""
        if self._woken.wait(LINGER_SECONDS):
            return True
        with self._lock:
            if not self._woken.is_set():
                self._thread = None
            return self._woken.is_set()
