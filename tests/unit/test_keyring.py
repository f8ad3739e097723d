"""Which tokens a keyring believes, to the second and the letter; what attackers send is in
`test_token_attacks`."""

import json
import time
from datetime import timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from rest_framework_simplejwt.exceptions import TokenBackendError

import tests.environment  # noqa: F401
from users.infrastructure.keyring import (
    LAST_SECOND,
    MAX_TOKEN_BYTES,
    SKEW_SECONDS,
    FixedKeys,
    Keyring,
    Ring,
    SigningKey,
    new_pem,
    pem_of,
    pems_in,
)

NOW = int(time.time())
CLAIMS: dict[str, Any] = {
    "sub": "019a0000-0000-7000-8000-000000000000",
    "roles": [],
    "tv": 1,
    "sid": "019a0000-0000-7000-8000-000000000001",
    "jti": "a",
    "iat": NOW,
    "exp": NOW + 3600,
    "token_type": "access",
}
KEYRING = Keyring(FixedKeys([new_pem("EdDSA")]), issuer="user-service", audience="services")


@pytest.fixture(autouse=True)
def at_the_end_of_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of which what a token says is cut off."""
    monkeypatch.setattr(time, "time", lambda: NOW + 0.9)


# --- Tokens ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [str, str.encode])
def test_a_token_is_read_as_text_and_as_bytes(form: Any) -> None:
    ours = {"iss": "user-service", "aud": "services"}
    assert KEYRING.decode(form(KEYRING.encode(CLAIMS))) == CLAIMS | ours


@pytest.mark.parametrize(
    "claims",
    [
        {"iat": NOW + SKEW_SECONDS},
        {"iat": 0},
        {"nbf": NOW + SKEW_SECONDS},
        {"nbf": 0},
        {"exp": LAST_SECOND},
    ],
)
def test_the_last_good_time_is_good(claims: dict[str, int]) -> None:
    assert KEYRING.decode(KEYRING.encode(CLAIMS | claims)).items() >= claims.items()


@pytest.mark.parametrize(
    "claims",
    [
        {"iat": NOW + SKEW_SECONDS + 1},
        {"iat": -1},
        {"nbf": NOW + SKEW_SECONDS + 1},
        {"nbf": 1.0},
        {"nbf": None},
        {"exp": LAST_SECOND + 1},
        {"exp": NOW},
    ],
)
def test_one_second_more_is_too_much(claims: dict[str, Any]) -> None:
    with pytest.raises(TokenBackendError, match=r"^The token is not valid\.$"):
        KEYRING.decode(KEYRING.encode(CLAIMS | claims))


def test_a_token_may_be_so_long_and_no_longer() -> None:
    """A letter more in a claim makes one or two more in the token."""
    fillings = {len(KEYRING.encode(CLAIMS | {"filling": "x" * size})): size for size in range(2300, 2800)}
    longest = max(length for length in fillings if length <= MAX_TOKEN_BYTES)
    assert longest == MAX_TOKEN_BYTES
    token = KEYRING.encode(CLAIMS | {"filling": "x" * fillings[longest]})
    assert KEYRING.decode(token)["filling"]
    with pytest.raises(TokenBackendError, match=r"^The token is too long\.$"):
        KEYRING.decode(f"{token}x")


def test_a_token_is_not_read_unverified() -> None:
    with pytest.raises(TokenBackendError, match=r"^Unverified tokens are not read\.$"):
        KEYRING.decode(KEYRING.encode(CLAIMS), verify=False)


def test_what_is_signed_as_something_else_is_no_token() -> None:
    receipt = KEYRING.sign(CLAIMS | {"aud": "services"}, type="receipt+jwt")
    assert jwt.get_unverified_header(receipt)["typ"] == "receipt+jwt"
    with pytest.raises(TokenBackendError):
        KEYRING.decode(receipt)


def test_nobody_is_given_a_second_after_the_end() -> None:
    assert KEYRING.get_leeway() == timedelta(0)


class AskedKeys(FixedKeys):
    """Remembers which it was asked to look up at once."""

    def __init__(self, pems: list[bytes]) -> None:
        super().__init__(pems)
        self.asked: list[str] = []

    def ring_with(self, kid: str) -> Ring:
        self.asked.append(kid)
        return super().ring_with(kid)


def test_a_key_is_looked_up_at_once_by_its_id_and_only_when_it_is_not_known() -> None:
    keys = AskedKeys([new_pem("EdDSA")])
    keyring = Keyring(keys, issuer="user-service", audience="services")
    keyring.decode(keyring.encode(CLAIMS))
    assert keys.asked == []
    foreign = KEYRING.encode(CLAIMS)
    with pytest.raises(TokenBackendError):
        keyring.decode(foreign)
    assert keys.asked == [jwt.get_unverified_header(foreign)["kid"]]


# --- Keys -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
def test_a_key_is_published_with_its_use_and_id(algorithm: str) -> None:
    key = SigningKey.load(new_pem(algorithm))
    assert {name: key.public_jwk[name] for name in ("kid", "alg", "use")} == {
        "kid": key.kid,
        "alg": algorithm,
        "use": "sig",
    }
    assert json.loads(json.dumps(key.public_jwk)) == key.public_jwk
    assert key.public == key.private.public_key()


def test_a_key_of_another_kind_is_refused_with_those_that_are_good() -> None:
    p384 = ec.generate_private_key(ec.SECP384R1())
    with pytest.raises(
        ValueError, match=r"^A signing key is RSA with 2048 bits or more, P-256 or Ed25519\.$"
    ):
        SigningKey.load(pem_of(p384))


def test_a_ring_without_a_key_is_none() -> None:
    with pytest.raises(ValueError, match=r"^There is no signing key\.$"):
        Ring([])


def test_keys_are_found_in_a_text_whatever_stands_between_them() -> None:
    first, second = new_pem("ES256").decode().strip(), new_pem("EdDSA").decode().strip()
    assert pems_in(f"# of June\n{first}\n\n# of May\n{second}\n") == [first.encode(), second.encode()]


def test_a_text_without_a_key_is_told_and_not_quoted() -> None:
    with pytest.raises(ValueError, match=r"^There is no PEM of a private key in the text\.$"):
        pems_in("-----BEGIN PRIVATE KEY-----\nMIG")
