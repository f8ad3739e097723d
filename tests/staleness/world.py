"""The service as processes on servers of its own, its readers and writers, and what happens to them.

Nothing here imports Django: what is under test runs in processes of its own."""

import http.client
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from config import processes
from config.embedded import PROJECT, Postgres, Redis
from tests.chaos.world import Process
from tests.order_service import ask_on
from tests.servers import clean_environment
from tests.staleness.board import READERS, WRITERS
from tests.staleness.cast import PASSWORD, Cast
from tests.staleness.faults import Faults
from tests.staleness.verdict import MILLISECOND, REPAIR, Suspect, Verdict, Write, judge
from tests.user_service import ADMIN, PREPARE, SERVICE

USERS = 12
PAUSES = {"writers": 0.02, "shell": 0.1}
"""Between the writes of one process, on average: a command costs much more than a request."""
SERVED = {"web": ["-m", "config.role", "web"], "worker": ["-m", "config.role", "worker"]}
LEAKY = {"web": ["-m", "tests.staleness.leaky"], "worker": SERVED["worker"]}
"""With the leases off."""


class Part(Process):
    @property
    def succeeded(self) -> bool:
        return self._process is not None and self._process.poll() == 0


class World:
    """`with World(folder, seed).running() as world:`; the seed decides what happens when."""

    def __init__(
        self, folder: Path, seed: int, *, commands: dict[str, list[str]] = SERVED, haste: float = 1
    ) -> None:
        self.folder = folder
        self.postgres = Postgres(folder / "postgres", durable=False)
        self.redis = Redis(folder / "redis", save=False)
        self.dice = random.Random(seed)
        self._seed = seed
        self._commands = commands
        self._haste = haste
        self._port = processes.free_port()
        self._processes: list[Part] = []

    # --- Up and down ------------------------------------------------------------------------------

    @contextmanager
    def running(self) -> Iterator["World"]:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        try:
            self.postgres.start()
            self.redis.start()
            self._prepare()
            self._serve()
            self._people()
            with self.faults.evictions_of(self.cast.ids, self._seed):
                yield self
        finally:
            self.redis.resume()
            for process in self._processes:
                process.kill()
            self.redis.destroy()
            self.postgres.destroy()

    @property
    def _environment(self) -> dict[str, str]:
        """Of production, which is what is fast."""
        return {
            "DJANGO_ENV": "production",
            "SECRET_KEY": "of this run alone, and nobody else's: " + "0123456789abcdefghijklmnopqrst",
            "ALLOWED_HOSTS": "127.0.0.1",
            "HOST": "127.0.0.1",
            "JWT_KEYS_DIR": str(self.folder / "keys"),
            "TRUSTED_PROXIES": "0",
            "SECURE_HTTPS": "false",
            "DATABASE_URL": self.postgres.url,
            "REDIS_URL": self.redis.url,
            "LOCAL_DIR": str(self.folder),
            "PORT": str(self._port),
            "BCRYPT_COST": "4",
            "RATE_LIMITS": "off",
            "FAST_READS": os.environ.get("FAST_READS", "on"),
            "ACCESS_TOKEN_SECONDS": "7200",
            "WEB_WORKERS": "2",
            "WEB_THREADS": "16",
            "DRAIN_SECONDS": "0",
            "LOG_LEVEL": "WARNING",
            "SUPERVISOR_PID": str(os.getpid()),
            "ADMIN_PASSWORD": ADMIN[1],
        }

    def _prepare(self) -> None:
        (self.folder / "keys").mkdir()
        command = [sys.executable, "-c", PREPARE, ADMIN[0], *SERVICE]
        environment = clean_environment() | self._environment
        subprocess.run(command, cwd=PROJECT, env=environment, check=True, timeout=60)

    def _serve(self) -> None:
        web, worker = (self._start(name, self._commands[name]) for name in ("web", "worker"))
        self.faults = Faults(self.dice, self.postgres, self.redis, web, worker, haste=self._haste)
        assert processes.wait_until(self._answers, 60, pause=0.1), web.log

    def _people(self) -> None:
        staff = self._insist("POST", "/auth/token", {"email": ADMIN[0], "password": ADMIN[1]})["access"]
        bodies = [{"email": Cast.email(n), "name": "User", "password": PASSWORD} for n in range(USERS)]
        ids = [self._insist("POST", "/users", body)["id"] for body in bodies]
        self.cast = Cast(self.folder, self._port, ids, staff)
        self.cast.save()
        self.board = self.cast.board
        folder = str(self.folder)
        self._readers = [
            self._start(f"reader{n}", ["-m", "tests.staleness.readers", folder, str(n), str(self._seed + n)])
            for n in range(READERS)
        ]
        self._writers = [
            self._start(
                f"writer{n}",
                ["-m", f"tests.staleness.{kind}", folder, str(n), str(self._seed + n), str(PAUSES[kind])],
            )
            for n, kind in enumerate(["writers"] * (WRITERS - 1) + ["shell"])
        ]
        assert processes.wait_until(self._all_have_begun, 60), self.log

    def _start(self, name: str, command: list[str]) -> Part:
        process = Part(name, command, self.folder, **self._environment).start()
        self._processes.insert(0, process)
        return process

    def _all_have_begun(self) -> bool:
        files = [self.cast.writes(n) for n in range(WRITERS)]
        return self.counts()["reads"] > 0 and all(file.exists() and file.stat().st_size for file in files)

    def _ask(self, method: str, path: str, body: dict[str, str] | None = None) -> dict:
        with closing(http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)) as wire:
            status, answer = ask_on(wire, method, path, body)
        assert status < 300, answer
        return answer

    def _insist(self, method: str, path: str, body: dict[str, str]) -> dict:
        """Again where the machine is too slow for the limits of the service, which are those of life here."""
        answers: list[dict] = []
        assert processes.wait_until(lambda: self._tried(answers, method, path, body), 60, pause=0.1), self.log
        return answers[0]

    def _tried(self, answers: list[dict], *request: Any) -> bool:
        try:
            answers.append(self._ask(*request))
        except (OSError, AssertionError, http.client.HTTPException):
            return False
        return True

    def _answers(self) -> bool:
        return self._tried([], "GET", "/health/ready")

    @property
    def log(self) -> str:
        return "\n".join(f"--- {process.name}\n{process.log}" for process in self._processes)

    # --- The verdict ------------------------------------------------------------------------------

    def counts(self) -> dict[str, int]:
        return self.board.counts()

    def verdict(self, *, repair: int = REPAIR) -> Verdict:
        """When readers and writers have ended."""
        self.board.end()
        for process in [*self._readers, *self._writers]:
            assert processes.wait_until(lambda process=process: not process.running, 60), process.name
            assert process.succeeded, process.log
        suspects = [Suspect(**line) for n in range(READERS) for line in _lines(self.cast.suspects(n))]
        return judge(suspects, self.writes(), self.faults.sleeps, repair=repair)

    @property
    def reads_fast(self) -> bool:
        """Whether the layer in front of Django was on, by what the processes themselves say."""
        return self.cast.fast_reads.read_text() == "True"

    def writes(self) -> list[Write]:
        return [Write(**line) for n in range(WRITERS) for line in _lines(self.cast.writes(n))]

    def explain(self, suspect: Suspect) -> str:
        """With the writes that it lacks, all in milliseconds after Redis woke last before its answer."""
        woke = max((sleep.woke for sleep in self.faults.sleeps if sleep.woke < suspect.ended), default=0)

        def span(event: Suspect | Write) -> str:
            return f"{(event.begun - woke) / MILLISECOND:.1f}..{(event.ended - woke) / MILLISECOND:.1f} ms"

        lacking = [write for write in self.writes() if suspect.lacks(write)]
        told = ", ".join(f"{write.what} to {write.version} at {span(write)}" for write in lacking)
        what = f"{suspect.kind} {suspect.got} < {suspect.due} ({suspect.what})"
        return f"{what} at {span(suspect)}; lacks {told}"


def _lines(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text().splitlines()]
