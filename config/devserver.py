"""`make run`: everything the service needs on one machine, in the foreground, until Ctrl-C or SIGTERM.

Starts PostgreSQL and Redis (`config.embedded`), migrates, creates the first administrator, and keeps the
roles `web` and `worker` running. However this process ends, its children end too; after a `kill -9` the next
run takes the servers over.
"""

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from config import embedded, processes
from config.embedded import PROJECT, EmbeddedError
from config.role import without_statement_timeout

FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0
SETTLED_SECONDS = 10
# How long each role may take to end: in-flight requests get 30 s, see config.server.
STOP_SECONDS = {"web": 45, "worker": 20}
PREPARE_SECONDS = 300
# What a run that was killed leaves behind needs to notice that, and to let go of the port and the lock.
PATIENCE_SECONDS = 5 * processes.PARENT_POLL_SECONDS
LEAVING_SECONDS = 20
KEEP_MAILS_SECONDS = 7 * 86_400


class CannotRun(Exception):
    """Why not, in one line."""


class Role:
    """One child process that is kept running."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._pause = FIRST_PAUSE
        self.start()

    def start(self) -> None:
        self._process: subprocess.Popen[bytes] | None = start_child("-m", "config.role", self.name)
        self._since = time.monotonic()

    def tend(self) -> None:
        """Starts it again when it has died and its pause is over."""
        if self._process is None:
            if time.monotonic() >= self._resume_at:
                self.start()
        elif self._process.poll() is not None:
            self._schedule(self._process.returncode)

    def _schedule(self, code: int) -> None:
        self._process = None
        if time.monotonic() - self._since > SETTLED_SECONDS:
            self._pause = FIRST_PAUSE
        say(f"{self.name} ended with {code}; starting it again in {self._pause:g} s")
        self._resume_at = time.monotonic() + self._pause
        self._pause = min(self._pause * 2, LONGEST_PAUSE)

    def stop(self, hurry: threading.Event) -> None:
        """SIGTERM, and after its time or when in a hurry SIGKILL; returns when it is gone."""
        if (process := self._process) is None:
            return
        process.terminate()
        processes.wait_until(lambda: process.poll() is not None or hurry.is_set(), STOP_SECONDS[self.name])
        if process.poll() is None:
            process.kill()
            process.wait()


class Stop:
    """The signals that end a run: the first sets `asked`, the second `hurry`."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.hurry = threading.Event()
        for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(signum, self._on_signal)

    def _on_signal(self, *_: Any) -> None:
        (self.hurry if self.asked.is_set() else self.asked).set()


class OnlyRun:
    """The lock on the local folder. Its file says who holds it, and in a second word that he is leaving."""

    def __init__(self, local_dir: Path) -> None:
        self._path = local_dir / "run.lock"

    @contextlib.contextmanager
    def held(self) -> Iterator[bool]:
        """Yields whether the last run was killed. Raises CannotRun while another one goes on."""
        with self._path.open("a+") as self._file:
            if not self._lock(PATIENCE_SECONDS) and not (self._holder()[1:] and self._lock(LEAVING_SECONDS)):
                raise CannotRun(f"make run is already running here, pid {self._holder()[0]}")
            killed = bool(self._holder())
            self._write(str(os.getpid()))
            try:
                yield killed
            finally:
                self._write("")

    def leaving(self) -> None:
        """Tells the next run that waiting is worth while."""
        self._write(f"{os.getpid()} leaving")

    def _lock(self, patience: float) -> bool:
        return processes.wait_until(self._try_lock, patience, pause=0.1)

    def _try_lock(self) -> bool:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        return False

    def _holder(self) -> list[str]:
        return self._path.read_text().split()

    def _write(self, text: str) -> None:
        self._file.truncate(0)
        self._file.write(text)
        self._file.flush()


def start_child(*arguments: str, **options: Any) -> subprocess.Popen[bytes]:
    """A Python process of ours, in a session of its own, so that Ctrl-C reaches this process only."""
    return subprocess.Popen([sys.executable, *arguments], cwd=PROJECT, start_new_session=True, **options)


def prepare(stop: Stop) -> None:
    """Migrates and creates the first administrator. A process of its own: this one stays without Django."""
    child = start_child("-m", "config.devserver", "prepare")
    processes.wait_until(lambda: child.poll() is not None or stop.asked.is_set(), PREPARE_SECONDS)
    child.terminate()
    if child.wait() and not stop.asked.is_set():
        raise CannotRun("the database could not be prepared, see above")


def prepare_here() -> None:
    """What that process does: both in one, because importing Django is what takes the time."""
    processes.end_with(int(os.environ["SUPERVISOR_PID"]), grace=0)
    without_statement_timeout()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    import django
    from django.core.management import CommandError, call_command

    django.setup()
    call_command("migrate", interactive=False, verbosity=0)
    email = os.environ.get("ADMIN_EMAIL") or "admin@example.com"
    try:
        call_command("create_operator", "--role", "admin", "--email", email, "--first-admin")
    except CommandError as error:
        sys.exit(f"first administrator: {error}")


def run(local_dir: Path, port: int, only: OnlyRun, stop: Stop) -> None:
    """Brings everything up, keeps it up until asked to stop, and takes it down in the opposite order."""
    roles: list[Role] = []
    say("starting PostgreSQL and Redis")
    try:
        servers = embedded.start(local_dir)
        os.environ |= {"DATABASE_URL": servers.database_url, "REDIS_URL": servers.redis_url}
        prepare(stop)
        roles += [Role("web"), Role("worker")]
        keep_up(roles, port, local_dir, stop)
    finally:
        say("stopping")
        only.leaving()
        for role in roles:
            role.stop(stop.hurry)
        embedded.stop(local_dir)


def keep_up(roles: list[Role], port: int, local_dir: Path, stop: Stop) -> None:
    announced = False
    while not stop.asked.wait(0.1):
        for role in roles:
            role.tend()
        if not announced and is_live(port):
            announced = True
            announce(port, local_dir)


def is_live(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://{processes.LOOPBACK}:{port}/health/live", timeout=1) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def announce(port: int, local_dir: Path) -> None:
    base = f"http://{processes.LOOPBACK}:{port}"
    lines = {
        "API": base,
        "Documentation": f"{base}/docs",
        "Admin": f"{base}/admin/",
        "PostgreSQL": os.environ["DATABASE_URL"],
        "Redis": os.environ["REDIS_URL"],
        "Addresses": str(local_dir / "servers.json"),
        "Mails": "by EMAIL_URL" if os.environ.get("EMAIL_URL") else str(local_dir / "mails"),
    }
    print("\n" + "\n".join(f"  {name:<14} {value}" for name, value in lines.items()))
    print("\n  Ready. Ctrl-C stops everything.\n", flush=True)


def say(text: str) -> None:
    print(f"[run] {text}", flush=True)


def require_port(port: int, patience: float) -> None:
    if not processes.wait_until(lambda: processes.is_free(port), patience, pause=0.1):
        raise CannotRun(f"port {port} is taken; choose another: make run PORT={port + 1}")


def main() -> int:
    local_dir = Path(os.environ.get("LOCAL_DIR") or PROJECT / ".local").resolve()
    stop = Stop()
    if "MAKELEVEL" in os.environ:  # a `make` that is killed would leave us behind
        processes.end_with(os.getppid(), grace=90)
    local_dir.mkdir(parents=True, exist_ok=True)
    only = OnlyRun(local_dir)
    try:
        port = processes.wanted_port()
        with only.held() as last_was_killed:
            require_port(port, LEAVING_SECONDS if last_was_killed else 0)
            export(local_dir, port)
            run(local_dir, port, only, stop)
    except (CannotRun, EmbeddedError, ValueError) as error:
        print(f"[run] {error}", file=sys.stderr)
        return 1
    return 0


def export(local_dir: Path, port: int) -> None:
    """What the children need to know, in a scratch folder that no earlier run has written to."""
    scratch = local_dir / "scratch"
    shutil.rmtree(scratch, ignore_errors=True)
    (scratch / "metrics").mkdir(parents=True)
    (local_dir / "mails").mkdir(mode=0o700, exist_ok=True)
    forget_mails(local_dir / "mails", before=time.time() - KEEP_MAILS_SECONDS)
    (local_dir / "static").mkdir(exist_ok=True)  # empty: in development files are served from where they lie
    os.environ |= {
        "LOCAL_DIR": str(local_dir),
        "PORT": str(port),
        "PROMETHEUS_MULTIPROC_DIR": str(scratch / "metrics"),
        "SUPERVISOR_PID": str(os.getpid()),
        "TMPDIR": str(scratch),  # what a killed server leaves there is gone with the next run
        "PYTHONUNBUFFERED": "1",
    }


def forget_mails(folder: Path, *, before: float) -> None:
    """There are addresses in them, and links."""
    for mail in folder.glob("*.eml"):
        if mail.stat().st_mtime < before:
            mail.unlink()


if __name__ == "__main__":
    if sys.argv[1:] == ["prepare"]:
        prepare_here()
    else:
        sys.exit(main())
