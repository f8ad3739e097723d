"""The service with everything it needs, as processes of this machine, and what may happen to them.

Nothing here imports Django: what is under test runs in processes of its own."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg
from redis import Redis as RedisClient

from config import processes
from config.embedded import PROJECT, Postgres, Redis
from tests import leaks
from tests.chaos.verdict import Truth, Verdict, judge, read_seen, read_truth
from tests.chaos.writers import ADMIN, Wire
from tests.order_service import OrderService, Row
from tests.servers import clean_environment
from tests.user_service import PREPARE, SERVICE

STREAM, NAIVE_STREAM = "users.events", "naive.events"
WRITERS = 4


class Process:
    """A command that is started again by `tend` when it has died."""

    def __init__(self, name: str, command: list[str], folder: Path, **environment: object) -> None:
        self.name = name
        self._command = [sys.executable, *command]
        self._environment = clean_environment() | {key: str(value) for key, value in environment.items()}
        self._log = folder / f"{name}.log"
        leaks.follow(self._log)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process, f"{self.name} was never started"
        return self._process.pid

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def start(self) -> "Process":
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=PROJECT,
                env=self._environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return self

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def succeeded(self) -> bool:
        """Whether it has ended by itself, as it should."""
        return self._process is not None and self._process.poll() == 0

    def tend(self) -> None:
        if not self.running:
            self.start()

    def family(self) -> list[int]:
        return [self.pid, *processes.children(self.pid)]

    def kill(self) -> bool:
        """Itself and its children at once; answers whether it was alive."""
        if not self.running:
            return False
        processes.kill_all(self.family())
        self._process.wait(60)
        return True

    def end(self) -> None:
        """SIGTERM, and whatever is left after a while is killed."""
        if self._process is None:
            return
        family = self.family()
        for pid in family:
            processes.send(pid, signal.SIGCONT)
        processes.send(self.pid, signal.SIGTERM)
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            processes.kill_all(family)
            self._process.wait(60)


class World:
    """`with World(folder, seed).running() as world:`; the seed decides what happens when."""

    def __init__(self, folder: Path, seed: int, *, workers: int = 2) -> None:
        self.folder = folder
        self.postgres = Postgres(folder / "postgres", durable=False)
        self.redis = Redis(folder / "redis", save=False)
        self.port = processes.free_port()
        self.happened: Counter[str] = Counter()
        self._random = random.Random(seed)
        self._asleep: dict[int, float] = {}
        self._worker_count = workers
        self._processes: list[Process] = []
        self.orders: OrderService | None = None

    # --- Up and down ------------------------------------------------------------------------------

    @contextmanager
    def running(self) -> Iterator["World"]:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        try:
            self.postgres.start()
            self.redis.start()
            self._prepare()
            self._start()
            yield self
        finally:
            for process in self._processes:
                process.end()
            if self.orders:
                self.orders.kill()
            self.postgres.destroy()
            self.redis.destroy()

    @property
    def _environment(self) -> dict[str, object]:
        return {
            "DATABASE_URL": self.postgres.url,
            "REDIS_URL": self.redis.url,
            "LOCAL_DIR": self.folder,
            "PORT": self.port,
            "BCRYPT_COST": 4,
            "RATE_LIMITS": "off",
            "WEB_WORKERS": 2,
            "WEB_THREADS": 8,
            "DRAIN_SECONDS": 0,
            "LOG_LEVEL": "WARNING",
            "SUPERVISOR_PID": os.getpid(),
            "ADMIN_PASSWORD": ADMIN[1],
        }

    def _prepare(self) -> None:
        environment = clean_environment() | {key: str(value) for key, value in self._environment.items()}
        command = [sys.executable, "-c", PREPARE, ADMIN[0], *SERVICE]
        subprocess.run(command, cwd=PROJECT, env=environment, check=True, timeout=60)

    def _start(self) -> None:
        folder, database, redis = self.folder, self.postgres.url, self.redis.url
        environment = self._environment
        self.web = Process("web", ["-m", "config.role", "web"], folder, **environment)
        self.workers = [
            Process(f"worker{n}", ["-m", "config.role", "worker"], folder, **environment)
            for n in range(self._worker_count)
        ]
        self.naive = Process(
            "naive", ["-m", "tests.chaos.naive", database, redis, NAIVE_STREAM, str(self._position)], folder
        )
        self.watchers = [
            Process(stream, ["-m", "tests.chaos.watcher", redis, stream, str(self._seen(stream))], folder)
            for stream in (STREAM, NAIVE_STREAM)
        ]
        self.writers = [
            Process(
                f"writer{n}",
                ["-m", "tests.chaos.writers", str(self.port), str(self._acknowledged(n)), str(n)],
                folder,
            )
            for n in range(WRITERS)
        ]
        for n in range(WRITERS):
            self._acknowledged(n).touch()
        self._processes = [*self.writers, *self.watchers, self.naive, *self.workers, self.web]
        for process in reversed(self._processes):
            process.start()
        assert processes.wait_until(lambda: self.changes() > 50, 60), self.web.log
        self.orders = OrderService(folder / "orders", f"http://127.0.0.1:{self.port}", redis, SERVICE)
        self.orders.start()

    @property
    def _position(self) -> Path:
        """Where the naive relay remembers how far it is."""
        return self.folder / "naive"

    def _acknowledged(self, writer: int) -> Path:
        return self.folder / f"acknowledged{writer}"

    def _seen(self, stream: str) -> Path:
        return self.folder / f"{stream}.seen"

    def changes(self) -> int:
        """How many were acknowledged so far."""
        return sum(self._acknowledged(n).read_bytes().count(b"\n") for n in range(WRITERS))

    # --- What may happen --------------------------------------------------------------------------

    @property
    def kills(self) -> int:
        """Of web and worker processes, by SIGKILL."""
        ours = ("kill -9 of a web", "kill -9 of the web", "kill -9 of a worker")
        return sum(count for what, count in self.happened.items() if what.startswith(ours))

    def happen(self, what: str) -> None:
        """Counted if it hit somebody: who is to be killed may be dead already."""
        acts: dict[str, Callable[[], bool]] = {
            "kill -9 of a web process": self._kill_web_process,
            "kill -9 of the web server": self.web.kill,
            "kill -9 of a worker": self._kill_worker,
            "kill -9 of the naive relay": self.naive.kill,
            "kill -9 of the order service": self.orders.kill,
            "FLUSHALL": self._flush,
            "Redis killed, back empty": self._lose_redis,
            "PostgreSQL killed, recovers": self._restart_postgres,
            "SIGSTOP of a worker, a zombie later": self._put_to_sleep,
            "registration that commits late": self._commit_late,
        }
        self.happened[what] += acts[what]()

    def tend(self, seconds: float) -> None:
        """Time goes by: whoever has died is started again, whoever sleeps wakes when it is time."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            now = time.monotonic()
            for pid in [pid for pid, wake_at in self._asleep.items() if wake_at < now]:
                processes.send(pid, signal.SIGCONT)
                del self._asleep[pid]
            for process in (self.web, *self.workers, self.naive):
                process.tend()
            if not self.orders.running:
                self.orders.start()
            time.sleep(0.05)

    def _kill_web_process(self) -> bool:
        family = processes.children(self.web.pid)
        serving = [pid for pid in family if "resource_tracker" not in processes.command_line(pid)]
        if serving:
            processes.send(self._random.choice(serving), signal.SIGKILL)
        return bool(serving)

    def _kill_worker(self) -> bool:
        return self._random.choice(self.workers).kill()

    def _flush(self) -> bool:
        with self.redis_client() as client:
            return bool(client.flushall())

    def _lose_redis(self) -> bool:
        self.redis.kill()
        self.tend(self._random.uniform(0, 1.5))
        self.redis.start()
        return True

    def _restart_postgres(self) -> bool:
        self.postgres.kill()
        self.tend(self._random.uniform(0, 0.5))
        self.postgres.start()
        return True

    def _put_to_sleep(self) -> bool:
        worker = self._random.choice(self.workers)
        if not worker.running:
            return False
        processes.send(worker.pid, signal.SIGSTOP)
        self._asleep[worker.pid] = time.monotonic() + self._random.uniform(1, 4)
        return True

    def _commit_late(self) -> bool:
        """False where something else ended it."""
        email = f"late{time.monotonic_ns()}@example.com"
        command = ["-m", "tests.chaos.late", str(self._position), email]
        late = Process("late", command, self.folder, **self._environment).start()
        deadline = time.monotonic() + 60
        while late.running and time.monotonic() < deadline:
            self.tend(0.1)
        return not late.kill() and late.succeeded

    def redis_client(self) -> RedisClient:
        return RedisClient.from_url(self.redis.url, socket_timeout=60)

    # --- Calm, and the verdict --------------------------------------------------------------------

    def calm(self, seconds: float = 60) -> Truth:
        """Nobody writes any more; waits until all that was committed is on the streams and was seen there."""
        for writer in self.writers:
            writer.end()
        for pid in self._asleep:
            processes.send(pid, signal.SIGCONT)
        self._asleep.clear()
        deadline = time.monotonic() + seconds
        while True:
            self.tend(0.5)
            truth = read_truth(self.postgres.url, [self._acknowledged(n) for n in range(WRITERS)])
            sequences = [sequence for sequence, *_ in truth.events.values()]
            if None not in sequences and self.left()[-1:] == [max(sequences)] and self._naive_is_through():
                self.tend(1)
                return truth
            assert time.monotonic() < deadline, f"no calm: {sequences.count(None)} without sequence"

    def _naive_is_through(self) -> bool:
        before = self._position.read_text()
        self.tend(0.3)
        return before == self._position.read_text()

    def left(self) -> list[int]:
        """The sequences that the stream holds."""
        with self.redis_client() as client:
            return [int(entry.partition(b"-")[0]) for entry, _ in client.xrange(STREAM)]

    def stream(self) -> list[dict]:
        """The envelopes that the stream holds."""
        with self.redis_client() as client:
            return [json.loads(entry[b"event"]) for _, entry in client.xrange(STREAM)]

    def feed(self) -> list[dict]:
        """All that `GET /events` tells, page by page."""
        events, page = [], "/events?limit=100"
        with closing(Wire(self.port)) as wire:
            while page:
                _, answer = wire("GET", page, None)
                events += answer["results"]
                page = answer["next"]
        return events

    def users(self) -> set[Row]:
        """As an order service should know them."""
        with psycopg.connect(self.postgres.url) as connection:
            rows = connection.execute("SELECT id, email, name, status, version FROM users").fetchall()
        return {(str(row[0]), *row[1:]) for row in rows}

    def verdicts(self, truth: Truth) -> tuple[Verdict, Verdict]:
        """Of our relay, and of the naive one."""
        seen, naively = (read_seen(self._seen(stream)) for stream in (STREAM, NAIVE_STREAM))
        return judge(truth, seen, self.left()), judge(truth, naively, None)
