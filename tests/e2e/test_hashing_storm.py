"""Storms of logins and registrations on real servers: whoever waits for a hash is in nobody else's way."""

import os
import threading
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from django.core.cache import caches

from config.embedded import PROJECT
from tests.e2e.served import Answer, Served, database_url
from tests.fixtures import PASSWORD, People
from tests.together import eventually, in_background, together

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

HELD_UP = """
import os, time
from config.wsgi import application
from users.infrastructure.passwords import bulkhead
from users.infrastructure.passwords.hashing import BulkheadHasher

bulkhead.LONGEST_SECONDS = 100
judged = BulkheadHasher._judged

def held_up(*question, **more):
    while os.path.exists(os.environ["HOLD"]):
        time.sleep(0.01)
    return judged(*question, **more)

BulkheadHasher._judged = held_up
"""
"""The service, but for verifying no password while there is a file, and waiting for that however long."""
SERVE = "import sys; from config.server import serve; sys.exit(serve('held_up:application'))"
THREADS, FREE, FEED_WAITS = 32, 8, 3
HASHING = THREADS - FREE - FEED_WAITS


@pytest.fixture
def hold(tmp_path: Path) -> Path:
    return tmp_path / "hold"


@pytest.fixture
def held_up(people: People, tmp_path: Path, hold: Path) -> Iterator[Served]:
    """One process, and a pool of two connections."""
    (tmp_path / "held_up.py").write_text(HELD_UP)
    server = Served(
        tmp_path,
        code=SERVE,
        PYTHONPATH=os.pathsep.join([str(tmp_path), str(PROJECT)]),
        HOLD=str(hold),
        DATABASE_URL=database_url(),
        DATABASE_POOL_SIZE="2",
        REDIS_URL=str(caches.settings["default"]["LOCATION"]),
        LOCAL_DIR=str(tmp_path),
        WEB_WORKERS="1",
        WEB_THREADS=str(THREADS),
        BCRYPT_COST="4",
        HASHING_WAIT_SECONDS="100",
        RATE_LIMITS="off",
        DRAIN_SECONDS="0",
    )
    try:
        server.until_it_answers()
        yield server
    finally:
        hold.unlink(missing_ok=True)
        server.stop()


def log_in(server: Served, email: str) -> Answer:
    return server("POST", "/auth/token", {"email": email, "password": PASSWORD})


def test_readers_are_answered_while_all_places_to_hash_and_to_wait_for_news_are_taken(
    people: People, held_up: Served, hold: Path
) -> None:
    people.staff("service")
    user_id = people.user("Ann")
    token = "Bearer " + log_in(held_up, "service@example.com").json()["access"]
    ask = partial(held_up, "GET", authorization=token)
    answers: list[Answer] = []
    lock = threading.Lock()

    def keep(answer: Answer) -> None:
        with lock:
            answers.append(answer)

    def storm(stop: threading.Event) -> None:
        together([lambda: keep(log_in(held_up, "ann@example.com"))] * (HASHING + 5))

    def listen_on(stop: threading.Event) -> None:
        """Again and again, as a look whether all places are taken may have taken the last one."""
        while not stop.is_set():
            ask("/events?after=3&wait=30")
            stop.wait(0.1)

    def listen(stop: threading.Event) -> None:
        together([partial(listen_on, stop)] * FEED_WAITS)

    hold.touch()
    with in_background(storm), in_background(listen):
        eventually(lambda: len(answers) == 5)
        eventually(lambda: "Retry-After" in ask("/events?after=3&wait=1").headers, every=0.3)
        assert {(answer.status, answer.json()["error"]) for answer in answers} == {(503, "unavailable")}
        assert {answer.headers["Retry-After"] for answer in answers} == {"2"}
        for path in [f"/users/{user_id}", "/users/me", "/users", "/health/ready"] * 3:
            assert ask(path).status == 200
        assert log_in(held_up, "ann@example.com").status == 503
        assert len(answers) == 5  # all the others wait as before

        hold.unlink()
        eventually(lambda: len(answers) == HASHING + 5)
        body = {"email": "cid@example.com", "name": "Cid", "password": "seven green umbrellas"}
        assert held_up("POST", "/users", body).status == 201  # news for those who wait
    assert Counter(answer.status for answer in answers) == {200: HASHING, 503: 5}


@pytest.fixture
def two_workers(database: None, tmp_path: Path) -> Iterator[Served]:
    """As many threads, and as dear hashes, as there are by default."""
    server = Served(
        tmp_path,
        DATABASE_URL=database_url(),
        REDIS_URL=str(caches.settings["default"]["LOCATION"]),
        LOCAL_DIR=str(tmp_path),
        WEB_WORKERS="2",
        HASHING_WAIT_SECONDS="100",
        RATE_LIMITS="off",
        DRAIN_SECONDS="0",
    )
    try:
        server.until_it_answers()
        yield server
    finally:
        server.stop()


def test_of_64_simultaneous_registrations_of_one_address_each_is_answered(two_workers: Served) -> None:
    body = {"name": "Ann", "password": "correct horse battery"}
    for name in ("ann", "bob"):
        register = partial(two_workers, "POST", "/users", body | {"email": f"{name}@example.com"})
        assert Counter(answer.status for answer in together([register] * 64)) == {201: 1, 409: 63}
