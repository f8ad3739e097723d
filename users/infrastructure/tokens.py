"""Tokens: simplejwt's token classes over backends of our own.

Others verify access tokens, by our public keys. Refresh tokens are read here alone, so they are sealed with a
secret: nobody takes one for an access token, and exchanging the keys of these has nothing to do with them."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, cast
from uuid import UUID

import jwt
from django.utils.crypto import salted_hmac
from rest_framework_simplejwt.exceptions import TokenBackendError, TokenError
from rest_framework_simplejwt.tokens import AccessToken, RefreshToken

from users.application.errors import InvalidToken
from users.application.session import Refresh
from users.infrastructure.keyring import MAX_TOKEN_BYTES, Keyring, kid_of
from users_domain.user import User
from users_domain.value_objects import Role, UserId


@dataclass(frozen=True, slots=True)
class Bearer:
    """What a verified access token says of whoever shows it. `kid` names the key that it was signed with."""

    user_id: str
    roles: frozenset[Role]
    token_version: int
    session_id: str
    expires_at: int
    kid: str


class SignedAccessTokens:
    """Issues and reads access tokens. `class_` is simplejwt's AccessToken bound to our keyring."""

    def __init__(self, keyring: Keyring, *, lifetime: timedelta, remembered: int = 0) -> None:
        """`remembered`: how many of the tokens that were shown last are not verified again."""
        self.class_ = type("AccessToken", (AccessToken,), {"_token_backend": keyring, "lifetime": lifetime})
        self._keyring = keyring
        self._remembered = lru_cache(remembered)(self._verified)

    def issue(self, user: User, session_id: UUID) -> str:
        token = self.class_()
        token["sub"] = str(user.id)
        token["roles"] = sorted(user.roles)
        token["tv"] = user.token_version
        token["sid"] = str(session_id)
        return str(token)

    def read(self, raw: bytes) -> dict[str, Any]:
        """The claims. Raises simplejwt's TokenError."""
        payload: dict[str, Any] = self.class_(cast(Any, raw)).payload
        return payload

    def bearer(self, raw: bytes) -> Bearer:
        """Whose token it is. One that is remembered is believed until it expires, as long as its key is: a
        key has its thumbprint for a name, so by that name it is no other. Whether its version still counts
        is for the caller to ask, every time. Raises simplejwt's TokenError; InvalidUserId, ArithmeticError,
        OSError, TypeError or ValueError for what our key has signed, yet is no token that we make."""
        bearer = self._remembered(raw)
        if bearer.expires_at <= time.time() or not self._keyring.believes(bearer.kid):
            return self._verified(raw)
        return bearer

    def _verified(self, raw: bytes) -> Bearer:
        claims = self.read(raw)
        return Bearer(
            user_id=str(UserId.parse(claims["sub"])),
            roles=frozenset(map(Role, claims["roles"])),
            token_version=claims["tv"],
            session_id=claims["sid"],
            expires_at=claims["exp"],
            kid=kid_of(raw),
        )


class Seal:
    """Signs with the first secret and believes all. A token backend in simplejwt's sense."""

    TYPE = "refresh+jwt"
    ALGORITHM = "HS256"
    CLAIMS = ("iss", "aud", "sub", "sid", "jti", "iat", "exp", "token_type")

    def __init__(self, secrets: Sequence[str], *, issuer: str) -> None:
        self._keys = [
            salted_hmac("users.refresh", "key", secret=secret, algorithm="sha256").digest()
            for secret in secrets
        ]
        self._issuer = issuer

    def encode(self, payload: dict[str, Any]) -> str:
        claims = {**payload, "iss": self._issuer, "aud": self._issuer}
        return jwt.encode(claims, self._keys[0], algorithm=self.ALGORITHM, headers={"typ": self.TYPE})

    def decode(self, token: str, verify: bool = True) -> dict[str, Any]:
        """The claims of a token that is ours and in time. Raises TokenBackendError."""
        if not verify or len(token) > MAX_TOKEN_BYTES or "=" in token:
            raise TokenBackendError("Such tokens are not read.")
        for key in self._keys:
            try:
                return self._read(token, key)
            except jwt.InvalidSignatureError:
                continue
            except (jwt.InvalidTokenError, ValueError, TypeError, RecursionError) as error:
                raise TokenBackendError("The token is not valid.") from error
        raise TokenBackendError("The token is not ours.")

    def _read(self, token: str, key: bytes) -> dict[str, Any]:
        if jwt.get_unverified_header(token) != {"alg": self.ALGORITHM, "typ": self.TYPE}:
            raise ValueError("The header is not one of ours.")
        return jwt.decode(
            token,
            key,
            algorithms=[self.ALGORITHM],
            audience=self._issuer,
            issuer=self._issuer,
            options={"require": list(self.CLAIMS)},
        )

    def get_leeway(self) -> timedelta:
        return timedelta(0)


class SealedRefreshTokens:
    def __init__(self, seal: Seal, *, lifetime: timedelta) -> None:
        self._class = type("RefreshToken", (RefreshToken,), {"_token_backend": seal, "lifetime": lifetime})

    def issue(self, refresh: Refresh) -> str:
        token = self._class()
        token.payload |= {
            "sub": refresh.user_id,
            "sid": str(refresh.session_id),
            "jti": str(refresh.jti),
            "iat": int(refresh.issued_at.timestamp()),
            "exp": int(refresh.expires_at.timestamp()),
        }
        return str(token)

    def read(self, token: str) -> Refresh:
        try:
            claims = self._class(cast(Any, token)).payload
            return Refresh(
                jti=UUID(claims["jti"]),
                session_id=UUID(claims["sid"]),
                user_id=claims["sub"],
                issued_at=datetime.fromtimestamp(claims["iat"], UTC),
                expires_at=datetime.fromtimestamp(claims["exp"], UTC),
            )
        except (TokenError, ArithmeticError, OSError, TypeError, ValueError, AttributeError):
            raise InvalidToken from None
