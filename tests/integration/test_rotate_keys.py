"""The command rotate_keys: what it does to the folder, what it prints, and how it exits."""

import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from tests.servers import clean_environment
from tests.together import PATIENCE
from users.infrastructure import key_folder
from users.infrastructure.key_folder import KeyFolder, State
from users.infrastructure.key_rotation import PUBLISH_FOR
from users.infrastructure.keyring import new_pem
from users.management.commands import rotate_keys

ROOT = Path(__file__).parents[2]
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
RETIRE_AFTER = timedelta(seconds=360)


class Watch:
    """A clock that goes when somebody sleeps."""

    now = NOW

    def __call__(self) -> datetime:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Watch:
    clock = Watch()
    monkeypatch.setattr(rotate_keys, "timezone", SimpleNamespace(now=clock))
    monkeypatch.setattr(rotate_keys, "time", SimpleNamespace(sleep=clock.sleep))
    return clock


@pytest.fixture
def folder(settings: Any, tmp_path: Path) -> KeyFolder:
    settings.JWT_KEYS_DIR = str(tmp_path / "keys")
    folder = KeyFolder(tmp_path / "keys")
    folder.begin(lambda: new_pem("ES256"), NOW)
    return folder


Run = Callable[..., list[str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], clock: Watch) -> Run:
    def run(*arguments: str) -> list[str]:
        capsys.readouterr()
        call_command("rotate_keys", *arguments)
        return capsys.readouterr().out.splitlines()

    return run


def states(folder: KeyFolder) -> list[State]:
    return [key.state for key in folder.read()]


def test_run_by_cron_it_does_each_step_when_it_is_due_and_once(
    run: Run, folder: KeyFolder, clock: Watch
) -> None:
    (old,) = folder.read()
    assert run() == ["nothing is due", "next: a new rotation begins, is due at 2026-05-30T12:00:00Z"]

    clock.now += timedelta(days=90)
    published, upcoming = run()
    new = folder.read()[1].kid
    assert published == f"published: {new}; it signs nothing yet"
    assert upcoming == f"next: {new} becomes the one that signs, is due at 2026-05-30T12:10:00Z"
    assert run()[0] == "nothing is due"

    clock.now += PUBLISH_FOR
    assert run() == [
        f"switched: {new} signs from now on",
        f"next: {old.kid} is removed, is due at 2026-05-30T12:16:00Z",
    ]
    assert run()[0] == "nothing is due"

    clock.now += RETIRE_AFTER
    assert run() == [
        f"retired: {old.kid} is gone",
        "next: a new rotation begins, is due at 2026-08-28T12:10:00Z",
    ]
    assert [key.kid for key in folder.read()] == [new]


def test_how_often_can_be_said(run: Run, folder: KeyFolder, clock: Watch) -> None:
    clock.now += timedelta(days=7)
    assert run("--every", "7d1m")[0] == "nothing is due"
    assert run("--every", "7d")[0].startswith("published")


def test_a_rotation_can_be_begun_before_its_time_but_not_twice(run: Run, folder: KeyFolder) -> None:
    assert run("--begin")[0].startswith("published")
    assert run("--begin")[0] == "nothing is due"
    assert states(folder) == [State.ACTIVE, State.PUBLISHED]


def test_waiting_it_goes_through_the_whole_rotation(run: Run, folder: KeyFolder, clock: Watch) -> None:
    lines = run("--wait")
    assert [line.split(":")[0] for line in lines] == ["published", "switched", "retired", "next"]
    assert states(folder) == [State.ACTIVE]
    took = clock.now - NOW
    assert PUBLISH_FOR + RETIRE_AFTER <= took <= PUBLISH_FOR + RETIRE_AFTER + timedelta(seconds=2)


@pytest.mark.parametrize("after", [1, 599, 601, 900])
def test_waiting_goes_on_where_it_was_interrupted(
    run: Run, folder: KeyFolder, clock: Watch, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    (old,) = folder.read()

    def sleep(seconds: float) -> None:
        clock.sleep(seconds)
        if clock.now >= NOW + timedelta(seconds=after):
            raise KeyboardInterrupt

    monkeypatch.setattr(rotate_keys, "time", SimpleNamespace(sleep=sleep))
    with pytest.raises(CommandError, match="interrupted"):
        run("--wait")
    monkeypatch.setattr(rotate_keys, "time", SimpleNamespace(sleep=clock.sleep))
    (new,) = {key.kid for key in folder.read()} - {old.kid}
    assert run("--wait")[-2] == f"retired: {old.kid} is gone"
    assert [(key.kid, key.state) for key in folder.read()] == [(new, State.ACTIVE)]


@pytest.mark.parametrize("algorithm", ["RS256", "EdDSA"])
def test_the_new_key_may_be_of_another_kind(run: Run, folder: KeyFolder, algorithm: str) -> None:
    run("--begin", "--algorithm", algorithm)
    assert [key.algorithm for key in folder.read()] == ["ES256", algorithm]
    assert folder.load(folder.read()[1].kid).algorithm == algorithm


def test_a_new_key_is_of_the_kind_of_the_active_one(run: Run, folder: KeyFolder) -> None:
    run("--begin")
    assert [key.algorithm for key in folder.read()] == ["ES256", "ES256"]


def test_a_leaked_key_is_gone_at_once_and_what_that_means_is_said(run: Run, folder: KeyFolder) -> None:
    run("--begin")
    before = {key.kid for key in folder.read()}
    first, meaning = run("--now")
    (key,) = folder.read()
    assert (key.state, key.kid in before) == (State.ACTIVE, False)
    assert first.startswith(f"{key.kid} signs from now on; gone: ")
    assert all(kid in first for kid in before)
    assert "All access tokens are dead" in meaning
    assert "300 s" in meaning


def test_the_status_is_a_table_and_changes_nothing(run: Run, folder: KeyFolder, clock: Watch) -> None:
    run("--begin")
    content = (folder.path / "keyring.json").read_bytes()
    clock.now += timedelta(days=1)
    header, first, second, upcoming = run("--status")
    active, published = folder.read()
    assert header.split() == ["key", "algorithm", "state", "since", "meaning"]
    assert first == f"{active.kid}  ES256      active     2026-03-01T12:00:00Z  signs"
    assert second == f"{published.kid}  ES256      published  2026-03-01T12:00:00Z  known, not signing yet"
    assert upcoming == f"next: {published.kid} becomes the one that signs, is due now"
    assert (folder.path / "keyring.json").read_bytes() == content


@pytest.mark.parametrize(
    ("setting", "value"), [("JWT_SIGNING_KEYS", "a PEM"), ("JWT_SIGNING_KEY_FILE", "/run/jwt.pem")]
)
def test_with_another_source_it_says_what_to_do_by_hand(
    run: Run, settings: Any, setting: str, value: str
) -> None:
    setattr(settings, setting, value)
    with pytest.raises(CommandError, match="JWT_KEYS_DIR") as refusal:
        run()
    message = str(refusal.value)
    assert message.startswith(f"the keys come from {setting}")
    assert "after 10 minutes" in message
    assert "after 6 more" in message


def test_key_files_that_others_may_read_are_told(
    run: Run, folder: KeyFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    (file,) = folder.path.glob("*.pem")
    file.chmod(0o644)
    call_command("rotate_keys", "--status")
    assert f"chmod 600 {file}" in capsys.readouterr().err
    file.chmod(0o600)
    call_command("rotate_keys", "--status")
    assert capsys.readouterr().err == ""


def test_a_broken_ring_is_told_in_a_line(run: Run, folder: KeyFolder) -> None:
    (folder.path / "keyring.json").write_text("{")
    for way in ("--status", "--begin", "--now", "--wait"):
        with pytest.raises(CommandError, match="is damaged"):
            run(way)


def test_two_at_once_do_not_meet(run: Run, folder: KeyFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_folder, "LOCK_SECONDS", 0.05)
    with (folder.path / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(CommandError, match="somebody else is changing the keys"):
            run("--begin")
    assert states(folder) == [State.ACTIVE]
    assert run("--begin")[0].startswith("published")


def test_who_waits_does_not_keep_a_leaked_key_in_place(
    run: Run, folder: KeyFolder, clock: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    emergencies = iter([True])

    def sleep(seconds: float) -> None:
        clock.sleep(seconds)
        if next(emergencies, False):
            call_command("rotate_keys", "--now")

    monkeypatch.setattr(rotate_keys, "time", SimpleNamespace(sleep=sleep))
    run("--wait")
    assert states(folder) == [State.ACTIVE]


def test_on_a_terminal_there_is_a_bar_and_a_kill_leaves_a_whole_ring(tmp_path: Path) -> None:
    """As a process of its own, without PostgreSQL and Redis."""
    folder = KeyFolder(tmp_path / "keys")
    folder.begin(lambda: new_pem("ES256"), datetime.now(UTC))
    terminal, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "manage.py", "rotate_keys", "--wait"],
        cwd=ROOT,
        env=clean_environment() | {"LOCAL_DIR": str(tmp_path), "JWT_KEYS_DIR": str(folder.path)},
        stdout=subprocess.PIPE,
        stderr=slave,
        text=True,
    )
    os.close(slave)
    seen, deadline = "", time.monotonic() + PATIENCE
    os.set_blocking(terminal, False)
    while "switch in 10 min" not in seen:
        assert time.monotonic() < deadline, seen
        time.sleep(0.02)
        with suppress(BlockingIOError):
            seen += os.read(terminal, 4096).decode(errors="replace")
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=PATIENCE)
    os.close(terminal)
    assert process.returncode == 130
    assert out.startswith("published: ")
    assert [key["state"] for key in json.loads((folder.path / "keyring.json").read_text())["keys"]] == [
        "active",
        "published",
    ]
