"""Against guessing passwords, without a weapon against their owners.

Three things are counted: all attempts on an account from an address; those from an address that do not
succeed; and failures on an account from networks where nobody has logged in to it lately. Beyond the last
limit strangers share one attempt at a time, further and further apart (1 s, doubling up to 15 minutes), until
they have been quiet for as long as the policy says. Whom the account knows is not held to that, and whoever
proves that the mailbox is his becomes known: nobody is locked out for good, and nobody at home at all.

What is counted of an address is counted before the hash, and given back after a success: of many at once no
more are tried than of one after another.

An account is whatever was typed as the address of one, whether it exists or not: limits tell nothing. While
Redis is away each process counts for itself, and beyond the last limit strangers are refused, not delayed;
strangers are then all who have not proven themselves to this process."""

from collections.abc import Sequence

from users.application.addresses import network_of, prefix_of
from users.application.errors import RateLimited
from users.application.limits import Claim, Limits, Policies, Policy
from users.infrastructure.proven_networks import ProvenNetworks
from users.infrastructure.rate_limits import (
    MICROSECONDS,
    WEIGH,
    KeyNames,
    RedisMeter,
    arguments,
    verdict_by_redis,
)
from users.infrastructure.redis_link import RedisAway, RedisLink
from users.infrastructure.security_log import security_event
from users_domain.errors import InvalidEmail
from users_domain.value_objects import Email

FIRST_DELAY_SECONDS = 1
LONGEST_DELAY_SECONDS = 15 * 60
KNOWN_SECONDS = 30 * 24 * 3600
LONGEST_ADDRESS = 254
KNOWN_NETWORKS = 20
"""For each account; the oldest is forgotten first."""
PLACES = ("login_known", "login_delay")

STRANGER = f"""{WEIGH}
local network, known_for, first, longest, quiet = unpack(ARGV, 1, 5)
local function is_stranger(known, now)
    local since = redis.call('ZSCORE', known, network)
    return not since or tonumber(since) < now - known_for * 1000000
end
local function delay(key, level, seconds, now)
    redis.call('HSET', key, 'level', level, 'until', string.format('%.0f', now + seconds * 1000000))
    redis.call('EXPIRE', key, math.ceil(seconds + quiet))
end
"""

ADMIT = f"""{STRANGER}
local now = now_by_redis()
local level, wait = 0, 0
if is_stranger(KEYS[1], now) then
    local state = redis.call('HMGET', KEYS[2], 'level', 'until')
    level = tonumber(state[1] or 0)
    wait = math.max(0, math.min(tonumber(state[2] or 0) - now, longest * 1000000))
end
local keys, claims = {{unpack(KEYS, 3)}}, {{unpack(ARGV, 6)}}
local answers, tats, refused = weigh(keys, claims, now)
if not refused and wait == 0 then
    count(keys, claims, tats, now)
    if level > 0 then
        delay(KEYS[2], math.min(level + 1, 30), math.min(first * 2 ^ level, longest), now)
    end
end
return {{wait, answers}}
"""
"""KEYS: known networks, delay, one for each claim. A stranger who is let through while there is a delay makes
the next one wait longer."""

FAILED = f"""{STRANGER}
local now = now_by_redis()
if not is_stranger(KEYS[1], now) then return 0 end
local keys, claims = {{KEYS[3]}}, {{unpack(ARGV, 6)}}
local _, tats, refused = weigh(keys, claims, now)
if not refused then count(keys, claims, tats, now) return 0 end
if redis.call('EXISTS', KEYS[2]) == 1 then return 0 end
delay(KEYS[2], 1, first, now)
return 1
"""
"""KEYS: known networks, delay, the claim on the account. Answers 1 when strangers wait from now on."""

REMEMBER = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('(%.0f', now - ARGV[2] * 1000000))
local others = redis.call('ZCARD', KEYS[1])
local is_new = redis.call('ZADD', KEYS[1], string.format('%.0f', now), ARGV[1])
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -1 - ARGV[3])
redis.call('EXPIRE', KEYS[1], ARGV[2])
return is_new == 1 and others > 0 and 1 or 0
"""
"""Answers 1 for a network that the account, which knows others, has not seen lately."""


class RedisLoginGuard:
    def __init__(
        self, link: RedisLink, names: KeyNames, meter: RedisMeter, limits: Limits, policies: Policies
    ) -> None:
        self._link = link
        self._names = names
        self._meter = meter
        self._limits = limits
        self._account = policies["login_account"]
        self._proven = ProvenNetworks()

    def admit(self, email: str, address: str) -> None:
        account, network = canonical(email), network_of(address)
        claims = [
            *self._limits.claims({"login": f"{account}\n{network}"}),
            *self._of_address(network),
        ]
        try:
            if self._account is None:
                self._limits.enforce(claims)
            else:
                self._admit(self._account, account, address, claims)
        except RateLimited as limited:
            security_event(
                "login_limited", address=address, account=self._names.digest(account), policy=limited.policy
            )
            raise

    def _admit(self, policy: Policy, account: str, address: str, claims: Sequence[Claim]) -> None:
        keys = [*self._places(account), *self._names.of(claims)]
        try:
            with self._link.client() as redis:
                wait, answers = redis.register_script(ADMIT)(
                    keys=keys, args=[*self._rules(policy, address), *arguments(claims)]
                )
        except RedisAway:
            self._admit_alone(policy, account, address, claims)
            return
        self._limits.judge(claims, verdict_by_redis(claims, answers))
        if wait:
            self._limits.refuse(policy, wait / MICROSECONDS)

    def _admit_alone(self, policy: Policy, account: str, address: str, claims: Sequence[Claim]) -> None:
        if not self._proven.has(account, address):
            claims = [*claims, Claim(policy, account, told=False)]
        self._limits.judge(claims, self._meter.alone.take(claims))

    def note_failure(self, email: str, user_id: str | None, address: str, *, reason: str) -> None:
        account = canonical(email)
        security_event(
            "login_refused",
            address=address,
            user_id=user_id,
            account=self._names.digest(account),
            reason=reason,
        )
        if self._account and self._fail(self._account, account, address):
            security_event("account_under_attack", user_id=user_id, account=self._names.digest(account))

    def _fail(self, policy: Policy, account: str, address: str) -> bool:
        claims = [Claim(policy, account)]
        keys = [*self._places(account), *self._names.of(claims)]
        try:
            with self._link.client() as redis:
                return bool(
                    redis.register_script(FAILED)(
                        keys=keys, args=[*self._rules(policy, address), *arguments(claims)]
                    )
                )
        except RedisAway:
            return False

    def note_success(self, email: str, user_id: str, address: str, *, by_link: bool = False) -> None:
        event = "mailbox_proven" if by_link else "login_succeeded"
        security_event(event, address=address, user_id=user_id)
        account = canonical(email)
        if not by_link:
            self._meter.give_back(self._of_address(network_of(address)))
        if self._account is None:
            return
        self._proven.add(account, address)
        known, _ = self._places(account)
        said: list[str | int] = [self._names.digest(prefix_of(address)), KNOWN_SECONDS, KNOWN_NETWORKS]
        try:
            with self._link.client() as redis:
                is_new = redis.register_script(REMEMBER)(keys=[known], args=said)
        except RedisAway:
            return
        if is_new:
            security_event("login_from_new_network", address=address, user_id=user_id)

    def digest(self, email: str) -> str:
        """By which the account is found, and forgotten, once nobody knows its address any more."""
        return self._names.digest(canonical(email))

    def forget(self, accounts: Sequence[str]) -> None:
        """What is known of accounts that are no more, by their digests. Raises RedisAway."""
        places = [KeyNames.named(kind, account) for account in accounts for kind in PLACES]
        if places:
            with self._link.client() as redis:
                redis.delete(*places)

    def _of_address(self, network: str) -> list[Claim]:
        """Whoever shares the address does not learn what the others try."""
        return self._limits.claims({"login_address": network}, told=False)

    def _places(self, account: str) -> list[str]:
        return [self._names.name(kind, account) for kind in PLACES]

    def _rules(self, policy: Policy, address: str) -> list[str | int]:
        return [
            self._names.digest(prefix_of(address)),
            KNOWN_SECONDS,
            FIRST_DELAY_SECONDS,
            LONGEST_DELAY_SECONDS,
            policy.seconds,
        ]


def canonical(email: str) -> str:
    """What the account would be called if it existed; what is no address counts as it was typed, as far as
    an address may go."""
    try:
        return str(Email(email))
    except InvalidEmail:
        return email.strip()[:LONGEST_ADDRESS].casefold()
