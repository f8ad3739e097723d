"""Verifies the user service's access tokens without asking it, but where events leave a doubt."""

import contextlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import jwt

from .handlers import SKEW_SECONDS, TOKEN_SECONDS
from .store import TokenEvents
from .users_api import ServiceAway

ALGORITHMS = {"RSA": "RS256", "EC": "ES256", "OKP": "EdDSA"}
REQUIRED_CLAIMS = ["iss", "aud", "sub", "roles", "tv", "sid", "jti", "iat", "exp", "token_type"]
LONGEST_TOKEN = 4096
KEYS_SECONDS = 300.0
"""Keys are fetched anew so often, so that one that was withdrawn is forgotten."""
FETCH_PAUSE_SECONDS = 5.0
"""Made-up key ids lead to no more fetches than one in so many seconds."""
SILENCE_SECONDS = 3.0
"""Who has heard nothing for so long knows nothing: a token may have died meanwhile."""
MOST_ANSWERS = 10_000


class TokenRefused(Exception):
    """The token does not count."""


class TokenUnverifiable(Exception):
    """Nobody can say now whether it does; who cannot say refuses, and may be asked again."""


class Authority(Protocol):
    """What is asked of the user service. Both raise ServiceAway."""

    def keys(self) -> list[dict[str, Any]]: ...

    def accepts(self, token: str) -> bool: ...


class Keys:
    """The service's public keys, cached. A key that is known counts also while the service is away."""

    def __init__(self, authority: Authority, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._authority = authority
        self._clock = clock
        self._lock = threading.Lock()
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched_at = self._tried_at = float("-inf")

    def get(self, kid: str) -> jwt.PyJWK:
        """Raises TokenRefused when there is no such key, TokenUnverifiable when that cannot be said."""
        if self._fetch_is_due(kid):
            self._fetch()
        if key := self._keys.get(kid):
            return key
        if self._fetched_at < self._tried_at:
            raise TokenUnverifiable("the keys cannot be fetched")
        raise TokenRefused("no such key")

    def _fetch_is_due(self, kid: str) -> bool:
        """To one caller; nobody else waits for him who fetches."""
        with self._lock:
            now = self._clock()
            wanted = kid not in self._keys or now - self._fetched_at > KEYS_SECONDS
            if not wanted or now - self._tried_at < FETCH_PAUSE_SECONDS:
                return False
            self._tried_at = now
            return True

    def _fetch(self) -> None:
        with contextlib.suppress(ServiceAway):
            self._keys = dict(_usable(self._authority.keys()))
            self._fetched_at = self._clock()


def _usable(found: list[dict[str, Any]]) -> Iterator[tuple[str, jwt.PyJWK]]:
    """By key id. The algorithm is the key's own, never the token's wish (RFC 8725, 3.1)."""
    for jwk in found:
        if ALGORITHMS.get(jwk.get("kty", "")) == jwk.get("alg"):
            with contextlib.suppress(jwt.PyJWKError, jwt.InvalidKeyError):
                yield str(jwk.get("kid")), jwt.PyJWK(jwk)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the service said about one token, and which state of its user's events that covers."""

    accepted: bool
    sequence: int
    expires: float


class OfflineTokens:
    """`events_of` tells what the events say about a user's tokens; `silence` for how many seconds they have
    told nothing, infinity before they have told all."""

    def __init__(
        self,
        authority: Authority,
        *,
        issuer: str,
        audience: str,
        events_of: Callable[[str], TokenEvents],
        silence: Callable[[], float],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._authority = authority
        self._keys = Keys(authority)
        self._issuer = issuer
        self._audience = audience
        self._events_of = events_of
        self._silence = silence
        self._clock = clock
        self._lock = threading.Lock()
        self._answers: OrderedDict[str, Answer] = OrderedDict()

    def verify(self, raw: str) -> dict[str, Any]:
        """The claims of a token that counts. Raises TokenRefused, TokenUnverifiable."""
        claims = self._claims(raw)
        silent = self._silence() > SILENCE_SECONDS
        events = self._events_of(claims["sub"])
        if claims["iat"] < events.refused_before:
            raise TokenRefused("issued before it was revoked")
        if silent or claims["iat"] <= events.in_doubt_until:
            self._ask(raw, claims, events, silent=silent)
        return claims

    def _claims(self, raw: str) -> dict[str, Any]:
        if len(raw) > LONGEST_TOKEN:
            raise TokenRefused("too long")
        try:
            header = jwt.get_unverified_header(raw)
            key = self._keys.get(str(header.get("kid")))
            if "crit" in header or header.get("alg") != key.algorithm_name:
                raise TokenRefused("a header that is not ours")
            claims: dict[str, Any] = jwt.decode(
                raw,
                key,
                algorithms=[key.algorithm_name],
                audience=self._audience,
                issuer=self._issuer,
                leeway=SKEW_SECONDS,
                options={"require": REQUIRED_CLAIMS},
            )
        except (jwt.InvalidTokenError, ValueError, TypeError) as error:
            raise TokenRefused(type(error).__name__) from error
        if claims["token_type"] != "access":  # noqa: S105 - a kind of token, no secret
            raise TokenRefused("no access token")
        if claims["exp"] - claims["iat"] > TOKEN_SECONDS:
            raise TokenRefused("lives longer than events are kept")
        return claims

    def _ask(self, raw: str, claims: dict[str, Any], events: TokenEvents, *, silent: bool) -> None:
        """Asks the service, unless it has answered since the last event. A no holds for ever; in silence a
        yes holds for this once."""
        known = self._answer(claims["jti"])
        if known is None or (known.accepted and (silent or known.sequence < events.sequence)):
            known = Answer(self._accepts(raw), events.sequence, claims["exp"] + SKEW_SECONDS)
            self._remember(claims["jti"], known)
        if not known.accepted:
            raise TokenRefused("refused by the user service")

    def _accepts(self, raw: str) -> bool:
        try:
            return self._authority.accepts(raw)
        except ServiceAway as error:
            raise TokenUnverifiable(str(error)) from error

    def _answer(self, jti: str) -> Answer | None:
        with self._lock:
            return self._answers.get(jti)

    def _remember(self, jti: str, answer: Answer) -> None:
        """The oldest make room; those that have expired are never asked about."""
        with self._lock:
            self._answers[jti] = answer
            self._answers.move_to_end(jti)
            while self._answers and self._too_many():
                self._answers.popitem(last=False)

    def _too_many(self) -> bool:
        oldest = next(iter(self._answers.values()))
        return len(self._answers) > MOST_ANSWERS or oldest.expires < self._clock()
