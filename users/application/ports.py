"""What the application asks of the world, in its own words. Each has a real adapter in
`users.infrastructure` and a fake in `tests.fakes`."""

from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol
from uuid import UUID

from users.application.envelope import Envelope
from users.application.representation import UserView
from users.application.session import Refresh, Session
from users_domain.repository import UserRepository
from users_domain.user import User
from users_domain.value_objects import UserId

Clock = Callable[[], datetime]
"""The present, as an aware datetime in UTC."""


class UnitOfWork(Protocol):
    def __call__(self) -> AbstractContextManager[UserRepository]:
        """One transaction. Leaving it commits the users saved in it together with their events, then renews
        the cache and hands the events on; raising rolls everything back."""
        ...

    def alone(self) -> AbstractContextManager[UserRepository]:
        """The same for whoever saves one user, and writes nothing else: the save, which has to come last,
        may commit at once."""
        ...


Measure = Callable[[str], AbstractContextManager[None]]
"""Times one operation, named by the argument, and notes whether it raised."""


class PasswordHasher(Protocol):
    """Slow on purpose, so never called inside a transaction. `hash` and `verify` raise Unavailable when too
    many hashes are asked for at once."""

    def hash(self, password: str, *, first: Callable[[], object] = ...) -> str:
        """`first` is called when the turn has come, just before the dear part; what it raises saves that."""
        ...

    def verify(self, password: str, password_hash: str | None) -> bool:
        """None stands for an account that does not exist: costs the same and is never right."""
        ...

    def renewed(self, password: str, password_hash: str) -> str | None:
        """For a password that has just been found right: its hash as it would be made today. None when
        `password_hash` is like that, or when there is no time for it now. Raises nothing."""
        ...


class PasswordHashes(Protocol):
    """The stored hashes, past the aggregate: a better hash of the same password is no change of the user."""

    def replace(self, user_id: UserId, old: str, new: str) -> bool:
        """Compares and swaps, outside any transaction, as no part of what the caller is doing: waits for
        nobody, raises nothing, and answers whether it was done."""
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


class Mailbox(Protocol):
    """Mails to be sent: kept with the unit of work that is open, if one is; the worker sends them."""

    def post(
        self, kind: "MailKind", *, user_id: str | None = None, email: str | None = None, **data: str
    ) -> None:
        """To the user, at the address that he has when it is sent; or to `email`, whether anybody has it or
        not: that is found out later, so that asking for a mail takes the same time for everybody. `data` is
        what the template or the sending needs, such as a fingerprint; gone once the mail is sent."""
        ...


class MailKind(StrEnum):
    """What a mail is about; a template each."""

    VERIFY_EMAIL = "verify_email"
    RESET_PASSWORD = "reset_password"  # noqa: S105 - the name of a template
    PASSWORD_CHANGED = "password_changed"  # noqa: S105
    EMAIL_CHANGED = "email_changed"
    CONFIRM_EMAIL_CHANGE = "confirm_email_change"
    EMAIL_CHANGE_ASKED = "email_change_asked"
    ALREADY_REGISTERED = "already_registered"
    TOKEN_REUSED = "token_reused"  # noqa: S105


class Links(Protocol):
    """What stands in mails to prove that they were received: signed, and dead after a while."""

    def write(self, purpose: str, *words: str) -> str: ...

    def read(self, purpose: str, token: str, *, seconds: float) -> list[str]:
        """The words. Raises InvalidLink for what was not written here, or longer ago than `seconds`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class EmailProposal:
    """An address that a user wants and has not proven yet. `fingerprint`: the account as it was then."""

    user_id: str
    email: str
    fingerprint: str
    expires_at: datetime


class EmailProposals(Protocol):
    """At most one for each user. Within a unit of work; of several who put or take one user's proposal the
    first goes on, and the others wait until he has committed."""

    def put(self, proposal: EmailProposal, now: datetime) -> None:
        """In place of the one before it."""
        ...

    def take(self, user_id: str) -> EmailProposal | None:
        """The user's proposal, which is gone from then on."""
        ...


class AccessTokens(Protocol):
    def issue(self, user: User, session_id: UUID) -> str:
        """A signed access token for the user as he is now."""
        ...


class RefreshTokens(Protocol):
    def issue(self, refresh: Refresh) -> str:
        """The token that says this: the same text whenever it is asked for."""
        ...

    def read(self, token: str) -> Refresh:
        """Raises InvalidToken for what is none of ours, or has run out."""
        ...


class SessionStore(Protocol):
    """Sessions, and which of their refresh tokens was used when. All but `open` within a unit of work."""

    def open(self, session: Session, refresh: Refresh, *, most: int) -> Sequence[Session]:
        """A new session with its first token. Answers those that are too many of one user's: of more than
        `most` live ones the oldest."""
        ...

    def live(self, session_id: UUID, now: datetime) -> Session:
        """Raises InvalidToken for one that is not there, has ended or has run out."""
        ...

    def consume(self, jti: UUID, successor: Refresh, now: datetime) -> bool:
        """Uses up a token that nobody has used, and keeps its successor; of several at once one succeeds, and
        the others wait for it."""
        ...

    def successor_of(self, jti: UUID, *, consumed_since: datetime) -> Refresh | None:
        """What a token led to that was used at that time or later."""
        ...

    def end(self, session_id: UUID, now: datetime) -> bool:
        """False when it had ended before."""
        ...

    def end_all(self, user_id: str, now: datetime) -> None: ...

    def of(self, user_id: str, token_version: int, now: datetime) -> Sequence[Session]:
        """The user's live sessions, newest first."""
        ...


class LoginGuard(Protocol):
    """Holds attempts to log in to their limits, and tells the log of what was refused: alike for accounts
    that exist and for those that do not. `email` is what was typed; `address` may be empty."""

    def admit(self, email: str, address: str) -> None:
        """Counts an attempt, before it costs a hash. Raises RateLimited."""
        ...

    def note_failure(self, email: str, user_id: str | None, address: str, *, reason: str) -> None:
        """The attempt was refused; `reason` is the refusal's stable code."""
        ...

    def note_success(self, email: str, user_id: str, address: str, *, by_link: bool = False) -> None:
        """Whoever is at this address has proven to be the owner, by password or by a link in a mail: what
        strangers try does not delay him there for the next 30 days."""
        ...


class RateLimits(Protocol):
    """The limits of everything else."""

    def hold(self, **keys: str) -> None:
        """Counts one for each policy, under its key: `hold(refresh=session_id)`. All or nothing: what one
        policy refuses uses nothing of the others up. Raises RateLimited."""
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
        """Newest first, beginning behind `after`. A search that would look at too many users ends before
        `limit`, with the place that it came to."""
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
    """One user of a page: his representation, ready to send, and his place. Without a representation he is
    the last who was looked at by a search that stopped before the end."""

    json: bytes | None
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
