"""What PostgreSQL and Redis have in common as processes of this machine."""

import atexit
import contextlib
import fcntl
import json
import os
import secrets
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from config import processes

START_SECONDS = 60
STOP_SECONDS = 20
LOG_LIMIT = 5_000_000

# The servers this process started. They outlive the objects that stand for them, and must be reaped.
_spawned: dict[int, subprocess.Popen[bytes]] = {}


@atexit.register
def _let_go() -> None:
    """Servers outlive us on purpose: nothing to warn of."""
    for child in _spawned.values():
        child.returncode = child.poll() or 0


class EmbeddedError(RuntimeError):
    """A server cannot be had; the message says why, for people."""


class Server:
    """One process on 127.0.0.1, its port and password remembered in `<folder>/state.json`.

    It outlives the process that started it, until somebody calls `stop`. `start` is idempotent, between
    processes too; the port stays the same as long as nobody else takes it.
    """

    name: str

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder).resolve()

    @property
    def port(self) -> int:
        """The port of the last start; 0 before the first."""
        return int(self._state().get("port") or 0)

    @property
    def url(self) -> str:
        """Where to connect to, password included."""
        raise NotImplementedError

    @property
    def pid(self) -> int | None:
        """The server's process, or None when it does not run."""
        state = self._state()
        pid = state.get("pid")
        if pid in _spawned:
            _spawned[pid].poll()  # reaps it, should it be dead
        return pid if pid and processes.started(pid) == (state["started"] or "never") else None

    def answers(self) -> bool:
        """Whether it is up, and accepts our password."""
        raise NotImplementedError

    def start(self) -> None:
        """Returns when the server answers. Raises EmbeddedError with the end of its log when it does not."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._locked():
            if self.pid:
                if processes.wait_until(self.answers, timeout=3):
                    return
                self.kill()  # ours, but stopped or stuck since its owner died
            self._launch()

    def stop(self) -> None:
        """Ends it in an orderly way, by force when it does not listen; nothing when it does not run."""
        if not self.folder.exists():
            return
        with self._locked():
            if pid := self.pid:
                self.resume()
                processes.send(pid, signal.SIGINT)  # to PostgreSQL: do not wait for clients
                if not processes.wait_until(lambda: self.pid is None, STOP_SECONDS):
                    self.kill()
            self._remember(pid=None, started=None)

    def kill(self) -> None:
        """Kills the server and its children as a power cut would."""
        family = self._family()
        processes.kill_all(family)
        for pid in family:
            if child := _spawned.pop(pid, None):
                child.wait()

    def pause(self) -> None:
        """Freezes it: connections stay open and are accepted by the kernel, but nobody answers."""
        for pid in self._family():
            processes.send(pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Ends a pause."""
        for pid in reversed(self._family()):
            processes.send(pid, signal.SIGCONT)

    def restart(self) -> None:
        """Stops and starts it on the same port."""
        self.stop()
        self.start()

    def destroy(self) -> None:
        """Stops it and removes its data."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _launch(self) -> None:
        for _ in range(3):  # between choosing a port and listening on it somebody else may take it
            child = self._spawn(port := processes.free_port(self.port))
            _spawned[child.pid] = child
            # Before it answers: whoever comes after us, should we die now, must find it.
            self._remember(port=port, pid=child.pid, started=processes.started(child.pid))
            if processes.wait_until(lambda: self.answers() or self.pid is None, START_SECONDS) and self.pid:
                return
            self.kill()
        raise EmbeddedError(f"{self.name} does not start; its log {self._log} ends:\n{self._log_end()}")

    def _spawn(self, port: int) -> subprocess.Popen[bytes]:
        raise NotImplementedError

    def _popen(self, command: list[str], **options: Any) -> subprocess.Popen[bytes]:
        with self._open_log() as log:
            return subprocess.Popen(  # noqa: S603
                command,
                env=environment(),
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C in the terminal is not meant for it
                **options,
            )

    def _family(self) -> list[int]:
        """The process and its children; the parent first, so that a frozen or dead one replaces none."""
        return [self.pid, *processes.children(self.pid)] if self.pid else []

    @property
    def _log(self) -> Path:
        return self.folder / "server.log"

    def _open_log(self) -> Any:
        too_long = self._log.exists() and self._log.stat().st_size > LOG_LIMIT
        return self._log.open("wb" if too_long else "ab")

    def _log_end(self) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-12:])

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with (self.folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _password(self) -> str:
        if "password" not in self._state():
            self._remember(password=secrets.token_hex(16))
        return str(self._state()["password"])

    def _state(self) -> dict[str, Any]:
        try:
            state: dict[str, Any] = json.loads((self.folder / "state.json").read_text())
        except FileNotFoundError:
            return {}
        return state

    def _remember(self, **changes: Any) -> None:
        write_json(self.folder / "state.json", self._state() | changes)


def environment() -> dict[str, str]:
    """What the servers need of ours: not PGHOST and the like, nor a locale that this machine may lack."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}


def write_json(path: Path, content: Any) -> None:
    """Replaces the file in one step, readable by its owner only: a reader sees the old or the new one."""
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    fresh.touch(mode=0o600)
    fresh.write_text(json.dumps(content, indent=2) + "\n")
    fresh.replace(path)
