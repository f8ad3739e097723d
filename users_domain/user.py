"""User, the aggregate root: it answers "may it?", changes itself and records what happened.

Time and ids come from outside. Every change takes `by`, who acts, and `now`, an aware datetime in UTC."""

import hashlib
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self
from uuid import UUID

from uuid_utils.compat import uuid7

from users_domain import events
from users_domain.errors import (
    EmailUnchanged,
    InvalidBlock,
    LastAdmin,
    OperatorOverOperator,
    RolesAreForAdmins,
    SelfBlock,
    UserAlreadyBlocked,
    UserBlocked,
    UserNotBlocked,
)
from users_domain.value_objects import (
    STAFF,
    SYSTEM,
    Actor,
    BlockReason,
    Email,
    EndOfSession,
    Locale,
    Role,
    UserId,
    UserName,
    UserStatus,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Why, since when, until when (None: until somebody lifts it) and by whom (an actor's id)."""

    reason: BlockReason
    at: datetime
    until: datetime | None
    by: str

    def holds_at(self, now: datetime) -> bool:
        return self.until is None or now < self.until


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedSession:
    """A session whose access tokens may still be about."""

    id: UUID
    at: datetime


MOST_ENDED_SESSIONS = 100
"""How many are remembered one by one; with one more all sessions end."""


@dataclass(eq=False, slots=True, kw_only=True)
class User:
    """The constructor only loads; `register` is birth.

    `version` counts the facts of the user's life: each recorded event makes one. `token_version` is
    in every access token; raising it makes all older tokens worthless. `ended_sessions` are those whose
    tokens are worthless though their token version still counts."""

    id: UserId
    email: Email
    name: UserName
    status: UserStatus
    roles: frozenset[Role]
    password_hash: str = field(repr=False)
    email_verified: bool
    locale: Locale
    current_block: Block | None
    token_version: int
    ended_sessions: tuple[EndedSession, ...] = ()
    created_at: datetime
    updated_at: datetime
    version: int
    _recorded: list[events.UserEvent] = field(default_factory=list, init=False, repr=False)

    @classmethod
    def register(
        cls,
        *,
        id: UserId,
        email: Email,
        name: UserName,
        password_hash: str,
        locale: Locale = Locale.ENGLISH,
        by: Actor | None,
        now: datetime,
    ) -> Self:
        """A new, active user without roles; `by` is None when nobody is known to act."""
        user = cls(
            id=id,
            email=email,
            name=name,
            status=UserStatus.ACTIVE,
            roles=frozenset(),
            password_hash=password_hash,
            email_verified=False,
            locale=locale,
            current_block=None,
            token_version=1,
            created_at=now,
            updated_at=now,
            version=0,
        )
        user._record(events.UserCreated, by, now, email=str(email), name=str(name), created_at=now)
        return user

    @property
    def stored_version(self) -> int:
        """The version in the database, which a save must still find there; 0 for a newborn."""
        return self.version - len(self._recorded)

    @property
    def recorded(self) -> tuple[events.UserEvent, ...]:
        """What has happened since he was loaded, oldest first."""
        return tuple(self._recorded)

    @property
    def is_active_admin(self) -> bool:
        return Role.ADMIN in self.roles and self.status is UserStatus.ACTIVE

    @property
    def is_staff(self) -> bool:
        return bool(self.roles & STAFF)

    @property
    def fingerprint(self) -> str:
        """Of all that is true of the account, but for its sessions and its version: with any change it is
        another one. Links that are sent by mail carry it, so that they die with the change."""
        block = self.current_block
        truth = (
            self.id, self.email, self.name, self.status, sorted(self.roles), self.password_hash,
            self.email_verified, self.locale, self.token_version,
            block and (block.reason, block.at.isoformat(), block.until and block.until.isoformat()),
        )  # fmt: skip
        return hashlib.sha256("\x00".join(map(str, truth)).encode()).hexdigest()[:32]

    def rename(self, name: UserName, *, by: Actor, now: datetime) -> None:
        """Raises OperatorOverOperator. The same name again is no change."""
        self._refuse_lesser_operator(by)
        if name != self.name:
            self.name = name
            self._record(events.UserRenamed, by, now, name=str(name), renamed_at=now)

    def change_email(self, email: Email, *, by: Actor, now: datetime) -> None:
        """The new address is unproven. Raises EmailUnchanged, OperatorOverOperator."""
        self._refuse_lesser_operator(by)
        if email == self.email:
            raise EmailUnchanged
        self.email = email
        self.email_verified = False
        self._record(events.UserEmailChanged, by, now, email=str(email), changed_at=now)

    def verify_email(self, *, by: Actor, now: datetime) -> None:
        """The address has been proven. Proven again, it is no change."""
        if not self.email_verified:
            self.email_verified = True
            self._record(events.UserEmailVerified, by, now, verified_at=now)

    def change_password(self, password_hash: str, *, by: Actor, now: datetime) -> None:
        """Every token issued before is worthless. Raises OperatorOverOperator."""
        self._refuse_lesser_operator(by)
        self.password_hash = password_hash
        self._kill_tokens()
        self._record(events.UserPasswordChanged, by, now, changed_at=now)

    def change_roles(self, roles: frozenset[Role], *, last_admin: bool, by: Actor, now: datetime) -> None:
        """`last_admin`: whether this is the only active admin. Every token issued before is worthless.
        The same roles again are no change. Raises LastAdmin, OperatorOverOperator, RolesAreForAdmins."""
        self._refuse_lesser_operator(by)
        if Role.ADMIN not in by.roles:
            raise RolesAreForAdmins
        if last_admin and Role.ADMIN not in roles:
            raise LastAdmin
        if roles != self.roles:
            self.roles = roles
            self._kill_tokens()
            self._record(events.UserRolesChanged, by, now, roles=sorted(roles), changed_at=now)

    def block(
        self,
        reason: BlockReason,
        until: datetime | None = None,
        *,
        last_admin: bool,
        by: Actor,
        now: datetime,
    ) -> None:
        """Shuts the user out until `until`, or until somebody unblocks him; every token issued before is
        worthless. A block whose time has run out is lifted first, as a fact of its own.

        Raises SelfBlock, OperatorOverOperator, LastAdmin, UserAlreadyBlocked, InvalidBlock."""
        if by.id == str(self.id):
            raise SelfBlock
        self._refuse_lesser_operator(by)
        if until is not None and until <= now:
            raise InvalidBlock(
                "The end of a block lies in the future.", reason="not_in_future", field="until"
            )
        if self.is_blocked_at(now):
            raise UserAlreadyBlocked
        if last_admin:
            raise LastAdmin
        if self.current_block is not None:
            self._lift(SYSTEM, now)
        self.status = UserStatus.BLOCKED
        self.current_block = Block(reason=reason, at=now, until=until, by=by.id)
        self._kill_tokens()
        self._record(events.UserBlocked, by, now, reason=str(reason), blocked_at=now)

    def unblock(self, *, by: Actor, now: datetime) -> None:
        """Raises UserNotBlocked, OperatorOverOperator."""
        self._refuse_lesser_operator(by)
        if self.current_block is None:
            raise UserNotBlocked
        self._lift(by, now)

    def end_block(self, *, now: datetime) -> None:
        """Lifts a block whose time has run out, in the system's name. Raises UserNotBlocked when there is
        none, or none whose time has run out."""
        if self.current_block is None or self.current_block.holds_at(now):
            raise UserNotBlocked
        self._lift(SYSTEM, now)

    def end_session(
        self, session_id: UUID, cause: EndOfSession, *, forget_before: datetime, by: Actor, now: datetime
    ) -> None:
        """The session's tokens are worthless from now on. `forget_before`: of sessions that ended earlier
        every access token has run out by itself. A session that has ended already is no change."""
        if any(ended.id == session_id for ended in self.ended_sessions):
            return
        alive = [ended for ended in self.ended_sessions if ended.at >= forget_before]
        if len(alive) < MOST_ENDED_SESSIONS:
            self.ended_sessions = (*alive, EndedSession(id=session_id, at=now))
            self._end_sessions(str(session_id), cause, by, now)
        else:
            self._kill_tokens()
            self._end_sessions(None, cause, by, now)

    def end_all_sessions(self, *, by: Actor, now: datetime) -> None:
        """Every token issued before is worthless."""
        self._kill_tokens()
        self._end_sessions(None, EndOfSession.LOG_OUT_EVERYWHERE, by, now)

    def erase(self, *, last_admin: bool, by: Actor, now: datetime) -> None:
        """The end of the user's life: whoever keeps him keeps his id and nothing that says who he was.
        Raises OperatorOverOperator, LastAdmin."""
        self._refuse_lesser_operator(by)
        if last_admin:
            raise LastAdmin
        self.status = UserStatus.ERASED
        self.current_block = None
        self.roles = frozenset()
        self.email_verified = False
        self._kill_tokens()
        self._record(events.UserErased, by, now, erased_at=now)

    def is_blocked_at(self, now: datetime) -> bool:
        """Whether a block holds at that instant, lifted or not."""
        return self.current_block is not None and self.current_block.holds_at(now)

    def refuse_blocked(self, now: datetime) -> None:
        """Raises UserBlocked while a block holds."""
        if self.is_blocked_at(now):
            raise UserBlocked

    def pull_events(self) -> list[events.UserEvent]:
        """What was recorded since the last pull, oldest first; whoever pulls has saved the user."""
        recorded, self._recorded = self._recorded, []
        return recorded

    def _end_sessions(self, session_id: str | None, cause: EndOfSession, by: Actor, now: datetime) -> None:
        self._record(
            events.UserSessionsEnded, by, now, session_id=session_id, cause=cause.value, ended_at=now
        )

    def _kill_tokens(self) -> None:
        self.token_version += 1
        self.ended_sessions = ()

    def _lift(self, by: Actor, now: datetime) -> None:
        self.status = UserStatus.ACTIVE
        self.current_block = None
        self._record(events.UserUnblocked, by, now, unblocked_at=now)

    def _refuse_lesser_operator(self, by: Actor) -> None:
        may = by.id == str(self.id) or Role.ADMIN in by.roles or not self.is_staff
        if not may:
            raise OperatorOverOperator

    def _record(self, event: type[events.UserEvent], by: Actor | None, now: datetime, **data: Any) -> None:
        self.version += 1
        self.updated_at = now
        self._recorded.append(
            event(
                event_id=uuid7(),
                user_id=self.id,
                user_version=self.version,
                occurred_at=now,
                actor_id=by.id if by else None,
                **data,
            )
        )
