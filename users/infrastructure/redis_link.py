"""The way to Redis: one client per purpose, behind a circuit breaker.

A Redis that is away must cost next to nothing: after five failures in a row calls are refused at once,
and every second one of them may try again. The libraries at hand either hold one lock around every call,
which would make our threads queue, or let all of them probe at the same time."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import structlog
from django_redis import get_redis_connection
from django_redis.pool import ConnectionFactory
from redis import ConnectionError as ConnectionLost
from redis import ConnectionPool, Redis, RedisError

from users.infrastructure.redis_wire import Wire

log = structlog.get_logger(__name__)


class PoolByTimeout(ConnectionFactory):
    """django-redis keeps one pool for each address, whatever the options: all purposes would get the timeouts
    of the one that happens to be used first."""

    def get_or_create_connection_pool(self, params: dict[str, Any]) -> ConnectionPool:
        key = f"{params['url']} {params['socket_timeout']}"
        if key not in self._pools:
            self._pools[key] = self.get_connection_pool(params)
        return self._pools[key]


class RedisAway(Exception):
    """Redis cannot be used right now."""


Ask = Callable[..., Any]
"""Called with a command and its arguments, answers what Redis does. Raises redis' own errors."""


class RedisLink:
    """`with link.client() as redis:` either talks to Redis or raises RedisAway. So does `with link.own as
    ask:`, one command at a time on a connection that is this thread's alone, for what is asked most. A
    connection that turns out to be lost is made anew, and the command, which may have been carried out, sent
    again, once: only what may be repeated belongs there."""

    def __init__(
        self,
        alias: str,
        *,
        failures: int = 5,
        open_seconds: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`alias` names the entry of settings.CACHES whose address and timeouts count."""
        self._alias = alias
        self._limit = failures
        self._open_seconds = open_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._failed = 0
        self._try_at = 0.0
        self._threads = _PerThread(alias, self._admit, self._note_success, self._note_failure)

    @property
    def own(self) -> "OwnConnection":
        return self._threads.connection

    @contextmanager
    def client(self) -> Iterator[Redis]:
        self._admit()
        with self.probe() as redis:
            yield redis

    @contextmanager
    def probe(self) -> Iterator[Redis]:
        """As `client`, without asking the breaker: for those who wait in the background anyway."""
        try:
            yield get_redis_connection(self._alias)
        except RedisError as error:
            self._note_failure(error)
            raise RedisAway from error
        else:
            self._note_success()

    def require(self) -> None:
        """Raises RedisAway while calls would be refused; for those who have work to do before theirs."""
        if self._failed >= self._limit and self._clock() < self._try_at:
            raise RedisAway

    def answers(self) -> bool:
        """Asks Redis itself, breaker or not."""
        try:
            return bool(get_redis_connection(self._alias).ping())
        except RedisError:
            return False

    def _admit(self) -> None:
        if self._failed < self._limit:
            return
        with self._lock:
            now = self._clock()
            if now < self._try_at:
                raise RedisAway
            self._try_at = now + self._open_seconds  # this caller probes, the others wait for its outcome

    def _note_failure(self, error: RedisError) -> None:
        with self._lock:
            self._failed += 1
            if self._failed == self._limit:
                log.warning("redis_away", error=type(error).__name__)
            if self._failed >= self._limit:
                self._try_at = self._clock() + self._open_seconds

    def _note_success(self) -> None:
        if self._failed:
            with self._lock:
                if self._failed >= self._limit:
                    log.info("redis_back")
                self._failed = 0


class Generation:
    """Of connections: those of an older one are nobody's any more, as after a fork."""

    def __init__(self) -> None:
        self.number = 0
        os.register_at_fork(after_in_child=self.end)

    def end(self) -> None:
        self.number += 1


generation = Generation()


class _PerThread(threading.local):
    def __init__(self, *of_link: Any) -> None:
        self.connection = OwnConnection(*of_link)


class OwnConnection:
    """A thread's, as the pool of the alias would make it. Within `with`, called with a command, it answers
    what Redis does, and raises redis' own errors, which the end of the `with` turns into RedisAway."""

    def __init__(
        self,
        alias: str,
        admit: Callable[[], None],
        succeeded: Callable[[], None],
        failed: Callable[[RedisError], None],
    ) -> None:
        self._alias = alias
        self._admit = admit
        self._succeeded = succeeded
        self._failed = failed
        self._wire: Wire | None = None
        self._generation = 0

    def __enter__(self) -> "OwnConnection":
        self._admit()
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if error is None:
            self._succeeded()
        elif isinstance(error, RedisError):
            self._failed(error)
            raise RedisAway from error

    @property
    def wire(self) -> Wire | None:
        """For what need not be waited for; None while there is no connection."""
        return self._wire if self._generation == generation.number else None

    def __call__(self, *command: Any) -> Any:
        wire = self._wire
        if wire is None or self._generation != generation.number:
            return self._connected().ask(*command)
        try:
            return wire.ask(*command)
        except ConnectionLost:
            # It was closed while nobody looked, as a Redis that starts anew does.
            return self._connected().ask(*command)

    def _connected(self) -> Wire:
        if self._wire:
            self._wire.close()
        self._wire = None
        self._generation = generation.number
        self._wire = Wire(get_redis_connection(self._alias).connection_pool)
        return self._wire
