"""Prometheus metrics. No label ever holds an id, an address or a raw path."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
from django.db import DatabaseError
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

from users.infrastructure import outbox

CONTENT_TYPE = CONTENT_TYPE_LATEST

log = structlog.get_logger(__name__)

CREATIONS = Counter("user_creations", "Registrations, by outcome.", ["status"])
LOGINS = Counter("user_logins", "Logins, by outcome.", ["status"])
COMMAND_SECONDS = Histogram("user_command_duration_seconds", "Time a command takes.", ["operation", "status"])
QUERY_SECONDS = Histogram("user_query_duration_seconds", "Time a query takes.", ["operation"])
CACHE_REQUESTS = Counter("user_cache_requests", "Reads of one user, by what the cache knew.", ["result"])
EVENTS_PUBLISHED = Counter("user_events_published", "Events added to the stream.", ["event_type"])

for _status in ("success", "error"):
    CREATIONS.labels(_status)
for _result in ("hit", "miss", "bypass"):
    CACHE_REQUESTS.labels(_result)


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
def measure_login(operation: str) -> Iterator[None]:
    """`status`: success, or the stable code of the refusal."""
    status = "error"
    try:
        with measure_command(operation):
            yield
        status = "success"
    except Exception as error:
        status = getattr(error, "code", status)
        raise
    finally:
        LOGINS.labels(status).inc()


@contextmanager
def measure_query(operation: str) -> Iterator[None]:
    started = time.perf_counter()
    try:
        yield
    finally:
        QUERY_SECONDS.labels(operation).observe(time.perf_counter() - started)


class BacklogCollector(Collector):
    """Gauges that are read from the outbox at scrape time, and so right with any number of processes."""

    def collect(self) -> Iterator[GaugeMetricFamily]:
        try:
            backlog = outbox.backlog()
        except DatabaseError as error:  # the other metrics are wanted all the more
            log.warning("backlog_unknown", error=type(error).__name__)
            return
        yield GaugeMetricFamily(
            "user_events_pending", "Committed events that are not in the stream yet.", value=backlog.pending
        )
        yield GaugeMetricFamily(
            "user_events_lag_seconds",
            "Age of the oldest event that is not in the stream.",
            value=backlog.lag_seconds,
        )


def page() -> bytes:
    """All metrics as text: of all processes of this host that share PROMETHEUS_MULTIPROC_DIR, or where that
    is not set, of this one."""
    registry = CollectorRegistry()
    registry.register(BacklogCollector())
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)
    return generate_latest(REGISTRY) + generate_latest(registry)
