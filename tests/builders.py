"""Domain users for tests, with sensible values for all that a test does not care about.

`a_user` is a user as loaded from somewhere (nothing recorded); `a_newborn` has just been registered."""

from datetime import UTC, datetime, timedelta
from typing import Any

import factory

from users_domain.user import Block, User
from users_domain.value_objects import Actor, BlockReason, Email, Locale, Role, UserId, UserName, UserStatus

NOW = datetime(2026, 7, 1, 12, 0, tzinfo=UTC)
PASSWORD_HASH = "hash-of-the-first-password"


def later(**duration: float) -> datetime:
    return NOW + timedelta(**duration)


class UserFactory(factory.Factory):
    class Meta:
        model = User

    id = factory.LazyFunction(UserId.new)
    email = factory.Sequence(lambda n: Email(f"user{n}@example.com"))
    name = factory.Sequence(lambda n: UserName(f"User {n}"))
    status = UserStatus.ACTIVE
    roles = frozenset()
    password_hash = PASSWORD_HASH
    email_verified = False
    locale = Locale.ENGLISH
    current_block = None
    token_version = 1
    created_at = NOW
    updated_at = NOW
    version = 1


def a_user(**overrides: Any) -> User:
    """Active, without roles, loaded at version 1; `overrides` are the constructor's own arguments."""
    return UserFactory(**overrides)


def an_operator(**overrides: Any) -> User:
    return a_user(roles=frozenset({Role.OPERATOR}), **overrides)


def an_admin(**overrides: Any) -> User:
    return a_user(roles=frozenset({Role.ADMIN}), **overrides)


def a_blocked_user(*, until: datetime | None = None, reason: str = "spam", **overrides: Any) -> User:
    """Blocked by the system at NOW; at version 2, as one fact more has happened to him."""
    block = Block(reason=BlockReason(reason), at=NOW, until=until, by="system")
    blocked = {"status": UserStatus.BLOCKED, "current_block": block, "token_version": 2, "version": 2}
    return a_user(**(blocked | overrides))


def a_newborn(*, by: Actor | None = None, now: datetime = NOW, **overrides: Any) -> User:
    """Just registered, his first fact recorded; `overrides` are id, email, name, password_hash."""
    fresh = a_user()
    born = {"id": fresh.id, "email": fresh.email, "name": fresh.name, "password_hash": fresh.password_hash}
    return User.register(**(born | overrides), by=by, now=now)


def an_actor(user: User) -> Actor:
    """This user as the one who acts, with his roles."""
    return Actor(str(user.id), user.roles)
