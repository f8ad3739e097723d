"""Refresh tokens as strings: what is read out of them, and which are refused, whoever signed them."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import jwt
import pytest
from rest_framework_simplejwt.exceptions import TokenBackendError

import tests.environment  # noqa: F401
from users.application.errors import InvalidToken
from users.application.session import Refresh
from users.infrastructure.keyring import MAX_TOKEN_BYTES
from users.infrastructure.tokens import Seal, SealedRefreshTokens

OLD, NEW, STRANGE = "the secret before " * 3, "the present secret " * 3, "somebody else's secret " * 3
ISSUER = "user-service"
NOW = datetime.now(UTC).replace(microsecond=0)
REFRESH = Refresh(
    jti=uuid4(),
    session_id=uuid4(),
    user_id="0198c1a2-7c20-7b3c-8d11-0c5e1f2a3b4c",
    issued_at=NOW - timedelta(hours=1),
    expires_at=NOW + timedelta(days=14),
)


def tokens(*secrets: str, issuer: str = ISSUER) -> SealedRefreshTokens:
    return SealedRefreshTokens(Seal(secrets, issuer=issuer), lifetime=timedelta(days=14))


OURS = tokens(NEW, OLD)


def sealed(header: dict[str, Any] | None = None, *, drop: str = "", **changed: Any) -> str:
    """A token with our own key, but for what is changed or dropped."""
    claims = jwt.decode(OURS.issue(REFRESH), options={"verify_signature": False}) | changed
    claims.pop(drop, None)
    key = Seal([NEW], issuer=ISSUER)._keys[0]
    return jwt.encode(claims, key, algorithm="HS256", headers=header or {"typ": Seal.TYPE})


def test_what_was_said_is_read() -> None:
    assert OURS.read(OURS.issue(REFRESH)) == REFRESH
    assert OURS.read(sealed()) == REFRESH
    assert jwt.get_unverified_header(OURS.issue(REFRESH)) == {"alg": "HS256", "typ": "refresh+jwt"}


def test_the_first_secret_signs_and_all_are_believed() -> None:
    for secret in (NEW, OLD):
        assert OURS.read(tokens(secret).issue(REFRESH)) == REFRESH
    assert tokens(NEW).read(OURS.issue(REFRESH)) == REFRESH
    assert tokens(STRANGE, OLD, NEW).read(OURS.issue(REFRESH)) == REFRESH
    for reader, writer in ((tokens(OLD), OURS), (OURS, tokens(STRANGE))):
        with pytest.raises(InvalidToken):
            reader.read(writer.issue(REFRESH))


@pytest.mark.parametrize("claim", Seal.CLAIMS)
def test_every_claim_is_required(claim: str) -> None:
    with pytest.raises(InvalidToken):
        OURS.read(sealed(drop=claim))


@pytest.mark.parametrize(
    "changed",
    [
        {"iss": "another-service"},
        {"aud": "services"},
        {"aud": "another-service"},
        {"token_type": "access"},
        {"exp": int(NOW.timestamp()) - 1},
        {"exp": "tomorrow"},
        {"exp": 10**30},
        {"iat": "yesterday"},
        {"iat": int(NOW.timestamp()) + 3600},
        {"jti": "1"},
        {"jti": 1},
        {"sid": None},
    ],
)
def test_a_claim_that_is_not_as_it_should_be_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(InvalidToken):
        OURS.read(sealed(**changed))


@pytest.mark.parametrize(
    "header",
    [
        {"typ": "JWT"},
        {"typ": "refresh+jwt", "kid": "1"},
        {"typ": "refresh+jwt", "jku": "https://example.com/keys"},
        {"typ": "refresh+jwt", "crit": ["exp"]},
    ],
)
def test_another_header_than_ours_is_refused(header: dict[str, Any]) -> None:
    with pytest.raises(InvalidToken):
        OURS.read(sealed(header))


def test_an_unsigned_one_is_refused() -> None:
    claims = jwt.decode(OURS.issue(REFRESH), options={"verify_signature": False})
    with pytest.raises(InvalidToken):
        OURS.read(jwt.encode(claims, "", algorithm="none", headers={"typ": Seal.TYPE}))


def test_one_that_ends_this_second_has_ended() -> None:
    """No clocks differ: it is our own."""
    assert Seal([NEW], issuer=ISSUER).get_leeway() == timedelta(0)
    with pytest.raises(InvalidToken):
        OURS.read(sealed(exp=int(datetime.now(UTC).timestamp())))


def test_a_longer_one_than_any_of_ours_is_refused_unread() -> None:
    room = MAX_TOKEN_BYTES - len(sealed(sub=""))
    fits, too_long = (
        next(token for n in lengths if (token := sealed(sub="x" * n)) and suits(len(token)))
        for lengths, suits in (
            (range(room, 0, -1), lambda length: length <= MAX_TOKEN_BYTES),
            (range(room // 2, room), lambda length: length > MAX_TOKEN_BYTES),
        )
    )
    assert OURS.read(fits).user_id.startswith("xx")
    with pytest.raises(InvalidToken):
        OURS.read(too_long)


def test_nobody_reads_one_without_verifying_it() -> None:
    seal = Seal([NEW], issuer=ISSUER)
    with pytest.raises(TokenBackendError, match="not read"):
        seal.decode(OURS.issue(REFRESH), verify=False)
    with pytest.raises(TokenBackendError, match="not valid"):
        seal.decode("a.b.c")
    with pytest.raises(TokenBackendError, match="not ours"):
        seal.decode(tokens(STRANGE).issue(REFRESH))
