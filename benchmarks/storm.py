"""What a login storm leaves of reading: the figures of one service, and how ours are judged."""

import statistics
from collections.abc import Iterable
from dataclasses import dataclass

from benchmarks import report
from benchmarks.load import Sample

KEPT_GOAL = 0.5


@dataclass(frozen=True)
class Storm:
    """Cached reads of a service, idle and stormy, by round."""

    name: str
    idle: list[Sample]
    stormy: list[Sample]
    logins: list[float]
    """A second, which the reads left."""

    @property
    def kept(self) -> float:
        """Of the idle throughput, so much."""
        pairs = zip(self.idle, self.stormy, strict=True)
        return statistics.median(stormy.rate / idle.rate for idle, stormy in pairs)

    def p99_to(self, other: "Storm") -> float:
        pairs = zip(self.stormy, other.stormy, strict=True)
        return statistics.median(mine.p99 / its.p99 for mine, its in pairs)

    def judged_against(self, other: "Storm") -> list[bool]:
        """Verdicts, printed."""
        p99 = self.p99_to(other)
        return [
            report.verdict(
                "throughput in the storm",
                f"{self.kept:.2f} of idle",
                f">= {KEPT_GOAL}",
                round(self.kept, 2) >= KEPT_GOAL,
            ),
            report.verdict("p99 in the storm", f"{p99:.2f} x {other.name}", "<= 1.0", round(p99, 2) <= 1),
        ]


def storm_table(storms: Iterable[Storm]) -> str:
    head = ["cached reads", "idle, /s", "in the storm, /s", "kept", "p99 idle, ms", "p99 in the storm, ms"]
    head.append("logins beside them, /s")
    return report.table(
        head,
        [
            [
                storm.name,
                report.shown(report.median_rate(storm.idle)),
                report.shown(report.median_rate(storm.stormy)),
                f"**{storm.kept:.2f}**",
                report.milliseconds(report.median_p99(storm.idle)),
                report.milliseconds(report.median_p99(storm.stormy)),
                report.shown(statistics.median(storm.logins)),
            ]
            for storm in storms
        ],
    )
