"""The role `web`: granian serves `config.wsgi` and stops without losing a request.

The first SIGTERM or SIGINT drains: the file named by DRAIN_FILE appears, so `/health/ready` answers 503 and
the balancer looks elsewhere; DRAIN_SECONDS later the workers finish what they have in hand, and the exit code
is 0. A second signal stops at once. Settings come from the environment, see README.
"""

import contextlib
import gc
import json
import logging
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from granian._internal import load_target
from granian.constants import HTTPModes, Interfaces
from granian.server.mp import MPServer, WorkerProcess

from config import numbers, processes

APPLICATION = "config.wsgi:application"
# For requests in flight when told to stop.
FINISH_SECONDS = 30
# For those of a worker whose server was killed.
ORPHAN_SECONDS = 5
# After which granian, too, takes a worker for one that works.
SETTLED_SECONDS = 6


class DrainingServer(MPServer):
    """Granian, but told to stop it first says so, and goes on serving for a while."""

    def __init__(self, target: str, *, drain_file: Path, drain_seconds: float, **options: Any) -> None:
        super().__init__(target, **options)
        self._drain_file = drain_file
        self._drain_seconds = drain_seconds
        self._draining = False

    def signal_handler_interrupt(self, *_: Any) -> None:
        if self._draining:
            self._stop_at_once()
        else:
            self._draining = True
            threading.Thread(target=self._drain, daemon=True).start()

    def _respawn_workers(self, *workers: Any, **options: Any) -> None:
        """Granian ends the server when a worker dies twice within seconds. That is right where none can
        start; while another one has been up for longer, the server goes on."""
        super()._respawn_workers(*workers, **options)
        now = time.monotonic()
        if any(is_alive(worker) and now - worker.birth > SETTLED_SECONDS for worker in self.wrks):
            self.respawned_wrks.clear()

    def _drain(self) -> None:
        with contextlib.suppress(OSError):  # whatever became of that folder, stopping goes on
            self._drain_file.parent.mkdir(parents=True, exist_ok=True)  # temporary files get swept away
            self._drain_file.touch()
        time.sleep(self._drain_seconds)
        while True:  # granian forgets it when a worker is being replaced at this very moment
            super().signal_handler_interrupt()  # type: ignore[no-untyped-call]
            time.sleep(0.5)

    def _stop_at_once(self) -> None:
        for worker in self.wrks:
            worker.kill()  # type: ignore[no-untyped-call]
        super().signal_handler_interrupt()  # type: ignore[no-untyped-call]

    def _stop_workers(self) -> None:
        # Granian asks a worker that ended this very moment, is told it lives, and warns that it kills it.
        for worker in self.wrks:
            worker.terminate()  # type: ignore[no-untyped-call]
        processes.wait_until(lambda: not any(map(is_alive, self.wrks)), FINISH_SECONDS)
        super()._stop_workers()  # type: ignore[no-untyped-call]


def is_alive(worker: WorkerProcess) -> bool:
    return bool(worker.is_alive())  # type: ignore[no-untyped-call]


class JsonLines(logging.Formatter):
    """Granian's own messages, in the form of the service's log."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat().replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            "logger": "granian",
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


LOGGING = {
    "formatters": {"json": {"()": JsonLines}},
    "handlers": {
        "stdout": {"class": "logging.StreamHandler", "formatter": "json", "stream": "ext://sys.stdout"}
    },
    "loggers": {"_granian": {"handlers": ["stdout"], "propagate": False}},
}


def load_in_worker(server: int, target: str) -> Callable[..., Any]:
    """Runs in a new worker, before granian's own handlers are set; `server` is the pid of its parent."""
    os.setpgid(0, 0)  # Ctrl-C is for the server alone, which then drains
    # What was inherited is the server's handler: a worker told to stop while it loads would ignore it.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    processes.end_with(server, ORPHAN_SECONDS)
    application = load_target(target)
    # What is loaded by now stays. To look through all of it at each full collection of garbage takes a tenth
    # of a second, for which all threads stand still: the slowest percent of requests waited for it.
    gc.collect()
    gc.freeze()
    return application


def serve(target: str = APPLICATION) -> int:
    """Serves until told to stop; answers the exit code."""
    supervisor = os.environ.get("SUPERVISOR_PID")
    if supervisor:
        processes.end_with(int(supervisor), grace=0)
    with tempfile.TemporaryDirectory(prefix="users-web-", ignore_cleanup_errors=True) as scratch:
        return _serve(target, Path(scratch), supervised=bool(supervisor))


def _serve(target: str, scratch: Path, *, supervised: bool) -> int:
    draining = drain_file(scratch)  # named before settings are read: the workers inherit them as they are
    try:
        if target == APPLICATION:
            os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
            import_module("users.checks").refuse_dangers()  # said once, not by each worker
        host, port = address()
        workers, threads = numbers.web_workers(), numbers.web_threads()
    except (ValueError, ImproperlyConfigured) as error:
        print(error, file=sys.stderr)
        return 1
    # Under a supervisor we may follow a server that was killed, whose workers are about to leave the port.
    if not processes.wait_until(lambda: processes.is_free(port, host), ORPHAN_SECONDS if supervised else 0):
        print(f"port {port} on {host} is taken: choose another with PORT=...", file=sys.stderr)
        return 1
    draining.unlink(missing_ok=True)  # should a killed server have left it
    prepare_metrics(scratch)
    server = DrainingServer(
        target,
        drain_file=draining,
        drain_seconds=float(os.environ.get("DRAIN_SECONDS") or (5 if in_production() else 1)),
        address=host,
        port=port,
        interface=Interfaces.WSGI,
        http=HTTPModes.http1,
        websockets=False,
        workers=workers,
        blocking_threads=threads,
        blocking_threads_idle_timeout=600,  # a thread takes its database connection with it
        respawn_failed_workers=True,
        workers_kill_timeout=1,  # after FINISH_SECONDS
        log_dictconfig=LOGGING,
    )
    # More threads than cores are meant: they wait for PostgreSQL, and bcrypt releases the GIL.
    logging.getLogger("_granian").addFilter(lambda record: "Python threads" not in record.getMessage())
    server.serve(target_loader=partial(load_in_worker, os.getpid()))
    return 0


def in_production() -> bool:
    return os.environ.get("DJANGO_ENV") == "production"


def address() -> tuple[str, int]:
    """Where to listen: in production for the network, else for this machine only."""
    host = "0.0.0.0" if in_production() else processes.LOOPBACK
    return os.environ.get("HOST") or host, processes.wanted_port()


def drain_file(scratch: Path) -> Path:
    """The file that says we drain, known to the settings from now on."""
    return Path(os.environ.setdefault("DRAIN_FILE", str(scratch / "draining")))


def prepare_metrics(scratch: Path) -> None:
    """An empty folder for the workers' counters, known to them before they import the metrics library.

    The files of processes that are alive stay: in development the relay counts in the same folder.
    """
    folder = Path(os.environ.setdefault("PROMETHEUS_MULTIPROC_DIR", str(scratch / "metrics")))
    folder.mkdir(parents=True, exist_ok=True)
    for file in folder.glob("*.db"):
        pid = file.stem.rpartition("_")[2]
        if not pid.isdigit() or int(pid) == os.getpid() or not processes.started(int(pid)):
            file.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(serve())
