"""UserRepository over Django's ORM: two mapping functions and a compare-and-swap."""

from datetime import datetime
from operator import itemgetter
from typing import Any
from uuid import UUID

from django.db import IntegrityError
from django.db.models import QuerySet

from users.models import EMAIL_UNIQUE, UserRecord
from users_domain.errors import ConcurrentUpdate, UserAlreadyExists, UserNotFound
from users_domain.user import Block, EndedSession, User
from users_domain.value_objects import BlockReason, Email, Locale, Role, UserId, UserName, UserStatus


class DjangoUserRepository:
    """Remembers in `saved` whom it wrote, for the unit of work."""

    def __init__(self) -> None:
        self.saved: list[User] = []

    def get(self, user_id: UserId) -> User:
        return self._one(UserRecord.objects.all(), id=user_id.value)

    def hold(self, user_id: UserId) -> User:
        return self._one(UserRecord.objects.select_for_update(no_key=True), id=user_id.value)

    def get_by_email(self, email: Email) -> User:
        return self._one(UserRecord.objects.all(), email=email.value)

    def is_last_admin(self, user: User) -> bool:
        if not user.is_active_admin:
            return False
        # Every admin's row is locked, in one order, so that of two who depose each other one waits.
        admins = UserRecord.objects.select_for_update().filter(
            roles__contains=[Role.ADMIN], status=UserStatus.ACTIVE
        )
        return all(row == user.id.value for row in admins.order_by("id").values_list("id", flat=True))

    def add(self, user: User) -> None:
        try:
            UserRecord.objects.bulk_create([UserRecord(id=user.id.value, **_columns(user))])
        except IntegrityError as error:
            raise _named(error) from error
        self.saved.append(user)

    def save(self, user: User) -> None:
        if user.stored_version == user.version:
            return
        stored = UserRecord.objects.filter(id=user.id.value, version=user.stored_version)
        try:
            swapped = stored.update(**_columns(user))
        except IntegrityError as error:
            raise _named(error) from error
        if not swapped:
            raise ConcurrentUpdate
        self.saved.append(user)

    def _one(self, rows: QuerySet[UserRecord], **condition: object) -> User:
        try:
            return _user(rows.exclude(status=UserStatus.ERASED).get(**condition))
        except UserRecord.DoesNotExist:
            raise UserNotFound from None


def constraint_of(error: IntegrityError) -> str | None:
    """The name of the constraint that was broken; the message's text is for people."""
    diagnostics = getattr(error.__cause__, "diag", None)
    return getattr(diagnostics, "constraint_name", None)


def _named(error: IntegrityError) -> Exception:
    return UserAlreadyExists() if constraint_of(error) == EMAIL_UNIQUE else error


def _columns(user: User) -> dict[str, Any]:
    """Of an erased user nothing that says who he was."""
    block = user.current_block
    erased = user.status is UserStatus.ERASED
    return {
        "email": None if erased else user.email.value,
        "name": None if erased else user.name.value,
        "status": user.status.value,
        "roles": sorted(role.value for role in user.roles),
        "password_hash": "" if erased else user.password_hash,
        "email_verified": user.email_verified,
        "locale": None if erased else user.locale.value,
        "block_reason": block and block.reason.value,
        "blocked_at": block and block.at,
        "blocked_until": block and block.until,
        "blocked_by": block and block.by,
        "token_version": user.token_version,
        "ended_sessions": {str(ended.id): ended.at.isoformat() for ended in user.ended_sessions},
        "created_at": user.created_at,
        "updated_at": user.updated_at,
        "version": user.version,
    }


def _user(record: UserRecord) -> User:
    return User(
        id=UserId(record.id),
        email=Email(record.email or ""),
        name=UserName(record.name or ""),
        status=UserStatus(record.status),
        roles=frozenset(Role(role) for role in record.roles),
        password_hash=record.password_hash,
        email_verified=record.email_verified,
        locale=Locale(record.locale or ""),
        current_block=_block(record),
        token_version=record.token_version,
        ended_sessions=tuple(
            EndedSession(id=UUID(session_id), at=datetime.fromisoformat(at))
            for session_id, at in sorted(record.ended_sessions.items(), key=itemgetter(1))
        ),
        created_at=record.created_at,
        updated_at=record.updated_at,
        version=record.version,
    )


def _block(record: UserRecord) -> Block | None:
    if record.block_reason is None or record.blocked_at is None:
        return None
    return Block(
        reason=BlockReason(record.block_reason),
        at=record.blocked_at,
        until=record.blocked_until,
        by=record.blocked_by or "",
    )
