"""What a comparison says: where it was made, rounds, medians, ratios, PASS or MISS; and the table in
docs/performance.md."""

import os
import platform
import re
import statistics
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from benchmarks.load import Sample
from config.embedded import PROJECT

PERFORMANCE = PROJECT / "docs" / "performance.md"
LIBRARIES = ("Django", "djangorestframework", "granian", "psycopg", "redis", "hiredis", "PyJWT", "bcrypt")


# --- Where ------------------------------------------------------------------------------------------------


def machine() -> str:
    return (
        f"{_processor()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}, "
        f"load {os.getloadavg()[0]:.1f} at the start, {datetime.now(UTC):%Y-%m-%d}"
    )


def _processor() -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1].strip() if found else platform.machine()


def our_versions(libraries: Sequence[str] = LIBRARIES) -> str:
    named = ", ".join(f"{name} {version(name)}" for name in libraries)
    return f"Python {platform.python_version()}, {named}"


def server_versions(database_url: str, redis_url: str) -> str:
    import psycopg
    import redis

    with psycopg.connect(database_url) as connection:
        postgres = connection.info.parameter_status("server_version")
    with redis.Redis.from_url(redis_url) as client:
        info = client.info("server")
    name = "Valkey" if "valkey_version" in info else "Redis"
    return f"PostgreSQL {postgres}, {name} {info[f'{name.lower()}_version']}"


def said_by(*command: str, folder: Path = PROJECT) -> str:
    """The first line of what a program answers about its version."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return (done.stdout or done.stderr).strip().partition("\n")[0]


def wrk_version() -> str:
    return said_by("wrk", "-v").partition(" [")[0]


# --- What came of it --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Goal:
    """Ours to theirs: `rate`, requests a second, at least; `p99`, at most. What has no goal is only shown."""

    rate: float | None = None
    p99: float | None = None


@dataclass(frozen=True)
class Comparison:
    """One operation of two services, measured in alternating rounds."""

    operation: str
    peer: str
    ours: list[Sample]
    theirs: list[Sample]
    goal: Goal

    @property
    def ratios(self) -> list[float]:
        """Of each round: what the machine did besides fell on both."""
        return [ours.rate / theirs.rate for ours, theirs in zip(self.ours, self.theirs, strict=True)]

    @property
    def ratio(self) -> float:
        return statistics.median(self.ratios)

    @property
    def p99_ratio(self) -> float:
        pairs = zip(self.ours, self.theirs, strict=True)
        return statistics.median(ours.p99 / theirs.p99 for ours, theirs in pairs)

    @property
    def met(self) -> bool:
        """Judged by what is printed: two decimals."""
        slow = self.goal.rate is not None and round(self.ratio, 2) < self.goal.rate
        late = self.goal.p99 is not None and round(self.p99_ratio, 2) > self.goal.p99
        return not slow and not late

    @property
    def row(self) -> list[str]:
        return [
            self.operation,
            shown(median_rate(self.ours)),
            shown(median_rate(self.theirs)),
            " ".join(f"{ratio:.2f}" for ratio in self.ratios),
            f"**{self.ratio:.2f}**",
            "" if self.goal.rate is None else f">= {self.goal.rate:.2f}",
            milliseconds(median_p99(self.ours)),
            milliseconds(median_p99(self.theirs)),
            f"{self.p99_ratio:.2f}",
            "" if self.goal.p99 is None else f"<= {self.goal.p99:.2f}",
            "" if self.goal == Goal() else passed(self.met),
        ]

    def tell(self) -> None:
        """On a line of its own, as soon as it is known."""
        line = f"{self.operation}: {self.ratio:.2f} x {self.peer}, p99 {self.p99_ratio:.2f} x"
        print(line if self.goal == Goal() else f"{passed(self.met)}: {line} ({self._goals})", flush=True)

    @property
    def _goals(self) -> str:
        rate = "" if self.goal.rate is None else f">= {self.goal.rate:.2f}"
        p99 = "" if self.goal.p99 is None else f"p99 <= {self.goal.p99:.2f}"
        return f"goal: {', '.join(filter(None, (rate, p99)))}"


def median_rate(samples: Iterable[Sample]) -> float:
    return statistics.median(sample.rate for sample in samples)


def median_p99(samples: Iterable[Sample]) -> float:
    return statistics.median(sample.p99 for sample in samples)


def shown(rate: float) -> str:
    return f"{rate:,.1f}" if rate < 100 else f"{rate:,.0f}"


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:,.0f}" if seconds >= 0.1 else f"{seconds * 1000:.1f}"


def passed(met: bool) -> str:
    return "PASS" if met else "MISS"


def verdict(name: str, value: str, goal: str, met: bool) -> bool:
    """One goal, on a line of its own."""
    print(f"{passed(met)}: {name}: {value} (goal: {goal})", flush=True)
    return met


def comparison_table(comparisons: Iterable[Comparison]) -> str:
    """Medians of the rounds; the ratio is the median of the rounds' ratios."""
    rows = list(comparisons)
    peers = {each.peer for each in rows}
    peer = peers.pop() if len(peers) == 1 else "theirs"
    head = ["", "ours, /s", f"{peer}, /s", "ratio by round", "ratio", "goal"]
    head += ["our p99, ms", f"p99 of {peer}, ms", "ratio", "goal", ""]
    return table(head, [each.row for each in rows])


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


# --- The page ---------------------------------------------------------------------------------------------


def write_table(name: str, text: str, page: Path = PERFORMANCE) -> None:
    """Replaces what stands between the markers of this name. Raises LookupError where there are none."""
    fresh, found = re.subn(
        rf"(<!-- table: {re.escape(name)} -->\n).*?(<!-- end -->)",
        lambda markers: f"{markers[1]}{text.strip()}\n{markers[2]}",
        page.read_text(),
        flags=re.DOTALL,
    )
    if found != 1:
        raise LookupError(f"{page.name} has {found} tables {name!r}")
    page.write_text(fresh)


def publish(name: str, where: str, table: str, *, write: bool) -> None:
    """Prints the table, and puts it into the page unless it is only a part, or a try."""
    print(f"\n{table}\n", flush=True)
    if write:
        write_table(name, f"{table}\n\n{where}")
