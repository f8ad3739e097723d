"""Is it as fast as a service written by hand in Go? `python -m benchmarks.against_go`, which is `make bench`.

Both services are up, on the same PostgreSQL and Redis, with logs and metrics on and bcrypt at cost 10, and
are loaded in turn: first ours, then Go's, in the next round the other way round. A round's ratio is ours to
Go's; what counts is the median of the rounds' ratios. Ours runs as in production, without a worker: the web
process sends its events itself, as Go's does.

- hit: one user, in the cache, read by an admin;
- miss: users that are not in the cache, each read once;
- block: each of many users blocked once;

  These three come with one token for all of a sample's requests. Ours, which remembers verified tokens,
  verifies it once, by ES256; Go verifies it each time, by HS256, which is far cheaper;

- register, login: bcrypt is what they cost;
- storm: hits again, with 16 logins in flight from a second client.

First with a core for the service and one for load generator, PostgreSQL and Redis; then with two cores shared
by all, and two workers. Prints PASS or MISS, and exits with 1 for a MISS."""

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

from benchmarks import report, rig
from benchmarks.load import EACH_ONCE, LoadFailed, Sample, meanwhile, timed, wrk
from benchmarks.report import Comparison, Goal
from benchmarks.rig import LAYOUTS
from benchmarks.storm import Storm, storm_table
from benchmarks.subjects import BCRYPT_COST, LOGINS, GoService, Ours, Subject, hashes_a_second, on_trial

T = TypeVar("T")
GOALS = {
    "hit": Goal(1.0, p99=1.0),
    "miss": Goal(1.0, p99=1.0),
    "block": Goal(1.0, p99=1.0),
    "register": Goal(0.97, p99=1.0),
    "login": Goal(0.97, p99=1.0),
}
NAMES = {
    "hit": "cached read",
    "miss": "read on a miss",
    "block": "block",
    "register": "register",
    "login": "log in",
}
OPERATIONS = [*NAMES, "storm"]
TABLES = {1: "go", 2: "go-two-cores"}
WARM_UP_SECONDS = 1.0


class Bench:
    """One layout of cores, services up and filled: takes samples of any operation."""

    def __init__(self, subjects: Sequence[Subject], options: argparse.Namespace) -> None:
        self._subjects = subjects
        self._options = options
        self._read = {subject: subject.fill("read", options.users) for subject in subjects}
        self._to_block: dict[Subject, Iterator[str]] = {}
        hashes = hashes_a_second() * subjects[0].rig.cores.workers
        self._bcrypt_requests = max(3 * LOGINS, round(options.bcrypt_seconds * hashes))

    def compared(self, operation: str) -> Comparison:
        if operation == "block":
            self._make_users_to_block()
        take: Callable[[Subject], Sample] = getattr(self, operation)
        ours, go = self._rounds(take).values()
        found = Comparison(NAMES[operation], "Go", ours, go, GOALS[operation])
        found.tell()
        return found

    def stormed(self) -> list[Storm]:
        """Each service's hits without and with the storm, of the same round."""
        taken = self._rounds(lambda subject: (self.hit(subject), *self.storm(subject)))
        return [
            Storm(subject.name, *map(list, zip(*samples, strict=True))) for subject, samples in taken.items()
        ]

    def hit(self, subject: Subject) -> Sample:
        user_id, header = self._read[subject][0], subject.bearer()
        self._read_one(subject, user_id, header, WARM_UP_SECONDS)
        return self._read_one(subject, user_id, header, self._options.seconds)

    def miss(self, subject: Subject) -> Sample:
        self._each_once(subject, self._read[subject], "GET", "", "", seconds=WARM_UP_SECONDS)
        return self._each_once(subject, self._read[subject], "GET", "", "", seconds=self._options.seconds)

    def block(self, subject: Subject) -> Sample:
        return [
            self._each_once(
                subject,
                list(islice(self._to_block[subject], self._users_to_block(seconds))),
                *("POST", "/block", '{"reason":"spam"}'),
                seconds=seconds,
            )
            for seconds in (WARM_UP_SECONDS, self._options.seconds)
        ][-1]

    def register(self, subject: Subject) -> Sample:
        requests = subject.registrations(self._bcrypt_requests)
        return timed(subject.url, requests, connections=self._options.connections)

    def login(self, subject: Subject) -> Sample:
        requests = subject.logins(self._bcrypt_requests)
        return timed(subject.url, requests, connections=self._options.connections)

    def storm(self, subject: Subject) -> tuple[Sample, float]:
        """Hits, and the logins a second beside them. Those are under way before counting begins, as hits are
        warmed up first."""
        with meanwhile(subject.url, subject.logins(), connections=LOGINS) as done:
            began = time.perf_counter()
            hits = self.hit(subject)
            return hits, len(done) / (time.perf_counter() - began)

    def _rounds(self, take: Callable[[Subject], T]) -> dict[Subject, list[T]]:
        """Who comes first changes with the round."""
        taken: dict[Subject, list[T]] = {subject: [] for subject in self._subjects}
        for number in range(self._options.rounds):
            for subject in self._subjects[:: -1 if number % 2 else 1]:
                taken[subject].append(take(subject))
                subject.rig.empty_logs()
        return taken

    def _read_one(self, subject: Subject, user_id: str, header: str, seconds: float) -> Sample:
        url, connections = f"{subject.url}/users/{user_id}", self._options.connections
        return wrk(url, header=header, seconds=seconds, connections=connections, named=user_id)

    def _each_once(self, subject: Subject, ids: list[str], *asked: str, seconds: float) -> Sample:
        """`asked`: method, what follows the id, body."""
        file = subject.rig.folder / "ids"
        file.write_text("\n".join(ids))
        subject.forget_users()
        return wrk(
            subject.url,
            header=subject.bearer(),
            seconds=seconds,
            connections=self._options.connections,
            script=EACH_ONCE,
            arguments=(str(file), *asked),
        )

    def _users_to_block(self, seconds: float) -> int:
        return int(seconds * self._options.blocks)

    def _make_users_to_block(self) -> None:
        each = self._users_to_block(WARM_UP_SECONDS) + self._users_to_block(self._options.seconds)
        for subject in self._subjects:
            self._to_block[subject] = iter(subject.fill("block", each * self._options.rounds))


def measured(cores: int, options: argparse.Namespace) -> bool:
    """One layout of cores, with its tables; whether all goals were met."""
    met: list[bool] = []
    with rig.running(rig.cores(cores)) as stage:
        where = environment(stage, cores, options)
        print(f"{where}\n", flush=True)
        subjects = [Ours(stage), GoService(stage)]
        for subject in subjects:
            subject.start()
        bench = Bench(subjects, options)
        if wanted := [operation for operation in NAMES if operation in options.only]:
            found = [each for operation in wanted if (each := attempted(bench, operation))]
            met += [len(found) == len(wanted), *(each.met for each in found)]
            table, complete = report.comparison_table(found), len(found) == len(NAMES)
            report.publish(TABLES[cores], where, table, write=options.write and complete)
        if "storm" in options.only and cores == 1:
            ours, go = bench.stormed()
            met += ours.judged_against(go)
            report.publish("storm", where, storm_table([ours, go]), write=options.write)
    return all(met)


def attempted(bench: Bench, operation: str) -> Comparison | None:
    """None, and said why, where a request failed: the other operations go on."""
    try:
        return bench.compared(operation)
    except LoadFailed as error:
        print(f"MISS: {NAMES[operation]}: {error}", flush=True)
        return None


def environment(stage: rig.Rig, cores: int, options: argparse.Namespace) -> str:
    """A paragraph: who, where, with what."""
    return (
        f"{report.machine()}. {report.our_versions()}. "
        f"{report.server_versions(stage.postgres.url, stage.redis.url)}. {go_versions()}. "
        f"{report.wrk_version()}, {options.connections} connections, {options.seconds:g} s a sample. "
        f"bcrypt cost {BCRYPT_COST}. "
        f"{LAYOUTS[cores]}. {options.rounds} alternating rounds; medians, also of the rounds' ratios. "
        f"{on_trial()}"
    ).strip()


def go_versions() -> str:
    """Of the compiler, and of the libraries as Debian numbers them."""
    packages = {"Gin": "golang-github-gin-gonic-gin-dev", "GORM": "golang-github-jinzhu-gorm-dev"}
    packages |= {"redigo": "golang-github-gomodule-redigo-dev", "zap": "golang-go.uber-zap-dev"}
    compiler = report.said_by(rig.program("go"), "version").split()[2].removeprefix("go")
    return f"Go {compiler}, " + ", ".join(
        f"{name} {report.said_by('dpkg-query', '-W', '-f', '${Version}', package)}"
        for name, package in packages.items()
    )


def options_of(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.against_go",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", nargs="+", choices=OPERATIONS, default=OPERATIONS, metavar="OPERATION")
    parser.add_argument("--cores", nargs="+", type=int, choices=(1, 2), default=(1, 2))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5, help="a sample, by wrk")
    parser.add_argument("--bcrypt-seconds", type=float, default=15, help="about, for register and login")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--users", type=int, default=100_000, help="to be read on a miss")
    parser.add_argument("--blocks", type=int, default=5_000, help="users made ready, for each second")
    parser.add_argument("--no-write", dest="write", action="store_false", help="docs/performance.md stays")
    options = parser.parse_args(arguments)
    options.write = options.write and not on_trial()
    return options


def main() -> int:
    options = options_of(sys.argv[1:])
    rig.end_on_sigterm()
    try:
        rig.program("wrk")
        met = [measured(cores, options) for cores in options.cores]
    except (rig.CannotMeasure, LoadFailed) as error:
        print(error, file=sys.stderr)
        return 1
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
