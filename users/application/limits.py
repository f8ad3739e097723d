"""Rate limits: what a policy is, what is counted under it, and how a caller learns where he stands.

A policy `10/15m` lets ten through at once and then gives one back every 90 seconds (GCRA): nobody waits for
a window to end, and nobody gets the quota twice around its edge."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import NoReturn, Protocol

from users.application.errors import RateLimited

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
MAX_QUOTA = 1_000_000
MAX_SECONDS = 30 * UNITS["d"]
_RULE = re.compile(r"(\d{1,9})/(\d{0,9})([smhd])", re.ASCII)


@dataclass(frozen=True, slots=True)
class Policy:
    """At most `quota` in `seconds`."""

    name: str
    quota: int
    seconds: int

    @classmethod
    def parse(cls, name: str, rule: str) -> "Policy | None":
        """`10/15m`, `60/m`; None for `off`. Raises ValueError."""
        if rule.strip().lower() == "off":
            return None
        parts = _RULE.fullmatch(rule.strip())
        quota, seconds = (int(parts[1]), int(parts[2] or 1) * UNITS[parts[3]]) if parts else (0, 0)
        if not (1 <= quota <= MAX_QUOTA and 1 <= seconds <= MAX_SECONDS):
            raise ValueError(
                f"a limit is written like 10/15m (s, m, h or d; at most {MAX_QUOTA}, in at most 30 days) or "
                f"off, not {rule!r}"
            )
        return cls(name, quota, seconds)


Policies = Mapping[str, Policy | None]
"""By name; None for those that are switched off."""


@dataclass(frozen=True, slots=True)
class Claim:
    """One more under `policy` for `key`; with `cost` 0 only the question whether there would be one. Where
    the caller stands under it he learns if it is `told`."""

    policy: Policy
    key: str
    cost: int = 1
    told: bool = True


@dataclass(frozen=True, slots=True)
class Standing:
    """What remains under a policy, and in how many seconds there will be one more of it."""

    policy: Policy
    remaining: int
    reset: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """On all claims together, in their order. `refused`: the one that has to wait longest, when any has."""

    standings: Sequence[Standing]
    refused: Standing | None = None


class Meter(Protocol):
    """Counts. All or nothing: claims of which one is refused use nothing up."""

    def take(self, claims: Sequence[Claim]) -> Verdict: ...

    def give_back(self, claims: Sequence[Claim]) -> None:
        """What was let through shall not have counted."""
        ...


class Limits:
    """`RateLimits` by the policies of the settings. `limited` is told the policy of every refusal."""

    def __init__(self, policies: Policies, meter: Meter, *, limited: Callable[[str], None]) -> None:
        self._policies = policies
        self._meter = meter
        self._limited = limited

    def hold(self, **keys: str) -> None:
        self.enforce(self.claims(keys))

    def claims(self, keys: Mapping[str, str], *, told: bool = True) -> list[Claim]:
        """For those of the policies that are on."""
        return [
            Claim(policy, key, told=told) for name, key in keys.items() if (policy := self._policies[name])
        ]

    def enforce(self, claims: Sequence[Claim]) -> None:
        """Raises RateLimited."""
        self.judge(claims, self._meter.take(claims))

    def judge(self, claims: Sequence[Claim], verdict: Verdict, *, again: bool = False) -> None:
        """Tells the caller where he stands under what was counted. Raises RateLimited."""
        if verdict.refused:
            self.refuse(verdict.refused.policy, verdict.refused.reset, again=again)
        _note(
            standing
            for claim, standing in zip(claims, verdict.standings, strict=True)
            if claim.cost and claim.told
        )

    def refuse(self, policy: Policy, wait: float, *, again: bool = False) -> NoReturn:
        """Raises RateLimited."""
        if not again:
            self._limited(policy.name)
        _note([Standing(policy, 0, wait)])
        raise RateLimited(wait, policy=policy.name)


_noted: ContextVar[dict[str, Standing] | None] = ContextVar("standings", default=None)


@contextmanager
def noted_standings() -> Iterator[Mapping[str, Standing]]:
    """Where the caller stands after what happens in the block, by policy: the answer's headers say it."""
    standings: dict[str, Standing] = {}
    token = _noted.set(standings)
    try:
        yield standings
    finally:
        _noted.reset(token)


def _note(standings: Iterable[Standing]) -> None:
    noted = _noted.get()
    if noted is not None:
        noted.update({standing.policy.name: standing for standing in standings})
