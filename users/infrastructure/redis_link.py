"""The way to Redis: one client per purpose, behind a circuit breaker.

A Redis that is away must cost next to nothing: after five failures in a row calls are refused at once,
and every second one of them may try again. The libraries at hand either hold one lock around every call,
which would make our threads queue, or let all of them probe at the same time."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import structlog
from django_redis import get_redis_connection
from django_redis.pool import ConnectionFactory
from redis import ConnectionPool, Redis, RedisError

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


class RedisLink:
    """`with link.client() as redis:` either talks to Redis or raises RedisAway."""

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
