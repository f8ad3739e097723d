"""What a person may ask of whoever keeps his data: that it be told to him, and that it be erased."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from users.application.ports import Clock, Measure, UnitOfWork
from users.application.reruns import Reruns
from users.application.versions import ANY_VERSION, refuse_other_version
from users_domain.user import User
from users_domain.value_objects import Actor, UserId

IMPERSONAL = frozenset(
    {
        "user_id",
        "created_at",
        "renamed_at",
        "changed_at",
        "verified_at",
        "blocked_at",
        "unblocked_at",
        "ended_at",
        "erased_at",
        "roles",
        "session_id",
        "cause",
    }
)
"""Fields of events that say nothing of who somebody was, once nobody knows whose the id is. All others,
those of events to come as well, are emptied when their user is erased."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EraseUser:
    user_id: str
    by: Actor
    expected: frozenset[int] = ANY_VERSION


@dataclass(frozen=True, slots=True, kw_only=True)
class Erased:
    """`event_id` is that of `user.erased`; `receipt` says the same, signed. `removed`: how many rows of which
    tables were emptied or deleted."""

    id: str
    erased_at: datetime
    version: int
    event_id: UUID
    receipt: str
    removed: Mapping[str, int]


class Traces(Protocol):
    """What is kept of a user beside his row."""

    def remove(self, user: User, now: datetime, *, had_roles: bool) -> Mapping[str, int]:
        """Within the unit of work that has saved the erased user, who had roles or none: all of it in the
        database, then, after commit, in Redis and the sessions of the admin pages; what cannot be reached
        then, the worker removes later. Answers how many rows of which tables were emptied or deleted."""
        ...


class Receipts(Protocol):
    def issue(self, *, user_id: str, event_id: UUID, erased_at: datetime) -> str:
        """A signed word that the user was erased, which names nothing but his id."""
        ...


class Held(Protocol):
    """All that is kept of a user, to read."""

    def export(self, user_id: str, now: datetime) -> Iterator[bytes]:
        """One JSON object, in pieces. Raises UserNotFound, before the first of them."""
        ...


class Privacy:
    def __init__(
        self,
        *,
        unit_of_work: UnitOfWork,
        traces: Traces,
        receipts: Receipts,
        held: Held,
        clock: Clock,
        measure: Measure,
        reruns: Reruns,
    ) -> None:
        self._unit_of_work = unit_of_work
        self._traces = traces
        self._receipts = receipts
        self._held = held
        self._clock = clock
        self._measure = measure
        self._reruns = reruns

    def erase(self, command: EraseUser) -> Erased:
        """Raises UserNotFound, also for those who are erased already; LastAdmin, VersionMismatch,
        ConcurrentUpdate."""
        with self._measure("erase"):
            # A version that was named is compared anew each time.
            return self._reruns(lambda _: self._erase(command))

    def _erase(self, command: EraseUser) -> Erased:
        with self._unit_of_work() as users:
            # Held, so that no race is ever lost: what is run again was the victim of a deadlock.
            user, now = users.hold(UserId.parse(command.user_id)), self._clock()
            refuse_other_version(user, command.expected)
            had_roles = bool(user.roles)
            user.erase(last_admin=users.is_last_admin(user), by=command.by, now=now)
            user_id, event_id = str(user.id), user.recorded[-1].event_id
            receipt = self._receipts.issue(user_id=user_id, event_id=event_id, erased_at=now)
            # The row first, as every command does: from then on nobody else writes of this user.
            users.save(user)
            removed = self._traces.remove(user, now, had_roles=had_roles)
        return Erased(
            id=user_id,
            erased_at=now,
            version=user.version,
            event_id=event_id,
            receipt=receipt,
            removed=removed,
        )

    def export(self, user_id: str) -> Iterator[bytes]:
        """All that is kept of the user but secrets, as one JSON object in pieces. Raises UserNotFound."""
        return self._measured(self._held.export(str(UserId.parse(user_id)), self._clock()))

    def _measured(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        """To the last piece: an export that broke, or that nobody read to its end, was no success."""
        with self._measure("export"):
            yield from pieces
