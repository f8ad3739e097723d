"""What the application asks of the world, in its own words. Each has a real adapter in
`users.infrastructure` and a fake in `tests.fakes`."""

from collections.abc import Callable, Collection, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from users.application.envelope import Envelope
from users.application.representation import UserView
from users_domain.repository import UserRepository
from users_domain.user import User

Clock = Callable[[], datetime]
"""The present, as an aware datetime in UTC."""

UnitOfWork = Callable[[], AbstractContextManager[UserRepository]]
"""One transaction. Leaving it commits the users saved in it together with their events, then renews the
cache and hands the events on; raising rolls everything back."""

Measure = Callable[[str], AbstractContextManager[None]]
"""Times one operation, named by the argument, and notes whether it raised."""


class PasswordHasher(Protocol):
    """Slow on purpose, so never called inside a transaction. Both raise Unavailable when too many
    hashes are asked for at once."""

    def hash(self, password: str, *, first: Callable[[], object] = ...) -> str:
        """`first` is called when the turn has come, just before the dear part; what it raises saves that."""
        ...

    def verify(self, password: str, password_hash: str | None) -> bool:
        """None stands for an account that does not exist: costs the same and is never right."""
        ...


class PasswordPolicy(Protocol):
    def check(self, password: str, *, email: str, name: str, staff: bool, field: str = "password") -> None:
        """Raises InvalidPassword, about `field` of the caller's form."""
        ...


@dataclass(frozen=True, slots=True)
class Answered:
    """What a request with an Idempotency-Key was answered: the user's representation as it was then."""

    fingerprint: str
    view: UserView


class IdempotencyKeys(Protocol):
    """Answers of the last 24 hours, by caller and key."""

    def find(self, scope: str, key: str) -> Answered | None: ...

    def claim(self, scope: str, key: str, answered: Answered) -> None:
        """Within a unit of work; waits for another that claims the same key, and raises KeyTaken when that
        one commits."""
        ...


class KeyTaken(Exception):
    """Somebody else's request with the same key was faster."""


class AccessTokens(Protocol):
    def issue(self, user: User, session_id: UUID) -> str:
        """A signed access token for the user as he is now."""
        ...


class UserCache(Protocol):
    """The read side's cache. Its promise: no completed write is ever followed by an older read."""

    def get(self, user_id: str) -> "CacheAnswer": ...

    def fill(self, lease: str, view: UserView) -> None:
        """Keeps what was read from the primary under a lease; does nothing once the lease is gone."""
        ...


@dataclass(frozen=True, slots=True)
class CacheAnswer:
    """A hit (`view`), a miss that may be filled (`lease`), or neither. `result`: hit, miss or bypass."""

    result: str
    view: UserView | None = None
    lease: str | None = None


class UserReads(Protocol):
    """Reads past the aggregate, from the primary."""

    def view(self, user_id: str) -> UserView | None: ...

    def users(self, criteria: "UserCriteria", after: "Position | None", limit: int) -> "list[Listed]":
        """Newest first, beginning behind `after`."""
        ...

    def history(self, user_id: str, after_version: int, limit: int) -> list[Envelope]:
        """Envelopes, oldest first."""
        ...

    def feed(self, after_sequence: int, limit: int, types: Collection[str] = ()) -> list[Envelope]:
        """Envelopes by sequence; of these types alone, where any are named. An event that was set aside is
        of the type that it had, and of `SET_ASIDE` too."""
        ...

    def pruned(self) -> int:
        """The last sequence that retention has deleted; 0 while all are there."""
        ...


class FeedWatch(Protocol):
    """Where readers of the feed wait for events to come."""

    def place(self, seconds: float) -> "AbstractContextManager[FeedWait | None]":
        """A place among those who wait, for so long at most. None when all are taken, or the process is
        about to stop."""
        ...


class FeedWait(Protocol):
    """`cut_short`: the wait was ended before its time, for the process is about to stop."""

    @property
    def cut_short(self) -> bool: ...

    def beyond(self, sequence: int) -> int | None:
        """Waits, without a connection to the database, until the feed may have grown beyond `sequence`, and
        answers up to where it was seen to reach; the same number when that could not be found out. None at
        the end of the wait. Whatever is not beyond the answer can be read from now on."""
        ...


@dataclass(frozen=True, slots=True)
class Position:
    """Where a page of users ended."""

    created_at: datetime
    id: str


@dataclass(frozen=True, slots=True)
class Listed:
    """One user of a page: his representation, ready to send, and his place."""

    json: bytes
    position: Position


@dataclass(frozen=True, slots=True, kw_only=True)
class UserCriteria:
    """All that are given must hold."""

    status: str | None = None
    role: str | None = None
    email: str | None = None
    email_prefix: str | None = None
    text: str | None = None
    ids: Iterable[str] | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None


class Cursors(Protocol):
    """Turns positions into opaque words and back; words that were not made here are refused."""

    def write(self, kind: str, position: list[str | int]) -> str: ...

    def read(self, kind: str, cursor: str) -> list[str | int]:
        """Raises InvalidQuery."""
        ...
