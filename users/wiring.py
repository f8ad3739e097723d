"""The composition root: the only module that knows every part."""

import threading
from collections.abc import Callable, Mapping
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
from users.application.webhook_endpoint import Answer
from users.application.webhooks import Webhooks
from users.infrastructure import metrics
from users.infrastructure.cache import RedisUserCache
from users.infrastructure.cursors import SignedCursors
from users.infrastructure.event_bus import EventBus
from users.infrastructure.feed_watch import PolledFeedWatch
from users.infrastructure.idempotency import DatabaseIdempotencyKeys
from users.infrastructure.made_once import made_once
from users.infrastructure.passwords import BulkheadHasher, NistPasswordPolicy
from users.infrastructure.reads import DatabaseReads
from users.infrastructure.redis_link import RedisLink
from users.infrastructure.relay import CacheThenEvents, Relay
from users.infrastructure.repository import DjangoUserRepository
from users.infrastructure.tokens import Keyring, SignedAccessTokens, SigningKey, pem_of
from users.infrastructure.unit_of_work import AfterCommit, DjangoUnitOfWork
from users.infrastructure.webhooks.addresses import AddressRules
from users.infrastructure.webhooks.dispatcher import Dispatcher
from users.infrastructure.webhooks.feed import DatabaseFeed
from users.infrastructure.webhooks.sender import HttpSender
from users.infrastructure.webhooks.signing import SealedSecrets
from users.infrastructure.webhooks.store import (
    DatabaseDeliveryLog,
    DatabaseEndpoints,
    forget_old_deliveries,
    forget_old_secrets,
    renew_seals,
)
from users.infrastructure.worker import Duty, Worker


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
    webhooks: Webhooks
    dispatcher: Callable[[], Dispatcher]

    def worker(self) -> Worker:
        webhooks = self.dispatcher()
        return Worker(
            self.relay,
            end_block=lambda user_id: self.unattended.end_block(EndBlock(user_id=user_id)),
            also=[
                Duty("webhooks", 0.5, webhooks.start_due, webhooks.finish),
                Duty("webhook tables", 600.0, _tidy_webhooks),
            ],
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
    feed = DatabaseFeed(reads)
    secrets = _sealed_secrets()
    rules = AddressRules(private_addresses=settings.WEBHOOK_PRIVATE_ADDRESSES)
    sender = HttpSender(secrets, rules, timeout_seconds=settings.WEBHOOK_TIMEOUT_SECONDS, clock=timezone.now)

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
            feed_watch=PolledFeedWatch(places=settings.FEED_WAITS, draining=is_draining),
            measure=metrics.measure_query,
            note_cache=lambda result: metrics.CACHE_REQUESTS.labels(result).inc(),
        ),
        sessions=Sessions(
            users=users, hasher=hasher, tokens=tokens, clock=timezone.now, measure=metrics.measure_login
        ),
        tokens=tokens,
        keyring=keyring,
        cache=cache,
        relay=_relay(cache, reads, RedisLink("events"), batch_size=1000),
        redis=redis,
        webhooks=_webhooks(feed, sender, secrets, rules),
        dispatcher=lambda: Dispatcher(
            feed,
            sender,
            clock=timezone.now,
            retry_for=timedelta(hours=settings.WEBHOOK_RETRY_HOURS),
            sent=_count_sent,
        ),
    )


def _relay(cache: RedisUserCache, reads: DatabaseReads, link: RedisLink, *, batch_size: int = 500) -> Relay:
    def renew(versions: Mapping[str, int]) -> None:
        if behind := cache.behind(versions):
            cache.put(reads.views(behind))

    def published(envelope: dict[str, Any]) -> None:
        metrics.EVENTS_PUBLISHED.labels(envelope["event_type"]).inc()

    bus = EventBus(link, stream=settings.EVENT_STREAM, maxlen=settings.EVENT_STREAM_MAXLEN)
    return Relay(
        bus,
        renew=renew,
        distrust=cache.distrust,
        published=published,
        waited=lambda seconds: metrics.EVENTS_DELAY.observe(max(0.0, seconds)),
        failed=lambda reason: metrics.RELAY_FAILURES.labels(reason).inc(),
        batch_size=batch_size,
    )


def _webhooks(
    feed: DatabaseFeed, sender: HttpSender, secrets: SealedSecrets, rules: AddressRules
) -> Webhooks:
    return Webhooks(
        store=DatabaseEndpoints(),
        log=DatabaseDeliveryLog(),
        feed=feed,
        sender=sender,
        secrets=secrets,
        check_url=rules.check_url,
        clock=timezone.now,
        sent=_count_sent,
    )


def _tidy_webhooks() -> None:
    forget_old_deliveries(timezone.now(), days=settings.WEBHOOK_LOG_DAYS)
    forget_old_secrets(timezone.now())
    renew_seals(DatabaseEndpoints(), _sealed_secrets())


def _sealed_secrets() -> SealedSecrets:
    return SealedSecrets([settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS])


def _count_sent(answer: Answer) -> None:
    metrics.WEBHOOK_DELIVERIES.labels("failure" if answer.error else "success").inc()


def is_draining() -> bool:
    """Whether this process is about to stop: the server has put a file there to say so."""
    return bool(settings.DRAIN_FILE) and Path(settings.DRAIN_FILE).exists()


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
