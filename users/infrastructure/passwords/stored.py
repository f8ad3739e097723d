"""Stored hashes, ours and those that accounts bring from elsewhere: Django's other forms, plain bcrypt, and
the PHC strings of argon2, scrypt and PBKDF2. Whoever fills the table decides what a login costs us, so each
cost has a limit, told from the text before anything is computed."""

import base64
import binascii
import hashlib
import hmac
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from argon2.low_level import Type, hash_secret_raw
from django.conf import settings

from users.infrastructure.passwords import blowfish

# About a second of one core each, and so much memory for as many hashes as run at once.
MOST_MEMORY = 128 * 2**20
MOST_BCRYPT_COST = 14
MOST_PBKDF2_BLOCKS = {"sha1": 2_000_000, "sha256": 2_000_000, "sha512": 1_000_000}
MOST_SCRYPT_WORK = 2**21
MOST_ARGON2_WORK = 2**30
MOST_ARGON2_LANES = 16
TOO_DEAR = "too dear"
MALFORMED = "malformed"
UNKNOWN = "unknown form"


class Unverifiable(ValueError):
    """`form` and `because` are words of ours: nothing of the hash is in them."""

    def __init__(self, form: str, because: str) -> None:
        super().__init__(form, because)
        self.form = form
        self.because = because


class StoredHash(Protocol):
    @property
    def form(self) -> str: ...

    @property
    def cost(self) -> int: ...

    def matches(self, password: str) -> bool:
        """Dear. Raises ValueError, HashingError or MemoryError for parameters that the library refuses."""
        ...

    def has_seen_only_a_part_of(self, password: str) -> bool:
        """Then that the password is right says nothing about its rest."""
        ...


def read(encoded: str) -> StoredHash:
    """Raises Unverifiable."""
    for pattern, understand in _FORMS:
        if found := pattern.fullmatch(encoded):
            return understand(found)
    raise Unverifiable("", UNKNOWN)


@dataclass(frozen=True, slots=True)
class Bcrypt:
    form: str
    cost: int
    encoded: bytes

    def matches(self, password: str) -> bool:
        word = password.encode()
        if self.form == "bcrypt_sha256":
            word = binascii.hexlify(hashlib.sha256(word).digest())
        # What stands behind 72 bytes others never looked at; the library raises.
        return hmac.compare_digest(blowfish.hashpw(word[:72], self.encoded), self.encoded)

    def has_seen_only_a_part_of(self, password: str) -> bool:
        return self.form == "bcrypt" and len(password.encode()) > 72


@dataclass(frozen=True, slots=True)
class Derived:
    """By a function that takes a password of any length. `cost` is in units of its own."""

    form: str
    cost: int
    derive: Callable[[bytes], bytes]
    digest: bytes

    def matches(self, password: str) -> bool:
        return hmac.compare_digest(self.derive(password.encode()), self.digest)

    def has_seen_only_a_part_of(self, password: str) -> bool:
        return False


def _bcrypt(found: re.Match[str]) -> StoredHash:
    form, cost = found["form"] or "bcrypt", int(found["cost"])
    _hold("bcrypt", cost, max(MOST_BCRYPT_COST, settings.BCRYPT_COST), least=4)
    return Bcrypt(form, cost, found["encoded"].encode())


def _pbkdf2(found: re.Match[str], salt: bytes) -> StoredHash:
    function, rounds, digest = found["function"] or "sha1", int(found["rounds"]), _digest(found)
    form, size = f"pbkdf2-{function}", len(digest)
    blocks = math.ceil(size / hashlib.new(function, usedforsecurity=False).digest_size)
    _hold(form, rounds * blocks, MOST_PBKDF2_BLOCKS[function])

    def derive(password: bytes) -> bytes:
        return hashlib.pbkdf2_hmac(function, password, salt, rounds, size)

    return Derived(form, rounds, derive, digest)


def _scrypt(found: re.Match[str], n: int, salt: bytes) -> StoredHash:
    r, p, digest = int(found["r"]), int(found["p"]), _digest(found)
    _hold("scrypt", n * r * p, MOST_SCRYPT_WORK)
    _hold("scrypt", 128 * n * r, MOST_MEMORY)

    def derive(password: bytes) -> bytes:
        return hashlib.scrypt(password, salt=salt, n=n, r=r, p=p, maxmem=2 * MOST_MEMORY, dklen=len(digest))

    return Derived("scrypt", n, derive, digest)


def _argon2(found: re.Match[str]) -> StoredHash:
    memory, passes, lanes = int(found["memory"]), int(found["passes"]), int(found["lanes"])
    salt, digest, version = _base64(found["salt"]), _digest(found), int(found["version"] or 16)
    form = f"argon2{found['kind']}"
    _hold(form, memory * 1024, MOST_MEMORY)
    _hold(form, memory * 1024 * passes, MOST_ARGON2_WORK)
    _hold(form, lanes, MOST_ARGON2_LANES)

    def derive(password: bytes) -> bytes:
        kind = {"d": Type.D, "i": Type.I, "id": Type.ID}[found["kind"]]
        return hash_secret_raw(password, salt, passes, memory, lanes, len(digest), kind, version)

    return Derived(form, memory, derive, digest)


def _hold(form: str, cost: int, most: int, *, least: int = 1) -> None:
    if cost > most:
        raise Unverifiable(form, TOO_DEAR)
    if cost < least:
        raise Unverifiable(form, MALFORMED)


def _digest(found: re.Match[str]) -> bytes:
    """A digest of a few bytes would be matched by chance, a long one costs more than it says."""
    digest = _base64(found["digest"])
    if not 16 <= len(digest) <= 64:
        raise Unverifiable("", MALFORMED)
    return digest


def _base64(text: str) -> bytes:
    """As PHC strings have it, without padding, or as passlib writes it, or Django."""
    text = text.rstrip("=").replace(".", "+")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        raise Unverifiable("", MALFORMED) from None


_NUMBER = "[0-9]{1,10}"
_BASE64 = "[A-Za-z0-9+/.]+={0,2}"
_FORMS: list[tuple[re.Pattern[str], Callable[[re.Match[str]], StoredHash]]] = [
    (
        re.compile(
            r"(?:(?P<form>bcrypt(?:_sha256)?)\$)?(?P<encoded>\$2[aby]\$(?P<cost>[0-9]{2})\$[./A-Za-z0-9]{53})"
        ),
        _bcrypt,
    ),
    (
        re.compile(
            rf"pbkdf2_(?P<function>sha1|sha256|sha512)\$(?P<rounds>{_NUMBER})"
            rf"\$(?P<salt>[^$]+)\$(?P<digest>{_BASE64})"
        ),
        lambda found: _pbkdf2(found, found["salt"].encode()),
    ),
    (
        re.compile(
            rf"\$pbkdf2(?:-(?P<function>sha1|sha256|sha512))?\$(?:i=)?(?P<rounds>{_NUMBER})(?:,l=[0-9]+)?"
            rf"\$(?P<salt>{_BASE64})\$(?P<digest>{_BASE64})"
        ),
        lambda found: _pbkdf2(found, _base64(found["salt"])),
    ),
    (
        re.compile(
            rf"scrypt\$(?P<n>{_NUMBER})\$(?P<salt>[^$]+)\$(?P<r>{_NUMBER})\$(?P<p>{_NUMBER})"
            rf"\$(?P<digest>{_BASE64})"
        ),
        lambda found: _scrypt(found, int(found["n"]), found["salt"].encode()),
    ),
    (
        re.compile(
            rf"\$scrypt\$ln=(?P<ln>[0-9]{{1,2}}),r=(?P<r>{_NUMBER}),p=(?P<p>{_NUMBER})"
            rf"\$(?P<salt>{_BASE64})\$(?P<digest>{_BASE64})"
        ),
        lambda found: _scrypt(found, 2 ** int(found["ln"]), _base64(found["salt"])),
    ),
    (
        re.compile(
            rf"(?:argon2)?\$argon2(?P<kind>id|i|d)(?:\$v=(?P<version>16|19))?"
            rf"\$m=(?P<memory>{_NUMBER}),t=(?P<passes>{_NUMBER}),p=(?P<lanes>{_NUMBER})"
            rf"\$(?P<salt>{_BASE64})\$(?P<digest>{_BASE64})"
        ),
        _argon2,
    ),
]
