"""The keys of access tokens, and which tokens are theirs.

The algorithm comes from the key, never from the token's header (RFC 8725, 3.1); `kid` is the key's RFC 7638
thumbprint. Only we make these tokens, so a header or a claim of any other form than ours is refused."""

import base64
import hashlib
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from rest_framework_simplejwt.exceptions import TokenBackendError

MAX_TOKEN_BYTES = 4096
HEADER = {"alg", "kid", "typ"}
TYPE = "JWT"
CLAIMS: dict[str, type] = {
    "iss": str,
    "aud": str,
    "sub": str,
    "roles": list,
    "tv": int,
    "sid": str,
    "jti": str,
    "iat": int,
    "exp": int,
    "token_type": str,
}
LAST_SECOND = 253_402_300_799
"""Of the year 9999, after which `datetime` knows none."""
SKEW_SECONDS = 10
"""How far the clocks of two of our hosts may be apart before one refuses what the other has just issued."""
JWKS_MAX_AGE_SECONDS = 300
"""How long whoever reads our public keys may keep them."""
THUMBPRINT_MEMBERS = {"RSA": ("e", "kty", "n"), "EC": ("crv", "kty", "x", "y"), "OKP": ("crv", "kty", "x")}
DEFAULT_ALGORITHM = "ES256"
PRIVATE_PEM = re.compile(r"-----BEGIN ([A-Z ]*PRIVATE KEY)-----.*?-----END \1-----", re.DOTALL)

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey

NEW_KEYS: dict[str, Callable[[], PrivateKey]] = {
    "RS256": lambda: rsa.generate_private_key(public_exponent=65537, key_size=3072),
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate,
}


@dataclass(frozen=True, slots=True)
class SigningKey:
    private: PrivateKey
    public: PublicKey
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
        public = {**members, "kid": thumbprint(jwk), "alg": algorithm, "use": "sig"}
        return cls(key, key.public_key(), algorithm, public)


def thumbprint(jwk: Mapping[str, Any]) -> str:
    """RFC 7638: over the required members, in lexical order, without white space."""
    members = {name: jwk[name] for name in THUMBPRINT_MEMBERS[jwk["kty"]]}
    canonical = json.dumps(members, sort_keys=True, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(hashlib.sha256(canonical).digest()).rstrip(b"=").decode()


def pem_of(key: PrivateKey) -> bytes:
    """As `SigningKey.load` reads it."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def new_pem(algorithm: str = DEFAULT_ALGORITHM) -> bytes:
    return pem_of(NEW_KEYS[algorithm]())


def pems_in(text: str) -> list[bytes]:
    """The private keys that a text holds. Raises ValueError, which does not quote it."""
    pems = [found.group().encode() for found in PRIVATE_PEM.finditer(text)]
    if not pems:
        raise ValueError("There is no PEM of a private key in the text.")
    return pems


class Ring:
    """The keys of one moment: all are believed and published, the first one signs."""

    def __init__(self, keys: Sequence[SigningKey]) -> None:
        """Raises ValueError when there is none."""
        if not keys:
            raise ValueError("There is no signing key.")
        self.active = keys[0]
        self.by_kid = {key.kid: key for key in keys}


class Keys(Protocol):
    """Where a keyring has its keys from."""

    def ring(self) -> Ring:
        """The keys of now, or of a moment ago."""
        ...

    def ring_with(self, kid: str) -> Ring:
        """Where `ring` has no such key: the keys, looked up at once."""
        ...


class FixedKeys:
    """Those that the process was started with."""

    def __init__(self, pems: Sequence[bytes]) -> None:
        self._ring = Ring([SigningKey.load(pem) for pem in pems])

    def ring(self) -> Ring:
        return self._ring

    def ring_with(self, kid: str) -> Ring:
        return self._ring


class Keyring:
    """Signs and believes tokens with the keys of now. A token backend in simplejwt's sense."""

    def __init__(self, keys: Keys, *, issuer: str, audience: str) -> None:
        self._keys = keys
        self._issuer = issuer
        self._audience = audience

    def encode(self, payload: dict[str, Any]) -> str:
        return self.sign({**payload, "aud": self._audience}, type=TYPE)

    def sign(self, claims: Mapping[str, Any], *, type: str) -> str:
        """Of another `type` it is no token that `decode` would believe."""
        key = self._keys.ring().active
        headers = {"kid": key.kid, "typ": type}
        return jwt.encode(
            {**claims, "iss": self._issuer}, key.private, algorithm=key.algorithm, headers=headers
        )

    def decode(self, token: str | bytes, verify: bool = True) -> dict[str, Any]:
        """The claims of a token that is ours and in time. Raises TokenBackendError; its cause has no
        words, as nobody is told why a token is refused."""
        if not verify:
            raise TokenBackendError("Unverified tokens are not read.")
        if len(token) > MAX_TOKEN_BYTES:
            raise TokenBackendError("The token is too long.")
        try:
            key = self._key_of(token.encode() if isinstance(token, str) else token)
            claims: dict[str, Any] = _STRICT.decode(
                token,
                key.public,
                algorithms=[key.algorithm],
                audience=self._audience,
                issuer=self._issuer,
                # In time they are by `_check`, which allows for skew, but not in `exp`.
                options={"verify_iat": False, "verify_nbf": False},
            )
            _check(claims)
        except (jwt.InvalidTokenError, ValueError, TypeError, RecursionError) as error:
            raise TokenBackendError("The token is not valid.") from error
        return claims

    def _key_of(self, token: bytes) -> SigningKey:
        """That the token names; whether `alg` is the key's is for PyJWT to say."""
        header = _header(token)
        kid = str(header["kid"])
        key = self._keys.ring().by_kid.get(kid) or self._keys.ring_with(kid).by_kid.get(kid)
        if key is None or header["typ"] != TYPE:
            raise ValueError
        return key

    def believes(self, kid: str) -> bool:
        """Whether tokens of the key with this thumbprint count now."""
        return kid in self._keys.ring().by_kid

    def get_leeway(self) -> timedelta:
        return timedelta(0)

    def jwks(self) -> dict[str, Any]:
        """The public keys (RFC 7517)."""
        return {"keys": [key.public_jwk for key in self._keys.ring().by_kid.values()]}


class _StrictJWT(jwt.PyJWT):
    """PyJWT, but a name that comes twice in the payload is an error: two readers could read two tokens."""

    def _decode_payload(self, decoded: dict[str, Any]) -> dict[str, Any]:
        return _members(decoded["payload"])


_STRICT = _StrictJWT()


def kid_of(token: bytes) -> str:
    """The key that a token names; of one that was not verified it says nothing. Raises ValueError."""
    return str(_header(token)["kid"])


def _header(token: bytes) -> dict[str, Any]:
    """Raises ValueError when it is not of the one form that we make. PyJWT does it all again and refuses
    more, but takes padding and names that come twice."""
    if b"=" in token:
        raise ValueError
    header = _members(jwt.utils.base64url_decode(token.partition(b".")[0]))
    if header.keys() != HEADER:
        raise ValueError
    return header


def _members(text: bytes) -> dict[str, Any]:
    members = json.loads(text, object_pairs_hook=_without_duplicates)
    if not isinstance(members, dict):
        raise TypeError
    return members


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError
    return members


def _check(claims: Mapping[str, Any]) -> None:
    """That each claim is there and of its very type (True is no number here, nor is 1.0), and its times."""
    for name, kind in CLAIMS.items():
        if type(claims.get(name)) is not kind:
            raise ValueError
    latest = int(time.time()) + SKEW_SECONDS
    not_before = claims.get("nbf", 0)
    if type(not_before) is not int or not_before > latest or claims["iat"] > latest:
        raise ValueError
    if claims["iat"] < 0 or claims["exp"] > LAST_SECOND:
        raise ValueError
