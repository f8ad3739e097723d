"""Which algorithm should sign access tokens? `python -m benchmarks.signing`

Signs and verifies a real token with each kind of key that the keyring takes, in alternating rounds, and
prints medians in microseconds of CPU, the ratio to the fastest verification, and the token's length."""

import platform
import statistics
import time
from collections.abc import Callable
from datetime import timedelta
from importlib.metadata import version
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

import tests.environment  # noqa: F401  - Django, set up, before anything of ours
from tests.builders import a_user
from users.infrastructure.keyring import FixedKeys, Keyring, PrivateKey, pem_of
from users.infrastructure.tokens import SignedAccessTokens
from users_domain.value_objects import UserId

ROUNDS = 15
CALLS = 200
KEYS: dict[str, Callable[[], PrivateKey]] = {
    "RS256, 2048 bits": lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048),
    "RS256, 3072 bits": lambda: rsa.generate_private_key(public_exponent=65537, key_size=3072),
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate,
}


def tokens_with(make: Callable[[], PrivateKey]) -> SignedAccessTokens:
    keyring = Keyring(FixedKeys([pem_of(make())]), issuer="user-service", audience="services")
    return SignedAccessTokens(keyring, lifetime=timedelta(minutes=5))


def microseconds(act: Callable[[], object]) -> float:
    started = time.thread_time()
    for _ in range(CALLS):
        act()
    return (time.thread_time() - started) / CALLS * 1e6


def main() -> None:
    user, session = a_user(), UserId.new().value
    subjects = {name: tokens_with(make) for name, make in KEYS.items()}
    raw = {name: tokens.issue(user, session).encode() for name, tokens in subjects.items()}
    taken: dict[tuple[str, str], list[float]] = {}
    for _ in range(ROUNDS):
        for name, tokens in subjects.items():
            signing, verifying = _acts(tokens, user, session, raw[name])
            taken.setdefault((name, "sign"), []).append(microseconds(signing))
            taken.setdefault((name, "verify"), []).append(microseconds(verifying))
    _print_table(taken, raw)


def _acts(
    tokens: SignedAccessTokens, user: object, session: UUID, raw: bytes
) -> tuple[Callable[[], object], Callable[[], object]]:
    return lambda: tokens.issue(user, session), lambda: tokens.read(raw)  # type: ignore[arg-type]


def _print_table(taken: dict[tuple[str, str], list[float]], raw: dict[str, bytes]) -> None:
    medians = {key: statistics.median(values) for key, values in taken.items()}
    fastest = min(value for (_, act), value in medians.items() if act == "verify")
    print(
        f"Python {platform.python_version()}, PyJWT {version('pyjwt')}, "
        f"cryptography {version('cryptography')}; "
        f"medians of {ROUNDS} alternating rounds of {CALLS} calls\n"
    )
    print("| key | sign, µs | verify, µs | verify, ratio | token, bytes |")
    print("| --- | --- | --- | --- | --- |")
    for name, token in raw.items():
        verify = medians[name, "verify"]
        print(
            f"| {name} | {medians[name, 'sign']:.0f} | {verify:.0f} | {verify / fastest:.2f} | {len(token)} |"
        )


if __name__ == "__main__":
    main()
