"""How does it compare with what Django, FastAPI and Node users would pick?
`python -m benchmarks.against_peers`, which is `make bench-peers`.

djoser on gunicorn, fastapi-users on uvicorn and better-auth on Node, as their documents have them, each with
one core; all on the same PostgreSQL, with bcrypt at cost 10, no limits, and a log line for each request. In
each round all are loaded in turn, from the first or from the last on; a round's ratio is ours to theirs, and
the median of the rounds' ratios counts.

- read: somebody reads himself. Ours comes from the cache; the others have none;
- register, login: bcrypt is what they cost; shown without a goal.

One that cannot be installed is told of, and left out. Prints PASS or MISS, and exits with 1 for a MISS."""

import argparse
import sys
from collections.abc import Sequence

from benchmarks import report, rig
from benchmarks.load import LoadFailed, Sample, timed, wrk
from benchmarks.peers.services import PEERS, Peer
from benchmarks.report import Comparison, Goal
from benchmarks.rig import LAYOUTS
from benchmarks.subjects import BCRYPT_COST, LOGINS, Ours, Service, hashes_a_second, on_trial

GOALS = {"read": Goal(5.0), "register": Goal(), "login": Goal()}
NAMES = {"read": "read oneself", "register": "register", "login": "log in"}
WARM_UP_SECONDS = 1.0


class Bench:
    """Services that are up: takes samples of any operation."""

    def __init__(self, services: Sequence[Service], options: argparse.Namespace) -> None:
        self._services = services
        self._options = options
        self._bcrypt_requests = max(3 * LOGINS, round(options.bcrypt_seconds * hashes_a_second()))

    def rounds(self, operation: str) -> dict[Service, list[Sample]]:
        taken: dict[Service, list[Sample]] = {service: [] for service in self._services}
        for number in range(self._options.rounds):
            for service in self._services[:: -1 if number % 2 else 1]:
                taken[service].append(self._sample(operation, service))
                service.rig.empty_logs()
        return taken

    def _sample(self, operation: str, service: Service) -> Sample:
        connections = self._options.connections
        match operation:
            case "read":
                path, header = service.myself()
                for seconds in (WARM_UP_SECONDS, self._options.seconds):
                    sample = wrk(
                        f"{service.url}{path}",
                        header=header,
                        seconds=seconds,
                        connections=connections,
                        named=service.people[0],
                    )
                return sample
            case "register":
                requests = service.registrations(self._bcrypt_requests)
            case _:
                requests = service.logins(self._bcrypt_requests)
        return timed(service.url, requests, connections=connections)


def started(stage: rig.Rig, names: Sequence[str]) -> list[Peer]:
    """Those that could be installed and launched."""
    found = []
    for peer in (make(stage) for make in PEERS if make.name in names):
        try:
            peer.install()
            peer.start()
        except (rig.CannotMeasure, LoadFailed) as error:
            print(f"{peer.name} is not measured: {error}", file=sys.stderr, flush=True)
        else:
            found.append(peer)
    return found


def measured(options: argparse.Namespace) -> bool:
    with rig.running(rig.cores(1)) as stage:
        ours = Ours(stage)
        ours.start()
        peers = started(stage, options.peers)
        if not peers:
            raise rig.CannotMeasure("there is nobody to compare with")
        where = environment(stage, peers, options)
        print(f"{where}\n", flush=True)
        bench = Bench([ours, *peers], options)
        found = [each for operation in options.only for each in compared(bench, operation, ours, peers)]
        complete = len(peers) == len(PEERS) and set(options.only) == set(NAMES)
        report.publish("peers", where, report.comparison_table(found), write=options.write and complete)
    return all(each.met for each in found)


def compared(bench: Bench, operation: str, ours: Ours, peers: Sequence[Peer]) -> list[Comparison]:
    taken = bench.rounds(operation)
    found = [
        Comparison(f"{NAMES[operation]}: {peer.name}", peer.name, taken[ours], taken[peer], GOALS[operation])
        for peer in peers
    ]
    for each in found:
        each.tell()
    return found


def environment(stage: rig.Rig, peers: Sequence[Peer], options: argparse.Namespace) -> str:
    those = " ".join(f"{peer.versions()} ({peer.about})." for peer in peers)
    return (
        f"{report.machine()}. {report.our_versions()}. "
        f"{report.server_versions(stage.postgres.url, stage.redis.url)}. {those} "
        f"{report.wrk_version()}, {options.connections} connections, {options.seconds:g} s a sample. "
        f"bcrypt cost {BCRYPT_COST}. {LAYOUTS[1]}. {options.rounds} alternating rounds; medians, "
        f"also of the rounds' ratios. {on_trial()}"
    ).strip()


def options_of(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.against_peers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = [peer.name for peer in PEERS]
    parser.add_argument("--only", nargs="+", choices=NAMES, default=list(NAMES), metavar="OPERATION")
    parser.add_argument("--peers", nargs="+", choices=names, default=names, metavar="PEER")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5, help="a sample, by wrk")
    parser.add_argument("--bcrypt-seconds", type=float, default=15, help="about, for register and login")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--no-write", dest="write", action="store_false", help="docs/performance.md stays")
    options = parser.parse_args(arguments)
    options.write = options.write and not on_trial()
    return options


def main() -> int:
    options = options_of(sys.argv[1:])
    rig.end_on_sigterm()
    try:
        rig.program("wrk")
        return 0 if measured(options) else 1
    except (rig.CannotMeasure, LoadFailed) as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
