"""What a session and its refresh tokens are, to all who deal with them."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One login of a user on one device. It dies at `expires_at`, when it is ended, or with the user's token
    version. `address` is a network, not a machine."""

    id: UUID
    user_id: str
    token_version: int
    user_agent: str
    address: str
    created_at: datetime
    last_used_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Refresh:
    """What a refresh token says. Whole seconds."""

    jti: UUID
    session_id: UUID
    user_id: str
    issued_at: datetime
    expires_at: datetime
