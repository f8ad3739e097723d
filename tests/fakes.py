"""The application's world in memory: each port of `users.application`, and the repository's, without
Django, servers or waiting. Those that have a real adapter with the same promise go through the same tests."""

import json
from collections import deque
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from tests.builders import NOW
from users.application.errors import (
    EventNotFound,
    InvalidLink,
    InvalidQuery,
    InvalidToken,
    RateLimited,
    WebhookNotFound,
)
from users.application.ports import (
    Answered,
    CacheAnswer,
    Clock,
    EmailProposal,
    KeyTaken,
    Listed,
    MailKind,
    Position,
    UserCriteria,
)
from users.application.representation import UserView, view_of
from users.application.session import Refresh, Session
from users.application.webhook_endpoint import Answer, DeliveryView, Endpoint, Message
from users.application.webhook_ports import Change
from users_domain.errors import ConcurrentUpdate, InvalidPassword, UserAlreadyExists, UserNotFound
from users_domain.events import UserEvent
from users_domain.user import User
from users_domain.value_objects import Email, UserId, UserStatus


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
        self.held: set[UserId] = set()

    def hold(self, user_id: UserId) -> User:
        """Rivals act before it or not at all."""
        self._let_a_rival_act()
        self.held.add(user_id)
        return self.get(user_id)

    def get(self, user_id: UserId) -> User:
        if user_id not in self._living():
            raise UserNotFound
        return as_stored(self.stored[user_id])

    def get_by_email(self, email: Email) -> User:
        for user in self._living().values():
            if user.email == email:
                return as_stored(user)
        raise UserNotFound

    def _living(self) -> dict[UserId, User]:
        return {
            user_id: user for user_id, user in self.stored.items() if user.status is not UserStatus.ERASED
        }

    def is_last_admin(self, user: User) -> bool:
        admins = {each.id for each in self.stored.values() if each.is_active_admin}
        return user.is_active_admin and admins <= {user.id}

    def add(self, user: User) -> None:
        self._let_a_rival_act()
        self._write(user)

    def save(self, user: User) -> None:
        if user.stored_version == user.version:
            return
        if user.id not in self.held:
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
        if any(other.email == user.email for other in self._living().values() if other.id != user.id):
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
        self._users.held.clear()
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

    @contextmanager
    def alone(self) -> Iterator[InMemoryUserRepository]:
        """What is raised behind a save takes nothing back."""
        with self() as users:
            try:
                yield users
            finally:
                users.undo.clear()


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


class InMemoryEmailProposals:
    def __init__(self, users: InMemoryUserRepository) -> None:
        self._users = users
        self.stored: dict[str, EmailProposal] = {}

    def put(self, proposal: EmailProposal, now: datetime) -> None:
        self._undo_later()
        self.stored[proposal.user_id] = proposal

    def take(self, user_id: str) -> EmailProposal | None:
        self._undo_later()
        return self.stored.pop(user_id, None)

    def _undo_later(self) -> None:
        before = dict(self.stored)
        self._users.undo.append(lambda: setattr(self, "stored", before))


@dataclass(frozen=True)
class Posted:
    """A mail on its way. `to`: an address, or the id of a user."""

    kind: MailKind
    to: str
    user_id: str | None = None
    data: dict[str, str] = field(default_factory=dict)


class InMemoryMailbox:
    """`posted` are the mails of the units of work that were committed, and of none."""

    def __init__(self, users: InMemoryUserRepository) -> None:
        self._users = users
        self.posted: list[Posted] = []

    def post(
        self, kind: MailKind, *, user_id: str | None = None, email: str | None = None, **data: str
    ) -> None:
        mail = Posted(kind, email or user_id or "nobody", user_id, data)
        self.posted.append(mail)
        self._users.undo.append(lambda: self.posted.remove(mail))


class ReadableLinks:
    """Anybody can write one; they age by the clock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def write(self, purpose: str, *words: str) -> str:
        return json.dumps([purpose, self._clock().isoformat(), *words])

    def read(self, purpose: str, token: str, *, seconds: float) -> list[str]:
        try:
            its_purpose, written, *words = json.loads(token)
        except ValueError:
            raise InvalidLink from None
        age = self._clock() - datetime.fromisoformat(written)
        if its_purpose != purpose or age > timedelta(seconds=seconds):
            raise InvalidLink
        return words


class PlainHasher:
    """No secret at all, and strict about when it is called: never inside a unit of work. What begins with
    `old` is right as well, but not as it would be made today."""

    def __init__(self, unit_of_work: InMemoryUnitOfWork | None = None) -> None:
        self._unit_of_work = unit_of_work
        self.calls = 0

    def hash(self, password: str, *, first: Callable[[], object] = lambda: None) -> str:
        first()
        self._count()
        return f"hash of {password}"

    def verify(self, password: str, password_hash: str | None) -> bool:
        self._count()
        return password_hash in {f"hash of {password}", f"old hash of {password}"}

    def renewed(self, password: str, password_hash: str) -> str | None:
        return self.hash(password) if password_hash.startswith("old ") else None

    def _count(self) -> None:
        self.calls += 1
        if self._unit_of_work and self._unit_of_work.open:
            raise AssertionError("a password is hashed inside a unit of work")


class InMemoryPasswordHashes:
    """Over the fake repository. `away`: answers like a database that does not."""

    def __init__(self, users: InMemoryUserRepository) -> None:
        self._users = users
        self.away = False

    def replace(self, user_id: UserId, old: str, new: str) -> bool:
        user = self._users.stored.get(user_id)
        if self.away or user is None or user.password_hash != old:
            return False
        user.password_hash = new
        return True


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
        return f"token of {user.email} at {user.token_version} in {session_id}"


class ReadableRefreshTokens:
    """The token is what it says, in the clear."""

    def __init__(self) -> None:
        self.issued: dict[str, Refresh] = {}

    def issue(self, refresh: Refresh) -> str:
        self.issued[str(refresh.jti)] = refresh
        return str(refresh.jti)

    def read(self, token: str) -> Refresh:
        try:
            return self.issued[token]
        except KeyError:
            raise InvalidToken from None


class InMemorySessions:
    """A SessionStore. `tracks`: what each used token led to, and when it was used."""

    def __init__(self) -> None:
        self.sessions: dict[UUID, Session] = {}
        self.ended: set[UUID] = set()
        self.unused: set[UUID] = set()
        self.tracks: dict[UUID, tuple[Refresh, datetime]] = {}

    def open(self, session: Session, refresh: Refresh, *, most: int) -> list[Session]:
        self.sessions[session.id] = session
        self.unused.add(refresh.jti)
        return self.of(session.user_id, session.token_version, session.created_at)[most:]

    def live(self, session_id: UUID, now: datetime) -> Session:
        session = self.sessions.get(session_id)
        if session is None or session_id in self.ended or session.expires_at <= now:
            raise InvalidToken
        return session

    def consume(self, jti: UUID, successor: Refresh, now: datetime) -> bool:
        if jti not in self.unused:
            return False
        self.unused ^= {jti, successor.jti}
        self.tracks[jti] = (successor, now)
        self.sessions[successor.session_id] = replace(self.sessions[successor.session_id], last_used_at=now)
        return True

    def successor_of(self, jti: UUID, *, consumed_since: datetime) -> Refresh | None:
        successor, consumed_at = self.tracks.get(jti, (None, datetime.min.replace(tzinfo=NOW.tzinfo)))
        return successor if consumed_at >= consumed_since else None

    def end(self, session_id: UUID, now: datetime) -> bool:
        if session_id not in self.sessions or session_id in self.ended:
            return False
        self.ended.add(session_id)
        return True

    def end_all(self, user_id: str, now: datetime) -> None:
        self.ended |= {each.id for each in self.sessions.values() if each.user_id == user_id}

    def of(self, user_id: str, token_version: int, now: datetime) -> list[Session]:
        live = [
            each
            for each in self.sessions.values()
            if each.user_id == user_id
            and each.token_version == token_version
            and each.id not in self.ended
            and each.expires_at > now
        ]
        return sorted(live, key=lambda each: each.created_at, reverse=True)


class WritingGuard:
    """A LoginGuard that notes what it is told, and refuses once `limited` is set; the RateLimits as well."""

    def __init__(self) -> None:
        self.noted: list[tuple[str, ...]] = []
        self.limited = False

    def admit(self, email: str, address: str) -> None:
        self.noted.append(("admit", email, address))
        self._hold()

    def note_failure(self, email: str, user_id: str | None, address: str, *, reason: str) -> None:
        self.noted.append(("failure", email, user_id or "nobody", address, reason))

    def note_success(self, email: str, user_id: str, address: str, *, by_link: bool = False) -> None:
        self.noted.append(("success", email, user_id, address))

    def hold(self, **keys: str) -> None:
        self.noted += keys.items()
        self._hold()

    def _hold(self) -> None:
        if self.limited:
            raise RateLimited(60)


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
