"""The user service as processes, `web` and `worker`, with servers of its own that may be mistreated.

Imports no Django: benchmarks and tests of other services run beside it."""

import http.client
import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
from redis import Redis as RedisClient

from config import processes
from config.embedded import PROJECT, Postgres, Redis
from tests import leaks
from tests.order_service import Row, ask_on
from tests.servers import clean_environment

ADMIN = ("admin@example.com", "open sesame, please")
SERVICE = ("orders@example.com", "twelve grey elephants")
PASSWORD = "correct horse battery"
PREPARE = """
import io, os, sys
os.environ["DJANGO_SETTINGS_MODULE"] = "tests.patient_settings"
import django
from django.core.management import call_command
django.setup()
admin, service, password = sys.argv[1:]
call_command("migrate", verbosity=0)
call_command("flush", interactive=False, verbosity=0)
sys.stdout = io.StringIO()
sys.stdin = io.TextIOWrapper(io.BytesIO(password.encode()))
call_command("create_operator", "--first-admin", "--role", "admin", "--email", admin)
call_command("create_operator", "--role", "service", "--email", service, "--password-stdin")
"""
"""All in one process: importing Django is what takes the time."""


class Users:
    """`servers`: the folder of the databases; there PostgreSQL may stand from an earlier run. Logs and the
    rest go into `folder`. The environment may be added to by `settings`."""

    def __init__(self, folder: Path, servers: Path, **settings: str) -> None:
        self.folder = folder
        leaks.follow(folder / "users.log")
        self._settings = settings
        self.postgres = Postgres(servers / "postgres-orders", durable=False)
        self.redis = Redis(servers / "redis-orders", save=False)
        self.port = processes.free_port()
        self.base_url = f"http://127.0.0.1:{self.port}"
        self._roles: list[subprocess.Popen[bytes]] = []
        self._tokens: dict[str, str] = {}

    def start(self) -> None:
        self.postgres.start()
        self.redis.start()
        self._run("-c", PREPARE, *ADMIN[:1], *SERVICE)
        for role in ("web", "worker"):
            self._roles.append(self._start("-m", "config.role", role))
        assert processes.wait_until(self._answers, 60, pause=0.1), (self.folder / "users.log").read_text()

    def stop(self) -> None:
        for role in self._roles:
            role.terminate()
        for role in self._roles:
            role.wait(60)
        self.redis.destroy()
        self.postgres.destroy()

    def __call__(
        self, method: str, path: str, body: Any = None, *, token: str | None = None
    ) -> dict[str, Any]:
        """As the admin, or whoever's token it is. Fails where the service does."""
        status, answer = self.answer(method, path, body, token=self.token(ADMIN) if token is None else token)
        assert status < 300, (method, path, status, answer)
        return answer

    def answer(
        self, method: str, path: str, body: Any = None, *, token: str = ""
    ) -> tuple[int, dict[str, Any]]:
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)) as wire:
            return ask_on(wire, method, path, body, token=token)

    def token(self, credentials: tuple[str, str], *, fresh: bool = False) -> str:
        email, password = credentials
        if fresh or email not in self._tokens:
            body = {"email": email, "password": password}
            self._tokens[email] = self("POST", "/auth/token", body, token="")["access"]
        return self._tokens[email]

    def register(self, name: str) -> str:
        body = {"email": f"{name}@example.com", "name": name, "password": PASSWORD}
        return str(self("POST", "/users", body)["id"])

    def rows(self) -> set[Row]:
        with psycopg.connect(self.postgres.url) as database:
            return set(database.execute("SELECT id::text, email, name, status, version FROM users"))

    def last_sequence(self) -> int:
        """When all events have one."""
        with psycopg.connect(self.postgres.url) as database:
            row = database.execute(
                "SELECT max(sequence), count(*) FILTER (WHERE sequence IS NULL) FROM outbox"
            )
            last, without = row.fetchone()
        assert not without
        return int(last)

    def execute(self, statement: str) -> None:
        with psycopg.connect(self.postgres.url) as database:
            database.execute(statement)

    def redis_client(self) -> RedisClient:
        return RedisClient.from_url(self.redis.url, socket_timeout=60)

    def _answers(self) -> bool:
        try:
            return self.answer("GET", "/health/ready")[0] == 200
        except OSError:
            return False

    @property
    def _environment(self) -> dict[str, str]:
        return clean_environment() | {
            "DJANGO_SETTINGS_MODULE": "tests.patient_settings",
            "DATABASE_URL": self.postgres.url,
            "REDIS_URL": self.redis.url,
            "LOCAL_DIR": str(self.folder),
            "PORT": str(self.port),
            "BCRYPT_COST": "4",
            "RATE_LIMITS": "off",
            "WEB_WORKERS": "1",
            "WEB_THREADS": "4",
            "DRAIN_SECONDS": "0",
            "LOG_LEVEL": "WARNING",
            "ADMIN_PASSWORD": ADMIN[1],
            "SUPERVISOR_PID": str(os.getpid()),
            **self._settings,
        }

    def _start(self, *arguments: str) -> "subprocess.Popen[bytes]":
        with (self.folder / "users.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, *arguments],
                cwd=PROJECT,
                env=self._environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _run(self, *arguments: str) -> None:
        command = [sys.executable, *arguments]
        subprocess.run(command, cwd=PROJECT, env=self._environment, check=True, timeout=60)
