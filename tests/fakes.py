"""The application's world in memory: each port of `users.application`, and the repository's, without
Django, servers or waiting. Those that have a real adapter with the same promise go through the same tests."""

import json
from collections import deque
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import fields
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from tests.builders import NOW
from users.application.errors import EventNotFound, InvalidQuery, WebhookNotFound
from users.application.ports import Answered, CacheAnswer, KeyTaken, Listed, Position, UserCriteria
from users.application.representation import UserView, view_of
from users.application.webhook_endpoint import Answer, DeliveryView, Endpoint, Message
from users.application.webhook_ports import Change
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
        self.pruned_to = 0
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

    def feed(self, after_sequence: int, limit: int, types: Collection[str] = ()) -> list[dict[str, Any]]:
        self.asked += 1
        behind = [each for each in self.envelopes if each["sequence"] > after_sequence]
        return [each for each in behind if not types or each["event_type"] in types][:limit]

    def pruned(self) -> int:
        self.asked += 1
        return self.pruned_to


class StagedFeedWatch:
    """`happens` is what comes to pass, one for each time that somebody waits, and answers how far the feed
    reaches then; None when nothing does until the time is up. `full`: no place; `stops_at_the_end`: the
    process stops where the time would be up. `waited`: the seconds granted, then the sequences waited at."""

    def __init__(self) -> None:
        self.happens: deque[Callable[[], int | None]] = deque()
        self.full = False
        self.stops_at_the_end = False
        self.waited: list[float] = []

    @contextmanager
    def place(self, seconds: float) -> Iterator["StagedFeedWatch | None"]:
        self.waited.append(seconds)
        yield None if self.full else self

    @property
    def cut_short(self) -> bool:
        return self.stops_at_the_end and not self.happens

    def beyond(self, sequence: int) -> int | None:
        self.waited.append(sequence)
        return self.happens.popleft()() if self.happens else None


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


class InMemoryEndpoints:
    def __init__(self) -> None:
        self.stored: dict[str, Endpoint] = {}

    def add(self, endpoint: Endpoint) -> None:
        self.stored[endpoint.id] = endpoint

    def get(self, endpoint_id: str) -> Endpoint:
        try:
            return self.stored[endpoint_id.lower()]
        except KeyError:
            raise WebhookNotFound from None

    def all(self) -> list[Endpoint]:
        return list(self.stored.values())

    def change(self, endpoint_id: str, change: Change) -> Endpoint:
        changed = change(self.get(endpoint_id))
        self.stored[changed.id] = changed
        return changed

    def delete(self, endpoint_id: str, check: Change) -> None:
        del self.stored[check(self.get(endpoint_id)).id]


class InMemoryDeliveryLog:
    def __init__(self, endpoints: InMemoryEndpoints) -> None:
        self._endpoints = endpoints
        self.entries: list[tuple[str, DeliveryView]] = []

    def note(
        self, endpoint: Endpoint, message: Message, answer: Answer, *, kind: str, at: datetime
    ) -> DeliveryView:
        self._endpoints.get(endpoint.id)
        view = DeliveryView(
            id=len(self.entries) + 1,
            kind=kind,
            event_id=message.event_id,
            event_type=message.event_type,
            sequence=message.sequence,
            attempt=endpoint.failures + 1 if kind == "event" else 1,
            attempted_at=at,
            duration_ms=answer.duration_ms,
            status=answer.status,
            error=answer.error,
        )
        self.entries.append((endpoint.id, view))
        return view

    def page(self, endpoint_id: str, *, limit: int, before: int | None) -> list[DeliveryView]:
        own = [view for owner, view in reversed(self.entries) if owner == endpoint_id.lower()]
        return [view for view in own if before is None or view.id < before][:limit]


class InMemoryFeed:
    """`events` are the types by sequence, from 1 on; those up to `pruned` are no longer kept."""

    def __init__(self, *events: str) -> None:
        self.events = list(events)
        self.pruned = 0

    def bounds(self) -> tuple[int, int]:
        return self.pruned, len(self.events)

    def message(self, sequence: int) -> Message:
        if not self.pruned < sequence <= len(self.events):
            raise EventNotFound
        event_type = self.events[sequence - 1]
        return Message(event_id=str(UUID(int=sequence)), event_type=event_type, sequence=sequence, body=b"{}")

    def waiting(self, after: int, event_types: Collection[str]) -> int:
        behind = self.events[max(after, self.pruned) :]
        return min(1000, sum(not event_types or each in event_types for each in behind))


class ScriptedSender:
    """Answers as `answer` says; `sent` is what it was given. `meanwhile` happens while it waits."""

    def __init__(self) -> None:
        self.answer = Answer(status=200, error=None, duration_ms=1)
        self.sent: list[tuple[Endpoint, Message]] = []
        self.meanwhile: Callable[[], object] = lambda: None

    def send(self, endpoint: Endpoint, message: Message) -> Answer:
        self.sent.append((endpoint, message))
        self.meanwhile()
        return self.answer


class CountedSecrets:
    def __init__(self) -> None:
        self.made = 0

    def new(self) -> tuple[str, str]:
        self.made += 1
        return f"whsec_{self.made}", f"sealed {self.made}"
