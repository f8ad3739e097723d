"""Threads that read in a crowd rest, and are back as soon as somebody is about to be away."""

import threading
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from django.db import connections

from tests.e2e.both_ways import ask
from tests.fixtures import FrontedHandler, People
from tests.together import PATIENCE, eventually
from users.api import plain_reads, reserve

CROWD, ENOUGH = 6, 3
SPAM = b'{"reason": "spam"}'


class Crowd(NamedTuple):
    """Threads that have all read Ann at the same time, of which but a few are done."""

    handler: FrontedHandler
    threads: list[threading.Thread]
    ann: str
    headers: dict[str, str]

    def resting(self) -> int:
        return len(self.handler.front.reserve.resting)

    def ask(self, method: str, path: str, body: bytes = b"") -> int:
        return ask(
            self.handler, method, path, {"CONTENT_TYPE": "application/json", **self.headers}, body
        ).status_code


@pytest.fixture
def crowd(people: People, monkeypatch: pytest.MonkeyPatch) -> Iterator[Crowd]:
    monkeypatch.setattr(reserve, "WORK_SECONDS", PATIENCE)  # however slow the machine is, as few are enough
    monkeypatch.setattr(reserve, "STUCK_SECONDS", PATIENCE)
    monkeypatch.setattr(reserve, "REST_SECONDS", (PATIENCE, PATIENCE))
    ann, _ = people.user("Ann"), people.staff("operator")
    headers = {"HTTP_AUTHORIZATION": f"Bearer {people.log_in('Operator').token}"}
    handler = FrontedHandler(fronted=True)
    all_here, look_up = threading.Barrier(CROWD), plain_reads.look_up

    def with_all_others(*arguments: Any, **options: Any) -> Any:
        all_here.wait(PATIENCE)
        return look_up(*arguments, **options)

    def read() -> None:
        assert ask(handler, "GET", f"/users/{ann}", headers).status_code == 200
        connections.close_all()

    threads = [threading.Thread(target=read, daemon=True) for _ in range(CROWD)]
    crowd = Crowd(handler, threads, ann, headers)
    for _ in range(2):  # answered by Django first, then in front
        assert (
            crowd.ask("POST", f"/users/{ann}/block", SPAM)
            == crowd.ask("POST", f"/users/{ann}/unblock")
            == 200
        )
        assert crowd.ask("GET", f"/users/{ann}") == 200
    with monkeypatch.context() as held:
        held.setattr(plain_reads, "look_up", with_all_others)
        for thread in threads:
            thread.start()
        eventually(lambda: sum(thread.is_alive() for thread in threads) == crowd.resting() == CROWD - ENOUGH)
    yield crowd
    while crowd.resting():
        handler.front.reserve.call()
    for thread in threads:
        thread.join(PATIENCE)


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
    assert crowd.resting() == CROWD - ENOUGH - 1
    eventually(lambda: sum(thread.is_alive() for thread in crowd.threads) == crowd.resting())


def test_nobody_is_called_for_a_read_from_the_cache(crowd: Crowd) -> None:
    assert crowd.ask("GET", f"/users/{crowd.ann}") == 200
    assert not crowd.handler.asked_django
    assert crowd.resting() == CROWD - ENOUGH
