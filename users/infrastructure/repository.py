"""UserRepository in SQL: two mapping functions, and a compare-and-swap that writes the events along."""

import json
from collections.abc import Callable
from datetime import datetime
from operator import itemgetter
from typing import Any
from uuid import UUID

from django.db import IntegrityError, connection

from users.infrastructure import outbox, prepared
from users.models import EMAIL_UNIQUE, UserRecord
from users_domain.errors import ConcurrentUpdate, UserAlreadyExists, UserNotFound
from users_domain.events import UserEvent
from users_domain.user import Block, EndedSession, User
from users_domain.value_objects import BlockReason, Email, Locale, Role, UserId, UserName, UserStatus

COLUMNS = (
    "email",
    "name",
    "status",
    "roles",
    "password_hash",
    "email_verified",
    "locale",
    "block_reason",
    "blocked_at",
    "blocked_until",
    "blocked_by",
    "token_version",
    "ended_sessions",
    "created_at",
    "updated_at",
    "version",
)
"""Beside the id, in the order of `_values` and `_user`."""

_NAMES = ", ".join(COLUMNS)
_PLACES = ", ".join(
    {"roles": "%s::varchar[]", "ended_sessions": "%s::jsonb"}.get(name, "%s") for name in COLUMNS
)
_READ = _NAMES.replace("ended_sessions", "ended_sessions::text")
_LIVING = f"SELECT id, {_READ} FROM users WHERE status <> 'erased' AND"  # noqa: S608 - of constants
GET = f"{_LIVING} id = %s"
HOLD = f"{_LIVING} id = %s FOR NO KEY UPDATE"
GET_BY_EMAIL = f"{_LIVING} email = %s"
ADD = f"INSERT INTO users ({_NAMES}, id) VALUES ({_PLACES}, %s) RETURNING id"  # noqa: S608
SWAP = f"UPDATE users SET ({_NAMES}) = ROW({_PLACES}) WHERE id = %s AND version = %s RETURNING id"  # noqa: S608


class DjangoUserRepository:
    """Remembers in `saved` whom it wrote and in `told` which events, for the unit of work. `begin` is called
    before a row is locked, which has to stay so until the end of the transaction that it sees to."""

    def __init__(self, begin: Callable[[], object] = lambda: None) -> None:
        self.saved: list[User] = []
        self.told: list[UserEvent] = []
        self._begin = begin

    def get(self, user_id: UserId) -> User:
        return _one(GET, user_id.value)

    def hold(self, user_id: UserId) -> User:
        self._begin()
        return _one(HOLD, user_id.value)

    def get_by_email(self, email: Email) -> User:
        return _one(GET_BY_EMAIL, email.value)

    def is_last_admin(self, user: User) -> bool:
        if not user.is_active_admin:
            return False
        self._begin()
        # Every admin's row is locked, in one order, so that of two who depose each other one waits.
        admins = UserRecord.objects.select_for_update().filter(
            roles__contains=[Role.ADMIN], status=UserStatus.ACTIVE
        )
        return all(row == user.id.value for row in admins.order_by("id").values_list("id", flat=True))

    def add(self, user: User) -> None:
        self._write(ADD, [*_values(user), user.id.value], user)

    def save(self, user: User) -> None:
        if user.stored_version == user.version:
            return
        if not self._write(SWAP, [*_values(user), user.id.value, user.stored_version], user):
            raise ConcurrentUpdate

    def _write(self, change: str, values: list[Any], user: User) -> bool:
        """The row with its events, in one statement; False when there is no such row to change."""
        if self.saved and not connection.in_atomic_block:
            raise RuntimeError("Two users are saved together in a transaction alone.")
        try:
            written = outbox.write_with(change, values, user.recorded)
        except IntegrityError as error:
            raise _named(error) from error
        if written:
            self.told += user.pull_events()
            self.saved.append(user)
        return written


def _one(statement: str, value: UUID | str) -> User:
    for row in prepared.rows(statement, [value]):
        return _user(row)
    raise UserNotFound


def constraint_of(error: IntegrityError) -> str | None:
    """The name of the constraint that was broken; the message's text is for people."""
    diagnostics = getattr(error.__cause__, "diag", None)
    return getattr(diagnostics, "constraint_name", None)


def _named(error: IntegrityError) -> Exception:
    return UserAlreadyExists() if constraint_of(error) == EMAIL_UNIQUE else error


def _values(user: User) -> tuple[Any, ...]:
    """For COLUMNS. Of an erased user nothing that says who he was."""
    block = user.current_block
    erased = user.status is UserStatus.ERASED
    return (
        None if erased else user.email.value,
        None if erased else user.name.value,
        user.status.value,
        f"{{{','.join(sorted(role.value for role in user.roles))}}}",
        "" if erased else user.password_hash,
        user.email_verified,
        None if erased else user.locale.value,
        block and block.reason.value,
        block and block.at,
        block and block.until,
        block and block.by,
        user.token_version,
        json.dumps({str(ended.id): ended.at.isoformat() for ended in user.ended_sessions}),
        user.created_at,
        user.updated_at,
        user.version,
    )


def _user(row: tuple[Any, ...]) -> User:
    """Of the id and COLUMNS."""
    (
        id_, email, name, status, roles, password_hash, verified, locale, reason, at, until, by,
        token_version, ended_sessions, created_at, updated_at, version,
    ) = row  # fmt: skip
    return User(
        id=UserId(id_),
        email=Email.stored(email),
        name=UserName(name),
        status=UserStatus(status),
        roles=frozenset(map(Role, roles)),
        password_hash=password_hash,
        email_verified=verified,
        locale=Locale(locale),
        current_block=_block(reason, at, until, by),
        token_version=token_version,
        ended_sessions=_ended(ended_sessions),
        created_at=created_at,
        updated_at=updated_at,
        version=version,
    )


def _block(reason: str | None, at: datetime | None, until: datetime | None, by: str | None) -> Block | None:
    if reason is None or at is None:
        return None
    return Block(reason=BlockReason(reason), at=at, until=until, by=by or "")


def _ended(kept: str) -> tuple[EndedSession, ...]:
    if kept == "{}":
        return ()
    return tuple(
        EndedSession(id=UUID(session_id), at=datetime.fromisoformat(at))
        for session_id, at in sorted(json.loads(kept).items(), key=itemgetter(1))
    )
