"""Counting for rate limits: in Redis, for all processes together, by one atomic script (GCRA); in this
process, by the same rule, while Redis is away.

A key holds one number, the theoretical arrival time (TAT): until when the quota is used up by what was let
through. Each one moves it on by `seconds / quota`; refused is what would move it further than `seconds` from
now. The time is Redis' own, so that no two processes disagree. Keys are named by keyed digests, so that none
says whom it is about, and expire as soon as they would say nothing any more."""

import hashlib
import hmac
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, cast

from redis.exceptions import ResponseError

from users.application.limits import Claim, Limits, Standing, Verdict
from users.infrastructure.redis_link import Ask, RedisAway, RedisLink
from users.infrastructure.scripts import Script

WEIGH = """
local function now_by_redis()
    local time = redis.call('TIME')
    return time[1] * 1000000 + time[2]
end
local function weigh(keys, claims, now)
    local answers, tats, refused = {}, {}, false
    for i = 1, #keys do
        local quota, window, cost = unpack(claims, 3 * i - 2, 3 * i)
        local interval = window / quota
        local tat = tonumber(redis.call('GET', keys[i]) or now) or now
        tat = math.max(now, math.min(tat, now + window))
        local free = math.floor((now + window - tat) / interval + 0.000001)
        if free < 1 then
            refused = true
            answers[i] = {-1, math.ceil(tat + interval - now - window)}
        else
            tats[i] = tat + cost * interval
            local more = math.ceil(tats[i] + (free - cost + 1) * interval - now - window)
            answers[i] = {free - cost, tats[i] > now and math.max(more, 0) or 0}
        end
    end
    return answers, tats, refused
end
local function count(keys, claims, tats, now)
    for i = 1, #keys do
        if tonumber(claims[3 * i]) > 0 then
            local lasts = math.max(1, math.ceil((tats[i] - now) / 1000))
            redis.call('SET', keys[i], string.format('%.17g', tats[i]), 'PX', lasts)
        end
    end
end
"""
"""For the scripts that count. `claims`: for each key its quota, window in microseconds, and cost. An answer
is what remains, -1 for a refusal, and the microseconds until there is one more."""

TAKE = f"""{WEIGH}
local now = now_by_redis()
local answers, tats, refused = weigh(KEYS, ARGV, now)
if not refused then count(KEYS, ARGV, tats, now) end
return answers
"""

GIVE_BACK = f"""{WEIGH}
local now = now_by_redis()
for i = 1, #KEYS do
    local quota, window, cost = unpack(ARGV, 3 * i - 2, 3 * i)
    local tat = math.min(tonumber(redis.call('GET', KEYS[i]) or now) or now, now + window)
    count({{KEYS[i]}}, {{quota, window, cost}}, {{math.max(now, tat - cost * window / quota)}}, now)
end
"""
"""What TAKE has counted, the other way round."""

FETCH = Script(f"""{WEIGH}
local keys, claims, now = {{unpack(KEYS, ARGV[1] + 1)}}, {{unpack(ARGV, 2)}}, now_by_redis()
local answers, tats, refused = weigh(keys, claims, now)
if not refused then count(keys, claims, tats, now) end
return {{redis.call('MGET', unpack(KEYS, 1, ARGV[1])), answers}}
""")
"""As TAKE, and the values of the first ARGV[1] keys with it."""
MICROSECONDS = 1_000_000


class KeyNames:
    """Names of keys in Redis, from which nobody reads an address or an account."""

    def __init__(self, secret: str) -> None:
        self._key = hashlib.sha256(b"users.limits\x00" + secret.encode()).digest()

    def digest(self, text: str) -> str:
        return hmac.digest(self._key, text.encode(errors="surrogatepass"), "sha256").hex()[:32]

    def name(self, kind: str, text: str) -> str:
        return self.named(kind, self.digest(text))

    @staticmethod
    def named(kind: str, digest: str) -> str:
        return f"limit:{kind}:{digest}"

    def of(self, claims: Sequence[Claim]) -> list[str]:
        return [self.name(claim.policy.name, claim.key) for claim in claims]


class LocalMeter:
    """Of this process alone, for the `most` keys used last."""

    def __init__(self, *, most: int = 100_000, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._clock = clock
        self._lock = threading.Lock()
        self._tats: OrderedDict[tuple[str, bytes], float] = OrderedDict()

    def take(self, claims: Sequence[Claim]) -> Verdict:
        with self._lock:
            now = self._clock()
            weighed = [self._weigh(claim, now) for claim in claims]
            verdict = _verdict(claims, [answer for answer, _ in weighed])
            if not verdict.refused:
                for claim, (_, tat) in zip(claims, weighed, strict=True):
                    self._keep(claim, tat)
        return verdict

    def give_back(self, claims: Sequence[Claim]) -> None:
        with self._lock:
            now = self._clock()
            for claim in claims:
                interval = claim.policy.seconds / claim.policy.quota
                tat = self._tats.pop(_place(claim), now) - claim.cost * interval
                if tat > now:
                    self._keep(claim, tat)

    def _weigh(self, claim: Claim, now: float) -> tuple[tuple[int, float], float]:
        """What the script of Redis does for one claim, in seconds; and the new TAT."""
        window, interval = claim.policy.seconds, claim.policy.seconds / claim.policy.quota
        tat = max(now, min(self._tats.get(_place(claim), now), now + window))
        free = math.floor((now + window - tat) / interval + 1e-6)
        if free < 1:
            return (-1, tat + interval - now - window), tat
        moved = tat + claim.cost * interval
        more = moved + (free - claim.cost + 1) * interval - now - window
        return (free - claim.cost, max(more, 0.0) if moved > now else 0.0), moved

    def _keep(self, claim: Claim, tat: float) -> None:
        if claim.cost:
            key = _place(claim)
            self._tats[key] = tat
            self._tats.move_to_end(key)
            if len(self._tats) > self._most:
                self._tats.popitem(last=False)


class RedisMeter:
    """`Meter` for all processes; each for itself by the same policies while Redis is away."""

    def __init__(self, link: RedisLink, names: KeyNames, *, alone: LocalMeter | None = None) -> None:
        self._link = link
        self._names = names
        self.alone = alone or LocalMeter()

    def take(self, claims: Sequence[Claim]) -> Verdict:
        if not claims:
            return Verdict(())
        try:
            with self._link.client() as redis:
                answers = redis.register_script(TAKE)(keys=self._names.of(claims), args=arguments(claims))
        except RedisAway:
            return self.alone.take(claims)
        return verdict_by_redis(claims, answers)

    def give_back(self, claims: Sequence[Claim]) -> None:
        if not claims:
            return
        try:
            with self._link.client() as redis:
                redis.register_script(GIVE_BACK)(keys=self._names.of(claims), args=arguments(claims))
        except RedisAway:
            self.alone.give_back(claims)


class CallerLimit:
    """The limit of every authenticated request, which must not cost a round trip of its own."""

    def __init__(self, limits: Limits, meter: RedisMeter, names: KeyNames) -> None:
        self._limits = limits
        self._meter = meter
        self._names = names

    def turn(self, caller: str) -> "Turn | None":
        """None where the limit is off."""
        claims = self._limits.claims({"caller": caller})
        return Turn(self._limits, self._meter, claims, self._names.of(claims)) if claims else None


class Turn:
    """One request's, which travels with what somebody else asks of Redis anyway."""

    def __init__(self, limits: Limits, meter: RedisMeter, claims: Sequence[Claim], keys: list[str]) -> None:
        self._limits = limits
        self._meter = meter
        self._claims = claims
        self._keys = keys
        self._verdict: Verdict | None = None
        self._judged = False

    def fetch(self, ask: Ask, keys: Sequence[str]) -> list[bytes | None]:
        """MGET, and the count with it, by one script. A Redis that may only be read, for it is full or a
        replica, is read; then this process counts."""
        try:
            # The hottest path of all: by the script's digest, which is made once.
            found, answers = FETCH(ask, [*keys, *self._keys], [len(keys), *arguments(self._claims)])
        except ResponseError:
            self._verdict = self._meter.alone.take(self._claims)
            return cast(list[bytes | None], ask("MGET", *keys))
        self._verdict = verdict_by_redis(self._claims, answers)
        return cast(list[bytes | None], found)

    def enforce(self) -> None:
        """Asks by itself if nobody took it along. Raises RateLimited."""
        self._verdict = self._verdict or self._meter.take(self._claims)
        again, self._judged = self._judged, True
        self._limits.judge(self._claims, self._verdict, again=again)

    @property
    def is_free(self) -> bool:
        """Whether it was counted and let through."""
        return self._verdict is not None and not self._verdict.refused

    def give_back(self) -> None:
        """For a request that was counted, and turned out not to be the caller's."""
        if self.is_free:
            self._meter.give_back(self._claims)


def _place(claim: Claim) -> tuple[str, bytes]:
    """Where the process counts it: short, however long what somebody typed is."""
    return claim.policy.name, hashlib.sha256(claim.key.encode(errors="surrogatepass")).digest()[:16]


def arguments(claims: Sequence[Claim]) -> list[int]:
    return [
        number
        for claim in claims
        for number in (claim.policy.quota, claim.policy.seconds * MICROSECONDS, claim.cost)
    ]


def verdict_by_redis(claims: Sequence[Claim], answers: Any) -> Verdict:
    pairs = cast(list[tuple[int, int]], answers)
    return _verdict(claims, [(remaining, wait / MICROSECONDS) for remaining, wait in pairs])


def _verdict(claims: Sequence[Claim], answers: Sequence[tuple[int, float]]) -> Verdict:
    standings = [
        Standing(claim.policy, max(remaining, 0), reset)
        for claim, (remaining, reset) in zip(claims, answers, strict=True)
    ]
    refused = [standing for standing, (remaining, _) in zip(standings, answers, strict=True) if remaining < 0]
    return Verdict(standings, max(refused, key=lambda standing: standing.reset, default=None))
