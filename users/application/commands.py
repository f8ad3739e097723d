"""The write side: what may be done to users.

A command is frozen data; `UserCommands` has one method for each, and each reads as a sentence: build
values, open the unit of work, get, one thing happens, save. All of them may raise any DomainError that
the aggregate or the repository documents, and answer the user's representation as saved.

`expected` are the versions the caller is willing to change (If-Match); empty means any. A command that
loses a race is run again, at most three times, unless the caller named a version."""

import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import ClassVar

from users.application.errors import IdempotencyKeyReused
from users.application.ports import (
    Answered,
    Clock,
    EmailProposal,
    IdempotencyKeys,
    KeyTaken,
    Mailbox,
    MailKind,
    Measure,
    PasswordHasher,
    PasswordPolicy,
    UnitOfWork,
)
from users.application.representation import UserView, view_of
from users.application.reruns import Reruns, Result
from users.application.versions import ANY_VERSION, refuse_other_version
from users_domain.errors import (
    ConcurrentUpdate,
    InvalidBlock,
    InvalidPassword,
    UserAlreadyExists,
    UserNotFound,
    VersionMismatch,
    WrongPassword,
)
from users_domain.repository import UserRepository
from users_domain.user import User
from users_domain.value_objects import Actor, BlockReason, Email, Locale, Role, UserId, UserName


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisterUser:
    """`scope` says whose key `idempotency_key` is; `fingerprint` stands for the request's content."""

    email: str
    name: str
    password: str = field(repr=False)
    locale: str = Locale.ENGLISH
    by: Actor | None = None
    scope: str = ""
    idempotency_key: str | None = None
    fingerprint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisterStaff:
    """A user with roles from the start: made by operators on the command line."""

    email: str
    name: str
    password: str = field(repr=False)
    locale: str = Locale.ENGLISH
    roles: tuple[str, ...]
    by: Actor


@dataclass(frozen=True, slots=True, kw_only=True)
class RenameUser:
    user_id: str
    name: str
    by: Actor
    expected: frozenset[int] = ANY_VERSION


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeEmail:
    """Whoever changes his own address proves himself with his current password."""

    user_id: str
    email: str
    password: str | None = field(repr=False, default=None)
    by: Actor
    expected: frozenset[int] = ANY_VERSION


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangePassword:
    user_id: str
    current_password: str = field(repr=False)
    new_password: str = field(repr=False)
    by: Actor
    expected: frozenset[int] = ANY_VERSION


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeRoles:
    user_id: str
    roles: tuple[str, ...]
    by: Actor
    expected: frozenset[int] = ANY_VERSION


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockUser:
    """`until` is an aware datetime; None blocks until somebody unblocks."""

    user_id: str
    reason: str
    until: datetime | None = None
    by: Actor
    expected: frozenset[int] = ANY_VERSION


@dataclass(frozen=True, slots=True, kw_only=True)
class UnblockUser:
    user_id: str
    by: Actor
    expected: frozenset[int] = ANY_VERSION


@dataclass(frozen=True, slots=True, kw_only=True)
class EndBlock:
    """Lifts a block whose time has run out, in the system's name."""

    user_id: str
    expected: ClassVar[frozenset[int]] = ANY_VERSION


OnOneUser = RenameUser | ChangeEmail | ChangePassword | ChangeRoles | BlockUser | UnblockUser | EndBlock
Change = Callable[[User, datetime, UserRepository], None]
"""What one command does to its user; the repository answers what the user alone cannot know."""

ProposeEmail = Callable[[User, Email], EmailProposal]
"""For the user as he was when his password was found right. Raises EmailUnchanged, ConcurrentUpdate."""


class UserCommands:
    def __init__(
        self,
        *,
        users: UserRepository,
        unit_of_work: UnitOfWork,
        hasher: PasswordHasher,
        policy: PasswordPolicy,
        idempotency: IdempotencyKeys,
        mailbox: Mailbox,
        clock: Clock,
        measure: Measure,
        propose_email: ProposeEmail | None = None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        """`users` reads outside any transaction; whatever changes goes through `unit_of_work`. Without
        `propose_email` a user's own address changes at once."""
        self._users = users
        self._unit_of_work = unit_of_work
        self._hasher = hasher
        self._policy = policy
        self._idempotency = idempotency
        self._mailbox = mailbox
        self._propose_email = propose_email
        self._clock = clock
        self._measure = measure
        self._reruns = Reruns(pause)

    def register(self, command: RegisterUser) -> UserView:
        """Raises UserAlreadyExists, InvalidValue, IdempotencyKeyReused."""
        if answered := self._answered(command):
            return answered
        try:
            with self._measure("register"):
                return self._register(command)
        except KeyTaken:
            if answered := self._answered(command):
                return answered
            raise ConcurrentUpdate from None

    def _register(self, command: RegisterUser) -> UserView:
        user = self._newborn(command, staff=False, first=lambda email: self._refuse_taken(email, command))
        view = view_of(user)
        with self._opened(alone=not command.idempotency_key) as users:
            self._claim_key(command, view)
            users.add(user)
        return view

    def register_quietly(self, command: RegisterUser) -> None:
        """As `register`, but nobody learns whether the address was taken, by the answer or by the time that
        it takes: its owner does, by mail. Raises InvalidValue, IdempotencyKeyReused."""
        if self._answered(command):
            return
        try:
            with self._measure("register"):
                self._register_or_tell(command)
        except UserAlreadyExists:
            return
        except KeyTaken:
            if self._answered(command) is None:
                raise ConcurrentUpdate from None

    def _register_or_tell(self, command: RegisterUser) -> None:
        """One hash in any case, and what is kept for the key tells nothing."""
        user = self._newborn(command, staff=False)
        neutral = UserView(str(user.id), version=1, token_version=1, json=b'{"version":1}')
        try:
            with self._opened(alone=not command.idempotency_key) as users:
                self._claim_key(command, neutral)
                users.add(user)
        except UserAlreadyExists:
            with self._unit_of_work():
                self._claim_key(command, neutral)
                self._mailbox.post(MailKind.ALREADY_REGISTERED, email=str(user.email))
            raise

    def _refuse_taken(self, email: Email, command: RegisterUser) -> None:
        """Saves the hash of whoever comes late, and guards nothing: the unique index has the last word."""
        try:
            self._users.get_by_email(email)
        except UserNotFound:
            return
        raise KeyTaken if self._answered(command) else UserAlreadyExists

    def register_staff(self, command: RegisterStaff) -> UserView:
        """Raises UserAlreadyExists, InvalidValue."""
        with self._measure("register_staff"):
            roles = _roles(command.roles)
            user = self._newborn(command, staff=True)
            user.change_roles(roles, last_admin=False, by=command.by, now=user.created_at)
            with self._unit_of_work.alone() as users:
                users.add(user)
            return view_of(user)

    def _newborn(
        self,
        command: RegisterUser | RegisterStaff,
        *,
        staff: bool,
        first: Callable[[Email], object] = lambda email: None,
    ) -> User:
        """Checked, with his password hashed, and not saved yet. `first` as in `PasswordHasher.hash`."""
        email, name, locale = Email(command.email), UserName(command.name), Locale.parse(command.locale)
        self._policy.check(command.password, email=str(email), name=str(name), staff=staff)
        return User.register(
            id=UserId.new(),
            email=email,
            name=name,
            password_hash=self._hasher.hash(command.password, first=lambda: first(email)),
            locale=locale,
            by=command.by,
            now=self._clock(),
        )

    def rename(self, command: RenameUser) -> UserView:
        name = UserName(command.name)
        return self._change("rename", command, lambda user, now, _: user.rename(name, by=command.by, now=now))

    def change_email(self, command: ChangeEmail) -> UserView | EmailProposal:
        """A proposal where the user himself has to prove the address first. Raises WrongPassword,
        UserAlreadyExists."""
        email = Email(command.email)
        own = command.by.id == str(UserId.parse(command.user_id))

        def attempt(hold: bool) -> UserView | EmailProposal:
            proof = self._proven(command.user_id, command.password, command.expected) if own else None
            if proof and self._propose_email:
                return self._propose_email(proof, email)
            return self._attempt(
                command,
                lambda user, now, _: self._move(user, email, by=command.by, now=now),
                hold,
                proof,
                alone=False,
            )

        with self._measure("change_email"):
            return self._again(attempt, command.expected)

    def _move(self, user: User, email: Email, *, by: Actor, now: datetime) -> None:
        """To another address; at the one that he had until now he is told."""
        former = str(user.email)
        user.change_email(email, by=by, now=now)
        self._mailbox.post(MailKind.EMAIL_CHANGED, user_id=str(user.id), email=former)

    def change_password(self, command: ChangePassword) -> UserView:
        """Raises WrongPassword, InvalidPassword."""

        def attempt(hold: bool) -> UserView:
            proof = self._proven(command.user_id, command.current_password, command.expected)
            self._policy.check(
                command.new_password,
                email=str(proof.email),
                name=str(proof.name),
                staff=proof.is_staff,
                field="new_password",
            )
            new_hash = self._hasher.hash(command.new_password)
            return self._attempt(
                command,
                lambda user, now, _: user.change_password(new_hash, by=command.by, now=now),
                hold,
                proof,
            )

        with self._measure("change_password"):
            return self._again(attempt, command.expected)

    def change_roles(self, command: ChangeRoles) -> UserView:
        """Raises LastAdmin."""
        roles = _roles(command.roles)
        return self._change(
            "change_roles",
            command,
            lambda user, now, users: user.change_roles(
                roles, last_admin=users.is_last_admin(user), by=command.by, now=now
            ),
        )

    def block(self, command: BlockUser) -> UserView:
        """Raises SelfBlock, LastAdmin, UserAlreadyBlocked."""
        reason, until = BlockReason(command.reason), _instant(command.until)
        return self._change(
            "block",
            command,
            lambda user, now, users: user.block(
                reason, until, last_admin=users.is_last_admin(user), by=command.by, now=now
            ),
        )

    def unblock(self, command: UnblockUser) -> UserView:
        """Raises UserNotBlocked."""
        return self._change("unblock", command, lambda user, now, _: user.unblock(by=command.by, now=now))

    def end_block(self, command: EndBlock) -> UserView:
        """Raises UserNotBlocked when somebody was faster, or has blocked the user anew."""
        return self._change("end_block", command, lambda user, now, _: user.end_block(now=now))

    # --- What all of them share ------------------------------------------------------------------

    def _change(self, operation: str, command: OnOneUser, change: Change) -> UserView:
        with self._measure(operation):
            return self._again(lambda hold: self._attempt(command, change, hold), command.expected)

    def _attempt(
        self,
        command: OnOneUser,
        change: Change,
        hold: bool,
        proof: User | None = None,
        *,
        alone: bool = True,
    ) -> UserView:
        """`hold`: whether others wait. `proof`: the user as he was when his password was found right, outside
        this transaction. `alone`: whether `change` writes nothing."""
        with self._opened(alone=alone) as users:
            get = users.hold if hold else users.get
            user = get(UserId.parse(command.user_id))
            refuse_other_version(user, command.expected)
            _refuse_overtaken(proof, user)
            change(user, self._clock(), users)
            users.save(user)
        return view_of(user)

    def _opened(self, *, alone: bool) -> AbstractContextManager[UserRepository]:
        """`alone`: the user's row and his events are all that is written."""
        return self._unit_of_work.alone() if alone else self._unit_of_work()

    def _again(self, attempt: Callable[[bool], Result], expected: frozenset[int]) -> Result:
        if not expected:
            return self._reruns(attempt)
        try:
            return attempt(False)
        except ConcurrentUpdate:
            raise VersionMismatch from None

    def _proven(self, user_id: str, password: str | None, expected: frozenset[int]) -> User:
        """The user as he was when `password` was found to be his, outside any transaction."""
        if password is None:
            raise InvalidPassword("Changing your own account takes your current password.", reason="required")
        user = self._users.get(UserId.parse(user_id))
        refuse_other_version(user, expected)
        if not self._hasher.verify(password, user.password_hash):
            raise WrongPassword
        return user

    # --- Idempotency ------------------------------------------------------------------------------

    def _answered(self, command: RegisterUser) -> UserView | None:
        if command.idempotency_key is None:
            return None
        answered = self._idempotency.find(command.scope, command.idempotency_key)
        if answered is None:
            return None
        if answered.fingerprint != command.fingerprint:
            raise IdempotencyKeyReused
        return answered.view

    def _claim_key(self, command: RegisterUser, view: UserView) -> None:
        if command.idempotency_key is not None:
            answered = Answered(command.fingerprint, view)
            self._idempotency.claim(command.scope, command.idempotency_key, answered)


def _refuse_overtaken(proof: User | None, user: User) -> None:
    """A password that was right before somebody changed it proves nothing: start over."""
    if proof is not None and proof.password_hash != user.password_hash:
        raise ConcurrentUpdate


def _roles(names: Iterable[str]) -> frozenset[Role]:
    return frozenset(Role.parse(name) for name in names)


def _instant(moment: datetime | None) -> datetime | None:
    """In UTC, as everything is kept. Raises InvalidBlock for a time without its zone, or past year 9999."""
    if moment is None:
        return None
    if moment.tzinfo is None:
        raise InvalidBlock(
            "Say the time zone, as in 2026-01-31T09:30:00Z.", reason="no_time_zone", field="until"
        )
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise InvalidBlock("This end is too far away.", reason="too_late", field="until") from None
