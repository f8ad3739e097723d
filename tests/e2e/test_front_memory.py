"""What stands in front of Django remembers its answers, and gives none that is not true any more."""

import threading
from collections.abc import Callable
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from redis import Redis as RedisClient

from tests.e2e.answers import problem
from tests.fixtures import PASSWORD, FrontedHandler, People
from tests.together import PATIENCE, together
from users import wiring
from users.api import observation, plain_reads
from users.application.commands import BlockUser, ChangePassword, ChangeRoles, RenameUser, UserCommands
from users.infrastructure import tokens
from users_domain.value_objects import COMMAND_LINE, Actor


class Desk:
    """Ann, who has read herself so often that the answer is remembered."""

    def __init__(self, people: People, monkeypatch: pytest.MonkeyPatch) -> None:
        self.judged = 0
        real = plain_reads.judge

        def counting(*asked: Any) -> Any:
            self.judged += 1
            return real(*asked)

        monkeypatch.setattr(plain_reads, "judge", counting)
        self.id = people.user("Ann")
        self.ann = people.log_in("Ann")
        self.handler = self.ann.client.handler = FrontedHandler(fronted=True)
        self.by = Actor(self.id, frozenset())
        for _ in range(3):
            assert self.ann("GET", "/users/me").status_code == 200
        self.judged = 0

    def reads(self) -> Any:
        answer = self.ann("GET", "/users/me")
        assert answer.status_code == 200
        return answer.json()


@pytest.fixture
def desk(people: People, monkeypatch: pytest.MonkeyPatch) -> Desk:
    return Desk(people, monkeypatch)


def test_the_same_question_is_judged_once(desk: Desk) -> None:
    assert [desk.reads()["name"] for _ in range(5)] == ["Ann"] * 5
    assert desk.judged == 0


def test_each_other_question_is_judged(desk: Desk) -> None:
    desk.ann("GET", f"/users/{desk.id}")
    desk.ann("GET", "/users/me", accept="application/json")
    assert desk.judged == 2


def test_what_has_changed_is_read(desk: Desk, service: wiring.Service) -> None:
    service.commands.rename(RenameUser(user_id=desk.id, name="Anna", by=desk.by))
    assert desk.reads()["name"] == "Anna"
    assert desk.judged == 1


def test_a_tag_that_was_current_is_not_any_more(desk: Desk, service: wiring.Service) -> None:
    for _ in range(3):
        known = desk.ann("GET", "/users/me", if_none_match='"1"')
    assert known.status_code == 304
    service.commands.rename(RenameUser(user_id=desk.id, name="Anna", by=desk.by))
    assert desk.ann("GET", "/users/me", if_none_match='"1"').status_code == 200


@pytest.mark.parametrize("forgotten", [False, True])
def test_a_block_counts_at_once(
    desk: Desk, service: wiring.Service, redis: RedisClient, forgotten: bool
) -> None:
    service.commands.block(BlockUser(user_id=desk.id, reason="spam", by=COMMAND_LINE))
    if forgotten:
        redis.flushdb()
    problem(desk.ann("GET", "/users/me"), "invalid_token")


def test_a_session_that_ended_counts_no_more(desk: Desk) -> None:
    assert desk.ann("POST", "/auth/logout-all", {}).status_code == 204
    problem(desk.ann("GET", "/users/me"), "invalid_token")


def test_another_password_ends_what_was_remembered(desk: Desk, service: wiring.Service) -> None:
    new = "nine white giraffes, walking"
    service.commands.change_password(
        ChangePassword(user_id=desk.id, current_password=PASSWORD, new_password=new, by=desk.by)
    )
    problem(desk.ann("GET", "/users/me"), "invalid_token")


def test_roles_that_are_taken_away_open_nobody_elses_door(
    people: People, service: wiring.Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    bob = people.user("Bob")
    boss = people.staff("operator", "Olga")
    olga = people.log_in("Olga")
    olga.client.handler = FrontedHandler(fronted=True)
    for _ in range(3):
        assert olga("GET", f"/users/{bob}").status_code == 200
    service.commands.change_roles(ChangeRoles(user_id=boss, roles=(), by=COMMAND_LINE))
    assert olga("GET", f"/users/{bob}").status_code == 401
    again = people.log_in("Olga")
    again.client.handler = olga.client.handler
    assert again("GET", f"/users/{bob}").status_code == 404


def test_a_token_that_has_expired_is_remembered_in_vain(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    bearer = wiring.service().tokens.bearer(str(desk.ann.token).encode())
    monkeypatch.setattr(tokens, "time", SimpleNamespace(time=lambda: bearer.expires_at))
    desk.judged = 0
    desk.ann("GET", "/users/me")
    assert desk.judged == 1  # verified anew, and no more than that, as nothing else looks at this clock


def test_a_key_that_is_believed_no_more_is_remembered_in_vain(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    verified: list[bytes] = []
    service = wiring.service()
    monkeypatch.setattr(service.keyring, "believes", lambda kid: False)
    real = service.tokens.read
    monkeypatch.setattr(service.tokens, "read", lambda raw: (verified.append(raw), real(raw))[1])
    desk.ann("GET", "/users/me")
    assert len(verified) == 1


def test_what_came_from_the_primary_is_not_remembered(desk: Desk, redis: RedisClient) -> None:
    redis.flushdb()
    desk.handler.front._reads._known.clear()
    desk.reads()
    assert not desk.handler.front._reads._known
    desk.reads()
    assert desk.handler.front._reads._known


def test_without_redis_nothing_is_remembered_to_be_true(desk: Desk, no_redis: None) -> None:
    assert desk.reads()["name"] == "Ann"
    assert desk.judged == 1


def test_so_many_answers_are_remembered_and_no_long_question(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plain_reads, "MOST_KNOWN", 10)
    for number in range(25):
        assert desk.ann("GET", "/users/me", if_none_match=f'"{number + 7}"').status_code == 200
        assert len(desk.handler.front._reads._known) <= 10
    desk.handler.front._reads._known.clear()
    desk.ann("GET", "/users/me", if_none_match=f'"{"x" * 4096}"')
    assert not desk.handler.front._reads._known


def test_whoever_is_refused_keeps_nobody_from_filling(
    people: People, service: wiring.Service, redis: RedisClient
) -> None:
    bob, boss = people.user("Bob"), people.staff("operator", "Olga")
    olga, handler = people.log_in("Olga"), FrontedHandler(fronted=True)
    olga.client.handler = handler
    for _ in range(3):
        assert olga("GET", "/users/me").status_code == 200
    service.commands.change_roles(ChangeRoles(user_id=boss, roles=(), by=COMMAND_LINE))
    assert olga("GET", f"/users/{bob}").status_code == 401
    assert not redis.exists(f"user:{{{bob}}}:lease")


def test_whoever_may_not_read_somebody_keeps_nobody_from_filling(
    desk: Desk, people: People, redis: RedisClient
) -> None:
    bob = people.user("Bob")
    redis.flushdb()
    assert desk.ann("GET", f"/users/{bob}").status_code == 404
    assert not redis.exists(f"user:{{{bob}}}:lease")


@contextmanager
def held(monkeypatch: pytest.MonkeyPatch) -> Any:
    """One read after another comes this far, and the first waits there."""
    real, come, go = plain_reads.look_up, threading.Event(), threading.Event()

    def waiting(*asked: Any, **more: Any) -> Any:
        if not come.is_set():
            come.set()
            assert go.wait(PATIENCE)
        return real(*asked, **more)

    monkeypatch.setattr(plain_reads, "look_up", waiting)
    yield come, go
    go.set()


def lines(caplog: pytest.LogCaptureFixture) -> int:
    return sum(record.name == "users.request" for record in caplog.records)


def lines_beside_one_that_takes_long(
    desk: Desk, reads: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> int:
    """How many lines there are when so many reads are through, and it is not."""
    caplog.clear()

    def others() -> int:
        assert come.wait(PATIENCE)
        for _ in range(reads):
            desk.reads()
        found = lines(caplog)
        go.set()
        return found

    acts: list[Callable[[], Any]] = [desk.reads, others]
    with held(monkeypatch) as (come, go):
        long_one, found = together(acts)
    assert long_one["name"] == "Ann"
    return int(found)


def test_reads_at_once_leave_their_lines_when_the_last_has_gone(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(observation, "MOST_LATER", 10)
    monkeypatch.setattr(observation, "LATEST_SECONDS", 1000)
    assert lines_beside_one_that_takes_long(desk, 12, monkeypatch, caplog) == 10
    assert lines(caplog) == 13


def test_lines_do_not_wait_long_for_one_that_takes_long(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(observation, "LATEST_SECONDS", 0)
    assert lines_beside_one_that_takes_long(desk, 3, monkeypatch, caplog) >= 2


def test_the_line_of_a_read_does_not_wait_for_a_command(
    desk: Desk, people: People, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Which may wait for a row that somebody holds."""
    people.staff("admin")
    bob, admin = people.user("Bob"), people.log_in("Admin")
    admin.client.handler = desk.handler
    for _ in range(2):  # the first answer is copied
        admin("POST", f"/users/{bob}/block", {"reason": "spam"})
        admin("POST", f"/users/{bob}/unblock")
    real, come, go = UserCommands.block, threading.Event(), threading.Event()

    def waiting(*asked: Any) -> Any:
        come.set()
        assert go.wait(PATIENCE)
        return real(*asked)

    def read() -> int:
        assert come.wait(PATIENCE)
        caplog.clear()
        desk.reads()
        found = lines(caplog)
        go.set()
        return found

    monkeypatch.setattr(UserCommands, "block", waiting)
    blocked, found = together([lambda: admin("POST", f"/users/{bob}/block", {"reason": "spam"}), read])
    assert blocked.status_code == 200
    assert found == 1
