"""The composition root: the only module that knows every part."""

import threading
from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa
from django.conf import settings
from django.utils import timezone

from users.application.commands import EndBlock, UserCommands
from users.application.queries import UserQueries
from users.application.sessions import Sessions
from users.infrastructure import metrics
from users.infrastructure.cache import RedisUserCache
from users.infrastructure.cursors import SignedCursors
from users.infrastructure.event_bus import EventBus
from users.infrastructure.idempotency import DatabaseIdempotencyKeys
from users.infrastructure.made_once import made_once
from users.infrastructure.passwords import BulkheadHasher, NistPasswordPolicy
from users.infrastructure.reads import DatabaseReads
from users.infrastructure.redis_link import RedisLink
from users.infrastructure.relay import CacheThenEvents, Relay
from users.infrastructure.repository import DjangoUserRepository
from users.infrastructure.tokens import Keyring, SignedAccessTokens, SigningKey, pem_of
from users.infrastructure.unit_of_work import AfterCommit, DjangoUnitOfWork
from users.infrastructure.worker import Worker


@dataclass(frozen=True, slots=True)
class Service:
    """Everything that the adapters above may use. `unattended` are the worker's own commands, which leave
    their events to its relay instead of draining one by one."""

    commands: UserCommands
    unattended: UserCommands
    queries: UserQueries
    sessions: Sessions
    tokens: SignedAccessTokens
    keyring: Keyring
    cache: RedisUserCache
    relay: Relay
    redis: RedisLink

    def worker(self) -> Worker:
        return Worker(
            self.relay, end_block=lambda user_id: self.unattended.end_block(EndBlock(user_id=user_id))
        )


def build() -> Service:
    redis = RedisLink("default")
    cache = RedisUserCache(redis, ttl_seconds=settings.CACHE_TTL_SECONDS)
    reads = DatabaseReads()
    hasher = BulkheadHasher(
        concurrency=settings.HASHING_CONCURRENCY,
        queue=settings.HASHING_QUEUE,
        wait_seconds=settings.HASHING_WAIT_SECONDS,
    )
    keyring = _keyring()
    tokens = SignedAccessTokens(keyring, lifetime=timedelta(seconds=settings.ACCESS_TOKEN_SECONDS))
    users = DjangoUserRepository()

    def commands_with(after_commit: AfterCommit) -> UserCommands:
        return UserCommands(
            users=users,
            unit_of_work=DjangoUnitOfWork(after_commit),
            hasher=hasher,
            policy=NistPasswordPolicy(),
            idempotency=DatabaseIdempotencyKeys(),
            clock=timezone.now,
            measure=metrics.measure_command,
        )

    return Service(
        # Two ways to the stream: a command waits for Redis no longer than a cached read does, the worker may.
        commands=commands_with(CacheThenEvents(cache.put, _relay(cache, reads, redis))),
        unattended=commands_with(cache.put),
        queries=UserQueries(
            reads=reads,
            cache=cache,
            cursors=SignedCursors(),
            measure=metrics.measure_query,
            note_cache=lambda result: metrics.CACHE_REQUESTS.labels(result).inc(),
        ),
        sessions=Sessions(
            users=users, hasher=hasher, tokens=tokens, clock=timezone.now, measure=metrics.measure_login
        ),
        tokens=tokens,
        keyring=keyring,
        cache=cache,
        relay=_relay(cache, reads, RedisLink("events")),
        redis=redis,
    )


def _relay(cache: RedisUserCache, reads: DatabaseReads, link: RedisLink) -> Relay:
    def renew(user_ids: Collection[str]) -> None:
        cache.put(reads.views(user_ids))

    def published(envelope: dict[str, Any]) -> None:
        metrics.EVENTS_PUBLISHED.labels(envelope["event_type"]).inc()

    bus = EventBus(link, stream=settings.EVENT_STREAM, maxlen=settings.EVENT_STREAM_MAXLEN)
    return Relay(bus, renew=renew, distrust=cache.distrust, published=published)


def _keyring() -> Keyring:
    if settings.JWT_SIGNING_KEY_FILE:
        pem = Path(settings.JWT_SIGNING_KEY_FILE).read_bytes()
    else:
        pem = made_once(
            settings.LOCAL_DIR / "signing_key.pem",
            lambda: pem_of(rsa.generate_private_key(public_exponent=65537, key_size=2048)),
        )
    return Keyring([SigningKey.load(pem)], issuer=settings.JWT_ISSUER, audience=settings.JWT_AUDIENCE)


_service: Service | None = None
_building = threading.Lock()


def service() -> Service:
    """The process's one service, built at first use."""
    global _service  # noqa: PLW0603
    if _service is None:
        with _building:
            if _service is None:
                _service = build()
    return _service
