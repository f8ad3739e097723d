"""Access tokens: simplejwt's token class over a keyring of our own.

The algorithm comes from the key, never from the token's header (RFC 8725, 3.1); `kid` is the key's
RFC 7638 thumbprint; headers that point elsewhere (`jku`, `x5u`, `jwk`) are not looked at."""

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast
from uuid import UUID

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from rest_framework_simplejwt.exceptions import TokenBackendError
from rest_framework_simplejwt.tokens import AccessToken

from users_domain.user import User

MAX_TOKEN_BYTES = 4096
REQUIRED_CLAIMS = ["iss", "aud", "sub", "roles", "tv", "sid", "jti", "iat", "exp", "token_type"]
THUMBPRINT_MEMBERS = {"RSA": ("e", "kty", "n"), "EC": ("crv", "kty", "x", "y"), "OKP": ("crv", "kty", "x")}

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


@dataclass(frozen=True, slots=True)
class SigningKey:
    private: PrivateKey
    algorithm: str
    public_jwk: dict[str, Any]

    @property
    def kid(self) -> str:
        return str(self.public_jwk["kid"])

    @classmethod
    def load(cls, pem: bytes) -> "SigningKey":
        """From an unencrypted PEM of RSA (2048 bits at least), P-256 or Ed25519. Raises ValueError."""
        key = serialization.load_pem_private_key(pem, password=None)
        match key:
            case rsa.RSAPrivateKey() if key.key_size >= 2048:
                algorithm, jwk = "RS256", RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
            case ec.EllipticCurvePrivateKey() if isinstance(key.curve, ec.SECP256R1):
                algorithm, jwk = "ES256", ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
            case ed25519.Ed25519PrivateKey():
                algorithm, jwk = "EdDSA", OKPAlgorithm.to_jwk(key.public_key(), as_dict=True)
            case _:
                raise ValueError("A signing key is RSA with 2048 bits or more, P-256 or Ed25519.")
        members = {name: jwk[name] for name in THUMBPRINT_MEMBERS[jwk["kty"]]}
        public = {**members, "kid": _thumbprint(members), "alg": algorithm, "use": "sig"}
        return cls(key, algorithm, public)


def _thumbprint(members: dict[str, Any]) -> str:
    """RFC 7638: over the required members, in lexical order, without white space."""
    canonical = json.dumps(members, sort_keys=True, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(hashlib.sha256(canonical).digest()).rstrip(b"=").decode()


class Keyring:
    """The keys whose tokens are believed; the first one signs. A token backend in simplejwt's sense."""

    def __init__(self, keys: Sequence[SigningKey], *, issuer: str, audience: str) -> None:
        self._active = keys[0]
        self._keys = {key.kid: key for key in keys}
        self._issuer = issuer
        self._audience = audience

    def encode(self, payload: dict[str, Any]) -> str:
        claims = {**payload, "iss": self._issuer, "aud": self._audience}
        headers = {"kid": self._active.kid, "typ": "JWT"}
        return jwt.encode(claims, self._active.private, algorithm=self._active.algorithm, headers=headers)

    def decode(self, token: str | bytes, verify: bool = True) -> dict[str, Any]:
        """The claims of a token that is ours and in time. Raises TokenBackendError."""
        if not verify:
            raise TokenBackendError("Unverified tokens are not read.")
        if len(token) > MAX_TOKEN_BYTES:
            raise TokenBackendError("The token is too long.")
        try:
            header = jwt.get_unverified_header(token)
            key = self._keys.get(header.get("kid", ""))
            if key is None or "crit" in header or header.get("alg") != key.algorithm:
                raise TokenBackendError("The token names no key of ours.")
            claims: dict[str, Any] = jwt.decode(
                token,
                key.private.public_key(),
                algorithms=[key.algorithm],
                audience=self._audience,
                issuer=self._issuer,
                options={"require": REQUIRED_CLAIMS},
            )
        except (jwt.InvalidTokenError, ValueError, TypeError) as error:
            raise TokenBackendError("The token is not valid.") from error
        return claims

    def get_leeway(self) -> timedelta:
        return timedelta(0)

    def jwks(self) -> dict[str, Any]:
        """The public keys (RFC 7517)."""
        return {"keys": [key.public_jwk for key in self._keys.values()]}


class SignedAccessTokens:
    """Issues and reads access tokens. `class_` is simplejwt's AccessToken bound to our keyring."""

    def __init__(self, keyring: Keyring, *, lifetime: timedelta) -> None:
        self.class_ = type("AccessToken", (AccessToken,), {"_token_backend": keyring, "lifetime": lifetime})

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


def pem_of(key: PrivateKey) -> bytes:
    """As `SigningKey.load` reads it."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
