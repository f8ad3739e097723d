"""Facts: what happened to a user. Names and fields are a public contract (docs/events.md).

A subclass's own fields are the event's `data`; those of `UserEvent` go into its envelope."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from users_domain.value_objects import UserId


@dataclass(frozen=True, slots=True, kw_only=True)
class UserEvent:
    """`user_version` is the version that the user has since this fact: each fact makes one version.
    `actor_id` is a user id, `system`, `cli`, or None for somebody unknown (who registers, say).
    `schema_version` rises when a field of `data` is removed or gets another type."""

    event_type: ClassVar[str]
    schema_version: ClassVar[int] = 1

    event_id: UUID
    user_id: UserId
    user_version: int
    occurred_at: datetime
    actor_id: str | None

    def data(self) -> dict[str, Any]:
        """The event's own fields, the user's id first: str, list and datetime."""
        own: tuple[str, ...] = self.__slots__  # those of the envelope are its class's
        return {"user_id": str(self.user_id)} | {name: getattr(self, name) for name in own}


@dataclass(frozen=True, slots=True, kw_only=True)
class UserCreated(UserEvent):
    """Somebody registered, or was registered by somebody."""

    event_type = "user.created"
    email: str
    name: str
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class UserRenamed(UserEvent):
    """The name changed."""

    event_type = "user.renamed"
    name: str
    renamed_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class UserEmailChanged(UserEvent):
    """The address changed; the new one is unproven."""

    event_type = "user.email_changed"
    email: str
    changed_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class UserPasswordChanged(UserEvent):
    """There is a new password; older tokens are worthless."""

    event_type = "user.password_changed"
    changed_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class UserRolesChanged(UserEvent):
    """Roles were given or taken; older tokens are worthless."""

    event_type = "user.roles_changed"
    roles: list[str]
    changed_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class UserBlocked(UserEvent):
    """Shut out; older tokens are worthless."""

    event_type = "user.blocked"
    reason: str
    blocked_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class UserUnblocked(UserEvent):
    """Let in again, by somebody or by the date."""

    event_type = "user.unblocked"
    unblocked_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class UserEmailVerified(UserEvent):
    """It was proven that the address is the user's."""

    event_type = "user.email_verified"
    verified_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class UserSessionsEnded(UserEvent):
    """One session ended before its time, or all of them where there is no id; their tokens are worthless."""

    event_type = "user.sessions_ended"
    session_id: str | None
    cause: str
    ended_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class UserErased(UserEvent):
    """Only the id is left: forget whatever you know of the person. The last event of this user."""

    event_type = "user.erased"
    erased_at: datetime


USER_EVENTS: tuple[type[UserEvent], ...] = (
    UserCreated,
    UserRenamed,
    UserEmailChanged,
    UserPasswordChanged,
    UserRolesChanged,
    UserBlocked,
    UserUnblocked,
    UserEmailVerified,
    UserSessionsEnded,
    UserErased,
)
