"""The order service of `examples/` as a process: started, stopped, killed, and asked what it knows.

Imports neither Django nor the example: `with OrderService(...) as orders:` works beside any running
service."""

import http.client
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

from config import processes
from config.embedded import PROJECT
from tests.servers import clean_environment

Row = tuple[str, str | None, str | None, str, int]
"""Of a user: id, email, name, status, version."""


class OrderService:
    """Its database in `folder` outlives its processes. `credentials` are email and password of an account
    with the role service or admin."""

    def __init__(
        self,
        folder: Path,
        base_url: str,
        redis_url: str,
        credentials: tuple[str, str],
        *,
        group: str = "orders",
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.group = group
        self.port = processes.free_port()
        self._database = folder / "orders.sqlite3"
        self._log = folder / "orders.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._environment = clean_environment() | {
            "USERS_URL": base_url,
            "REDIS_URL": redis_url,
            "USERS_EMAIL": credentials[0],
            "USERS_PASSWORD": credentials[1],
            "ORDERS_DB": str(self._database),
            "PORT": str(self.port),
            "PYTHONUNBUFFERED": "1",
            "GROUP": group,
        }

    def __enter__(self) -> "OrderService":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "examples.order_service"],
                cwd=PROJECT,
                env=self._environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def command(self, *arguments: str) -> str:
        """What one of its commands prints."""
        return subprocess.run(
            [sys.executable, "-m", "examples.order_service", *arguments],
            cwd=PROJECT,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        ).stdout

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def kill(self) -> bool:
        """SIGKILL, if it runs; answers whether it did."""
        if self._process is None or not self.running:
            return False
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(60)
        return True

    def stop(self) -> int:
        """SIGTERM; answers the exit code."""
        assert self._process
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(60)

    def freeze(self) -> None:
        assert self._process
        os.kill(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process
        os.kill(self._process.pid, signal.SIGCONT)

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def ask(self, method: str, path: str, body: Any = None, *, token: str = "") -> tuple[int, dict[str, Any]]:
        """Over HTTP, on a connection of its own."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)) as wire:
            return ask_on(wire, method, path, body, token=token)

    def wait_until_it_answers(self, seconds: float = 60) -> None:
        assert processes.wait_until(self._answers, seconds, pause=0.05), self.log

    def _answers(self) -> bool:
        assert self.running, self.log
        try:
            return self.ask("GET", "/health")[0] == 200
        except OSError:
            return False

    def wait_until_at(self, sequence: int, seconds: float = 60) -> None:
        """Until that event is applied and no dead letter is left."""

        def is_there() -> bool:
            assert self.running, self.log
            return self.position() >= sequence and not self.dead_letters()

        arrived = processes.wait_until(is_there, seconds, pause=0.05)
        assert arrived, f"at {self.position()}, not {sequence}; dead: {self.dead_letters()}\n{self.log}"

    def position(self) -> int:
        rows = self._query("SELECT sequence FROM progress")
        return int(rows[0][0]) if rows else 0

    def dead_letters(self) -> list[tuple[Any, ...]]:
        return self._query("SELECT sequence, error FROM dead_letters ORDER BY sequence")

    def users(self) -> set[Row]:
        """Its copy."""
        return {
            (row[0], row[1], row[2], row[3], row[4])
            for row in self._query("SELECT id, email, name, status, user_version FROM users")
        }

    def everything(self) -> str:
        """Every row of its database, as text."""
        with closing(sqlite3.connect(self._database, timeout=60)) as database:
            return "\n".join(database.iterdump())

    def _query(self, statement: str) -> list[tuple[Any, ...]]:
        if not self._database.exists():
            return []
        with closing(sqlite3.connect(self._database, timeout=60)) as database:
            try:
                return database.execute(statement).fetchall()
            except sqlite3.OperationalError as error:
                if "no such table" in str(error):  # it is just being made
                    return []
                raise


def ask_on(
    wire: http.client.HTTPConnection, method: str, path: str, body: Any = None, *, token: str = ""
) -> tuple[int, dict[str, Any]]:
    """One request on a connection that stays open; answers status and content."""
    headers = {"Content-Type": "application/json"} if body is not None else {}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    wire.request(method, path, None if body is None else json.dumps(body).encode(), headers)
    response = wire.getresponse()
    content = response.read()
    return response.status, json.loads(content) if content else {}


def expected_copy(rows: Iterable[Row]) -> set[Row]:
    """The service's own users as the copy should hold them: of an erased one nothing personal."""
    return {
        (id_, None, None, status, version) if status == "erased" else (id_, email, name, status, version)
        for id_, email, name, status, version in rows
    }


def wait_for(check: Any, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.02)
