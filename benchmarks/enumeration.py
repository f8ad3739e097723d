"""Does time tell whether an account exists? `python -m benchmarks.enumeration [--tries 200]`

Runs the user service (web, worker, a PostgreSQL and a Redis of its own, in a folder that is removed) without
limits, and asks it over loopback what a stranger may ask about any address:

- to log in with a wrong password: to an unknown, an active and a blocked account;
- for a new password, and for the proof of an address, likewise;
- to register with REGISTRATION_DISCLOSURE=accepted: a new and a taken address.

The kinds take turns, in an order drawn anew for each round, so that whatever else the machine does falls on
all of them. What counts is how far the medians are apart: under 5 ms, and nothing else may differ at all."""

import argparse
import http.client
import platform
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import orjson

from tests.user_service import PASSWORD, Users

LIMIT_SECONDS = 0.005
ACTIVE, BLOCKED = "active@example.com", "blocked@example.com"
Ask = Callable[[str], tuple[str, dict[str, str]]]
"""What is sent, and where, about an address."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.enumeration", description=__doc__)
    parser.add_argument("--tries", type=int, default=200)
    parser.add_argument("--bcrypt-cost", type=int, default=10)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, running(Path(folder), options.bcrypt_cost) as users:
        measured = {name: measure(users.port, ask, options.tries) for name, ask in ASKED.items()}
        measured["POST /users"] = measure(users.port, register, options.tries, kinds=("new", "active"))
    return print_table(measured, options.tries, options.bcrypt_cost)


@contextmanager
def running(folder: Path, cost: int) -> Iterator[Users]:
    users = Users(
        folder,
        folder,
        BCRYPT_COST=str(cost),
        RATE_LIMITS="off",
        REGISTRATION_DISCLOSURE="accepted",
        WEB_WORKERS="1",
    )
    try:
        users.start()
        users.register("active")
        users("POST", f"/users/{users.register('blocked')}/block", {"reason": "spam"})
        yield users
    finally:
        users.stop()


def log_in(email: str) -> tuple[str, dict[str, str]]:
    return "/auth/token", {"email": email, "password": "wrong horse battery"}


def reset_password(email: str) -> tuple[str, dict[str, str]]:
    return "/auth/password-reset", {"email": email}


def verify_email(email: str) -> tuple[str, dict[str, str]]:
    return "/auth/email-verification", {"email": email}


def register(email: str) -> tuple[str, dict[str, str]]:
    return "/users", {"email": email, "name": "Ann Lee", "password": PASSWORD}


ASKED: dict[str, Ask] = {f"POST {ask('')[0]}": ask for ask in (log_in, reset_password, verify_email)}


def measure(
    port: int, ask: Ask, tries: int, kinds: tuple[str, ...] = ("unknown", "active", "blocked")
) -> dict[str, list[float]]:
    """Seconds of each try, by the kind of the account. Fails when anything but time tells them apart."""
    taken: dict[str, list[float]] = {kind: [] for kind in kinds}
    answers: set[tuple[Any, ...]] = set()
    strangers = (f"stranger{number}@example.com" for number in count())
    chance = random.Random(4)
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as wire:
        for _ in range(tries):
            for kind in chance.sample(kinds, len(kinds)):
                email = {"active": ACTIVE, "blocked": BLOCKED}.get(kind) or next(strangers)
                seconds, answer = timed(wire, *ask(email))
                taken[kind].append(seconds)
                answers.add(answer)
    assert len(answers) == 1, answers
    return taken


def timed(wire: http.client.HTTPConnection, path: str, body: dict[str, str]) -> tuple[float, tuple[Any, ...]]:
    """Seconds, and all that an answer tells but its own id and the time of day."""
    sent = orjson.dumps(body)
    began = time.perf_counter()
    wire.request("POST", path, sent, {"Content-Type": "application/json", "X-Request-ID": "enumeration"})
    response = wire.getresponse()
    content = response.read()
    seconds = time.perf_counter() - began
    headers = tuple(sorted((name, value) for name, value in response.headers.items() if name != "date"))
    return seconds, (response.status, headers, content)


def print_table(measured: dict[str, dict[str, list[float]]], tries: int, cost: int) -> int:
    """Answers 1, as an exit code, when two medians are too far apart."""
    print(f"Python {platform.python_version()}, bcrypt cost {cost}, {tries} tries each; medians in ms\n")
    print("| | unknown or new | active | blocked | apart |")
    print("| --- | --- | --- | --- | --- |")
    worst = 0.0
    for name, taken in measured.items():
        medians = [statistics.median(seconds) for seconds in taken.values()]
        apart = max(medians) - min(medians)
        worst = max(worst, apart)
        shown = [f"{median * 1000:.2f}" for median in medians] + [""] * (3 - len(medians))
        print(f"| `{name}` | {' | '.join(shown)} | {apart * 1000:.2f} |")
    print(f"\nAll answers alike; at most {worst * 1000:.2f} ms apart.")
    return int(worst >= LIMIT_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
