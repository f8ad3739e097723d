"""The one representation of a user, the same for every reader, so that its bytes can be kept ready."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

import orjson

from users_domain.user import User
from users_domain.value_objects import UserId, UserStatus


def timestamp(moment: datetime) -> str:
    """RFC 3339 in UTC with microseconds, such as `2026-01-31T09:30:00.000000Z`."""
    return moment.isoformat(timespec="microseconds")[:26] + "Z"


@lru_cache(10_000)
def canonical(user_id: str) -> str:
    """The id as it is kept; remembered, as a request comes by it several times, and with it the next ones.
    Raises InvalidUserId."""
    return str(UserId.parse(user_id))


@dataclass(frozen=True, slots=True)
class UserView:
    """`json`: the representation, ready to send. The version, and what decides which access tokens count,
    stand beside it because the cache and the authenticator ask for them without reading the JSON."""

    id: str
    version: int
    token_version: int
    json: bytes
    ended_sessions: frozenset[str] = frozenset()

    def accepts(self, token_version: object, session_id: object) -> bool:
        """Whether an access token with these claims still counts."""
        return token_version == self.token_version and session_id not in self.ended_sessions


def representation(
    *,
    id: str,
    email: str | None,
    name: str | None,
    status: str,
    block: tuple[str, datetime, datetime | None, str] | None,
    roles: list[str],
    email_verified: bool,
    created_at: datetime,
    updated_at: datetime,
    version: int,
) -> dict[str, Any]:
    """The fields of the wire, in their order. `block` is reason, at, until, by. An erased user has neither
    address nor name."""
    return {
        "id": id,
        "email": email,
        "name": name,
        "status": status,
        "blocked": block
        and {
            "reason": block[0],
            "at": timestamp(block[1]),
            "until": timestamp(block[2]) if block[2] else None,
            "by": block[3],
        },
        "roles": sorted(roles),
        "email_verified": email_verified,
        "created_at": timestamp(created_at),
        "updated_at": timestamp(updated_at),
        "version": version,
    }


def representation_of(user: User) -> dict[str, Any]:
    """As `representation`, from the aggregate that a command has just saved."""
    block, erased = user.current_block, user.status is UserStatus.ERASED
    return representation(
        id=str(user.id),
        email=None if erased else str(user.email),
        name=None if erased else str(user.name),
        status=user.status.value,
        block=(str(block.reason), block.at, block.until, block.by) if block else None,
        roles=[role.value for role in user.roles],
        email_verified=user.email_verified,
        created_at=user.created_at,
        updated_at=user.updated_at,
        version=user.version,
    )


def view_of(user: User) -> UserView:
    """The user as he is now."""
    ended = (str(session.id) for session in user.ended_sessions)
    return ready(representation_of(user), token_version=user.token_version, ended_sessions=ended)


def ready(fields: dict[str, Any], *, token_version: int, ended_sessions: Iterable[str] = ()) -> UserView:
    return UserView(
        id=fields["id"],
        version=fields["version"],
        token_version=token_version,
        json=orjson.dumps(fields),
        ended_sessions=frozenset(ended_sessions),
    )
