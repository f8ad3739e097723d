"""Threads that read in a crowd rest, and are back as soon as somebody is about to be away."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connections
from redis import Redis as RedisClient

from tests.e2e.both_ways import ask
from tests.fixtures import FrontedHandler, People
from tests.together import PATIENCE, eventually
from users.api import plain_reads, reserve
from users.api.reserve import FEW, GRANIAN, Reserve
from users.infrastructure.reads import DatabaseReads

CROWD = 8
SPAM = b'{"reason": "spam"}'


class Crowd:
    """Threads that have read Ann at the same time, of which but a few are done."""

    def __init__(self, people: People, server: str) -> None:
        self.ann = people.user("Ann")
        people.staff("operator")
        token = people.log_in("Operator").token
        self._headers = {"HTTP_AUTHORIZATION": f"Bearer {token}", "SERVER_SOFTWARE": server}
        self.handler = FrontedHandler(fronted=True)
        self.threads = [threading.Thread(target=self._read, daemon=True) for _ in range(CROWD)]
        for _ in range(2):  # answered by Django first, then in front
            for method, path, body in (("POST", "/block", SPAM), ("POST", "/unblock", b""), ("GET", "", b"")):
                assert self.ask(method, f"/users/{self.ann}{path}", body) == 200

    def gather(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """All are under way, before the first of them goes on; and each is through before the next does."""
        here, go_on, look_up = threading.Semaphore(0), threading.Semaphore(0), plain_reads.look_up

        def one_by_one(*arguments: Any, **options: Any) -> Any:
            here.release()
            assert go_on.acquire(timeout=PATIENCE)
            return look_up(*arguments, **options)

        with monkeypatch.context() as held:
            held.setattr(plain_reads, "look_up", one_by_one)
            for thread in self.threads:
                thread.start()
                assert here.acquire(timeout=PATIENCE)
            for through in range(1, CROWD + 1):
                go_on.release()
                eventually(lambda through=through: through == self.resting() + CROWD - self.alive())

    def _read(self) -> None:
        assert self.ask("GET", f"/users/{self.ann}") == 200
        connections.close_all()

    def ask(self, method: str, path: str, body: bytes = b"", **environ: str) -> int:
        environ = {"CONTENT_TYPE": "application/json", **self._headers, **environ}
        return ask(self.handler, method, path, environ, body).status_code

    def resting(self) -> int:
        return len(self.handler.front.reserve.resting)

    def alive(self) -> int:
        return sum(thread.is_alive() for thread in self.threads)

    def disperse(self) -> None:
        while self.resting():
            self.handler.front.reserve.call()
        for thread in self.threads:
            thread.join(PATIENCE)


@pytest.fixture
def crowd(people: People, monkeypatch: pytest.MonkeyPatch, request: Any) -> Iterator[Crowd]:
    monkeypatch.setattr(reserve, "LOOK_SECONDS", PATIENCE)  # whatever else the machine does
    monkeypatch.setattr(reserve, "REST_SECONDS", (3 * PATIENCE, 3 * PATIENCE))
    crowd = Crowd(people, getattr(request, "param", GRANIAN))
    crowd.gather(monkeypatch)
    yield crowd
    crowd.disperse()


def test_those_rest_who_are_too_many(crowd: Crowd) -> None:
    assert crowd.resting() == crowd.alive() == CROWD - FEW


@pytest.mark.parametrize("crowd", ["gunicorn/27.0.1"], indirect=True)
def test_nobody_rests_where_the_server_is_not_through_with_him(crowd: Crowd) -> None:
    assert crowd.resting() == crowd.alive() == 0


@pytest.mark.parametrize(
    ("method", "path", "body", "by_django"),
    [
        ("GET", "/users/{ann}/events", b"", True),
        ("GET", "/users/{ann}?min_version=1", b"", True),
        ("POST", "/users/{ann}/block", SPAM, False),
    ],
    ids=["Django's", "a read that is Django's", "a command in front"],
)
def test_one_is_back_for_each_who_may_be_away_for_long(
    crowd: Crowd, method: str, path: str, body: bytes, by_django: bool
) -> None:
    assert crowd.ask(method, path.format(ann=crowd.ann), body) == 200
    assert crowd.handler.asked_django == by_django
    eventually(lambda: crowd.resting() == crowd.alive() == CROWD - FEW - 1)


def test_one_is_back_for_a_read_that_fails_in_front(crowd: Crowd) -> None:
    assert crowd.ask("GET", f"/users/{crowd.ann}", HTTP_AUTHORIZATION="Bearer none") == 401
    assert crowd.handler.asked_django
    eventually(lambda: crowd.resting() == crowd.alive() == CROWD - FEW - 1)


@pytest.mark.parametrize("known_before", [True, False], ids=["known before", "unknown"])
def test_one_is_back_while_a_read_waits_for_postgresql(
    crowd: Crowd, people: People, redis: RedisClient, monkeypatch: pytest.MonkeyPatch, known_before: bool
) -> None:
    whom = people.user("Bob")
    if known_before:
        whom = crowd.ann
        redis.delete(f"user:{{{whom}}}")
    seen: list[int] = []
    view = DatabaseReads.view

    def waiting(reads: DatabaseReads, user_id: str) -> Any:
        eventually(lambda: crowd.resting() == crowd.alive() == CROWD - FEW - 1)
        seen.append(crowd.resting())
        return view(reads, user_id)

    monkeypatch.setattr(DatabaseReads, "view", waiting)
    assert crowd.ask("GET", f"/users/{whom}") == 200
    assert not crowd.handler.asked_django
    assert seen == [CROWD - FEW - 1]


def test_nobody_is_called_for_a_read_from_the_cache(crowd: Crowd) -> None:
    assert crowd.ask("GET", f"/users/{crowd.ann}") == 200
    assert not crowd.handler.asked_django
    assert crowd.resting() == CROWD - FEW


def test_only_who_has_answered_from_what_is_remembered_rests(
    people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = Crowd(people, GRANIAN)
    rested: list[str] = []
    monkeypatch.setattr(Reserve, "can_spare", lambda _, *, others: True)
    monkeypatch.setattr(Reserve, "rest", lambda _: rested.append("rested"))
    bob = people.user("Bob")
    for method, path, body in (("POST", "/block", SPAM), ("POST", "/unblock", b""), ("GET", "", b"")):
        assert alone.ask(method, f"/users/{bob}{path}", body) == 200
        assert not alone.handler.asked_django
    assert rested == []
    for _ in range(2):  # from the cache first
        assert alone.ask("GET", f"/users/{bob}") == 200
    assert rested == ["rested"]
