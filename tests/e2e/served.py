"""The service as it runs in production: `python -m config.server` with two worker processes, over sockets."""

import http.client
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from django.core.cache import caches
from django.db import connection

from config import processes
from config.embedded import PROJECT
from tests import leaks
from tests.servers import clean_environment
from tests.together import PATIENCE

PRODUCTION_ENVIRONMENT = {
    "DJANGO_ENV": "production",
    "SECRET_KEY": "kH3nQ8vZt5rW1xB7yC4mD9pF2sG6jL0aE-uIoTqRwXzNbVcMkJhGfDsA",
    "ALLOWED_HOSTS": "localhost, 127.0.0.1",
    "DATABASE_URL": "postgres://nobody@127.0.0.1:1/none",
    "REDIS_URL": "redis://127.0.0.1:1/0",
    "TRUSTED_PROXIES": "0",
}
"""All that production demands but JWT_SIGNING_KEY_FILE; the servers named are not there."""


def write_signing_key(folder: Path) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    path = folder / "jwt.pem"
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(key.private_bytes(*form))
    return path


def database_url() -> str:
    place = connection.settings_dict
    return "postgres://{USER}:{PASSWORD}@{HOST}:{PORT}/{NAME}".format(**place)


@dataclass
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Served:
    """A running service and ways to talk to it."""

    def __init__(self, folder: Path, *, code: str = "", **environment: str) -> None:
        """`code` is run in its place, if it has to be a little different."""
        self.port = processes.free_port()
        self._log = folder / "log"
        leaks.follow(self._log)
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, *(["-c", code] if code else ["-m", "config.server"])],
                cwd=PROJECT,
                env=clean_environment()
                | {"DJANGO_SETTINGS_MODULE": "tests.patient_settings"}
                | environment
                | {"PORT": str(self.port), "HOST": "127.0.0.1"},
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def until_it_answers(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                if self("GET", "/health/live").status == 200:
                    return
            except OSError:
                time.sleep(0.1)
            assert self._process.poll() is None, self.log
            assert time.monotonic() < deadline, self.log

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(PATIENCE)

    @property
    def log(self) -> str:
        return self._log.read_text()

    def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """Over a connection of its own, so that any of the workers may answer."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        if data is not None:
            sent.setdefault("content-type", "application/json")
        place = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            place.request(method, path, data, sent)
            response = place.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            place.close()

    def raw(self, request: bytes) -> bytes:
        """Whatever comes back to these bytes until the server closes the connection."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE) as wire:
            wire.sendall(request)
            received = b""
            while piece := wire.recv(65536):
                received += piece
        return received


@pytest.fixture(scope="session")
def production(
    django_db_setup: None, redis_server: object, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """One server for all tests of a process, on their database."""
    folder = tmp_path_factory.mktemp("served")
    server = Served(
        folder,
        **PRODUCTION_ENVIRONMENT
        | {
            "DATABASE_URL": database_url(),
            "REDIS_URL": str(caches.settings["default"]["LOCATION"]),
            "JWT_SIGNING_KEY_FILE": str(write_signing_key(folder)),
            "STATIC_ROOT": str(folder),
            "LOCAL_DIR": str(folder),
            "BEHIND_PROXY": "true",
            "CORS_ALLOWED_ORIGINS": "https://app.example.com, https://other.example.com:8443",
            "WEB_WORKERS": "2",
            "WEB_THREADS": "4",
            "DRAIN_SECONDS": "0",
            "BCRYPT_COST": "4",
            "RATE_LIMITS": "off",
        },
    )
    try:
        server.until_it_answers()
        yield server
    finally:
        server.stop()


@pytest.fixture
def served(database: None, production: Served) -> Served:
    """The server of `production`, on a database that is swept out afterwards."""
    return production
