"""The services under test: what all have in common, the user service as in production, and the Go service."""

import os
import secrets
import sys
import time
from collections.abc import Iterator
from itertools import count, cycle, islice
from pathlib import Path

import bcrypt
import psycopg
from redis import Redis as RedisClient

from benchmarks.load import Request, answer
from benchmarks.rig import BUILT, Rig, as_in_production, base_environment, run
from config import processes

ADMIN = ("admin@example.com", "open sesame, please")
PASSWORD = "twelve grey elephants"
BCRYPT_COST = 10
LOGINS = 16
"""So many people log in, in turn: one alone would make requests wait for each other that never do in life."""
GO_SOURCE = Path(__file__).parent / "peers" / "go_service"


class Service:
    """One under test, and how it is asked. Abstract: how it is launched, and what its requests look like."""

    name: str

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.port = processes.free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.people: list[str] = []
        """Addresses of those who log in, and read themselves."""
        self._numbers = count(1)

    def launch(self) -> None:
        raise NotImplementedError

    def registration(self, email: str) -> Request:
        raise NotImplementedError

    def login(self, email: str) -> Request:
        raise NotImplementedError

    def myself(self) -> tuple[str, str]:
        """The path where somebody reads himself, and the header that says who he is."""
        raise NotImplementedError

    def start(self) -> None:
        self.launch()
        for request in self.registrations(LOGINS):
            answer(self.url, request)
            self.people.append(request.body["email"])

    def registrations(self, number: int) -> Iterator[Request]:
        for _ in range(number):
            yield self.registration(f"someone{next(self._numbers)}@example.com")

    def logins(self, number: int | None = None) -> Iterator[Request]:
        """So many, or for ever."""
        return map(self.login, islice(cycle(self.people), number))


class Subject(Service):
    """A user service: ours, or Go's. To a client both look alike; they differ in how they are launched and
    filled."""

    table: str
    fill_sql: str

    def bearer(self) -> str:
        """The header of somebody who may read and block everybody; good for minutes."""
        raise NotImplementedError

    def registration(self, email: str) -> Request:
        return Request("POST", "/users", {"email": email, "name": "Some Body", "password": PASSWORD})

    def login(self, email: str, password: str = PASSWORD) -> Request:
        return Request("POST", "/auth/token", {"email": email, "password": password})

    def fill(self, kind: str, number: int) -> list[str]:
        """That many users straight into the table; their ids, in no order of theirs."""
        with psycopg.connect(self.rig.postgres.url, autocommit=True) as database:
            database.execute("CHECKPOINT")  # not soon again: it would make the next writes dearer
            database.execute(self.fill_sql, {"kind": kind, "number": number})
            database.execute(f"VACUUM ANALYZE {self.table}")
            found = database.execute(
                f"SELECT id::text FROM {self.table} WHERE email LIKE %s ORDER BY md5(email)",
                [f"{kind}-%@bench.example"],
            )
            return [row[0] for row in found]

    def forget_users(self) -> None:
        """Empties the cache, and only that: the stream of events stays as it is."""
        with RedisClient.from_url(self.rig.redis.url) as client:
            keys = list(client.scan_iter("user:*", count=10_000))
            for start in range(0, len(keys), 1000):
                client.unlink(*keys[start : start + 1000])


class Ours(Subject):
    name = "Ours"
    table = "users"
    fill_sql = """
        INSERT INTO users (id, email, name, status, roles, password_hash, email_verified, token_version,
            ended_sessions, created_at, updated_at, version, locale)
        SELECT uuidv7(), %(kind)s || '-' || number || '@bench.example', 'User ' || number, 'active', '{}', '',
            false, 1, '{}', now(), now(), 1, 'en'
        FROM generate_series(1, %(number)s) AS number
    """

    def bearer(self) -> str:
        return bearer(answer(self.url, self.login(*ADMIN))["access"])

    def myself(self) -> tuple[str, str]:
        return "/users/me", bearer(answer(self.url, self.login(self.people[0]))["access"])

    def launch(self) -> None:
        """Without a worker: web's own hooks send the events."""
        environment = base_environment() | as_in_production(self.rig)
        environment |= {
            "PORT": str(self.port),
            "BCRYPT_COST": str(BCRYPT_COST),
            "LOG_LEVEL": "INFO",
            "WEB_WORKERS": str(self.rig.cores.workers),
        }
        environment |= passed_on()
        role = [sys.executable, "-m", "config.role"]
        run([*role, "migrate"], environment)
        admin = [sys.executable, "manage.py", "create_operator", "--role", "admin", "--password-stdin"]
        run([*admin, "--email", ADMIN[0]], environment, said=f"{ADMIN[1]}\n")
        self.rig.serve(self.name, [*role, "web"], environment, ready=f"{self.url}/health/ready")


PASSED_ON = ("WEB_THREADS", "FAST_READS", "HASHING_CONCURRENCY")
"""Settings that are worth trying out: `FAST_READS=off make bench`."""


def passed_on() -> dict[str, str]:
    """Those that are set."""
    return {name: os.environ[name] for name in PASSED_ON if name in os.environ}


def on_trial() -> str:
    """The sentence about them, nothing when there are none: what is measured with any goes into no page."""
    settings = ", ".join(f"{name}={value}" for name, value in passed_on().items())
    return f"A trial of {settings}." if settings else ""


class GoService(Subject):
    name = "Go"
    table = "peer_users"
    fill_sql = """
        INSERT INTO peer_users (id, email, name, status, password_hash, created_at, updated_at, version)
        SELECT gen_random_uuid(), %(kind)s || '-' || number || '@bench.example', 'User ' || number, 'active',
            '', now(), now(), 1
        FROM generate_series(1, %(number)s) AS number
    """

    def bearer(self) -> str:
        return bearer(
            answer(self.url, self.login(self.people[0]))["access"]
        )  # everybody is an operator there

    def launch(self) -> None:
        environment = base_environment() | {
            "DATABASE_URL": f"{self.rig.postgres.url}?sslmode=disable",
            "REDIS_URL": self.rig.redis.url,
            "JWT_SECRET": secrets.token_urlsafe(32),
        }
        options = ["-addr", f"127.0.0.1:{self.port}", "-cost", str(BCRYPT_COST), "-conns", "16"]
        ready = f"{self.url}/health/ready"
        self.rig.serve(self.name, [built_go_service(), *options], environment, ready=ready)


def bearer(token: str) -> str:
    return f"Authorization: Bearer {token}"


def built_go_service() -> Path:
    """The program, built when it is missing or older than its source."""
    built, source = BUILT / "go_service", GO_SOURCE / "main.go"
    if not built.exists() or built.stat().st_mtime < source.stat().st_mtime:
        BUILT.mkdir(parents=True, exist_ok=True)
        run([GO_SOURCE / "build", built])
    return built


def hashes_a_second() -> float:
    """Of one core."""
    began = time.process_time()
    for _ in range(3):
        bcrypt.hashpw(b"twelve grey elephants", bcrypt.gensalt(BCRYPT_COST))
    return 3 / (time.process_time() - began)
