"""The service as processes: `make run` and the role `web`, started, signalled, killed and started again."""

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from config import embedded, processes
from config.embedded import PROJECT
from tests import leaks
from tests.together import PATIENCE

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120), pytest.mark.xdist_group("running")]

APPLICATION = """
import os, pathlib, time

def application(environ, start_response):
    path, folder = environ["PATH_INFO"], pathlib.Path(__file__).parent
    if path == "/slow":
        (folder / "in-hand").touch()
        while not (folder / "go-on").exists():
            time.sleep(0.01)
    ready = not os.path.exists(os.environ["DRAIN_FILE"])
    start_response("200 OK" if ready or path != "/health/ready" else "503 Unavailable", [])
    return [str(os.getpid()).encode()]
"""
SERVE = """
import os, sys, time
from config import server

class Time:
    monotonic = staticmethod(time.monotonic)

    @staticmethod
    def sleep(seconds):
        ends = time.monotonic() + seconds
        while time.monotonic() < ends and not (seconds > 60 and os.path.exists(os.environ["DRAINED"])):
            time.sleep(0.01)

server.time = Time
server.SETTLED_SECONDS = 1
sys.exit(server.serve('application:application'))
"""
"""A drain of more than a minute is over when the test says so; a worker has settled sooner than in life."""
LONG = 100


class Process:
    """A command of ours with its output in a file, and requests to the port it serves."""

    def __init__(self, command: list[str], folder: Path, **environment: object) -> None:
        self.port = processes.free_port()
        self._output = folder / f"output-{self.port}"
        leaks.follow(self._output, only="{")
        settings = {"PORT": self.port, "LOCAL_DIR": folder / "local", "TMPDIR": folder} | environment
        inherited = {key: value for key, value in os.environ.items() if key not in UNWANTED}
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                cwd=PROJECT,
                env=inherited | {key: str(value) for key, value in settings.items()},
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self.port = int(str(settings["PORT"]))
        self.pid = self._process.pid

    @property
    def output(self) -> str:
        return self._output.read_text()

    def get(self, path: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def answers(self, path: str = "/health/live") -> bool:
        try:
            return self.get(path)[0] == 200
        except OSError:
            return False

    def until_it_answers(self, path: str = "/health/live") -> "Process":
        assert eventually(lambda: self.answers(path) or self.ended), self.output
        assert not self.ended, self.output
        return self

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    def signal(self, signum: int) -> None:
        self._process.send_signal(signum)

    def exit_code(self, timeout: float = PATIENCE) -> int:
        return self._process.wait(timeout)

    def end(self) -> None:
        if not self.ended:
            self.signal(signal.SIGKILL)
            self.exit_code()


# What this test run may have been given, and would lead its subjects elsewhere.
UNWANTED = {
    "ADMIN_EMAIL",
    "DATABASE_URL",
    "DRAIN_FILE",
    "MAKELEVEL",
    "MAKEFLAGS",
    "PROMETHEUS_MULTIPROC_DIR",
    "REDIS_URL",
    "SUPERVISOR_PID",
}
Start = Callable[..., Process]


def eventually(condition: Callable[[], object], timeout: float = PATIENCE) -> bool:
    return processes.wait_until(lambda: bool(condition()), timeout, pause=0.05)


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Start]:
    """Starts the role `web` over a small application of its own."""
    (tmp_path / "application.py").write_text(APPLICATION)
    started: list[Process] = []

    def start(**environment: object) -> Process:
        path = os.pathsep.join([str(tmp_path), str(PROJECT)])
        drained = tmp_path / "drained"
        settings = {
            "PYTHONPATH": path,
            "WEB_WORKERS": 2,
            "DRAIN_SECONDS": 0,
            "DRAINED": drained,
        } | environment
        started.append(Process([sys.executable, "-c", SERVE], tmp_path, **settings))
        return started[-1]

    yield start
    for process in started:
        process.end()


class InFlight:
    """A request that is in the server's hands until its status is asked for."""

    def __init__(self, process: Process, folder: Path) -> None:
        self.answer: tuple[int, str] | None = None
        self._folder = folder
        self._thread = threading.Thread(target=self._run, args=(process,))
        self._thread.start()
        assert eventually((folder / "in-hand").exists)

    def _run(self, process: Process) -> None:
        self.answer = process.get("/slow")

    def status(self) -> int | None:
        (self._folder / "go-on").touch()
        self._thread.join(PATIENCE)
        return self.answer and self.answer[0]


def takes_no_more(server: Process) -> bool:
    try:
        server.get("/other")
    except OSError:
        return True
    return False


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_server_told_to_stop_says_so_first_and_finishes_what_it_has_in_hand(
    serve: Start, signum: signal.Signals, tmp_path: Path
) -> None:
    server = serve(DRAIN_SECONDS=LONG).until_it_answers()
    request = InFlight(server, tmp_path)
    server.signal(signum)
    assert eventually(lambda: server.get("/health/ready")[0] == 503)
    assert server.answers("/other")
    (tmp_path / "drained").touch()
    assert eventually(lambda: takes_no_more(server))
    assert request.status() == 200
    assert server.exit_code() == 0
    assert processes.is_free(server.port)


def test_ctrl_c_reaches_the_server_and_not_its_workers(serve: Start, tmp_path: Path) -> None:
    server = serve(DRAIN_SECONDS=1).until_it_answers()
    request = InFlight(server, tmp_path)
    os.killpg(server.pid, signal.SIGINT)
    assert eventually(lambda: takes_no_more(server))
    assert request.status() == 200
    assert server.exit_code() == 0
    assert "Unexpected exit" not in server.output


def test_a_second_signal_stops_the_server_at_once(serve: Start) -> None:
    server = serve(DRAIN_SECONDS=LONG).until_it_answers()
    server.signal(signal.SIGTERM)
    assert eventually(lambda: server.get("/health/ready")[0] == 503)
    server.signal(signal.SIGTERM)
    assert server.exit_code() == 0


def test_a_server_whose_temporary_files_were_swept_away_still_drains(serve: Start, tmp_path: Path) -> None:
    server = serve(DRAIN_SECONDS=LONG).until_it_answers()
    (scratch,) = tmp_path.glob("users-web-*")
    shutil.rmtree(scratch)
    server.signal(signal.SIGTERM)
    assert eventually(lambda: server.get("/health/ready")[0] == 503)
    (tmp_path / "drained").touch()
    assert server.exit_code() == 0


def test_a_killed_worker_is_replaced_while_the_other_serves(serve: Start) -> None:
    server = serve().until_it_answers()
    before = set(processes.children(server.pid))
    victim = min(before)
    os.kill(victim, signal.SIGKILL)
    assert eventually(lambda: len(set(processes.children(server.pid)) - {victim}) == 2)
    assert eventually(server.answers)
    server.signal(signal.SIGTERM)
    assert server.exit_code() == 0


def test_a_worker_killed_twice_in_a_row_does_not_take_the_other_down(serve: Start) -> None:
    server = serve().until_it_answers()
    steady, victim = sorted(processes.children(server.pid))
    time.sleep(1.5)
    for _ in range(2):
        os.kill(victim, signal.SIGKILL)
        assert eventually(lambda killed=victim: set(processes.children(server.pid)) - {steady, killed})
        (victim,) = set(processes.children(server.pid)) - {steady, victim}
        time.sleep(0.5)
    assert server.answers()
    assert steady in processes.children(server.pid)
    server.signal(signal.SIGTERM)
    assert server.exit_code() == 0


def test_workers_end_with_a_killed_server_and_leave_the_port(serve: Start) -> None:
    server = serve().until_it_answers()
    workers = processes.children(server.pid)
    server.end()
    assert eventually(lambda: not any(map(processes.started, workers)))
    assert processes.is_free(server.port)


def test_every_line_of_the_server_is_a_json_object(serve: Start) -> None:
    server = serve().until_it_answers()
    server.signal(signal.SIGTERM)
    server.exit_code()
    lines = [json.loads(line) for line in server.output.splitlines()]
    assert lines
    assert all({"timestamp", "level", "event"} <= line.keys() for line in lines)


def test_a_server_names_the_port_that_is_taken(serve: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        server = serve(PORT=port)
        assert server.exit_code() == 1
    assert server.output.splitlines() == [f"port {port} on 127.0.0.1 is taken: choose another with PORT=..."]


def test_counters_of_an_earlier_run_are_wiped_and_those_of_a_living_process_kept(
    serve: Start, tmp_path: Path
) -> None:
    metrics = tmp_path / "metrics"
    metrics.mkdir()
    (metrics / "counter_999999999.db").touch()
    (metrics / f"counter_{os.getpid()}.db").touch()
    serve(PROMETHEUS_MULTIPROC_DIR=metrics).until_it_answers()
    assert [file.name for file in metrics.iterdir()] == [f"counter_{os.getpid()}.db"]


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The local folder of the runs: one, as a new PostgreSQL takes longer than everything else."""
    folder = tmp_path_factory.mktemp("run") / "local"
    yield folder
    embedded.stop(folder)
    embedded.Postgres(folder / "postgres").destroy()
    embedded.Redis(folder / "redis").destroy()


@pytest.fixture
def run(tmp_path: Path, local: Path) -> Iterator[Start]:
    """Starts what `make run` starts."""
    started: list[Process] = []

    def start(command: list[str] | None = None, **environment: object) -> Process:
        settings = {
            "LOCAL_DIR": local,
            "ADMIN_PASSWORD": "correct horse battery staple",
            "WEB_WORKERS": 1,
            "DRAIN_SECONDS": 0.2,
        } | environment
        started.append(Process(command or [sys.executable, "-m", "config.devserver"], tmp_path, **settings))
        return started[-1]

    yield start
    for process in started:
        if not process.ended:
            process.signal(signal.SIGTERM)
            process.exit_code()


def is_ready(process: Process) -> bool:
    return "Ready." in process.output and process.answers("/health/ready")


def until_ready(process: Process) -> Process:
    assert eventually(lambda: is_ready(process) or process.ended), process.output
    assert not process.ended, process.output
    return process


def role(process: Process, name: str) -> int | None:
    """The pid of a role under this supervisor."""
    found = [
        pid for pid in processes.children(process.pid) if f"config.role {name}" in processes.command_line(pid)
    ]
    return found[0] if found else None


def test_a_run_serves_refuses_a_second_one_and_stops_cleanly(run: Start, local: Path) -> None:
    first = until_ready(run())
    servers = json.loads((local / "servers.json").read_text())
    assert servers["database_url"] in first.output
    assert servers["redis_url"] in first.output

    second = run()
    assert second.exit_code() == 1
    assert second.output.splitlines() == [f"[run] make run is already running here, pid {first.pid}"]

    first.signal(signal.SIGTERM)
    assert first.exit_code() == 0, first.output
    assert not (local / "servers.json").exists()
    assert embedded.Postgres(local / "postgres").pid is None
    assert embedded.Redis(local / "redis").pid is None
    assert processes.is_free(first.port)


def test_a_run_names_the_port_that_is_taken(run: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        process = run(PORT=port)
        assert process.exit_code() == 1
    assert process.output.splitlines() == [
        f"[run] port {port} is taken; choose another: make run PORT={port + 1}"
    ]


def test_a_role_that_dies_is_started_again(run: Start) -> None:
    process = until_ready(run())
    for name in ("web", "worker"):
        victim = role(process, name)
        assert victim
        os.kill(victim, signal.SIGKILL)
        assert eventually(lambda name=name, victim=victim: role(process, name) not in {None, victim})
        assert f"[run] {name} ended with -9; starting it again" in process.output
    assert eventually(lambda: is_ready(process))


def test_after_a_kill_of_everything_the_next_run_works_at_once(run: Start) -> None:
    killed = until_ready(run())
    roles = [pid for pid in (role(killed, "web"), role(killed, "worker")) if pid]
    left = [pid for parent in roles for pid in [parent, *processes.children(parent)]]
    assert len(left) >= 3
    killed.end()
    until_ready(run(PORT=killed.port))
    assert eventually(lambda: not any(map(processes.started, left)))


def test_make_run_stops_with_make_even_when_make_is_killed(run: Start) -> None:
    command = ["make", "run"]
    killed = until_ready(run(command))
    killed.end()
    stopped = until_ready(run(command, PORT=killed.port))
    stopped.signal(signal.SIGTERM)
    stopped.exit_code()
    assert processes.is_free(killed.port)


def test_a_hasty_stop_while_starting_leaves_nothing_behind(run: Start, local: Path) -> None:
    process = run()
    assert eventually((local / "servers.json").exists)
    process.signal(signal.SIGINT)
    assert process.exit_code() == 0, process.output
    assert embedded.Postgres(local / "postgres").pid is None
