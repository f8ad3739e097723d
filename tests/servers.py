"""The folder and the servers of this run. Two runs in one checkout do not meet: each has its own folder."""

import fcntl
import os
from itertools import count
from pathlib import Path
from typing import IO

from config import processes
from config.embedded import Postgres, Redis

WORKER = os.environ.get("PYTEST_XDIST_WORKER", "main")
_LOCAL = Path(__file__).resolve().parent.parent / ".local"
_locks: list[IO[str]] = []  # held until the process ends


def _free_folder() -> Path:
    for number in count(1):
        folder = _LOCAL / f"test-{number}"
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
        else:
            _locks.append(lock)
            return folder
    raise AssertionError("unreachable")


# The processes of one run inherit the folder from the one that controls it.
TEST_DIR = Path(os.environ.setdefault("USERS_TEST_DIR", "") or _free_folder())
os.environ["USERS_TEST_DIR"] = str(TEST_DIR)


def shared_postgres() -> Postgres:
    return Postgres(TEST_DIR / "postgres", durable=False)


def own_redis() -> Redis:
    return Redis(TEST_DIR / f"redis-{WORKER}", save=False)


def start(server: Postgres | Redis) -> None:
    """The second process of a run finds it running, and must not take it for stuck and replace it where the
    machine is slow for a while."""
    if server.pid:
        processes.wait_until(server.answers, 60)
    server.start()


def clean_environment() -> dict[str, str]:
    """Ours, without what settings would be read from."""
    kept = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "PYTHONPATH", "LD_LIBRARY_PATH", "VIRTUAL_ENV")
    return {name: os.environ[name] for name in kept if name in os.environ}
