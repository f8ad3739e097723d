"""How fast do events get out? `python -m benchmarks.relay [--events 50000] [--rounds 3] [--seconds 8]`

On a PostgreSQL and a Redis of its own, in a folder that is removed afterwards, with the settings of
`make run` but bcrypt at cost 4:

- the drain: how many events a second one worker takes to the stream when so many wait, unnumbered, as after
  an outage of web hooks, worker and Redis together; their users are all in the cache, as they are now;
- the lag: from an event's `timestamp`, which is taken before its command commits, until a consumer that
  blocks in XREAD has it. Idle (one command at a time, now and then) and loaded (as many commands as the
  machine gives, from two processes), each with post-commit hooks as in `web`, and with the worker alone.

Prints PASS or MISS against the goals, and exits with 1 for a MISS."""

import argparse
import itertools
import json
import multiprocessing
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import report
from config.embedded import PROJECT, Postgres, Redis

DRAIN_GOAL = 5_000
LAG_GOAL = 0.250
USERS = 5_000
WRITERS, THREADS = 2, 2
STREAM = "users.events"


def set_up(database_url: str, redis_url: str, folder: Path) -> None:
    """Django, in this process and its children, on these servers."""
    os.environ |= {
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "DJANGO_ENV": "development",
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "LOCAL_DIR": str(folder),
        "BCRYPT_COST": "4",
        "RATE_LIMITS": "off",
        "LOG_LEVEL": "ERROR",
    }
    import django

    django.setup()


# --- The drain --------------------------------------------------------------------------------------------


def make_users() -> None:
    """Whose changes the cache knows already, as their commands' hooks have told it."""
    from django.utils import timezone
    from uuid_utils.compat import uuid7

    from users import wiring
    from users.models import UserRecord

    now = timezone.now()
    made = UserRecord.objects.bulk_create(
        UserRecord(
            id=uuid7(),
            email=f"user{number}@example.com",
            name=f"User {number}",
            status="active",
            token_version=1,
            created_at=now,
            updated_at=now,
            version=1_000_000,
        )
        for number in range(USERS)
    )
    for user in made:
        wiring.service().queries.get(str(user.id))


def make_events(count: int, version: int) -> None:
    """That many renamings, spread over the users, beginning with `version`."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = 0")
        cursor.execute(
            """
            INSERT INTO outbox (event_id, event_type, user_id, user_version, occurred_at, actor_id,
                request_id, data)
            SELECT gen_random_uuid(), 'user.renamed', id, %s + round, now(), id::text,
                gen_random_uuid()::text,
                jsonb_build_object('user_id', id, 'name', name, 'renamed_at', now())
            FROM generate_series(0, %s / %s - 1) AS round CROSS JOIN users
            """,
            [version, count, USERS],
        )
        cursor.execute("VACUUM ANALYZE outbox")


def drain(events: int, rounds: int) -> list[float]:
    """Events a second, of each round: the worker's own loop, from its start until all are in the stream."""
    from django.db import connections

    from users import wiring
    from users.infrastructure import outbox

    make_users()
    rates = []
    for number in range(rounds):
        make_events(events, 2 + number * (events // USERS))
        stop = threading.Event()
        worker = threading.Thread(target=wiring.build().worker().run, args=(stop,))
        began = time.perf_counter()
        worker.start()
        while outbox.position()[1] < events * (number + 1):
            time.sleep(0.05)
        rates.append(events / (time.perf_counter() - began))
        stop.set()
        worker.join()
        print(f"drain, round {number + 1}: {rates[-1]:,.0f} events/s", flush=True)
    connections.close_all()
    return rates


# --- The lag ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Lag:
    """Of one case; `p50` and `p99` in seconds, `rate` in events a second."""

    name: str
    loaded: bool
    p50: float
    p99: float
    rate: float


class Consumer(threading.Thread):
    """Reads the stream as another service does, and notes how old each event is when it comes."""

    def __init__(self, url: str) -> None:
        super().__init__()
        import redis

        self._redis = redis.Redis.from_url(url)
        self.ages: list[float] = []
        self.sequences: list[int] = []
        self.came: list[float] = []
        self.done = threading.Event()

    def run(self) -> None:
        from datetime import datetime

        last: bytes | str = "$"
        while not self.done.is_set():
            for _, entries in self._redis.xread({STREAM: last}, block=100) or []:
                now = time.time()
                for entry_id, fields in entries:
                    envelope = json.loads(fields[b"event"])
                    self.ages.append(now - datetime.fromisoformat(envelope["timestamp"]).timestamp())
                    self.sequences.append(envelope["sequence"])
                    self.came.append(now)
                    last = entry_id
            if last == "$" and (newest := self._redis.xrevrange(STREAM, count=1)):
                last = newest[0][0]  # else what comes between two reads at "$" would be missed


def write(commands: Any, prefix: str, pause: float, until: float) -> int:
    """Real commands on users of the writer's own: one registration, then changes; answers how many."""
    from users.application.commands import BlockUser, RegisterUser, RenameUser, UnblockUser
    from users_domain.value_objects import SYSTEM

    done = 0
    while time.time() < until:
        name = f"{prefix}{done}"
        user_id = commands.register(
            RegisterUser(email=f"{name}@example.org", name=name, password="correct horse battery")
        ).id
        changes = [RenameUser(user_id=user_id, name=f"{name} {n}", by=SYSTEM) for n in range(7)]
        for change in changes:
            commands.rename(change)
            time.sleep(random.uniform(0, 2 * pause))
        commands.block(BlockUser(user_id=user_id, reason="spam", by=SYSTEM))
        time.sleep(random.uniform(0, 2 * pause))
        commands.unblock(UnblockUser(user_id=user_id, by=SYSTEM))
        time.sleep(random.uniform(0, 2 * pause))
        done += 10
    return done


def writer(hooks: bool, number: int, threads: int, pause: float, until: float, run: str) -> None:
    """A process, as a `web` with so many threads busy."""
    import django

    django.setup()
    from users import wiring

    service = wiring.service()
    commands = service.commands if hooks else service.unattended
    at_work = [
        threading.Thread(target=write, args=(commands, f"{run}w{number}t{thread}n", pause, until))
        for thread in range(threads)
    ]
    for thread in at_work:
        thread.start()
    for thread in at_work:
        thread.join()


@contextmanager
def worker_process() -> Iterator[None]:
    process = subprocess.Popen([sys.executable, "-m", "config.role", "worker"], cwd=PROJECT)
    time.sleep(3)
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


def lag(redis_url: str, *, hooks: bool, loaded: bool, seconds: float) -> tuple[list[float], float]:
    """Each event's age when the consumer had it, and the events a second."""
    from users.infrastructure import outbox

    consumer = Consumer(redis_url)
    consumer.start()
    time.sleep(0.3)
    writers, threads, pause = (WRITERS, THREADS, 0.0) if loaded else (1, 1, 0.05)
    until = time.time() + 2.5 + seconds  # starting takes the writers a second or two
    run = f"{'h' if hooks else 'w'}{'l' if loaded else 'i'}{time.time_ns()}"
    spawn = multiprocessing.get_context("spawn")
    processes = [
        spawn.Process(target=writer, args=(hooks, number, threads, pause, until, run))
        for number in range(writers)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    while outbox.backlog().pending:
        time.sleep(0.05)
    time.sleep(0.3)
    consumer.done.set()
    consumer.join()
    first, last = consumer.sequences[0], consumer.sequences[-1]
    assert consumer.sequences == list(range(first, last + 1)), "the consumer's sequences have a hole"
    return consumer.ages, len(consumer.ages) / (consumer.came[-1] - consumer.came[0])


# --- The report -------------------------------------------------------------------------------------------


def environment(redis_url: str) -> str:
    servers = report.server_versions(os.environ["DATABASE_URL"], redis_url)
    return f"{report.machine()}. {report.our_versions(('psycopg', 'redis'))}. {servers}"


def lags(redis_url: str, rounds: int, seconds: float) -> list[Lag]:
    """The medians of the rounds of each case."""
    found = []
    with worker_process():
        for loaded, hooks in itertools.product((False, True), (True, False)):
            taken = []
            for _ in range(rounds):
                ages, rate = lag(redis_url, hooks=hooks, loaded=loaded, seconds=seconds)
                taken.append((statistics.median(ages), statistics.quantiles(ages, n=100)[98], rate))
            name = f"{'loaded' if loaded else 'idle'}, {'hooks and worker' if hooks else 'worker alone'}"
            print(f"lag, {name}: p99 {[round(p99 * 1000) for _, p99, _ in taken]} ms", flush=True)
            found.append(
                Lag(name, loaded, *(statistics.median(values) for values in zip(*taken, strict=True)))
            )
    return found


def measure(options: argparse.Namespace, redis_url: str) -> bool:
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    print(environment(redis_url), flush=True)
    rate = statistics.median(drain(options.events, options.rounds))
    found = lags(redis_url, options.rounds, options.seconds)
    print(f"\nMedians of {options.rounds} rounds; the drain with {options.events:,} events waiting\n")
    print("| | events/s | lag p50, ms | lag p99, ms |\n| --- | --- | --- | --- |")
    print(f"| drain after an outage | {rate:,.0f} | | |")
    for case in found:
        print(f"| {case.name} | {case.rate:,.0f} | {case.p50 * 1000:.0f} | {case.p99 * 1000:.0f} |")
    print()
    worst = max(case.p99 for case in found if case.loaded)
    met = [
        report.verdict("drain", f"{rate:,.0f} events/s", f">= {DRAIN_GOAL:,}", rate >= DRAIN_GOAL),
        report.verdict(
            "p99 lag under load", f"{worst * 1000:.0f} ms", f"< {LAG_GOAL * 1000:.0f}", worst < LAG_GOAL
        ),
    ]
    return all(met)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.relay", description=__doc__)
    parser.add_argument("--events", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        servers = Postgres(Path(name) / "postgres"), Redis(Path(name) / "redis")
        try:
            for server in servers:
                server.start()
            set_up(servers[0].url, servers[1].url, Path(name))
            return 0 if measure(options, servers[1].url) else 1
        finally:
            for server in servers:
                server.destroy()


if __name__ == "__main__":
    sys.exit(main())
