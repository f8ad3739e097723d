"""Attacks on access tokens (RFC 8725 and the history of JWT libraries), with each kind of key and over HTTP.
`test_tokens` has the simplest of them."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives import serialization as form
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from jwt.algorithms import get_default_algorithms
from rest_framework_simplejwt.exceptions import TokenError

from tests.e2e.answers import problem
from tests.fixtures import PASSWORD, Api, People
from users import wiring
from users.infrastructure.keyring import (
    CLAIMS,
    MAX_TOKEN_BYTES,
    SKEW_SECONDS,
    FixedKeys,
    Keyring,
    SigningKey,
    new_pem,
    pem_of,
)
from users.infrastructure.tokens import SignedAccessTokens
from users.wiring import Service

P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
ED25519_ORDER = 2**252 + 27742317777372353535851937790883648493
ALGORITHMS = ["RS256", "ES256", "EdDSA"]
SIGNATURES = get_default_algorithms()


def unpadded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "==")


class Attacker:
    """Knows what everybody knows, and for what nobody else could try, signs with our key too."""

    def __init__(self, ours: SigningKey, others: list[SigningKey], subject: dict[str, Any]) -> None:
        self.ours, self.others = ours, others
        now = int(time.time())
        self.claims: dict[str, Any] = {
            "iss": "user-service",
            "aud": "services",
            "roles": [],
            "jti": uuid4().hex,
            "iat": now,
            "exp": now + 300,
            "token_type": "access",
        } | subject
        self.header: dict[str, Any] = {"alg": ours.algorithm, "kid": ours.kid, "typ": "JWT"}
        self.genuine = self.token()

    def token(self, header: dict[str, Any] | None = None, **claims: Any) -> str:
        """Signed as the service does, but for what is named."""
        return self.of_texts(
            json.dumps(self.header | (header or {})).encode(), json.dumps(self.claims | claims).encode()
        )

    def of_texts(self, header: bytes, payload: bytes, key: SigningKey | None = None) -> str:
        key = key or self.ours
        signed = f"{unpadded(header)}.{unpadded(payload)}"
        signature = SIGNATURES[key.algorithm].sign(signed.encode(), key.private)
        return f"{signed}.{unpadded(signature)}"

    def signed_by(self, sign: Callable[[bytes], bytes], **header: Any) -> str:
        parts = (json.dumps(part).encode() for part in (self.header | header, self.claims))
        signed = ".".join(map(unpadded, parts))
        return f"{signed}.{unpadded(sign(signed.encode()))}"

    def with_signature(self, change: Callable[[bytes], bytes]) -> str:
        signed, _, signature = self.genuine.rpartition(".")
        return f"{signed}.{unpadded(change(decoded(signature)))}"

    def without(self, part: str, name: str) -> str:
        header = {key: value for key, value in self.header.items() if (part, key) != ("header", name)}
        claims = {key: value for key, value in self.claims.items() if (part, key) != ("claims", name)}
        return self.of_texts(json.dumps(header).encode(), json.dumps(claims).encode())

    @property
    def public_forms(self) -> list[bytes]:
        """All that a verifier may hold in its hands, with and without its line end."""
        key = self.ours.public
        forms = [
            key.public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo),
            key.public_bytes(form.Encoding.DER, form.PublicFormat.SubjectPublicKeyInfo),
            json.dumps(self.ours.public_jwk).encode(),
            self.ours.kid.encode(),
            b"",
        ]
        if isinstance(key, rsa.RSAPublicKey):
            forms.append(key.public_bytes(form.Encoding.PEM, form.PublicFormat.PKCS1))
            forms.append(key.public_bytes(form.Encoding.DER, form.PublicFormat.PKCS1))
        return [*forms, *(text.strip() for text in forms)]


def hmacs(attacker: Attacker) -> list[str]:
    """Our public key as the secret of an HMAC (CVE-2015-9235 and its many children)."""
    return [
        attacker.signed_by(lambda signed, s=secret, d=digest: hmac.new(s, signed, d).digest(), alg=name)
        for name, digest in (("HS256", "sha256"), ("HS384", "sha384"), ("HS512", "sha512"))
        for secret in attacker.public_forms
    ]


def unsigned(attacker: Attacker) -> list[str]:
    """`none` in all spellings, with the signature of a genuine token too; and algorithms that are no text."""
    spellings = [f"{a}{b}{c}{d}" for a in "nN" for b in "oO" for c in "nN" for d in "eE"]
    names = [*spellings, " none", "none ", "none\x00", "nοne", "", None, 0, True, [], ["none"], {}]
    genuine = decoded(attacker.genuine.rpartition(".")[2])
    return [
        attacker.signed_by(lambda _, s=signature: s, alg=name)
        for name in names
        for signature in (b"", genuine)
    ] + [attacker.without("header", "alg")]


def other_algorithms(attacker: Attacker) -> list[str]:
    """Ours, but not of the key that is named; and those that our key could do, but we do not."""
    tokens = [attacker.token({"alg": other.algorithm}) for other in attacker.others]
    for other in attacker.others:
        for header in (attacker.header, attacker.header | {"alg": other.algorithm}):
            tokens.append(attacker.of_texts(*texts(header, attacker.claims), key=other))
        named = attacker.header | {"kid": other.kid}
        tokens.append(attacker.of_texts(*texts(named, attacker.claims)))
        tokens.append(attacker.of_texts(*texts(named | {"alg": other.algorithm}, attacker.claims)))
    if isinstance(private := attacker.ours.private, rsa.RSAPrivateKey):
        pss = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
        tokens.append(
            attacker.signed_by(lambda signed: private.sign(signed, pss, hashes.SHA256()), alg="PS256")
        )
        tokens.append(attacker.signed_by(lambda signed: private.sign(signed, pss, hashes.SHA256())))
        for name, digest in (("RS384", hashes.SHA384()), ("RS512", hashes.SHA512())):
            tokens.append(
                attacker.signed_by(
                    lambda signed, d=digest: private.sign(signed, padding.PKCS1v15(), d), alg=name
                )
            )
    return [*tokens, attacker.token({"alg": attacker.ours.algorithm.lower() + " "})]


def texts(header: dict[str, Any], claims: dict[str, Any]) -> tuple[bytes, bytes]:
    return json.dumps(header).encode(), json.dumps(claims).encode()


def other_keys(attacker: Attacker) -> list[str]:
    """A key that comes with the token, or that the token points to, and says it were ours."""
    own = SigningKey.load(new_pem("ES256"))
    tokens = [attacker.of_texts(*texts(attacker.header | {"alg": "ES256"}, attacker.claims), key=own)]
    for kid in (own.kid, attacker.ours.kid):
        for pointer in (
            {"jwk": own.public_jwk},
            {"jwk": own.public_jwk | {"kid": attacker.ours.kid}},
            {"jku": "https://evil.example/jwks.json"},
            {"x5u": "https://evil.example/cert.pem"},
            {"x5c": [base64.b64encode(own.public_jwk["x"].encode()).decode()]},
            {"x5t": "x", "x5t#S256": "x"},
        ):
            header = attacker.header | {"alg": "ES256", "kid": kid} | pointer
            tokens.append(attacker.of_texts(*texts(header, attacker.claims), key=own))
    return tokens


def key_ids(attacker: Attacker) -> list[str]:
    """Every kid is looked up in a table, never in a file, a database or a shell; signed with our own key."""
    kid = attacker.ours.kid
    near = [kid.swapcase(), kid[:-1], f"{kid}=", f" {kid}", f"{kid}\n", f"{kid}\x00", f"{kid}/../{kid}"]
    paths = [f"../keys/{kid}.pem", f"{kid}.pem", "/dev/null", "../../../../proc/self/environ", "C:\\nul", "."]
    code = ["' OR '1'='1", f"x' UNION SELECT '{kid}' --", "$(id)", "`id`", "| id", "${jndi:ldap://x}", "%00"]
    no_text = [None, True, 0, 1.5, [kid], {"kid": kid}, [[[]]]]
    named = [attacker.token({"kid": value}) for value in [*near, *paths, *code, "k" * 2000, *no_text]]
    return [*named, attacker.without("header", "kid")]


def headers(attacker: Attacker) -> list[str]:
    """Signed with our own key: no header but the one that we write is of ours."""
    more: list[dict[str, Any]] = [
        {"crit": ["exp"]},
        {"crit": []},
        {"crit": "b64"},
        {"crit": ["b64"], "b64": False},
        {"b64": False},
        {"b64": True},
        {"zip": "DEF"},
        {"cty": "JWT"},
        {"jwk": attacker.ours.public_jwk},
        {"typ": "refresh+jwt"},
        {"typ": "at+jwt"},
        {"typ": "jwt"},
        {"typ": None},
        {"enc": "A256GCM"},
        {"p2c": 10**9},
    ]
    return [attacker.token(header) for header in more] + [attacker.without("header", "typ")]


def unencoded(attacker: Attacker) -> list[str]:
    """RFC 7797: the payload as it is, not encoded, once with our key even."""
    header = unpadded(json.dumps(attacker.header | {"b64": False, "crit": ["b64"]}).encode())
    payload = json.dumps(attacker.claims)
    signature = SIGNATURES[attacker.ours.algorithm].sign(
        f"{header}.{payload}".encode(), attacker.ours.private
    )
    return [f"{header}.{middle}.{unpadded(signature)}" for middle in (payload, "", "e30")]


def names_that_come_twice(attacker: Attacker) -> list[str]:
    """Two readers could read two tokens."""
    header, claims = texts(attacker.header, attacker.claims)
    return [
        attacker.of_texts(header[:-1] + b', "alg": "none"}', claims),
        attacker.of_texts(header[:-1] + b', "kid": "' + attacker.ours.kid.encode() + b'"}', claims),
        attacker.of_texts(header, claims[:-1] + b', "sub": "x"}'),
        attacker.of_texts(header, b'{"roles": ["admin"], ' + claims[1:]),
        attacker.of_texts(header, claims[:-1] + b', "x": {"a": 1, "a": 2}}'),
    ]


def other_forms(attacker: Attacker) -> list[str]:
    """One token has one spelling."""
    header, payload, signature = attacker.genuine.split(".")
    standard = [part.replace("-", "+").replace("_", "/") for part in (header, payload, signature)]
    spaced = [attacker.genuine + end for end in ("\n", "\r\n", " ", "\t", "\x00", "=", ".")]
    inside = [f"{header}{gap}.{payload}.{signature}" for gap in (" ", "\n", "=", "==", "===", "%3D", "!")]
    inside += [f"{header}.{payload}{gap}.{signature}" for gap in (" ", "\n", "=", "==", "!")]
    inside += [
        f"{header}.{payload}.{signature[:9]}{gap}{signature[9:]}" for gap in (" ", "\n", "=", "*", ".")
    ]
    flattened = {"protected": header, "payload": payload, "signature": signature}
    general = {"payload": payload, "signatures": [{"protected": header, "signature": signature}]}
    return [
        *spaced,
        *inside,
        *([".".join(standard)] if standard != [header, payload, signature] else []),
        json.dumps(flattened),
        json.dumps(general),
        f"Bearer {attacker.genuine}",
        f"{header}.{unpadded(b'{}')}.{payload}.{signature}.x",  # as of JWE
        f"{unpadded(bytes([0xEF, 0xBB, 0xBF]) + decoded(header))}.{payload}.{signature}",
        *_spellings_of_the_last_letter(attacker.genuine),
        *_padded(attacker),
    ]


def _spellings_of_the_last_letter(token: str) -> list[str]:
    """Where bits are to spare, other letters stand for the same bytes."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    signature = token.rpartition(".")[2]
    return [
        token[:-1] + letter
        for letter in letters
        if letter != token[-1] and decoded(signature[:-1] + letter) == decoded(signature)
    ]


def _padded(attacker: Attacker) -> list[str]:
    """As base64 is elsewhere: behind the signature, and, signed with our key, behind each other part."""
    header, claims = texts(attacker.header, attacker.claims)
    short = -len(attacker.genuine.rpartition(".")[2]) % 4
    found = [f"{attacker.genuine}{'=' * short}"] if short else []
    for signed in (f"{padded(header)}.{unpadded(claims)}", f"{unpadded(header)}.{padded(claims)}"):
        signature = SIGNATURES[attacker.ours.algorithm].sign(signed.encode(), attacker.ours.private)
        found.append(f"{signed}.{unpadded(signature)}")
    return found


def padded(text: bytes) -> str:
    """With a blank behind it where there would be nothing to pad."""
    return base64.urlsafe_b64encode(text + b" " * (len(text) % 3 == 0)).decode()


def signatures(attacker: Attacker) -> list[str]:
    changes: list[Callable[[bytes], bytes]] = [
        lambda _: b"",
        lambda _: b"\x00",
        lambda signature: signature[:-1],
        lambda signature: signature[1:],
        lambda signature: signature + b"\x00",
        lambda signature: b"\x00" + signature,
        lambda signature: signature * 2,
        lambda signature: bytes(len(signature)),
        lambda signature: b"\xff" * len(signature),
        lambda signature: bytes([signature[0] ^ 1]) + signature[1:],
        lambda signature: signature[:-1] + bytes([signature[-1] ^ 1]),
        lambda signature: signature[::-1],
    ]
    own = {"ES256": ecdsa_signatures, "EdDSA": eddsa_signatures, "RS256": rsa_signatures}
    return [attacker.with_signature(change) for change in changes] + own[attacker.ours.algorithm](attacker)


def ecdsa_signatures(attacker: Attacker) -> list[str]:
    """The psychic one (r = s = 0, CVE-2022-21449), other numbers out of range, and the form of TLS."""
    r, s = (int.from_bytes(part) for part in halves(decoded(attacker.genuine.rpartition(".")[2])))
    n = P256_ORDER
    pairs = [(0, 0), (0, s), (r, 0), (n, n), (0, n), (n, 0), (r, n), (n, s), (1, 1), (n - 1, n - 1)]
    pairs += [(1, 0), (0, 1), (n - r, s), (r, r), (s, r)]
    tokens = [attacker.with_signature(lambda _, p=pair: both(*p)) for pair in pairs]
    return [*tokens, attacker.with_signature(lambda _: encode_dss_signature(r, s))]


def halves(signature: bytes) -> tuple[bytes, bytes]:
    return signature[:32], signature[32:]


def both(r: int, s: int) -> bytes:
    return r.to_bytes(32) + s.to_bytes(32)


def eddsa_signatures(attacker: Attacker) -> list[str]:
    """S may not be told from S + L where its range is not checked (RFC 8032, 8.4)."""

    def moved(signature: bytes) -> bytes:
        point, scalar = halves(signature)
        return point + (int.from_bytes(scalar, "little") + ED25519_ORDER).to_bytes(32, "little")

    return [attacker.with_signature(moved), attacker.with_signature(lambda s: b"\x01" + bytes(31) + s[32:])]


def rsa_signatures(attacker: Attacker) -> list[str]:
    public = attacker.ours.public
    assert isinstance(public, rsa.RSAPublicKey)
    n, size = public.public_numbers().n, public.key_size // 8

    def moved(signature: bytes) -> bytes:
        return (int.from_bytes(signature) + n).to_bytes(size + 1)

    return [attacker.with_signature(moved)] + [
        attacker.with_signature(lambda _, x=number: x.to_bytes(size)) for number in (1, n - 1, n)
    ]


def swapped(attacker: Attacker) -> list[str]:
    """Another payload or header under a genuine signature."""
    header, payload, signature = attacker.genuine.split(".")
    promoted = unpadded(json.dumps(attacker.claims | {"roles": ["admin"]}).encode())
    somebody = unpadded(json.dumps(attacker.claims | {"sub": str(uuid4())}).encode())
    later = unpadded(json.dumps(attacker.claims | {"exp": attacker.claims["exp"] + 1}).encode())
    unnamed = unpadded(json.dumps({"alg": attacker.ours.algorithm}).encode())
    return [
        f"{header}.{promoted}.{signature}",
        f"{header}.{somebody}.{signature}",
        f"{header}.{later}.{signature}",
        f"{unnamed}.{payload}.{signature}",
        f"{payload}.{header}.{signature}",
    ]


def payloads(attacker: Attacker) -> list[str]:
    """That are no claims, signed with our key."""
    header = json.dumps(attacker.header).encode()
    claims = json.dumps(attacker.claims).encode()
    bad = [
        b"",
        b"null",
        b"[]",
        b"5",
        b'"x"',
        b"{",
        b"\xff\xfe",
        b"[" * 2500,
        claims + b"x",
        b"[" + claims + b"]",
    ]
    return [attacker.of_texts(header, payload) for payload in bad]


def claims_missing(attacker: Attacker) -> list[str]:
    return [attacker.without("claims", name) for name in CLAIMS]


VALUES: list[Any] = [None, True, False, 0, 1, -1, 1.0, 1.5, "1", "", "access", [], ["x"], {}, [None], 10**30]


def claims_of_another_type(attacker: Attacker) -> list[str]:
    """True is no number, nor is "1" or 1.0; our key has signed them all the same."""
    return [
        attacker.token(**{name: value})
        for name, kind in CLAIMS.items()
        for value in VALUES
        if type(value) is not kind
    ]


def wrong_claims(attacker: Attacker) -> list[str]:
    now = int(time.time())
    later = now + SKEW_SECONDS + 5
    wrong: list[dict[str, Any]] = [
        {"iss": "https://evil.example"},
        {"iss": "user-service "},
        {"aud": "user-service"},  # that of refresh tokens
        {"aud": ["services"]},
        {"aud": ["services", "others"]},
        {"token_type": "refresh"},
        {"token_type": "Access"},
        {"exp": now},  # not one second of grace
        {"exp": now - 1},
        {"exp": float(now + 300)},
        {"exp": str(now + 300)},
        {"exp": 10**30},
        {"exp": 2**63},
        {"exp": -1},
        {"exp": True},
        {"iat": later},
        {"iat": -1},
        {"iat": str(now)},
        {"nbf": later},
        {"nbf": str(now)},
        {"nbf": None},
        {"nbf": True},
        {"nbf": float(now)},
    ]
    return [attacker.token(**claims) for claims in wrong]


def too_long(attacker: Attacker) -> list[str]:
    return [padded_to(attacker, size) for size in (MAX_TOKEN_BYTES + 1, 8000)]


def padded_to(attacker: Attacker, size: int) -> str:
    """A good token of that length, or one letter more."""
    filling = (size - len(attacker.genuine)) * 3 // 4 - 40
    while len(token := attacker.token(filling="x" * filling)) < size:
        filling += 1
    return token


ATTACKS = [
    hmacs,
    unsigned,
    other_algorithms,
    other_keys,
    key_ids,
    headers,
    unencoded,
    names_that_come_twice,
    other_forms,
    signatures,
    swapped,
    payloads,
    claims_missing,
    claims_of_another_type,
    wrong_claims,
    too_long,
]


@pytest.fixture(scope="module")
def keys() -> dict[str, SigningKey]:
    return {algorithm: SigningKey.load(new_pem(algorithm)) for algorithm in ALGORITHMS}


@pytest.fixture(scope="module")
def tokens(keys: dict[str, SigningKey]) -> SignedAccessTokens:
    """Of a service whose keyring has a key of each kind."""
    fixed = FixedKeys([pem_of(key.private) for key in keys.values()])
    keyring = Keyring(fixed, issuer="user-service", audience="services")
    return SignedAccessTokens(keyring, lifetime=timedelta(minutes=5))


@pytest.fixture(params=ALGORITHMS)
def attacker(request: pytest.FixtureRequest, keys: dict[str, SigningKey]) -> Attacker:
    others = [key for name, key in keys.items() if name != request.param]
    return Attacker(keys[request.param], others, {"sub": str(uuid4()), "tv": 1, "sid": str(uuid4())})


def test_what_the_attacker_copies_is_believed(tokens: SignedAccessTokens, attacker: Attacker) -> None:
    """Else the refusals below would prove nothing."""
    assert tokens.read(attacker.genuine.encode()) == attacker.claims


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_no_such_token_is_believed(tokens: SignedAccessTokens, attacker: Attacker, attack: Any) -> None:
    believed = []
    for token in attack(attacker):
        try:
            believed.append((token, tokens.read(token.encode())))
        except TokenError:
            continue
    assert believed == []


def test_clocks_may_differ_by_a_little_but_no_token_lives_longer(
    tokens: SignedAccessTokens, attacker: Attacker
) -> None:
    now = int(time.time())
    for claims in ({"iat": now + SKEW_SECONDS - 2}, {"nbf": now + SKEW_SECONDS - 2}, {"exp": now + 2}):
        assert tokens.read(attacker.token(**claims).encode())


def test_a_token_may_have_4_kib(tokens: SignedAccessTokens, attacker: Attacker) -> None:
    assert tokens.read(padded_to(attacker, MAX_TOKEN_BYTES - 1).encode())["filling"]


def test_a_token_with_the_other_ecdsa_signature_is_the_same_token(
    tokens: SignedAccessTokens, keys: dict[str, SigningKey]
) -> None:
    """s and n - s both verify, and nobody but the signer can prevent that: so no token is ever refused by
    its text, only by its claims."""
    attacker = Attacker(keys["ES256"], [], {"sub": str(uuid4()), "tv": 1, "sid": str(uuid4())})

    def other(signature: bytes) -> bytes:
        r, s = (int.from_bytes(part) for part in halves(signature))
        return both(r, P256_ORDER - s)

    twin = attacker.with_signature(other)
    assert twin != attacker.genuine
    assert tokens.read(twin.encode()) == tokens.read(attacker.genuine.encode())


def test_tokens_are_not_read_unverified(tokens: SignedAccessTokens, attacker: Attacker) -> None:
    with pytest.raises(TokenError):
        tokens.class_(attacker.genuine, verify=False)  # type: ignore[arg-type]


# --- Over HTTP ------------------------------------------------------------------------------------------


@pytest.fixture
def insider(people: People, service: Service, keys: dict[str, SigningKey]) -> Attacker:
    """With the key of the running service."""
    ann = people.user("Ann")
    genuine = people.log_in("Ann").token
    assert genuine is not None
    claims = json.loads(decoded(genuine.split(".")[1]))
    assert claims["sub"] == ann
    ours = service.keyring._keys.ring().active
    return Attacker(ours, [keys["RS256"], keys["EdDSA"]], claims)


def test_every_attack_is_answered_401_and_none_500(insider: Attacker) -> None:
    assert Api(insider.genuine)("GET", "/users/me").status_code == 200
    for attack in ATTACKS:
        tokens = attack(insider)
        some = tokens[:: max(1, len(tokens) // 6)]
        for token in some:
            if token.strip() == insider.genuine or not token.isprintable():
                continue  # HTTP strips spaces around a header's value, and takes no line ends
            problem(Api(token)("GET", "/users/me"), "invalid_token")


@pytest.mark.parametrize("version", [True, 1.0, "1", [1], None], ids=repr)
def test_a_token_version_is_a_number_and_nothing_that_equals_one(insider: Attacker, version: object) -> None:
    assert insider.claims["tv"] == 1
    problem(Api(insider.token(tv=version))("GET", "/users/me"), "invalid_token")


def test_a_refresh_token_is_no_access_token(anyone: Api, people: People) -> None:
    people.user("Ann")
    answer = anyone("POST", "/auth/token", {"email": "ann@example.com", "password": PASSWORD})
    problem(Api(answer.json()["refresh"])("GET", "/users/me"), "invalid_token")


def test_the_secret_of_the_service_signs_no_access_token(insider: Attacker, settings: Any) -> None:
    for secret in (settings.SECRET_KEY.encode(), hashlib.sha256(settings.SECRET_KEY.encode()).digest()):
        token = insider.signed_by(
            lambda signed, s=secret: hmac.new(s, signed, "sha256").digest(), alg="HS256"
        )
        problem(Api(token)("GET", "/users/me"), "invalid_token")


def test_published_keys_have_no_private_member(anyone: Api, service: Service) -> None:
    published = anyone("GET", "/.well-known/jwks.json")
    private = {"d", "p", "q", "dp", "dq", "qi", "oth", "k"}
    assert all(not private & set(jwk) for jwk in published.json()["keys"])
    assert published["Cache-Control"] == "public, max-age=300"
    assert wiring.service().keyring.jwks() == published.json()
