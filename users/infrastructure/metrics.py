"""Prometheus metrics. No label ever holds an id, an address or a raw path."""

import collections
import os
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any

import structlog
from django.conf import settings
from django.db import DatabaseError, InterfaceError
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Histogram,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from users.application.ports import MailKind
from users.application.webhook_endpoint import EndpointState
from users.infrastructure import outbox, unswept
from users.infrastructure.mail import from_feed
from users.infrastructure.mail import queue as mail_queue
from users.infrastructure.relay import REASONS
from users.infrastructure.webhooks import store

CONTENT_TYPE = CONTENT_TYPE_LATEST

log = structlog.get_logger(__name__)

CREATIONS = Counter("user_creations", "Registrations, by outcome.", ["status"])
LOGINS = Counter("user_logins", "Logins, by outcome.", ["status"])
COMMAND_SECONDS = Histogram("user_command_duration_seconds", "Time a command takes.", ["operation", "status"])
QUERY_SECONDS = Histogram("user_query_duration_seconds", "Time a query takes.", ["operation"])
CACHE_REQUESTS = Counter("user_cache_requests", "Reads of one user, by what the cache knew.", ["result"])
EVENTS_PUBLISHED = Counter("user_events_published", "Events added to the stream.", ["event_type"])
EVENTS_DELAY = Histogram(
    "user_events_delay_seconds",
    "Time from an event's timestamp, when its command began, until it is in the stream.",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60, 600, 3600),
)
RELAY_FAILURES = Counter(
    "user_events_relay_failures", "Attempts to take events to the stream that failed, by reason.", ["reason"]
)
WEBHOOK_DELIVERIES = Counter(
    "user_webhook_deliveries", "Messages sent to webhooks, by whether they were accepted.", ["outcome"]
)
MAILS = Counter("user_mails", "Mails, by what has become of them.", ["kind", "outcome"])
RATE_LIMITED = Counter("user_rate_limited", "Requests refused for coming too often, by limit.", ["policy"])
SECURITY_EVENTS = Counter("user_security_events", "What a security officer wants to hear of.", ["event"])
SECURITY_EVENT_NAMES = (
    "login_succeeded",
    "login_refused",
    "login_limited",
    "login_from_new_network",
    "mailbox_proven",
    "account_under_attack",
    "refresh_token_reused",
)

for _status in ("success", "error"):
    CREATIONS.labels(_status)
for _event in SECURITY_EVENT_NAMES:
    SECURITY_EVENTS.labels(_event)
for _policy in settings.RATE_LIMIT_POLICIES:
    RATE_LIMITED.labels(_policy)
for _result in ("hit", "miss", "bypass"):
    CACHE_REQUESTS.labels(_result)
for _reason in REASONS:
    RELAY_FAILURES.labels(_reason)

for _kind in MailKind:
    for _outcome in ("sent", "failed", "given_up", "dropped"):
        MAILS.labels(_kind.value, _outcome)
for _outcome in ("success", "failure"):
    WEBHOOK_DELIVERIES.labels(_outcome)


@contextmanager
def measure_command(operation: str) -> Iterator[None]:
    started, status = time.perf_counter(), "error"
    try:
        yield
        status = "success"
    finally:
        COMMAND_SECONDS.labels(operation, status).observe(time.perf_counter() - started)
        if operation == "register":
            CREATIONS.labels(status).inc()


@contextmanager
def measure_session(operation: str) -> Iterator[None]:
    """As `measure_command`; logins are counted too, by success, or the stable code of the refusal."""
    status = "error"
    try:
        with measure_command(operation):
            yield
        status = "success"
    except Exception as error:
        status = getattr(error, "code", status)
        raise
    finally:
        if operation == "log_in":
            LOGINS.labels(status).inc()


class measure_query:
    """Used as the functions above; a generator would take as long again as what it measures costs."""

    def __init__(self, operation: str) -> None:
        self._seconds = _query_seconds(operation)
        self._started = time.perf_counter()

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        self._seconds.observe(time.perf_counter() - self._started)


_query_seconds = cache(QUERY_SECONDS.labels)
_cache_requests = cache(CACHE_REQUESTS.labels)


def note_cache(result: str) -> None:
    _cache_requests(result).inc()


def count_hits(seconds: Collection[float]) -> None:
    """Reads of one user that were answered from the cache, each with how long the query took: what
    `measure_query` and `note_cache` count of each."""
    if seconds:
        observe_all(_query_seconds("get"), seconds)
        count_up(_cache_requests("hit"), len(seconds))


def count_published(envelopes: Iterable[Mapping[str, Any]]) -> None:
    for event_type, times in collections.Counter(envelope["event_type"] for envelope in envelopes).items():
        EVENTS_PUBLISHED.labels(event_type).inc(times)


def count_delays(seconds: Iterable[float]) -> None:
    """From commit to stream, by clocks that may differ."""
    observe_all(EVENTS_DELAY, [max(0.0, each) for each in seconds])


def observe_all(histogram: Histogram, amounts: Iterable[float]) -> None:
    """As `observe` for each, but each bucket is added to once."""
    bounds, ordered = histogram._upper_bounds, sorted(amounts)
    done = 0
    while done < len(ordered):
        place = bisect_left(bounds, ordered[done])
        reached = bisect_right(ordered, bounds[place], done)
        _add(histogram._buckets[place].inc, reached - done)
        done = reached
    if ordered:
        _add(histogram._sum.inc, sum(ordered))


def count_up(counter: Counter, times: int) -> None:
    """As `inc`; a counter that cannot be kept stops neither the others nor us."""
    _add(counter._value.inc, times)


def _add(inc: Callable[[float], None], amount: float) -> None:
    with suppress(OSError, ValueError):
        inc(amount)


class OutboxCollector(Collector):
    """Gauges that are read from PostgreSQL at scrape time, and so right with any number of processes."""

    def collect(self) -> Iterator[GaugeMetricFamily]:
        for gauges in (_backlog, _set_aside, _heartbeat, _webhooks, _mails, _erasures):
            try:
                yield from gauges()
            except (DatabaseError, InterfaceError) as error:  # the other metrics are wanted all the more
                log.warning("gauges_unknown", gauges=gauges.__name__.strip("_"), error=type(error).__name__)


def _backlog() -> Iterator[GaugeMetricFamily]:
    backlog = outbox.backlog()
    yield GaugeMetricFamily(
        "user_events_pending", "Committed events that are not in the stream yet.", value=backlog.pending
    )
    yield GaugeMetricFamily(
        "user_events_lag_seconds",
        "Age of the oldest event that is not in the stream.",
        value=backlog.lag_seconds,
    )


def _set_aside() -> Iterator[GaugeMetricFamily]:
    yield GaugeMetricFamily(
        "user_events_set_aside", "Events that cannot be told and are set aside.", value=outbox.set_aside()
    )


def _heartbeat() -> Iterator[GaugeMetricFamily]:
    yield GaugeMetricFamily(
        "user_events_relay_heartbeat_age_seconds",
        "Time since a worker's relay was last at work; +Inf when none ever was.",
        value=outbox.heartbeat_age(),
    )


def _webhooks() -> Iterator[GaugeMetricFamily]:
    census = store.census()
    states = GaugeMetricFamily("user_webhook_endpoints", "Webhooks, by state.", labels=["state"])
    for state in EndpointState:
        states.add_metric([state.value], census.states[state])
    yield states
    yield GaugeMetricFamily(
        "user_webhook_lag_events",
        "Events behind the position of the enabled webhook that is furthest behind.",
        value=census.lag,
    )


def _mails() -> Iterator[GaugeMetricFamily]:
    backlog = mail_queue.backlog()
    yield GaugeMetricFamily("user_mails_pending", "Mails that are to be sent.", value=backlog.pending)
    yield GaugeMetricFamily(
        "user_mails_lag_seconds",
        "Age of the oldest mail that is to be sent, but for those whose recipient was refused for now.",
        value=backlog.lag_seconds,
    )
    if not settings.MAIL_CONFIGURED:
        return
    behind = from_feed.behind()
    yield GaugeMetricFamily(
        "user_mails_feed_lag_events", "Events whose mails are not in the queue yet.", value=behind.events
    )
    yield GaugeMetricFamily(
        "user_mails_feed_lag_seconds",
        "Age of the oldest event whose mail is not in the queue yet.",
        value=behind.seconds,
    )


def _erasures() -> Iterator[GaugeMetricFamily]:
    backlog = unswept.backlog()
    yield GaugeMetricFamily(
        "user_erasures_unswept", "Erased users of whom Redis may hold something.", value=backlog.unswept
    )
    yield GaugeMetricFamily(
        "user_erasures_lag_seconds", "Age of the oldest such erasure.", value=backlog.lag_seconds
    )


def page() -> bytes:
    """All metrics as text: of all processes of this host that share PROMETHEUS_MULTIPROC_DIR, or where that
    is not set, of this one."""
    registry = CollectorRegistry()
    registry.register(OutboxCollector())
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)
    return generate_latest(REGISTRY) + generate_latest(registry)
