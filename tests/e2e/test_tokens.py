"""POST /auth/token, what is in a token, and which tokens are believed."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from django.conf import settings as django_settings
from django.http import HttpResponse

from tests.e2e.answers import faults, problem, same_but_for_request_id
from tests.fixtures import PASSWORD, Api, People
from users import wiring

CLAIMS = {"iss", "aud", "sub", "roles", "tv", "sid", "jti", "iat", "exp", "token_type"}
OTHER = "another battery horse"


def log_in(api: Api, email: str = "ann@example.com", password: str = PASSWORD) -> HttpResponse:
    return api("POST", "/auth/token", {"email": email, "password": password})


@pytest.fixture
def ann(people: People) -> str:
    return people.user("Ann")


# --- Logging in ----------------------------------------------------------------------------------------


def test_the_right_password_gets_a_token_that_nobody_may_keep(anyone: Api, ann: str) -> None:
    answer = log_in(anyone)
    assert answer.status_code == 200
    assert answer["Content-Type"] == "application/json"
    assert answer["Cache-Control"] == "no-store"
    assert isinstance(answer.json()["access"], str)
    assert Api(answer.json()["access"])("GET", "/users/me").json()["id"] == ann


@pytest.mark.parametrize("email", ["ANN@EXAMPLE.COM", "  ann@example.com ", "Ann@Example.com\n"])
def test_the_address_is_taken_in_any_case_and_with_spaces_around(anyone: Api, ann: str, email: str) -> None:
    assert log_in(anyone, email).status_code == 200


def test_an_international_domain_is_taken_in_both_forms(anyone: Api) -> None:
    body = {"email": "ann@bücher.example", "name": "Ann", "password": PASSWORD}
    assert anyone("POST", "/users", body).status_code == 201
    for email in ("ann@BÜCHER.example", "ann@xn--bcher-kva.example"):
        assert log_in(anyone, email).status_code == 200


def test_unknown_address_and_wrong_password_are_alike(anyone: Api, ann: str) -> None:
    answers = [
        log_in(anyone, password="not my password"),
        log_in(anyone, email="nobody@example.com"),
        log_in(anyone, email="no address at all"),
        log_in(anyone, email=""),
        log_in(anyone, password=""),
        log_in(anyone, email="x" * 60_000),
    ]
    for answer in answers:
        problem(answer, "invalid_credentials")
        assert same_but_for_request_id(answer, answers[0])
        assert [(k, v) for k, v in answer.items() if k != "X-Request-ID"] == [
            (k, v) for k, v in answers[0].items() if k != "X-Request-ID"
        ]


def test_only_who_knows_the_password_learns_of_a_block(anyone: Api, admin: Api, ann: str) -> None:
    admin("POST", f"/users/{ann}/block", {"reason": "spam"})
    problem(log_in(anyone), "user_blocked")
    wrong, unknown = log_in(anyone, password=OTHER), log_in(anyone, email="nobody@example.com")
    problem(wrong, "invalid_credentials")
    assert same_but_for_request_id(wrong, unknown)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, {("email", "required"), ("password", "required")}),
        ({"email": "ann@example.com"}, {("password", "required")}),
        ({"email": "a", "password": "b", "otp": "c"}, {("otp", "unknown")}),
    ],
)
def test_a_login_form_is_checked(anyone: Api, body: object, expected: object) -> None:
    assert faults(anyone("POST", "/auth/token", body)) == expected


def test_a_stale_token_does_not_keep_anybody_from_logging_in(anyone: Api, ann: str) -> None:
    body = {"email": "ann@example.com", "password": PASSWORD}
    assert anyone("POST", "/auth/token", body, authorization="Bearer stale").status_code == 200


# --- What is in a token --------------------------------------------------------------------------------


def test_claims_and_header_are_those_of_the_contract(people: People, anyone: Api) -> None:
    boss = people.staff("admin", "Ann")
    before = int(time.time())
    token = log_in(anyone).json()["access"]
    header, claims = jwt.get_unverified_header(token), jwt.decode(token, options={"verify_signature": False})
    assert set(header) == {"alg", "kid", "typ"}
    assert header["typ"] == "JWT"
    assert header["alg"] in {"RS256", "ES256", "EdDSA"}
    assert set(claims) == CLAIMS
    assert (claims["iss"], claims["aud"]) == (django_settings.JWT_ISSUER, django_settings.JWT_AUDIENCE)
    assert (claims["sub"], claims["roles"], claims["token_type"]) == (boss, ["admin"], "access")
    assert claims["exp"] - claims["iat"] == 300
    assert before <= claims["iat"] <= time.time()
    assert isinstance(claims["tv"], int)


def test_each_login_is_a_session_and_each_token_is_one_of_a_kind(anyone: Api, ann: str) -> None:
    claims = [
        jwt.decode(log_in(anyone).json()["access"], options={"verify_signature": False}) for _ in range(2)
    ]
    assert claims[0]["sid"] != claims[1]["sid"]
    assert claims[0]["jti"] != claims[1]["jti"]


def keys_for_tests() -> dict[str, Callable[[], Any]]:
    return {
        "RS256": lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048),
        "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
        "EdDSA": ed25519.Ed25519PrivateKey.generate,
    }


def write_key(key: Any, path: Path) -> Path:
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return path


@pytest.mark.parametrize("algorithm", keys_for_tests())
def test_a_gateway_verifies_offline_with_any_kind_of_key(
    people: People, anyone: Api, settings: Any, monkeypatch: Any, tmp_path: Path, algorithm: str
) -> None:
    ann = people.user("Ann")
    key_file = write_key(keys_for_tests()[algorithm](), tmp_path / "key.pem")
    settings.JWT_SIGNING_KEY_FILE = str(key_file)
    monkeypatch.setattr(wiring, "_service", None)
    token = log_in(anyone).json()["access"]
    kid = jwt.get_unverified_header(token)["kid"]
    published = jwt.PyJWKSet.from_dict(anyone("GET", "/.well-known/jwks.json").json())
    key = next(key for key in published.keys if key.key_id == kid)
    assert (key.algorithm_name, key.public_key_use) == (algorithm, "sig")
    claims = jwt.decode(token, key, algorithms=[algorithm], audience="services", issuer="user-service")
    assert claims["sub"] == ann
    assert Api(token)("GET", "/users/me").status_code == 200


@pytest.mark.parametrize("algorithm", keys_for_tests())
def test_a_kid_is_the_thumbprint_of_its_key(
    anyone: Api, settings: Any, monkeypatch: Any, tmp_path: Path, algorithm: str
) -> None:
    settings.JWT_SIGNING_KEY_FILE = str(write_key(keys_for_tests()[algorithm](), tmp_path / "key.pem"))
    monkeypatch.setattr(wiring, "_service", None)
    (jwk,) = anyone("GET", "/.well-known/jwks.json").json()["keys"]
    members = {"RSA": ["e", "kty", "n"], "EC": ["crv", "kty", "x", "y"], "OKP": ["crv", "kty", "x"]}[
        jwk["kty"]
    ]
    canonical = json.dumps({name: jwk[name] for name in members}, separators=(",", ":")).encode()
    assert jwk["kid"] == unpadded(hashlib.sha256(canonical).digest())


# --- Which tokens are believed -------------------------------------------------------------------------


def unpadded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Forger:
    """Makes tokens that look like those of the service; has its key, as nobody else should."""

    def __init__(self, user_id: str) -> None:
        pem = Path(django_settings.LOCAL_DIR / "signing_key.pem").read_bytes()
        self.key: Any = serialization.load_pem_private_key(pem, password=None)
        genuine = log_in(Api()).json()["access"]
        self.header = jwt.get_unverified_header(genuine)
        self.claims = jwt.decode(genuine, options={"verify_signature": False})
        assert self.claims["sub"] == user_id

    def token(
        self, *, key: Any = None, drop: str = "", header: dict[str, Any] | None = None, **claims: Any
    ) -> str:
        """Signed as the service signs, but for what is named."""
        payload = {name: value for name, value in (self.claims | claims).items() if name != drop}
        headers = self.header | (header or {})
        return str(
            jwt.api_jws.encode(
                json.dumps(payload).encode(), key or self.key, algorithm=self.header["alg"], headers=headers
            )
        )

    def with_header(self, header: dict[str, Any], sign: Callable[[bytes], bytes]) -> str:
        """With any header whatever, which PyJWT would not make."""
        parts = [unpadded(json.dumps(part).encode()) for part in (header, self.claims)]
        signed = ".".join(parts).encode()
        return ".".join([*parts, unpadded(sign(signed))])


@pytest.fixture
def forger(ann: str) -> Forger:
    return Forger(ann)


def test_what_the_forger_copies_is_believed(forger: Forger) -> None:
    """Else the refusals below would prove nothing."""
    assert Api(forger.token())("GET", "/users/me").status_code == 200


def refused(token: str) -> None:
    problem(Api(token)("GET", "/users/me"), "invalid_token")


NOW = 1_700_000_000


WRONG_CLAIMS = [
    {"exp": NOW},
    {"exp": "soon"},
    {"exp": None},
    {"exp": 1e308},
    {"exp": 10**18},
    {"exp": "9999999999"},
    {"exp": float("inf")},
    {"exp": [9999999999]},
    {"iat": 10**11},
    {"iat": "now"},
    {"nbf": 10**11},
    {"iss": "somebody-else"},
    {"iss": None},
    {"iss": ["user-service"]},
    {"aud": "others"},
    {"aud": []},
    {"aud": None},
    {"sub": "01890000-0000-7000-8000-000000000000"},
    {"sub": "nobody"},
    {"sub": "\x00"},
    {"sub": ""},
    {"sub": 5},
    {"sub": None},
    {"sub": ["a"]},
    {"tv": 0},
    {"tv": 2},
    {"tv": "1"},
    {"tv": None},
    {"tv": [1]},
    {"roles": ["boss"]},
    {"roles": "admin"},
    {"roles": 5},
    {"roles": None},
    {"roles": [["admin"]]},
    {"roles": {"admin": 1, "x": 2}},
    {"token_type": "refresh"},
    {"token_type": None},
    {"jti": None},
    {"jti": 5},
]


def test_a_token_with_a_wrong_claim_is_refused_even_if_signed_by_our_key(forger: Forger) -> None:
    for claims in WRONG_CLAIMS:
        refused(forger.token(**claims))


def test_every_claim_is_required(forger: Forger) -> None:
    for claim in sorted(CLAIMS):
        refused(forger.token(drop=claim))


def test_a_token_dies_after_five_minutes(forger: Forger) -> None:
    now = int(time.time())
    assert Api(forger.token(iat=now - 298, exp=now + 2))("GET", "/users/me").status_code == 200
    refused(forger.token(iat=now - 301, exp=now - 1))


def test_a_token_of_another_key_with_our_kid_is_refused(forger: Forger) -> None:
    refused(forger.token(key=ec.generate_private_key(ec.SECP256R1())))


@pytest.mark.parametrize("kid", ["", "other", "../../dev/null", "a" * 500, "'; DROP TABLE users", "\x00"])
def test_a_kid_that_is_not_ours_is_refused(forger: Forger, kid: str) -> None:
    refused(forger.token(header={"kid": kid}))


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "nOnE", ""])
def test_an_unsigned_token_is_refused(forger: Forger, algorithm: str) -> None:
    refused(forger.with_header(forger.header | {"alg": algorithm}, lambda _: b""))


def test_our_public_key_is_no_hmac_secret(forger: Forger) -> None:
    public = forger.key.public_key()
    for encoding, form in [
        (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo),
        (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo),
    ]:
        secret = public.public_bytes(encoding, form)
        for guess in (secret, secret.strip()):
            refused(
                forger.with_header(
                    forger.header | {"alg": "HS256"},
                    lambda signed, guess=guess: hmac.new(guess, signed, hashlib.sha256).digest(),
                )
            )


@pytest.mark.parametrize("kid", [None, 5, [], {}, True], ids=str)
def test_a_kid_that_is_no_text_is_refused(forger: Forger, kid: object) -> None:
    refused(forger.with_header(forger.header | {"kid": kid}, lambda _: b"x" * 64))


def test_a_critical_extension_is_refused(forger: Forger) -> None:
    refused(forger.token(header={"crit": ["b64"], "b64": True}))
    refused(forger.token(header={"crit": ["http://example.com/ext"], "http://example.com/ext": 1}))


@pytest.mark.parametrize("pointer", ["jku", "x5u", "jwk", "x5c"])
def test_a_key_that_comes_with_the_token_is_not_looked_at(forger: Forger, pointer: str) -> None:
    other = ec.generate_private_key(ec.SECP256R1())
    jwk = jwt.algorithms.ECAlgorithm.to_jwk(other.public_key(), as_dict=True)
    value: Any = {"jwk": jwk, "x5c": ["x"]}.get(pointer, "https://evil.example/keys.json")
    refused(forger.token(key=other, header={pointer: value}))
    refused(forger.token(key=other, header={pointer: value, "kid": "other"}))


@pytest.mark.parametrize("size", [4097, 8192, 60_000])
def test_a_token_over_4_kib_is_refused_unread(forger: Forger, size: int) -> None:
    token = forger.token(padding="x" * size)
    assert len(token) > 4096
    refused(token)
    refused("x" * size)


MUTILATIONS = [
    lambda token: token[:-1],
    lambda token: token[: len(token) // 2],
    lambda token: token.rpartition(".")[0],
    lambda token: token.rpartition(".")[0] + ".",
    lambda token: token + "." + "a",
    lambda token: "." + token,
    lambda token: token + "=",
    lambda token: token.replace(".", ".."),
    lambda token: token.swapcase(),
    lambda token: f"{token},{token}",
    lambda token: f"{token} {token}",
    lambda token: f'"{token}"',
    lambda token: token[::-1],
    lambda _: "..",
    lambda _: "a.b.c",
    lambda _: "nonsense",
    lambda _: "\x00",
    lambda _: "é",
    lambda _: "{}",
    lambda _: unpadded(b"[" * 2900) + ".e30.eA",
    lambda _: unpadded(b"5") + ".e30.eA",
    lambda _: unpadded(b"null") + ".bnVsbA.eA",
    lambda _: unpadded(b'{"alg":"ES256","kid":"\xff"}') + ".e30.eA",
    lambda _: unpadded(json.dumps({"alg": 5, "kid": "x"}).encode()) + ".e30.eA",
]


def test_a_mutilated_token_is_refused(forger: Forger) -> None:
    for change in MUTILATIONS:
        refused(change(forger.token()))


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "Bearer ", "\tBearer"])
def test_the_scheme_is_taken_in_any_case(forger: Forger, scheme: str) -> None:
    answer = Api()("GET", "/users/me", authorization=f"{scheme} {forger.token()}")
    assert answer.status_code == 200


@pytest.mark.parametrize("header", ["", "Basic YTpi", "Token x", "Digest x", "Bearerx", "x", "Basic"])
def test_another_scheme_is_as_good_as_no_token(anyone: Api, header: str) -> None:
    answer = anyone("GET", "/users/me", authorization=header)
    problem(answer, "missing_token")
    assert "error=" not in answer["WWW-Authenticate"]


@pytest.mark.parametrize("header", ["Bearer", "Bearer ", "bearer  ", "Bearer a b", "Bearer é"])
def test_a_bearer_without_a_token_is_a_bad_token(anyone: Api, header: str) -> None:
    answer = anyone("GET", "/users/me", authorization=header)
    problem(answer, "invalid_token")
    assert 'error="invalid_token"' in answer["WWW-Authenticate"]


def test_a_token_in_the_query_the_body_or_a_cookie_is_not_one(forger: Forger, anyone: Api) -> None:
    token = forger.token()
    problem(anyone("GET", f"/users/me?access_token={token}"), "missing_token")
    problem(anyone("PATCH", "/users/me", {"access_token": token}), "missing_token")
    problem(
        anyone("GET", "/users/me", cookie=f"access={token}; Authorization=Bearer {token}"), "missing_token"
    )


# --- Tokens that were good -----------------------------------------------------------------------------


def test_a_block_ends_every_token_from_the_very_next_request_on(people: People, admin: Api, ann: str) -> None:
    first, second = people.log_in("Ann"), people.log_in("Ann")
    assert first("GET", "/users/me").status_code == 200
    admin("POST", f"/users/{ann}/block", {"reason": "spam"})
    for api in (first, second):
        problem(api("GET", "/users/me"), "invalid_token")
        problem(api("PATCH", "/users/me", {"name": "Still here"}), "invalid_token")


def test_an_unblock_does_not_revive_old_tokens(people: People, admin: Api, ann: str) -> None:
    old = people.log_in("Ann")
    admin("POST", f"/users/{ann}/block", {"reason": "spam"})
    admin("POST", f"/users/{ann}/unblock")
    problem(old("GET", "/users/me"), "invalid_token")
    assert people.log_in("Ann")("GET", "/users/me").status_code == 200


def test_a_new_password_ends_every_token_his_own_too(people: People, ann: str) -> None:
    first, second = people.log_in("Ann"), people.log_in("Ann")
    body = {"current_password": PASSWORD, "new_password": OTHER}
    assert first("PUT", "/users/me/password", body).status_code == 204
    for api in (first, second):
        problem(api("GET", "/users/me"), "invalid_token")
    assert people.log_in("Ann", OTHER)("GET", "/users/me").status_code == 200


def test_new_roles_end_every_token(people: People, admin: Api, ann: str) -> None:
    old = people.log_in("Ann")
    admin("PUT", f"/users/{ann}/roles", {"roles": ["operator"]})
    problem(old("GET", "/users/me"), "invalid_token")
    new = people.log_in("Ann")
    assert new("GET", "/users").status_code == 200
    admin("PUT", f"/users/{ann}/roles", {"roles": []})
    problem(new("GET", "/users"), "invalid_token")


def test_what_endangers_no_token_ends_none(people: People, admin: Api, ann: str) -> None:
    own = people.log_in("Ann")
    admin("PATCH", f"/users/{ann}", {"name": "Anne"})
    admin("PUT", f"/users/{ann}/email", {"email": "anne@example.com"})
    admin("PUT", f"/users/{ann}/roles", {"roles": []})
    assert own("GET", "/users/me").status_code == 200
