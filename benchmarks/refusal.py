"""How soon is a blocked user refused elsewhere? `python -m benchmarks.refusal [--blocks 300]`

Runs the user service (web, worker, a PostgreSQL and a Redis of its own, in a folder that is removed) and the
order service of `examples/`, which verifies tokens offline. Blocks users one after the other, and from each
block's 200 on asks the order service with that user's token until it answers 401.

- idle: nothing else happens;
- loaded: two clients change and read users as fast as they are answered;
- fresh tokens: issued less than two seconds before the block, so that the order service has to ask;
- Redis away: the order service hears of events over the feed."""

import argparse
import http.client
import multiprocessing
import platform
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from tests.order_service import OrderService, ask_on
from tests.user_service import ADMIN, PASSWORD, SERVICE, Users

CLIENTS = 2
POLL_SECONDS = 0.0005
LONGER_THAN_SKEW = 4.0
PAUSE_SECONDS = 0.02
GIVE_UP_SECONDS = 30.0
FEWER = 5
"""Where each takes longer, one in so many of the blocks will do."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.refusal", description=__doc__)
    parser.add_argument("--blocks", type=int, default=300)
    blocks = parser.parse_args().blocks
    taken: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder, running(Path(folder)) as (users, orders):
        taken["idle"] = refusals(users, orders, "idle", blocks)
        with load(users):
            taken["loaded"] = refusals(users, orders, "loaded", blocks)
        taken["fresh tokens"] = refusals(users, orders, "fresh", blocks // FEWER, fresh=True)
        some = people(users, "away", blocks // FEWER)
        time.sleep(LONGER_THAN_SKEW)
        users.redis.kill()
        taken["Redis away"] = [refusal(users, orders, *person) for person in some]
    print_table(taken)


@contextmanager
def running(folder: Path) -> Iterator[tuple[Users, OrderService]]:
    users = Users(folder, folder, WEB_WORKERS="2", WEB_THREADS="4")
    try:
        users.start()
        with OrderService(folder / "orders", users.base_url, users.redis.url, SERVICE) as orders:
            orders.wait_until_it_answers()
            orders.wait_until_at(users.last_sequence())
            yield users, orders
    finally:
        users.stop()


def people(users: Users, prefix: str, count: int) -> list[tuple[str, str]]:
    """New users: ids and tokens."""
    users.token(ADMIN, fresh=True)  # lives for five minutes
    return [person(users, f"{prefix}{number}") for number in range(count)]


def person(users: Users, name: str) -> tuple[str, str]:
    user_id = users.register(name)
    return user_id, users.token((f"{name}@example.com", PASSWORD))


def refusals(
    users: Users, orders: OrderService, prefix: str, count: int, *, fresh: bool = False
) -> list[float]:
    if fresh:
        users.token(ADMIN, fresh=True)
        return [refusal(users, orders, *person(users, f"{prefix}{number}")) for number in range(count)]
    some = people(users, prefix, count)
    time.sleep(LONGER_THAN_SKEW)
    return [refusal(users, orders, *each) for each in some]


def refusal(users: Users, orders: OrderService, user_id: str, token: str) -> float:
    """Seconds from the 200 of the block to the 401 of the other service."""
    time.sleep(PAUSE_SECONDS)
    with closing(http.client.HTTPConnection("127.0.0.1", orders.port, timeout=15)) as wire:
        while (status := ask_on(wire, "GET", "/users/me", token=token)[0]) in {404, 503}:
            time.sleep(PAUSE_SECONDS)  # his registration is on its way
        assert status == 200, status
        users("POST", f"/users/{user_id}/block", {"reason": "spam"})
        began = time.perf_counter()
        while (status := ask_on(wire, "GET", "/users/me", token=token)[0]) != 401:
            assert time.perf_counter() - began < GIVE_UP_SECONDS, status
            time.sleep(POLL_SECONDS)
        return time.perf_counter() - began


@contextmanager
def load(users: Users) -> Iterator[None]:
    """Clients in processes of their own."""
    token = users.token(ADMIN, fresh=True)
    clients = [
        multiprocessing.get_context("spawn").Process(
            target=change_and_read, args=(users.port, token, users.register(f"load{number}")), daemon=True
        )
        for number in range(CLIENTS)
    ]
    for client in clients:
        client.start()
    try:
        yield
        assert all(client.is_alive() for client in clients)
    finally:
        for client in clients:
            client.terminate()
            client.join()


def change_and_read(port: int, token: str, user_id: str) -> None:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=15)) as wire:
        number = 0
        while True:
            number += 1
            ask_on(wire, "PATCH", f"/users/{user_id}", {"name": f"Name {number}"}, token=token)
            ask_on(wire, "GET", f"/users/{user_id}", token=token)


def print_table(taken: dict[str, list[float]]) -> None:
    print(
        f"Python {platform.python_version()}; milliseconds from the block's 200 to the first 401 elsewhere\n"
    )
    print("| | blocks | p50 | p99 | max |")
    print("| --- | --- | --- | --- | --- |")
    for name, seconds in taken.items():
        p50, p99 = statistics.median(seconds), statistics.quantiles(seconds, n=100, method="inclusive")[98]
        shown = " | ".join(f"{each * 1000:.1f}" for each in (p50, p99, max(seconds)))
        print(f"| {name} | {len(seconds)} | {shown} |")


if __name__ == "__main__":
    main()
