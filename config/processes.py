"""Processes and ports: who is alive, whose child it is, what is free, how a child ends with its parent."""

import contextlib
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

LOOPBACK = "127.0.0.1"
PARENT_POLL_SECONDS = 0.2


def started(pid: int) -> str | None:
    """When process `pid` was started, in the system's own words; None when it is gone or a zombie.

    Together with the pid this names one process for good: a recycled pid has another start.
    """
    try:
        # The command's name, in brackets, may hold spaces and brackets itself: cut behind the last one.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None if Path("/proc/self/stat").exists() else _started_by_ps(pid)
    return None if fields[0] in "ZX" else fields[19]


def _started_by_ps(pid: int) -> str | None:
    state, _, start = _ps("-o", "state=,lstart=", "-p", str(pid)).strip().partition(" ")
    return None if not start or state.startswith("Z") else start.strip()


def _ps(*arguments: str) -> str:
    return subprocess.run(["ps", *arguments], capture_output=True, text=True, check=False).stdout  # noqa: S603, S607


def command_line(pid: int) -> str:
    """The arguments `pid` was started with, separated by blanks; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return _ps("-ww", "-o", "command=", "-p", str(pid)) if not Path("/proc/self").exists() else ""


def children(pid: int) -> list[int]:
    """The direct children of `pid`."""
    if not Path("/proc/self/stat").exists():
        pairs = (line.split() for line in _ps("-axo", "pid=,ppid=").splitlines())
        return [int(child) for child, parent in pairs if int(parent) == pid]
    return [
        int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit() and _parent(entry) == pid
    ]


def _parent(entry: Path) -> int | None:
    try:
        return int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None


def send(pid: int, signum: int) -> None:
    """Signals a process; one that is gone already is no error."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signum)


def kill_all(pids: list[int], timeout: float = 20) -> None:
    """Kills them in this order, and returns when all are gone."""
    for pid in pids:
        send(pid, signal.SIGKILL)
    wait_until(lambda: not any(map(started, pids)), timeout)


def wait_until(condition: Callable[[], bool], timeout: float, pause: float = 0.02) -> bool:
    """Asks until `condition` holds or `timeout` seconds are over; answers whether it held."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause)
    return True


def wanted_port() -> int:
    """PORT of the environment, or 8000. Raises ValueError in one line."""
    text = os.environ.get("PORT") or "8000"
    if not text.isdecimal() or not 0 < int(text) < 2**16:
        raise ValueError(f"PORT is a number from 1 to 65535, not {text!r}")
    return int(text)


def is_free(port: int, host: str = LOOPBACK) -> bool:
    """Whether a server could listen on this port now."""
    try:
        family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, proto) as probe:
            # Without it, connections that ended a moment ago would make a free port look taken.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError:
        return False
    return True


def free_port(preferred: int | None = None) -> int:
    """The preferred port while it is free, else one the system chooses."""
    # A process with threads that was killed may hold its port for a moment after it looks dead.
    if preferred and wait_until(lambda: is_free(preferred), timeout=0.5):
        return preferred
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def end_with(parent: int, grace: float) -> None:
    """Ends this process when `parent` is no longer its parent, however that one died.

    First SIGTERM to itself, so that it may finish; `grace` seconds later, at the latest, it is gone.
    A thread that polls, because only Linux can ask the kernel for a signal at the parent's death.
    """
    threading.Thread(target=_watch, args=(parent, grace), name="parent-watch", daemon=True).start()


def _watch(parent: int, grace: float) -> None:
    while os.getppid() == parent:
        time.sleep(PARENT_POLL_SECONDS)
    if grace:
        send(os.getpid(), signal.SIGTERM)
        time.sleep(grace)
    os._exit(1)
