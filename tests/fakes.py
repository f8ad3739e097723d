"""The application's world in memory: each port of `users.application.ports`, and the repository's, without
Django, servers or waiting. Those that have a real adapter with the same promise go through the same tests."""

import json
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from tests.builders import NOW
from users.application.errors import InvalidQuery
from users.application.ports import Answered, CacheAnswer, KeyTaken, Listed, Position, UserCriteria
from users.application.representation import UserView, view_of
from users_domain.errors import ConcurrentUpdate, InvalidPassword, UserAlreadyExists, UserNotFound
from users_domain.events import UserEvent
from users_domain.user import User
from users_domain.value_objects import Email, UserId


def as_stored(user: User) -> User:
    """A copy without what is recorded, as if loaded anew."""
    return User(**{field.name: getattr(user, field.name) for field in fields(User) if field.init})


class InMemoryUserRepository:
    """`rivals` are what others do just before our next saves, one for each."""

    def __init__(self, *users: User) -> None:
        self.stored = {user.id: as_stored(user) for user in users}
        self.saved: list[User] = []
        self.rivals: deque[Callable[[], None]] = deque()
        self.undo: list[Callable[[], object]] = []

    def get(self, user_id: UserId) -> User:
        try:
            return as_stored(self.stored[user_id])
        except KeyError:
            raise UserNotFound from None

    def get_by_email(self, email: Email) -> User:
        for user in self.stored.values():
            if user.email == email:
                return as_stored(user)
        raise UserNotFound

    def is_last_admin(self, user: User) -> bool:
        admins = {each.id for each in self.stored.values() if each.is_active_admin}
        return user.is_active_admin and admins <= {user.id}

    def add(self, user: User) -> None:
        self._let_a_rival_act()
        self._write(user)

    def save(self, user: User) -> None:
        if user.stored_version == user.version:
            return
        self._let_a_rival_act()
        stored = self.stored.get(user.id)
        if stored is None or stored.version != user.stored_version:
            raise ConcurrentUpdate
        self._write(user)

    def change(self, user_id: UserId, change: Callable[[User], None]) -> None:
        """What somebody else does to a user, behind the back of the code under test."""
        user = self.get(user_id)
        change(user)
        self.stored[user_id] = as_stored(user)

    def _let_a_rival_act(self) -> None:
        if self.rivals:
            self.rivals.popleft()()

    def _write(self, user: User) -> None:
        if any(other.email == user.email for other in self.stored.values() if other.id != user.id):
            raise UserAlreadyExists
        before = self.stored.get(user.id)
        self.undo.append(
            lambda: self.stored.update({user.id: before}) if before else self.stored.pop(user.id)
        )
        self.stored[user.id] = as_stored(user)
        self.saved.append(user)


class InMemoryUnitOfWork:
    """`events` are the committed ones; `open` says whether one is under way; `opened` counts them."""

    def __init__(self, users: InMemoryUserRepository) -> None:
        self._users = users
        self.events: list[UserEvent] = []
        self.open = False
        self.opened = 0

    @contextmanager
    def __call__(self) -> Iterator[InMemoryUserRepository]:
        self.open = True
        self.opened += 1
        self._users.saved.clear()
        self._users.undo.clear()
        try:
            yield self._users
        except BaseException:
            for take_back in reversed(self._users.undo):
                take_back()
            raise
        finally:
            self.open = False
        self.events += [event for user in self._users.saved for event in user.pull_events()]


class InMemoryIdempotencyKeys:
    """`rival`, when set, is what another request with the same key was answered while ours was hashing."""

    def __init__(self, users: InMemoryUserRepository) -> None:
        self._users = users
        self.answers: dict[tuple[str, str], Answered] = {}
        self.rival: Answered | None = None

    def find(self, scope: str, key: str) -> Answered | None:
        return self.answers.get((scope, key))

    def claim(self, scope: str, key: str, answered: Answered) -> None:
        if self.rival:
            self.answers[scope, key] = self.rival
        if (scope, key) in self.answers:
            raise KeyTaken
        self.answers[scope, key] = answered
        self._users.undo.append(lambda: self.answers.pop((scope, key)))


class PlainHasher:
    """No secret at all, and strict about when it is called: never inside a unit of work."""

    def __init__(self, unit_of_work: InMemoryUnitOfWork | None = None) -> None:
        self._unit_of_work = unit_of_work
        self.calls = 0

    def hash(self, password: str, *, first: Callable[[], object] = lambda: None) -> str:
        first()
        self._count()
        return f"hash of {password}"

    def verify(self, password: str, password_hash: str | None) -> bool:
        self._count()
        return password_hash == f"hash of {password}"

    def _count(self) -> None:
        self.calls += 1
        if self._unit_of_work and self._unit_of_work.open:
            raise AssertionError("a password is hashed inside a unit of work")


class WeakIsRefused:
    """A policy with one rule; remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []

    def check(self, password: str, *, email: str, name: str, staff: bool, field: str = "password") -> None:
        self.asked.append({"email": email, "name": name, "staff": staff})
        if password == "weak":
            raise InvalidPassword(field=field)


class StoppedClock:
    def __init__(self, now: datetime = NOW) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **duration: float) -> None:
        self.now += timedelta(**duration)


class Stopwatch:
    """A Measure that notes each operation and whether it succeeded."""

    def __init__(self) -> None:
        self.measured: list[tuple[str, bool]] = []

    @contextmanager
    def __call__(self, operation: str) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self.measured.append((operation, False))
            raise
        self.measured.append((operation, True))


class ReadableTokens:
    def issue(self, user: User, session_id: UUID) -> str:
        return f"token of {user.email} at {user.token_version}"


class InMemoryUserCache:
    """One lease for each user, as the real one. `away`: answers like a Redis that is not there."""

    def __init__(self) -> None:
        self.entries: dict[str, UserView] = {}
        self.leases: set[str] = set()
        self.away = False

    def get(self, user_id: str) -> CacheAnswer:
        if self.away:
            return CacheAnswer("bypass")
        if view := self.entries.get(user_id):
            return CacheAnswer("hit", view=view)
        if user_id in self.leases:
            return CacheAnswer("miss")
        self.leases.add(user_id)
        return CacheAnswer("miss", lease=user_id)

    def fill(self, lease: str, view: UserView) -> None:
        if lease in self.leases:
            self.leases.remove(lease)
            self.entries[view.id] = view


class InMemoryReads:
    """Over the fake repository; `asked` counts the questions. `envelopes` are the events, oldest first."""

    def __init__(self, users: InMemoryUserRepository) -> None:
        self._users = users
        self.envelopes: list[dict[str, Any]] = []
        self.asked = 0

    def view(self, user_id: str) -> UserView | None:
        self.asked += 1
        user = self._users.stored.get(UserId.parse(user_id))
        return user and view_of(user)

    def users(self, criteria: UserCriteria, after: Position | None, limit: int) -> list[Listed]:
        self.asked += 1
        newest_first = sorted(self._users.stored.values(), key=_place, reverse=True)
        found = [user for user in newest_first if criteria.status in {None, user.status}]
        behind = [user for user in found if after is None or _place(user) < (after.created_at, after.id)]
        return [Listed(view_of(user).json, Position(*_place(user))) for user in behind[:limit]]

    def history(self, user_id: str, after_version: int, limit: int) -> list[dict[str, Any]]:
        self.asked += 1
        own = [each for each in self.envelopes if each["user_id"] == user_id]
        return [each for each in own if each["user_version"] > after_version][:limit]

    def feed(self, after_sequence: int, limit: int) -> list[dict[str, Any]]:
        self.asked += 1
        return [each for each in self.envelopes if each["sequence"] > after_sequence][:limit]


def _place(user: User) -> tuple[datetime, str]:
    return user.created_at, str(user.id)


class PlainCursors:
    def write(self, kind: str, position: list[str | int]) -> str:
        return json.dumps([kind, *position])

    def read(self, kind: str, cursor: str) -> list[str | int]:
        its_kind, *position = json.loads(cursor)
        if its_kind != kind:
            raise InvalidQuery("cursor", "This cursor is not one of ours.")
        return position
