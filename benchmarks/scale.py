"""Do lists, searches, histories and the feed cost the same with ten million users as with ten thousand?
`python -m benchmarks.scale [--users 10000 1000000 10000000] [--questions 400] [--keep FOLDER]`

On a PostgreSQL of its own, with a database for each size, filled here (ten million take 15 GB and some ten
minutes; `--keep` leaves them in a folder, for the next run). Questions are asked of the application's own
parts, in this process: the kinds in turn, each time about somebody else, all as often as the others. Printed
are the median and the 99th percentile of each kind; and no plan of any statement may read a whole table.

Fails when a kind's p99 among the most users is more than 1.5 times that among the fewest, when the thousandth
page costs more than 1.5 times the first, or when a whole table is read."""

import argparse
import itertools
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchmarks.crowd import Crowd
from benchmarks.questions import DEEP, Questions
from benchmarks.report import machine, our_versions, passed, publish, table
from config.embedded import Postgres

GOAL = 1.5
PLANS = 5
WARM_UP = 40
SERVER = {"shared_buffers": "4GB", "max_wal_size": "8GB", "autovacuum": "off"}


# --- The server -------------------------------------------------------------------------------------------


@contextmanager
def server(keep: Path | None) -> Iterator[Postgres]:
    """Stopped at the end, and removed unless it is to be kept."""
    with tempfile.TemporaryDirectory() as scratch:
        postgres = Postgres((keep or Path(scratch)) / "postgres", durable=False)
        postgres.start()
        try:
            prepare(postgres)
            yield postgres
        finally:
            if keep:
                postgres.stop()
            else:
                postgres.destroy()


def prepare(postgres: Postgres) -> None:
    import psycopg

    with psycopg.connect(postgres.url, autocommit=True) as connection:
        for name, value in SERVER.items():
            connection.execute(f"ALTER SYSTEM SET {name} = '{value}'")  # type: ignore[arg-type]
    postgres.restart()


def database_of(postgres: Postgres, users: int) -> str:
    """The address of the database for so many users, made when it is missing."""
    import psycopg

    name = f"scale_{users}"
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone()
        if not known:
            connection.execute(f"CREATE DATABASE {name}")  # type: ignore[arg-type]
    return urlsplit(postgres.url)._replace(path=f"/{name}").geturl()


def set_up(database_url: str, folder: Path) -> None:
    """Django in this process; there is no Redis, nor is one asked."""
    os.environ |= {
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "DJANGO_ENV": "development",
        "DATABASE_URL": database_url,
        "REDIS_URL": "redis://127.0.0.1:1/0",
        "LOCAL_DIR": str(folder),
        "LOG_LEVEL": "ERROR",
    }
    import django

    django.setup()


def turn_to(database_url: str) -> None:
    """From here on questions are asked of this database, which is migrated."""
    from django.core.management import call_command
    from django.db import connection

    connection.close()
    connection.settings_dict["NAME"] = urlsplit(database_url).path[1:]
    call_command("migrate", verbosity=0)


def fill(database_url: str, users: int) -> None:
    crowd = Crowd(database_url, users)
    began = time.monotonic()
    for step in crowd.fill():
        print(f"  {time.monotonic() - began:6.0f} s: {step}", flush=True)
    crowd.close()


# --- The questions ----------------------------------------------------------------------------------------


@dataclass
class Measured:
    """Seconds of each question, by kind; and the plans that read a whole table, as kind and statement."""

    users: int
    seconds: dict[str, list[float]] = field(default_factory=dict)
    astray: list[tuple[str, str]] = field(default_factory=list)

    def p50(self, kind: str) -> float:
        return statistics.median(self.seconds[kind])

    def p99(self, kind: str) -> float:
        return statistics.quantiles(self.seconds[kind], n=100, method="inclusive")[98]


def measure(users: int, questions: int) -> Measured:
    from users import wiring

    asked = Questions(wiring.service().queries, random.Random(users))
    measured = Measured(users)
    kinds = asked.kinds()
    for number, (kind, question) in itertools.product(range(-WARM_UP, questions), kinds.items()):
        ask = question()
        began = time.perf_counter()
        ask()
        if number >= 0:
            measured.seconds.setdefault(kind, []).append(time.perf_counter() - began)
    for kind, question in kinds.items():
        for _ in range(PLANS):
            measured.astray += [(kind, sql) for sql in whole_tables(question())]
    return measured


def whole_tables(ask: Callable[[], Any]) -> list[str]:
    """The statements of a question that read all users, or all events."""
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    with CaptureQueriesContext(connection) as captured:
        ask()
    return [query["sql"] for query in captured.captured_queries if reads_all(query["sql"])]


def reads_all(statement: str) -> bool:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (COSTS OFF) {statement}")
        return any(
            f"Seq Scan on {table}" in line
            for (line,) in cursor.fetchall()
            for table in ("users", "user_standings", "outbox")
        )


# --- What came of it --------------------------------------------------------------------------------------


def rows(sizes: list[Measured]) -> Iterator[list[str]]:
    least, most = sizes[0], sizes[-1]
    for kind in least.seconds:
        ratio = most.p99(kind) / least.p99(kind)
        yield [
            kind,
            *(f"{size.p50(kind) * 1000:.1f} / {size.p99(kind) * 1000:.1f}" for size in sizes),
            f"{ratio:.2f}",
            passed(ratio <= GOAL),
        ]


def report(sizes: list[Measured], questions: int, where: str, *, write: bool) -> bool:
    head = ["p50 / p99 in ms, with", *(f"{size.users:,} users" for size in sizes), "p99, last to first", ""]
    found = list(rows(sizes))
    deep = [size.p99(f"page {DEEP:,}") / size.p99("first page") for size in sizes]
    astray = [f"{size.users:,}: {kind}: {sql}" for size in sizes[1:] for kind, sql in size.astray]
    told = (
        f"{where}; {questions} questions of each kind, in turn, each about somebody else. "
        f"Page {DEEP:,} to the first page, p99: {', '.join(f'{ratio:.2f}' for ratio in deep)}. "
        f"Statements that read a whole table, with more than the fewest users: {len(astray)}."
    )
    print(told)
    publish("scale", told, table(head, found), write=write)
    print("\n".join(astray))
    return all(row[-1] == "PASS" for row in found) and max(deep) <= GOAL and not astray


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--users", type=int, nargs="+", default=[10_000, 1_000_000, 10_000_000])
    parser.add_argument("--questions", type=int, default=400)
    parser.add_argument(
        "--keep", type=Path, help="leave the filled databases here, and use those that are here"
    )
    options = parser.parse_args()
    sizes = sorted(options.users)
    with server(options.keep) as postgres, tempfile.TemporaryDirectory() as scratch:
        where = f"{machine()}; PostgreSQL {postgres_version(postgres)}, {our_versions()}"
        print(where, flush=True)
        set_up(postgres.url, Path(scratch))
        measured = []
        for users in sizes:
            print(f"{users:,} users", flush=True)
            address = database_of(postgres, users)
            turn_to(address)
            fill(address, users)
            measured.append(measure(users, options.questions))
        whole = sizes == [10_000, 1_000_000, 10_000_000]
        return 0 if report(measured, options.questions, where, write=whole) else 1


def postgres_version(postgres: Postgres) -> str:
    import psycopg

    with psycopg.connect(postgres.url) as connection:
        return str(connection.info.parameter_status("server_version"))


if __name__ == "__main__":
    sys.exit(main())
