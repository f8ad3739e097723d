"""What is remembered of a verified token, and for how long it is believed."""

import time
from datetime import timedelta
from typing import Any

import pytest
from rest_framework_simplejwt.exceptions import TokenError

import tests.environment  # noqa: F401
from tests.builders import a_user
from users.infrastructure.keyring import Keyring, Ring, SigningKey, new_pem
from users.infrastructure.tokens import SignedAccessTokens
from users_domain.errors import InvalidUserId
from users_domain.value_objects import Role, UserId

KEYS = [SigningKey.load(new_pem("EdDSA")) for _ in range(2)]


class Rotated:
    """Keys that a test may exchange."""

    def __init__(self) -> None:
        self.keys = [KEYS[0]]

    def ring(self) -> Ring:
        return Ring(self.keys)

    def ring_with(self, kid: str) -> Ring:
        return Ring(self.keys)


class CountingKeyring(Keyring):
    verified = 0

    def decode(self, token: str | bytes, verify: bool = True) -> dict[str, Any]:
        self.verified += 1
        return super().decode(token, verify)


class House:
    def __init__(self, remembered: int = 3) -> None:
        self.keys = Rotated()
        self.keyring = CountingKeyring(self.keys, issuer="users", audience="all")
        self.tokens = SignedAccessTokens(self.keyring, lifetime=timedelta(minutes=5), remembered=remembered)

    def token(self) -> bytes:
        user = a_user(roles=frozenset({Role.OPERATOR}), token_version=7)
        return self.tokens.issue(user, UserId.new().value).encode()


@pytest.fixture
def house() -> House:
    return House()


def test_a_token_says_who_shows_it(house: House) -> None:
    user, session = a_user(roles=frozenset({Role.ADMIN}), token_version=3), UserId.new().value
    bearer = house.tokens.bearer(house.tokens.issue(user, session).encode())

    assert (bearer.user_id, bearer.roles) == (str(user.id), {Role.ADMIN})
    assert (bearer.token_version, bearer.session_id) == (3, str(session))
    assert bearer.kid == KEYS[0].kid


def test_what_was_verified_once_is_not_verified_again(house: House) -> None:
    token = house.token()
    assert house.tokens.bearer(token) == house.tokens.bearer(token)
    assert house.keyring.verified == 1


def test_it_is_believed_until_it_expires(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    token = house.token()
    expires = house.tokens.bearer(token).expires_at
    monkeypatch.setattr(time, "time", lambda: expires - 0.001)
    house.tokens.bearer(token)
    assert house.keyring.verified == 1
    monkeypatch.setattr(time, "time", lambda: float(expires))
    house.tokens.bearer(token)  # verified by clocks of others, which say that it is early
    assert house.keyring.verified == 2


def test_a_key_that_is_taken_away_takes_its_tokens_along_at_once(house: House) -> None:
    token = house.token()
    house.tokens.bearer(token)
    house.keys.keys = [KEYS[1]]
    with pytest.raises(TokenError):
        house.tokens.bearer(token)
    house.keys.keys = [KEYS[1], KEYS[0]]
    assert house.tokens.bearer(token)


def test_only_so_many_are_remembered(house: House) -> None:
    tokens = [house.token() for _ in range(4)]
    for token in [*tokens, tokens[3]]:
        house.tokens.bearer(token)
    assert house.keyring.verified == 4
    house.tokens.bearer(tokens[0])
    assert house.keyring.verified == 5


def test_none_is_remembered_where_that_is_switched_off() -> None:
    house = House(remembered=0)
    token = house.token()
    for _ in range(3):
        house.tokens.bearer(token)
    assert house.keyring.verified == 3


def test_what_is_refused_is_refused_every_time(house: House) -> None:
    head, _, signature = house.token().rpartition(b".")
    for _ in range(3):
        with pytest.raises(TokenError):
            house.tokens.bearer(head + b"." + signature[::-1])
    assert house.keyring.verified == 3


def test_one_that_names_no_user_is_signed_but_not_ours(house: House) -> None:
    token = house.tokens.class_()
    for name, value in {"sub": "17", "roles": [], "tv": 1, "sid": "s"}.items():
        token[name] = value
    with pytest.raises(InvalidUserId):
        house.tokens.bearer(str(token).encode())
