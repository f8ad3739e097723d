"""Erasing as a command: what happens within its transaction, who may, and what races do to it."""

from collections.abc import Iterator, Mapping
from dataclasses import fields
from datetime import datetime
from typing import get_type_hints
from uuid import UUID

import pytest

from tests.builders import NOW, a_user, an_actor, an_admin, an_operator
from tests.fakes import InMemoryUnitOfWork, InMemoryUserRepository, StoppedClock, Stopwatch
from users.application.privacy import IMPERSONAL, EraseUser, Privacy
from users.application.reruns import Reruns
from users_domain.errors import (
    ConcurrentUpdate,
    LastAdmin,
    OperatorOverOperator,
    UserNotFound,
    VersionMismatch,
)
from users_domain.events import USER_EVENTS, UserErased, UserEvent
from users_domain.user import User
from users_domain.value_objects import Actor, UserName, UserStatus


class World:
    """One user, and everything that erasing asks for; `removed` are those whose traces were removed."""

    def __init__(self, *users: User) -> None:
        self.users = InMemoryUserRepository(*users)
        self.unit_of_work = InMemoryUnitOfWork(self.users)
        self.removed: list[User] = []
        self.had_roles: list[bool] = []
        self.measured = Stopwatch()
        self.privacy = Privacy(
            unit_of_work=self.unit_of_work,
            traces=self,
            receipts=self,
            held=self,
            clock=StoppedClock(),
            measure=self.measured,
            reruns=Reruns(pause=lambda seconds: None),
        )

    def remove(self, user: User, now: datetime, *, had_roles: bool) -> Mapping[str, int]:
        assert self.unit_of_work.open
        assert self.users.stored[user.id].status is UserStatus.ERASED, "the row comes first"
        self.removed.append(user)
        self.had_roles.append(had_roles)
        return {"mails": 2}

    def export(self, user_id: str, now: datetime) -> Iterator[bytes]:
        yield b"{"
        yield b"}"

    def issue(self, *, user_id: str, event_id: UUID, erased_at: datetime) -> str:
        return f"{user_id} {event_id} {erased_at}"

    def erase(self, user: User, by: Actor | None = None, expected: frozenset[int] = frozenset()) -> object:
        command = EraseUser(user_id=str(user.id), by=by or an_actor(an_admin()), expected=expected)
        return self.privacy.erase(command)


def test_the_user_his_traces_and_the_event_go_in_one_unit_of_work() -> None:
    user = a_user(version=7, token_version=3)
    world = World(user)

    erased = world.privacy.erase(EraseUser(user_id=str(user.id), by=an_actor(user)))

    (event,) = world.unit_of_work.events
    assert isinstance(event, UserErased)
    assert (event.user_version, event.erased_at, event.actor_id) == (8, NOW, str(user.id))
    assert (erased.id, erased.version, erased.erased_at, erased.event_id) == (
        str(user.id),
        8,
        NOW,
        event.event_id,
    )
    assert erased.receipt == f"{user.id} {event.event_id} {NOW}"
    assert erased.removed == {"mails": 2}
    assert world.users.stored[user.id].token_version == 4
    assert world.measured.measured == [("erase", True)]


@pytest.mark.parametrize(
    ("user", "by", "refusal"),
    [
        (an_admin(), None, LastAdmin),
        (an_operator(), an_actor(an_operator()), OperatorOverOperator),
    ],
)
def test_who_may_not_be_erased_stays_as_he_is(user: User, by: Actor | None, refusal: type[Exception]) -> None:
    world = World(user)

    with pytest.raises(refusal):
        world.erase(user, by)

    assert world.removed == world.unit_of_work.events == []
    assert world.users.stored[user.id].status is UserStatus.ACTIVE


def test_another_version_than_the_one_named_is_left_alone() -> None:
    user = a_user(version=2)
    world = World(user)

    with pytest.raises(VersionMismatch):
        world.erase(user, expected=frozenset({1}))

    assert world.removed == []
    world.erase(user, expected=frozenset({1, 2}))


def test_whoever_was_faster_is_seen_and_a_version_that_was_named_is_compared_anew() -> None:
    user = a_user()
    world = World(user)

    def rename() -> None:
        world.users.change(
            user.id, lambda each: each.rename(UserName("Other"), by=an_actor(an_admin()), now=NOW)
        )

    world.users.rivals.append(rename)
    with pytest.raises(VersionMismatch):
        world.erase(user, expected=frozenset({1}))
    world.users.rivals.append(rename)
    world.erase(user)

    assert len(world.removed) == 1


def test_the_victim_of_a_deadlock_is_run_again_though_a_version_was_named() -> None:
    """It is the right version still: 412 would be untrue."""
    user = a_user(version=1)
    world = World(user)

    def lose() -> None:
        raise ConcurrentUpdate

    world.users.rivals.append(lose)
    world.erase(user, expected=frozenset({1}))

    assert len(world.removed) == 1
    assert user.id in world.users.held


def test_whether_he_had_roles_is_told_to_those_who_remove_his_traces() -> None:
    user, operator = a_user(), an_operator()
    world = World(user, operator)

    world.erase(user)
    world.erase(operator)

    assert world.had_roles == [False, True]


def test_an_export_is_measured_to_its_last_piece() -> None:
    user = a_user()
    world = World(user)

    assert b"".join(world.privacy.export(str(user.id))) == b"{}"
    broken = world.privacy.export(str(user.id))
    next(broken)
    with pytest.raises(ZeroDivisionError):
        broken.throw(ZeroDivisionError())  # type: ignore[attr-defined]

    assert world.measured.measured == [("export", True), ("export", False)]


def test_a_race_that_is_lost_every_time_is_told() -> None:
    user = a_user()
    world = World(user)

    def lose() -> None:
        raise ConcurrentUpdate

    world.users.rivals.extend([lose] * 10)
    with pytest.raises(ConcurrentUpdate):
        world.erase(user)


def test_nobody_is_erased_twice() -> None:
    user = a_user()
    world = World(user)
    world.erase(user)

    with pytest.raises(UserNotFound):
        world.erase(user)


COMMON = {field.name for field in fields(UserEvent)}


@pytest.mark.parametrize("event", USER_EVENTS, ids=lambda event: str(event.event_type))
def test_every_field_of_every_event_is_impersonal_or_a_text_that_can_be_emptied(
    event: type[UserEvent],
) -> None:
    """Whoever adds a field decides; an empty text keeps to the event's schema."""
    types = get_type_hints(event)
    personal = {field.name for field in fields(event)} - COMMON - IMPERSONAL

    assert {types[name] for name in personal} <= {str}


def test_what_says_who_somebody_is_does_not_count_as_impersonal() -> None:
    assert not IMPERSONAL & {"email", "name", "reason", "locale", "password_hash"}
