"""The role `worker`: takes events to Redis, ends blocks whose time has run out, tidies up."""

import math
import os
import signal
import threading
from typing import Any

import structlog
from django.core.management.base import BaseCommand, CommandError, CommandParser
from prometheus_client import start_http_server

from users import wiring
from users.infrastructure import outbox
from users.infrastructure.redis_link import RedisAway
from users.management.command import errors_in_one_line, logs_on_stderr

log = structlog.get_logger(__name__)

STALE_SECONDS = 30


class Command(BaseCommand):
    help = (
        "Takes committed events from the outbox to the Redis stream, and ends blocks whose time has run out, "
        "until SIGTERM or SIGINT; then finishes its batch, sends what is still waiting and exits with 0. "
        "PostgreSQL or Redis away: it waits for them. Any number of these processes may run at once. Logs "
        "JSON lines to stdout."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        at_once = parser.add_mutually_exclusive_group()
        at_once.add_argument(
            "--once",
            action="store_true",
            help="sends what is waiting, says how many events went out, and exits; with 1 when PostgreSQL or "
            "Redis does not answer",
        )
        at_once.add_argument(
            "--check",
            action="store_true",
            help="sends nothing, and exits with 0 if a worker's relay was at work in the last "
            f"{STALE_SECONDS} seconds, else with 1: for health checks",
        )
        parser.add_argument(
            "--metrics-port",
            type=int,
            default=int(os.environ.get("WORKER_METRICS_PORT") or 0),
            help="serves this process's metrics there, for a worker on a host of its own (default: "
            "WORKER_METRICS_PORT, or not at all)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["once"]:
            with logs_on_stderr(), errors_in_one_line():
                self._drain_once()
        elif options["check"]:
            with logs_on_stderr(), errors_in_one_line():
                self._check()
        else:
            self._run(options["metrics_port"])

    def _check(self) -> None:
        age = outbox.heartbeat_age()
        if age == math.inf:
            raise CommandError("no worker has ever been at work here")
        if age >= STALE_SECONDS:
            raise CommandError(f"no worker's relay was at work in the last {age:.0f} seconds")
        self.stdout.write(f"a worker's relay was at work {age:.0f} seconds ago")

    def _drain_once(self) -> None:
        relay = wiring.service().relay
        try:
            relay.check_stream(seconds=math.inf)
            sent = relay.drain(seconds=math.inf)
        except RedisAway as error:
            raise CommandError("Redis does not answer; the events wait in the outbox") from error
        self.stdout.write(f"{sent} events sent")

    def _run(self, metrics_port: int) -> None:
        stop = threading.Event()
        for signum in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signum, lambda *_: stop.set())
        if metrics_port:
            start_http_server(metrics_port)
        log.info("relay_started")
        wiring.service().worker().run(stop)
        log.info("relay_stopped")
