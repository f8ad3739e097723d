"""What every comparison stands on: a PostgreSQL and a Redis of its own, and the services under test as
processes on cores of their own."""

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

from config import processes
from config.embedded import PROJECT, Postgres, Redis
from tests.servers import clean_environment

BUILT = PROJECT / ".local" / "bench"
"""Where peers are built and installed; it outlives a run."""
START_SECONDS = 60
STOP_SECONDS = 20
LAYOUTS = {
    1: "One core for the service, another for load generator, PostgreSQL and Redis",
    2: "Two cores for everything, two workers",
}
PACKAGES = {"wrk": "wrk", "go": "golang-go", "node": "nodejs", "npm": "npm"}
FROM_PYPI = {"py-spy"}


class CannotMeasure(RuntimeError):
    """Something is missing; the message says what, and how to get it."""


def program(name: str) -> str:
    """The path of a program that this machine has to bring along."""
    if found := shutil.which(name):
        return found
    if name in FROM_PYPI:
        raise CannotMeasure(f"{name} is not installed; pip has it under this name")
    raise CannotMeasure(f"{name} is not installed; Debian and Ubuntu have it in the package {PACKAGES[name]}")


@dataclass(frozen=True)
class Cores:
    """Who runs where: `server` for the service under test, `rest` for databases and load generator."""

    server: frozenset[int]
    rest: frozenset[int]

    @property
    def workers(self) -> int:
        return len(self.server)


def cores(count: int) -> Cores:
    """With 1, the server has a core to itself and all else has another; with 2, all share both."""
    if not hasattr(os, "sched_setaffinity"):
        raise CannotMeasure("processes are pinned to cores, which only Linux does")
    free = sorted(os.sched_getaffinity(0))
    if len(free) < 2:
        raise CannotMeasure("two cores are needed: one for the service, one for databases and load generator")
    if count == 1:
        return Cores(frozenset(free[:1]), frozenset(free[1:2]))
    return Cores(frozenset(free[:2]), frozenset(free[:2]))


@contextmanager
def pinned(to: frozenset[int]) -> Iterator[None]:
    """What is started meanwhile runs on these cores, and so does this process."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, to)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class Rig:
    """Servers and processes of one comparison. All of it ends with `running`."""

    def __init__(self, folder: Path, cores: Cores) -> None:
        self.folder = folder
        self.cores = cores
        self.postgres = Postgres(folder / "postgres")
        self.redis = Redis(folder / "redis")
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def serve(
        self,
        name: str,
        command: Sequence[str | Path],
        environment: Mapping[str, str],
        *,
        ready: str,
        folder: Path = PROJECT,
    ) -> None:
        """Starts a service on the server's cores, its log in a file; returns when `ready` answers."""
        with pinned(self.cores.server), self.log(name).open("ab") as log:
            self._processes[name] = subprocess.Popen(
                command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        process = self._processes[name]
        processes.wait_until(lambda: answers(ready) or process.poll() is not None, START_SECONDS, pause=0.1)
        if process.poll() is not None or not answers(ready):
            raise CannotMeasure(f"{name} does not start:\n{self.log(name).read_text()[-2000:]}")

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def pid(self, name: str) -> int:
        return self._processes[name].pid

    def empty_logs(self) -> None:
        """They grow by megabytes a second."""
        for name in self._processes:
            os.truncate(self.log(name), 0)

    def stop(self, name: str) -> None:
        process = self._processes.pop(name)
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def stop_all(self) -> None:
        for name in list(self._processes):
            self.stop(name)


def as_in_production(stage: Rig) -> dict[str, str]:
    """What our service is told, but for limits, which would refuse the load."""
    keys = stage.folder / "keys"
    keys.mkdir(exist_ok=True)
    return {
        "DJANGO_ENV": "production",
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "SECRET_KEY": secrets.token_urlsafe(64),
        "ALLOWED_HOSTS": "127.0.0.1",
        "HOST": "127.0.0.1",
        "JWT_KEYS_DIR": str(keys),
        "TRUSTED_PROXIES": "0",
        "SECURE_HTTPS": "false",
        "DATABASE_URL": stage.postgres.url,
        "REDIS_URL": stage.redis.url,
        "RATE_LIMITS": "off",
        "DRAIN_SECONDS": "0",
        "SUPERVISOR_PID": str(os.getpid()),
    }


def run(
    command: Sequence[str | Path],
    environment: Mapping[str, str] | None = None,
    *,
    folder: Path = PROJECT,
    said: str = "",
) -> None:
    """Once, and to its end; `said` is its standard input. Raises CannotMeasure with what it has printed."""
    done = subprocess.run(
        command, cwd=folder, env=environment, input=said, capture_output=True, text=True, check=False
    )
    if done.returncode:
        name = " ".join(map(str, command))
        raise CannotMeasure(f"{name} failed:\n{(done.stdout + done.stderr).strip()[-2000:]}")


@contextmanager
def running(cores: Cores) -> Iterator[Rig]:
    """A rig with its servers up, in a folder that is removed afterwards."""
    with ExitStack() as stack:
        stack.enter_context(pinned(cores.rest))
        folder = stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
        rig = Rig(Path(folder), cores)
        for server in (rig.postgres, rig.redis):
            stack.callback(server.destroy)
            server.start()
        stack.callback(rig.stop_all)
        yield rig


def answers(url: str) -> bool:
    """Whether there is an answer, and one that does not ask for patience."""
    try:
        with urlopen(url, timeout=2):
            return True
    except HTTPError as error:
        return error.code < 500
    except (URLError, OSError):
        return False


def base_environment() -> dict[str, str]:
    """Ours, without what any of the services would take for a setting."""
    return clean_environment() | {"PATH": os.environ.get("PATH", os.defpath)}


def end_on_sigterm() -> None:
    """So that whoever stops a benchmark leaves no process behind."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
