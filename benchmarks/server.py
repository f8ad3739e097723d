"""Which server, and with how many threads? `python -m benchmarks.server`, or `make bench-server`.

One worker on one core: granian with one thread to 64, and gunicorn's gthread, each before an application that
does nothing and before ours (a cached read, through all of Django: FAST_READS=off). Then how long a start
takes, and what memory a worker keeps. Needs wrk. gunicorn is installed into .local/bench. What has measured
both applications writes the table in docs/performance.md."""

import argparse
import os
import re
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks import report, rig
from benchmarks.load import LoadFailed, Request, Sample, answer, wrk
from benchmarks.rig import BUILT, CannotMeasure, Rig, answers, as_in_production, base_environment, run
from benchmarks.subjects import ADMIN, bearer
from config import processes
from config.embedded import PROJECT

GUNICORN = "gunicorn==27.0.1"
NAME = "server"
"""Of its process, and of its log."""
NOTHING = """
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "2")])
    return [b"ok"]
"""
APPLICATIONS = {"nothing": "nothing:application", "ours": "config.wsgi:application"}
TITLES = {
    "nothing": "Before an application that does nothing:",
    "ours": "Before ours, through all of Django:",
}
THREADS = {"nothing": (1, 4, 16, 64), "ours": (1, 2, 4, 8, 16, 32, 64)}
GUNICORN_THREADS = {"nothing": (4, 16, 64), "ours": (4, 16, 64)}
CONNECTIONS = (16, 64)

Command = Callable[[str, int, int], list[str | Path]]


def granian(target: str, port: int, threads: int) -> list[str | Path]:
    """As `config.server` runs it."""
    serve = f"import sys; from config.server import serve; sys.exit(serve({target!r}))"
    return [sys.executable, "-c", serve]


def gunicorn(target: str, port: int, threads: int) -> list[str | Path]:
    options = ["--bind", f"127.0.0.1:{port}", "--worker-class", "gthread", "--threads", str(threads)]
    return [sys.executable, "-m", "gunicorn", target, *options, "--access-logfile", "/dev/null"]


class Stage:
    """One server at a time, of the rig's."""

    def __init__(self, stage: Rig) -> None:
        self.rig = stage
        self.port = processes.free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        (stage.folder / "nothing.py").write_text(NOTHING)
        self._base = base_environment() | as_in_production(stage)
        self._base |= {
            "PYTHONPATH": os.pathsep.join(map(str, (stage.folder, PROJECT, BUILT / "gunicorn"))),
            "PORT": str(self.port),
            "FAST_READS": "off",
            "WEB_WORKERS": "1",
        }

    def prepare(self) -> None:
        run([sys.executable, "-m", "config.role", "migrate"], self._base)
        admin = [sys.executable, "manage.py", "create_operator", "--role", "admin", "--password-stdin"]
        run([*admin, "--email", ADMIN[0]], self._base, said=f"{ADMIN[1]}\n")

    @contextmanager
    def serving(self, command: Command, application: str, threads: int) -> Iterator[float]:
        """Yields the seconds from the start to the first answer."""
        metrics = self.rig.folder / f"metrics-{time.monotonic_ns()}"
        metrics.mkdir()
        environment = self._base | {"WEB_THREADS": str(threads), "PROMETHEUS_MULTIPROC_DIR": str(metrics)}
        ready = self.url + ("/health/live" if application == "ours" else "/")
        began = time.perf_counter()
        with rig.pinned(self.rig.cores.server), self.rig.log(NAME).open("ab") as log:
            line = command(APPLICATIONS[application], self.port, threads)
            process = subprocess.Popen(line, cwd=PROJECT, env=environment, stdout=log, stderr=log)
        try:
            if not processes.wait_until(lambda: answers(ready), rig.START_SECONDS, pause=0.01):
                raise CannotMeasure(f"{line} does not start:\n{self.rig.log(NAME).read_text()[-2000:]}")
            yield time.perf_counter() - began
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(rig.STOP_SECONDS)
            os.truncate(self.rig.log(NAME), 0)

    def target(self, application: str) -> tuple[str, str]:
        """What is asked for, and the header of who asks."""
        if application == "nothing":
            return self.url + "/", "X-Nothing: 1"
        login = Request("POST", "/auth/token", {"email": ADMIN[0], "password": ADMIN[1]})
        return self.url + "/users/me", bearer(answer(self.url, login)["access"])

    def workers(self) -> list[int]:
        """Who has threads that serve: whoever listens and has no child that does."""
        found = subprocess.run(["pgrep", "-P", str(os.getpid())], capture_output=True, text=True, check=False)
        return [int(pid) for each in found.stdout.split() for pid in _descendants(int(each)) if _serves(pid)]


def _descendants(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children")
    below = [int(child) for child in children.read_text().split()] if children.exists() else []
    return [*below, *(deeper for child in below for deeper in _descendants(child))]


def _serves(pid: int) -> bool:
    return len(list(Path(f"/proc/{pid}/task").iterdir())) > 1 and not _descendants(pid)


def proportional_megabytes(pid: int) -> float:
    """PSS: what it shares with others is divided among them."""
    found = re.search(r"^Pss:\s+(\d+) kB$", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    return int(found[1]) / 1024 if found else 0.0


class Row:
    """One server with one number of threads, measured in rounds."""

    def __init__(self, name: str, command: Command, threads: int) -> None:
        self.name, self.command, self.threads = name, command, threads
        self.samples: dict[int, list[Sample]] = {number: [] for number in CONNECTIONS}
        self.starts: list[float] = []
        self.idle: list[float] = []
        self.busy: list[float] = []

    def measure(self, stage: Stage, application: str, seconds: float) -> None:
        with stage.serving(self.command, application, self.threads) as start:
            url, header = stage.target(application)
            self.starts.append(start)
            self.idle += map(proportional_megabytes, stage.workers())
            wrk(
                url, header=header, seconds=1, connections=CONNECTIONS[-1]
            )  # all threads there, all caches warm
            for connections, samples in self.samples.items():
                samples.append(wrk(url, header=header, seconds=seconds, connections=connections))
            self.busy += map(proportional_megabytes, stage.workers())

    @property
    def cells(self) -> list[str]:
        rates = [report.shown(report.median_rate(samples)) for samples in self.samples.values()]
        late = [report.milliseconds(report.median_p99(samples)) for samples in self.samples.values()]
        start = f"{statistics.median(self.starts):.2f}"
        memory = [f"{statistics.median(each):.0f}" if each else "" for each in (self.idle, self.busy)]
        return [self.name, str(self.threads), *rates, *late, start, *memory]


HEAD = ["server", "threads", *(f"{number} connections, /s" for number in CONNECTIONS)]
HEAD += [f"p99 with {number}, ms" for number in CONNECTIONS]
HEAD += ["first answer after, s", "a worker at first, MB", "after load, MB"]


def measured(stage: Stage, application: str, options: argparse.Namespace) -> str:
    rows = [Row("granian", granian, threads) for threads in THREADS[application]]
    rows += [Row("gunicorn gthread", gunicorn, threads) for threads in GUNICORN_THREADS[application]]
    for _ in range(options.rounds):
        for row in rows:
            row.measure(stage, application, options.seconds)
            print(" | ".join(row.cells), flush=True)
    return report.table(HEAD, [row.cells for row in rows])


def compare(stage: Stage, options: argparse.Namespace) -> None:
    """One application after the other; their tables go into the page as one text."""
    where = environment(stage, options)
    print(f"{where}\n", flush=True)
    wanted = [name for name in APPLICATIONS if name in options.only]
    tables = [f"{TITLES[name]}\n\n{measured(stage, name, options)}" for name in wanted]
    report.publish("server", where, "\n\n".join(tables), write=options.write)


def environment(stage: Stage, options: argparse.Namespace) -> str:
    """A paragraph: where, with what."""
    return (
        f"{report.machine()}. {report.our_versions()}. {GUNICORN}. "
        f"{report.server_versions(stage.rig.postgres.url, stage.rig.redis.url)}. {report.wrk_version()}, "
        f"{options.seconds:g} s a sample. {rig.LAYOUTS[1]}. Medians of {options.rounds} rounds."
    )


def install_gunicorn() -> None:
    """Beside our own libraries, which it has to see."""
    if not (BUILT / "gunicorn").exists():
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        run([*pip, "--target", BUILT / "gunicorn", GUNICORN])


def options_of(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.server", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=APPLICATIONS, default=list(APPLICATIONS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3, help="a sample")
    parser.add_argument("--no-write", dest="write", action="store_false", help="docs/performance.md stays")
    options = parser.parse_args(arguments)
    options.write = options.write and set(options.only) == set(APPLICATIONS)
    return options


def main() -> int:
    options = options_of(sys.argv[1:])
    rig.end_on_sigterm()
    try:
        rig.program("wrk")
        install_gunicorn()
        with rig.running(rig.cores(1)) as servers:
            stage = Stage(servers)
            stage.prepare()
            compare(stage, options)
    except (CannotMeasure, LoadFailed) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
