"""The embedded servers: found, started, stopped, and brought back whatever happened to the last run."""

import copy
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
import redis

from config import embedded, processes
from config.embedded import Postgres, Redis
from config.servers.server import write_json
from tests.together import PATIENCE, eventually

pytestmark = pytest.mark.timeout(120)

Make = Callable[..., Postgres | Redis]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder, with a blank in its name, for the tests that need no fresh data: making that takes long."""
    folder = tmp_path_factory.mktemp("some servers")
    yield folder
    for kind in (Postgres, Redis):
        kind(folder / kind.name).destroy()


@pytest.fixture
def make(tmp_path: Path, shared: Path) -> Iterator[Make]:
    """Makes servers in the shared folder, or by a name in one of their own."""
    made = []

    def make(kind: type[Postgres | Redis], name: str | None = None) -> Postgres | Redis:
        folder = tmp_path / name if name else shared / kind.name
        made.append(Postgres(folder, durable=False) if kind is Postgres else Redis(folder))
        return made[-1]

    yield make
    for server in made:
        if server.folder.is_relative_to(tmp_path.resolve()):
            server.destroy()
        else:
            server.stop()


both = pytest.mark.parametrize("kind", [Postgres, Redis])


def write(server: Postgres | Redis) -> str:
    """Leaves a word with the server that it has not heard before."""
    word = secrets.token_hex(8)
    if isinstance(server, Postgres):
        with psycopg.connect(server.url) as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS kept (word text)")
            connection.execute("DELETE FROM kept")
            connection.execute("INSERT INTO kept VALUES (%s)", [word])
    else:
        client(server).set("kept", word)
        # What the kernel has survives the process.
        eventually(lambda: client(server).info("persistence")["aof_buffer_length"] == 0)
    return word


def read(server: Postgres | Redis) -> str:
    """The word left with it."""
    if isinstance(server, Postgres):
        with psycopg.connect(server.url) as connection:
            row = connection.execute("SELECT word FROM kept").fetchone()
            assert row
            return str(row[0])
    return str(client(server).get("kept"))


def client(server: Redis) -> redis.Redis:
    return redis.Redis.from_url(server.url, decode_responses=True, socket_timeout=PATIENCE)


def another(server: Postgres | Redis) -> Postgres | Redis:
    """The same server as the next process would see it."""
    return copy.copy(server)


@both
def test_a_server_keeps_its_data_and_port_over_a_restart(kind: type, make: Make) -> None:
    server = make(kind)
    server.start()
    word = write(server)
    url, pid = server.url, server.pid
    server.restart()
    assert read(server) == word
    assert server.url == url
    assert server.pid != pid


@both
def test_a_running_server_is_taken_over_rather_than_started_twice(kind: type, make: Make) -> None:
    server = make(kind)
    server.start()
    next_run = another(server)
    next_run.start()
    assert (next_run.pid, next_run.url) == (server.pid, server.url)


@both
def test_a_stopped_server_is_gone_and_stopping_it_again_is_harmless(kind: type, make: Make) -> None:
    server = make(kind)
    server.stop()
    server.start()
    server.stop()
    assert server.pid is None
    assert processes.is_free(server.port)
    server.stop()


@both
def test_a_killed_server_starts_again_where_it_was(kind: type, make: Make) -> None:
    server = make(kind)
    server.start()
    word = write(server)
    port = server.port
    server.kill()
    assert not server.answers()
    another(server).start()
    assert server.port == port
    assert read(server) == word


@both
def test_a_paused_server_accepts_connections_but_does_not_answer(kind: type, make: Make) -> None:
    server = make(kind)
    server.start()
    word = write(server)
    server.pause()
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE):
        assert not server.answers()
    server.resume()
    assert read(server) == word


@both
def test_a_server_left_behind_frozen_is_replaced(kind: type, make: Make) -> None:
    server = make(kind)
    server.start()
    word = write(server)
    frozen = server.pid
    server.pause()
    next_run = another(server)
    next_run.start()
    assert next_run.pid != frozen
    assert read(next_run) == word


def test_a_paused_postgres_freezes_open_connections_too(make: Make) -> None:
    server = make(Postgres)
    server.start()
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("SELECT 1")
        server.pause()
        connection.pgconn.send_query(b"SELECT 1")
        time.sleep(0.3)
        connection.pgconn.consume_input()
        assert connection.pgconn.is_busy()
        server.resume()
        assert connection.pgconn.get_result()
        assert connection.pgconn.get_result() is None


@both
def test_a_taken_port_is_left_to_its_owner(kind: type, make: Make) -> None:
    server = make(kind)
    server.start()
    port = server.port
    server.stop()
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", port))
        other.listen()
        server.start()
    assert server.port != port
    assert eventually(server.answers)


@both
def test_a_recycled_pid_is_not_mistaken_for_the_server(kind: type, make: Make) -> None:
    server = make(kind)
    server.start()
    word = write(server)
    lock = next(server.folder.resolve().glob("data-*")).resolve() / "postmaster.pid"
    old_lock = lock.read_text() if kind is Postgres else ""
    server.kill()
    with subprocess.Popen(["sleep", "60"]) as stranger:
        state = json.loads((server.folder / "state.json").read_text())
        write_json(server.folder / "state.json", state | {"pid": stranger.pid})
        if kind is Postgres:
            lock.write_text(old_lock.replace(old_lock.split()[0], str(stranger.pid), 1))
        assert server.pid is None
        server.start()
        assert stranger.poll() is None
        stranger.kill()
    assert read(server) == word


def test_a_postgres_that_nobody_remembers_is_ended_before_another_touches_its_data(make: Make) -> None:
    server = make(Postgres)
    server.start()
    word = write(server)
    forgotten = server.pid
    state = json.loads((server.folder / "state.json").read_text())
    write_json(server.folder / "state.json", state | {"pid": None, "started": None})
    next_run = another(server)
    next_run.start()
    assert forgotten
    assert processes.started(forgotten) is None
    assert read(next_run) == word


@both
def test_paths_longer_than_a_unix_socket_may_have_are_fine(kind: type, make: Make) -> None:
    server = make(kind, "/".join(["a long path"] * 12))
    server.start()
    assert eventually(server.answers)


def test_a_removed_folder_means_fresh_data(make: Make, tmp_path: Path) -> None:
    server = make(Postgres, "of its own")
    server.start()
    write(server)
    server.stop()
    subprocess.run(["rm", "-rf", str(server.folder)], check=True)
    server.start()
    with pytest.raises(psycopg.errors.UndefinedTable):
        read(server)


def test_an_interrupted_initialisation_is_done_again(make: Make) -> None:
    server = make(Postgres, "of its own")
    server.start()
    data = next(server.folder.glob("data-*"))
    server.destroy()
    server.folder.mkdir()
    (data.with_name(data.name + ".new")).mkdir()
    (data.with_name(data.name + ".new") / "half").touch()
    server.start()
    assert eventually(server.answers)


def test_postgres_speaks_utf8_and_sorts_by_code_point(make: Make) -> None:
    server = make(Postgres)
    server.start()
    with psycopg.connect(server.url) as connection:
        row = connection.execute(
            "SELECT current_setting('server_encoding'), 'Z' < 'a', upper('é')"
        ).fetchone()
        assert row == ("UTF8", True, "É")
        connection.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
        trigrams = connection.execute("SELECT cardinality(show_trgm('Иван'))").fetchone()
        assert trigrams
        assert trigrams[0] > 0
        limit = connection.execute("SHOW max_connections").fetchone()
        assert limit
        assert int(limit[0]) >= 400


@both
def test_a_wrong_password_is_refused(kind: type, make: Make) -> None:
    server = make(kind)
    server.start()
    wrong = server.url.replace(str(server._password()), "wrong")
    with pytest.raises((psycopg.OperationalError, redis.AuthenticationError)):
        psycopg.connect(wrong) if kind is Postgres else redis.Redis.from_url(wrong).ping()


def test_redis_never_evicts_and_keeps_what_it_was_told(make: Make) -> None:
    server = make(Redis)
    server.start()
    assert isinstance(server, Redis)
    assert client(server).config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
    assert client(server).config_get("appendonly") == {"appendonly": "yes"}


def test_start_writes_the_addresses_and_stop_takes_them_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.delenv("REDIS_URL", raising=False)
    try:
        servers = embedded.start(tmp_path)
        written = json.loads((tmp_path / "servers.json").read_text())
        assert written == {"database_url": servers.database_url, "redis_url": servers.redis_url}
        assert embedded.start(tmp_path) == servers
    finally:
        embedded.stop(tmp_path)
        assert not (tmp_path / "servers.json").exists()
        for server in (Postgres(tmp_path / "postgres"), Redis(tmp_path / "redis")):
            assert server.pid is None
            server.destroy()


def test_servers_named_by_the_environment_are_used_and_none_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://elsewhere/users")
    monkeypatch.setenv("REDIS_URL", "redis://elsewhere/0")
    servers = embedded.start(tmp_path)
    assert servers == embedded.Servers("postgresql://elsewhere/users", "redis://elsewhere/0")
    assert [path.name for path in tmp_path.iterdir()] == ["servers.json"]


def test_two_processes_that_start_at_once_get_the_same_servers(tmp_path: Path) -> None:
    environment = {
        key: value for key, value in os.environ.items() if key not in {"DATABASE_URL", "REDIS_URL"}
    }
    command = [sys.executable, "-m", "config.embedded", "start", "--local-dir", str(tmp_path)]
    try:
        racers = [
            subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, cwd=embedded.PROJECT)
            for _ in range(2)
        ]
        first, second = (json.loads(racer.communicate(timeout=60)[0]) for racer in racers)
        assert first == second
    finally:
        embedded.stop(tmp_path)
        Postgres(tmp_path / "postgres").destroy()


def test_a_server_outlives_the_signals_meant_for_the_one_that_started_it(make: Make) -> None:
    server = make(Redis)
    server.start()
    assert server.pid
    assert os.getpgid(server.pid) != os.getpgid(0)
    os.killpg(os.getpgid(server.pid), signal.SIGCONT)  # it has a group of its own


def test_a_server_that_cannot_start_says_why(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    server = make(Redis, "of its own")
    monkeypatch.setattr(Redis, "_options", lambda *_: ["no-such-setting 1"])
    with pytest.raises(embedded.EmbeddedError, match="no-such-setting"):
        server.start()
