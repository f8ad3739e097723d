"""Receipts of erasures: a JWS by the keys of our access tokens, and never one of those."""

from datetime import datetime
from uuid import UUID

from users.application.representation import timestamp
from users.infrastructure.keyring import Keyring

TYPE = "erasure-receipt+jwt"
"""The header's `typ` (RFC 8725, 3.11): whoever reads one kind of token refuses the other."""


class SignedReceipts:
    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring

    def issue(self, *, user_id: str, event_id: UUID, erased_at: datetime) -> str:
        """It has no audience, for it lets nobody in, and no end, for it stays true."""
        claims = {
            "sub": user_id,
            "jti": str(event_id),
            "iat": int(erased_at.timestamp()),
            "erased_at": timestamp(erased_at),
        }
        return self._keyring.sign(claims, type=TYPE)
