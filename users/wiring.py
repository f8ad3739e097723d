"""The composition root: the only module that knows every part."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from uuid import UUID

from django.conf import settings
from django.utils import timezone

from users.application.accounts import Accounts
from users.application.commands import EndBlock, UserCommands
from users.application.credentials import Credentials
from users.application.limits import Limits, Policies
from users.application.privacy import Privacy
from users.application.queries import UserQueries
from users.application.reruns import Reruns
from users.application.sessions import Lifetimes, Sessions
from users.application.webhook_endpoint import Answer
from users.application.webhooks import Webhooks
from users.infrastructure import metrics
from users.infrastructure.after_commit import CacheThenEvents
from users.infrastructure.cache import RedisUserCache
from users.infrastructure.cursors import SignedCursors
from users.infrastructure.email_changes import DatabaseEmailProposals, forget_expired_proposals
from users.infrastructure.erasure import DatabaseTraces
from users.infrastructure.erasure_sweep import Sweep
from users.infrastructure.event_bus import EventBus
from users.infrastructure.export import DatabaseExport
from users.infrastructure.feed_watch import PolledFeedWatch
from users.infrastructure.idempotency import DatabaseIdempotencyKeys, forget_old_keys
from users.infrastructure.key_folder import KeyFolder, WatchedKeys
from users.infrastructure.keyring import FixedKeys, Keyring, Keys, new_pem, pems_in
from users.infrastructure.links import SignedLinks
from users.infrastructure.login_guard import RedisLoginGuard
from users.infrastructure.mail import letters
from users.infrastructure.mail import queue as mail_queue
from users.infrastructure.mail.from_feed import MailsFromFeed, forget_position, keep_position
from users.infrastructure.mail.mailbox import DatabaseMailbox
from users.infrastructure.mail.sender import Sender
from users.infrastructure.passwords.breaches import BreachSet
from users.infrastructure.passwords.hashing import BulkheadHasher
from users.infrastructure.passwords.policy import NistPasswordPolicy
from users.infrastructure.passwords.renewal import DatabasePasswordHashes
from users.infrastructure.passwords.words import words_of_service
from users.infrastructure.rate_limits import CallerLimit, KeyNames, RedisMeter
from users.infrastructure.reads import DatabaseReads
from users.infrastructure.receipts import SignedReceipts
from users.infrastructure.redis_link import RedisLink
from users.infrastructure.relay import Relay
from users.infrastructure.repository import DjangoUserRepository
from users.infrastructure.security_log import security_event
from users.infrastructure.sessions import DatabaseSessions, forget_old_sessions
from users.infrastructure.tokens import Seal, SealedRefreshTokens, SignedAccessTokens
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
from users.infrastructure.worker import Duty, Worker, one_by_one


@dataclass(frozen=True, slots=True)
class Service:
    """Everything that the adapters above may use. `unattended` are the worker's own commands, which leave
    their events to its relay instead of draining one by one."""

    commands: UserCommands
    unattended: UserCommands
    queries: UserQueries
    credentials: Credentials
    sessions: Sessions
    accounts: Accounts
    privacy: Privacy
    sweep: Sweep
    tokens: SignedAccessTokens
    keyring: Keyring
    cache: RedisUserCache
    relay: Relay
    redis: RedisLink
    limits: Limits
    callers: CallerLimit
    webhooks: Webhooks
    dispatcher: Callable[[], Dispatcher]

    def worker(self) -> Worker:
        webhooks = self.dispatcher()
        return Worker(
            self.relay,
            end_block=lambda user_id: self.unattended.end_block(EndBlock(user_id=user_id)),
            also=[
                Duty("webhooks", 0.5, webhooks.start_due, webhooks.finish),
                *_mail_duties(),
                Duty("erasures", 10.0, self.sweep.finish),
                Duty("tidying", 600.0, one_by_one(*_tidying())),
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
        niceness=settings.HASHING_NICENESS,
    )
    keyring = _keyring()
    tokens = SignedAccessTokens(
        keyring,
        lifetime=timedelta(seconds=settings.ACCESS_TOKEN_SECONDS),
        remembered=settings.VERIFIED_TOKENS,
    )
    users = DjangoUserRepository()
    feed = DatabaseFeed(reads)
    secrets = _sealed_secrets()
    rules = AddressRules(private_addresses=settings.WEBHOOK_PRIVATE_ADDRESSES)
    sender = HttpSender(secrets, rules, timeout_seconds=settings.WEBHOOK_TIMEOUT_SECONDS, clock=timezone.now)

    names = KeyNames(settings.SECRET_KEY)
    meter = RedisMeter(redis, names)
    policies = _policies()
    limits = Limits(policies, meter, limited=lambda policy: metrics.RATE_LIMITED.labels(policy).inc())
    guard = RedisLoginGuard(redis, names, meter, limits, policies)

    policy = _password_policy()
    mailbox = DatabaseMailbox(configured=settings.MAIL_CONFIGURED, outcome=_count_mail)

    credentials = Credentials(
        users=users, hasher=hasher, hashes=DatabasePasswordHashes(), guard=guard, clock=timezone.now
    )
    # Two ways to the stream: a command waits for Redis no longer than a cached read does, the worker may.
    after_commit = CacheThenEvents(cache.put, _relay(cache, reads, redis))

    accounts = Accounts(
        users=users,
        unit_of_work=DjangoUnitOfWork(after_commit),
        hasher=hasher,
        policy=policy,
        proposals=DatabaseEmailProposals(),
        mailbox=mailbox,
        links=SignedLinks(),
        guard=guard,
        clock=timezone.now,
        measure=metrics.measure_command,
        reruns=Reruns(),
    )

    privacy = Privacy(
        unit_of_work=DjangoUnitOfWork(after_commit),
        traces=DatabaseTraces(
            digest=guard.digest, forget_accounts=guard.forget, sweep=_sweep(cache, redis, guard).at_once
        ),
        receipts=SignedReceipts(keyring),
        held=DatabaseExport(),
        clock=timezone.now,
        measure=metrics.measure_command,
        reruns=Reruns(),
    )

    def commands_with(after_commit: AfterCommit) -> UserCommands:
        return UserCommands(
            users=users,
            unit_of_work=DjangoUnitOfWork(after_commit),
            hasher=hasher,
            policy=policy,
            idempotency=DatabaseIdempotencyKeys(),
            mailbox=mailbox,
            clock=timezone.now,
            measure=metrics.measure_command,
            propose_email=accounts.propose_email if settings.EMAIL_CHANGE == "verified" else None,
        )

    return Service(
        commands=commands_with(after_commit),
        unattended=commands_with(cache.put),
        queries=UserQueries(
            reads=reads,
            cache=cache,
            cursors=SignedCursors(),
            feed_watch=PolledFeedWatch(places=settings.FEED_WAITS, draining=is_draining),
            measure=metrics.measure_query,
            note_cache=metrics.note_cache,
        ),
        credentials=credentials,
        sessions=Sessions(
            credentials=credentials,
            users=users,
            unit_of_work=DjangoUnitOfWork(after_commit),
            store=DatabaseSessions(_lifetimes().idle),
            access_tokens=tokens,
            refresh_tokens=_refresh_tokens(),
            limits=limits,
            lifetimes=_lifetimes(),
            clock=timezone.now,
            measure=metrics.measure_session,
            reused=_note_reuse,
            reruns=Reruns(),
        ),
        accounts=accounts,
        privacy=privacy,
        sweep=_sweep(cache, RedisLink("events"), guard),
        tokens=tokens,
        keyring=keyring,
        cache=cache,
        relay=_relay(cache, reads, RedisLink("events"), batch_size=1000),
        redis=redis,
        limits=limits,
        callers=CallerLimit(limits, meter, names),
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

    return Relay(
        _bus(link),
        renew=renew,
        distrust=cache.distrust,
        published=metrics.count_published,
        waited=metrics.count_delays,
        failed=lambda reason: metrics.RELAY_FAILURES.labels(reason).inc(),
        puts=cache.puts,
        batch_size=batch_size,
    )


def _bus(link: RedisLink) -> EventBus:
    return EventBus(link, stream=settings.EVENT_STREAM, maxlen=settings.EVENT_STREAM_MAXLEN)


def _sweep(cache: RedisUserCache, link: RedisLink, guard: RedisLoginGuard) -> Sweep:
    return Sweep(cache, _bus(link), forget_accounts=guard.forget, clock=timezone.now)


def _policies() -> Policies:
    policies: Policies = settings.RATE_LIMIT_POLICIES
    return policies if settings.RATE_LIMITS else dict.fromkeys(policies)


def _password_policy() -> NistPasswordPolicy:
    path = settings.BREACHED_PASSWORDS_FILE
    return NistPasswordPolicy(
        service_words=words_of_service(
            settings.JWT_ISSUER, [settings.MAIL_SERVICE_NAME, *settings.PASSWORD_CONTEXT_WORDS]
        ),
        breached=BreachSet(path) if path else (),
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


def _refresh_tokens() -> SealedRefreshTokens:
    seal = Seal([settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS], issuer=settings.JWT_ISSUER)
    return SealedRefreshTokens(seal, lifetime=timedelta(seconds=settings.SESSION_IDLE_SECONDS))


def _lifetimes() -> Lifetimes:
    return Lifetimes(
        access=timedelta(seconds=settings.ACCESS_TOKEN_SECONDS),
        idle=timedelta(seconds=settings.SESSION_IDLE_SECONDS),
        absolute=timedelta(seconds=settings.SESSION_SECONDS),
        grace=timedelta(seconds=settings.REFRESH_GRACE_SECONDS),
        most=settings.SESSIONS_PER_USER,
    )


def _note_reuse(user_id: str, session_id: UUID) -> None:
    security_event("refresh_token_reused", user_id=user_id, session_id=str(session_id))


def _mail_duties() -> list[Duty]:
    if not settings.MAIL_CONFIGURED:
        return []
    signed = SignedLinks()
    sender = Sender(lambda mail: letters.compose(mail, signed), outcome=_count_mail)
    return [
        Duty("mails from events", 0.5, MailsFromFeed(DatabaseReads()).queue_some),
        Duty("mails", 0.5, sender.send_due, sender.finish),
    ]


def _tidying() -> list[Duty]:
    """What is old goes. All in one thread: it takes milliseconds, and none of it is urgent."""
    return [
        Duty("mail table", 600.0, _tidy_mails),
        Duty("email changes", 600.0, lambda: forget_expired_proposals(timezone.now())),
        Duty("sessions", 600.0, lambda: forget_old_sessions(_lifetimes().idle)),
        Duty("idempotency", 600.0, forget_old_keys),
        Duty("webhook tables", 600.0, _tidy_webhooks),
    ]


def _tidy_mails() -> None:
    if settings.MAIL_CONFIGURED:
        keep_position()
    else:
        forget_position()
    for kind in mail_queue.give_up_old(settings.MAIL_RETRY_HOURS):
        _count_mail(kind, "given_up")
    mail_queue.forget_finished()


def _count_mail(kind: str, outcome: str) -> None:
    metrics.MAILS.labels(kind, outcome).inc()


def _count_sent(answer: Answer) -> None:
    metrics.WEBHOOK_DELIVERIES.labels("failure" if answer.error else "success").inc()


def is_draining() -> bool:
    """Whether this process is about to stop: the server has put a file there to say so."""
    return bool(settings.DRAIN_FILE) and Path(settings.DRAIN_FILE).exists()


def _keyring() -> Keyring:
    return Keyring(_keys(), issuer=settings.JWT_ISSUER, audience=settings.JWT_AUDIENCE)


def _keys() -> Keys:
    if settings.JWT_SIGNING_KEYS:
        return FixedKeys(pems_in(settings.JWT_SIGNING_KEYS))
    folder = key_folder()
    if folder is None:
        return FixedKeys(
            [Path(name.strip()).read_bytes() for name in settings.JWT_SIGNING_KEY_FILE.split(",")]
        )
    begin_keys(folder)
    return WatchedKeys(folder)


def key_folder() -> KeyFolder | None:
    """Where the keys are from, if they are from a folder."""
    if settings.JWT_SIGNING_KEYS or settings.JWT_SIGNING_KEY_FILE:
        return None
    return KeyFolder(Path(settings.JWT_KEYS_DIR))


def begin_keys(folder: KeyFolder) -> None:
    """With a first key, where there is none: in development the one from before there were keyrings."""
    before = settings.LOCAL_DIR / "signing_key.pem"
    taken_over = before.exists() and not settings.PRODUCTION
    folder.begin(before.read_bytes if taken_over else new_pem, timezone.now())


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
