"""What may happen to the service while it is read and written: stops, kills, losses, evictions."""

import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from redis import Redis as RedisClient
from redis import RedisError

from config import processes
from config.embedded import Postgres, Redis
from tests.chaos.world import Process
from tests.staleness.board import now
from tests.staleness.verdict import Sleep

EVICTION_PAUSE = 0.01
SETTLED = 0.5
"""After Redis has slept, before something else happens: by then all who did not reach it have repaired."""


class Faults:
    """One after the other, each chosen by whoever has the dice; evictions all the time."""

    def __init__(
        self,
        dice: random.Random,
        postgres: Postgres,
        redis: Redis,
        web: Process,
        worker: Process,
        *,
        haste: float = 1,
    ) -> None:
        """`haste`: by how much shorter than usual things are away."""
        self.happened: Counter[str] = Counter()
        self.evictions = 0
        self.sleeps: list[Sleep] = []
        self._dice = dice
        self._haste = haste
        self._postgres = postgres
        self._redis = redis
        self._web = web
        self._worker = worker
        self._acts: dict[str, Callable[[], bool]] = {
            "SIGSTOP of Redis": self._put_redis_to_sleep,
            "FLUSHALL": self._flush,
            "Redis killed, back empty": self._lose_redis,
            "kill -9 of a web process": self._kill_web_process,
            "kill -9 of the web server": web.kill,
            "kill -9 of the worker": worker.kill,
            "SIGSTOP of a web process": self._put_web_process_to_sleep,
            "PostgreSQL killed, recovers": self._restart_postgres,
        }

    def happen(self, what: str) -> None:
        """Whoever is to be hit, but is dead already, is waited for."""
        while not self._acts[what]():
            self.tend(0.1)
        self.happened[what] += 1

    def tend(self, seconds: float) -> None:
        """Time goes by: whoever has died is started again."""
        until = time.monotonic() + seconds
        while True:
            for process in (self._web, self._worker):
                process.tend()
            left = until - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(left, 0.05))

    def _let_pass(self, least: float, most: float) -> None:
        self.tend(self._dice.uniform(least, most) / self._haste)

    @contextmanager
    def evictions_of(self, user_ids: list[str], seed: int) -> Iterator[None]:
        over = threading.Event()
        evictor = threading.Thread(target=self._evict, args=(user_ids, random.Random(seed), over))
        evictor.start()
        try:
            yield
        finally:
            over.set()
            evictor.join(60)

    def _evict(self, user_ids: list[str], dice: random.Random, over: threading.Event) -> None:
        """Deletes entries, leases and sometimes the epoch, as a Redis short of memory might."""
        with self._client() as client:
            while not over.wait(EVICTION_PAUSE):
                entry = f"user:{{{dice.choice(user_ids)}}}"
                kind = dice.choices(["", ":lease", "epoch"], [70, 29, 1])[0]
                with suppress(RedisError):
                    keys = client.keys("*:epoch:*") if kind == "epoch" else [f"{entry}{kind}"]
                    self.evictions += client.delete(*keys) if keys else 0

    def _put_redis_to_sleep(self) -> bool:
        began = now()
        self._redis.pause()
        self._let_pass(0.1, 2)
        woke = now()
        self._redis.resume()
        self.sleeps.append(Sleep(began, woke))
        self.tend(SETTLED)
        return True

    def _flush(self) -> bool:
        with self._client() as client:
            return bool(client.flushall())

    def _lose_redis(self) -> bool:
        self._redis.kill()
        self._let_pass(0, 1.5)
        self._redis.start()
        return True

    def _web_process(self) -> int | None:
        family = processes.children(self._web.pid) if self._web.running else []
        serving = [pid for pid in family if "resource_tracker" not in processes.command_line(pid)]
        return self._dice.choice(serving) if serving else None

    def _kill_web_process(self) -> bool:
        pid = self._web_process()
        if pid is not None:
            processes.send(pid, signal.SIGKILL)
        return pid is not None

    def _put_web_process_to_sleep(self) -> bool:
        """What it has read before, it may write when it wakes."""
        pid = self._web_process()
        if pid is None:
            return False
        processes.send(pid, signal.SIGSTOP)
        self._let_pass(0.1, 4)
        processes.send(pid, signal.SIGCONT)
        return True

    def _restart_postgres(self) -> bool:
        self._postgres.kill()
        self._let_pass(0, 0.5)
        self._postgres.start()
        return True

    @contextmanager
    def _client(self) -> Iterator[RedisClient]:
        with RedisClient.from_url(self._redis.url, socket_timeout=60) as client:
            yield client
