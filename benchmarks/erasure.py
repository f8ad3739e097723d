"""What does erasing a user with a long history cost him and others?
`python -m benchmarks.erasure [--events 100000]`

On servers of its own. The user has so many renamings, all in the stream; meanwhile a thread renames another
user without pause. Printed: how long the command took and for how much of that it held locks, the slowest of
the other's commands beside it, and the worker's second sweep. Fails when locks were held for a second, or
anything was left."""

import argparse
import sys
import tempfile
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from benchmarks.relay import set_up
from config.embedded import Postgres, Redis

LOCKED_GOAL = 1.0


def make_history(user_id: str, count: int) -> None:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = 0")
        cursor.execute(
            """
            INSERT INTO outbox (event_id, event_type, user_id, user_version, occurred_at, actor_id, data)
            SELECT gen_random_uuid(), 'user.renamed', %s, version, now(), %s,
                jsonb_build_object('user_id', %s, 'name', 'Annabel ' || version, 'renamed_at', now())
            FROM generate_series(2, %s) AS version
            """,
            [user_id, user_id, user_id, count],
        )
        cursor.execute("UPDATE users SET version = %s WHERE id = %s", [count, user_id])
        cursor.execute("VACUUM ANALYZE outbox")
        cursor.execute("RESET statement_timeout")


def rename_all_the_time(service: Any, user_id: str, stop: threading.Event, took: list[float]) -> None:
    from users.application.commands import RenameUser
    from users_domain.value_objects import COMMAND_LINE

    number = 0
    while not stop.is_set():
        number += 1
        began = time.perf_counter()
        service.commands.rename(RenameUser(user_id=user_id, name=f"Bob {number}", by=COMMAND_LINE))
        took.append(time.perf_counter() - began)


def measure(events: int) -> bool:
    from django.db import connection
    from django_redis import get_redis_connection

    from users import wiring
    from users.application.commands import RegisterUser
    from users.application.privacy import EraseUser
    from users.infrastructure import erasure
    from users.models import Erasure
    from users_domain.value_objects import COMMAND_LINE

    service = wiring.service()
    ann, bob = (
        service.commands.register(
            RegisterUser(email=f"{name}@example.com", name=name, password="correct horse battery")
        ).id
        for name in ("Annabel", "Bob")
    )
    make_history(ann, events)
    service.relay.drain(seconds=600)

    committed: list[float] = []
    go_on = erasure.DatabaseTraces._go_on

    def noting(traces: Any, *arguments: Any) -> None:
        committed.append(time.perf_counter())
        go_on(traces, *arguments)

    erasure.DatabaseTraces._go_on = noting  # type: ignore[method-assign]
    stop, others = threading.Event(), list[float]()
    thread = threading.Thread(target=rename_all_the_time, args=(service, bob, stop, others))
    thread.start()
    time.sleep(1)
    idle = len(others)
    began = time.perf_counter()
    service.privacy.erase(EraseUser(user_id=ann, by=COMMAND_LINE))
    ended = time.perf_counter()
    stop.set()
    thread.join()
    service.relay.drain(seconds=60)
    Erasure.objects.update(erased_at=Erasure.objects.get().erased_at - timedelta(minutes=2))
    swept = time.perf_counter()
    service.sweep.finish()
    swept = time.perf_counter() - swept

    locked, beside = committed[0] - began, max(others[idle:])
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM outbox WHERE data::text LIKE '%%Annabel%%'")
        rows = cursor.fetchone()[0]
    entries = sum(
        b"Annabel" in fields[b"event"] for _, fields in get_redis_connection("default").xrange("users.events")
    )
    print(f"{events:,} events: {ended - began:.2f} s, of which {locked:.2f} s with locks")
    print(
        f"another user's slowest command: {beside * 1000:.0f} ms, before {max(others[:idle]) * 1000:.0f} ms"
    )
    print(f"the worker's second sweep: {swept:.2f} s; left: {rows} rows, {entries} entries")
    good = locked < LOCKED_GOAL and not rows and not entries
    print("PASS" if good else "MISS")
    return good


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=100_000)
    events = parser.parse_args().events
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        postgres, redis = Postgres(folder / "postgres"), Redis(folder / "redis", save=False)
        try:
            postgres.start()
            redis.start()
            set_up(postgres.url, redis.url, folder)
            from django.core.management import call_command

            call_command("migrate", verbosity=0)
            return 0 if measure(events) else 1
        finally:
            redis.destroy()
            postgres.destroy()


if __name__ == "__main__":
    sys.exit(main())
