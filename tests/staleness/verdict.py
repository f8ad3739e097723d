"""Which suspects are guilty: what was answered too old, held against the writes it lacks and the moments at
which Redis was away and came back with its old data.

The exception that ADR 4 states, as narrow as it can be told from outside. An answer is excepted when, for
every write that it lacks, all of this holds:

- Redis was asleep while the write was under way, or had woken less than a second before, when the circuit
  breaker of a process may still keep it from Redis;
- the answer was not whole before Redis had woken: until then nobody can have read from it;
- the request was sent at most REPAIR after Redis had woken and the write was answered."""

import json
from dataclasses import asdict, dataclass

MILLISECOND = 1_000_000
BREAKER = 1000 * MILLISECOND
REPAIR = 150 * MILLISECOND
"""The 50 ms between two attempts, and what a process with all its threads at work takes to get one out."""


@dataclass(frozen=True)
class Write:
    """One that was answered. `kills`: the tokens from before it."""

    user: int
    version: int
    begun: int
    ended: int
    kills: bool = False
    what: str = ""

    def line(self) -> str:
        return json.dumps(asdict(self)) + "\n"


@dataclass(frozen=True)
class Suspect:
    """An answer that lacks what was answered before its request. `kind`: `old` (version `got` where `due` was
    known), `token` (issued at `got`, and a write that kills it had begun at `due`), or something that no
    exception excuses. `what` tells of the request."""

    kind: str
    user: int
    got: int
    due: int
    begun: int
    ended: int
    what: str = ""

    def line(self) -> str:
        return json.dumps(asdict(self)) + "\n"

    def lacks(self, write: Write) -> bool:
        if write.user != self.user or write.ended > self.begun:
            return False
        if self.kind == "token":
            return write.kills and write.begun > self.got
        return self.got < write.version <= self.due


@dataclass(frozen=True)
class Sleep:
    """Of Redis, which then goes on with the data it had."""

    began: int
    woke: int

    def excuses(self, suspect: Suspect, write: Write, *, repair: int = REPAIR) -> bool:
        if write.ended < self.began or write.begun > self.woke + BREAKER:
            return False
        repaired = max(self.woke, write.ended) + repair
        return suspect.ended >= self.woke and suspect.begun <= repaired

    def behind(self, suspect: Suspect) -> float:
        """How many milliseconds after Redis had woken the request was sent."""
        return (suspect.begun - self.woke) / MILLISECOND


@dataclass(frozen=True)
class Verdict:
    guilty: list[Suspect]
    excepted: list[Suspect]


def judge(
    suspects: list[Suspect], writes: list[Write], sleeps: list[Sleep], *, repair: int = REPAIR
) -> Verdict:
    guilty, excepted = [], []
    for suspect in suspects:
        (excepted if _is_excepted(suspect, writes, sleeps, repair) else guilty).append(suspect)
    return Verdict(guilty, excepted)


def _is_excepted(suspect: Suspect, writes: list[Write], sleeps: list[Sleep], repair: int) -> bool:
    if suspect.kind not in {"old", "token"}:
        return False
    lacking = [write for write in writes if suspect.lacks(write)]
    return bool(lacking) and all(
        any(sleep.excuses(suspect, write, repair=repair) for sleep in sleeps) for write in lacking
    )
