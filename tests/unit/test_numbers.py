"""Numbers of the environment: what is taken for one, and where they are read."""

import os
import subprocess
import sys

import pytest
from django.core.exceptions import ImproperlyConfigured

from config import numbers, threads
from config.embedded import PROJECT


@pytest.mark.parametrize(("said", "number"), [("7", 7), ("1", 1), ("", 5), (None, 5)])
def test_an_empty_variable_is_an_absent_one(
    monkeypatch: pytest.MonkeyPatch, said: str | None, number: int
) -> None:
    monkeypatch.delenv("PLACES", raising=False)
    if said is not None:
        monkeypatch.setenv("PLACES", said)
    assert numbers.positive("PLACES", 5) == numbers.seconds("PLACES", 5) == number


@pytest.mark.parametrize("said", ["-1", "20", "1.5", "many"])
def test_a_number_beyond_its_limits_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    monkeypatch.setenv("PLACES", said)
    with pytest.raises(ImproperlyConfigured, match="PLACES is a whole number, from 0 to 19, not"):
        numbers.positive("PLACES", 5, least=0, most=19)


@pytest.mark.parametrize("said", ["0", "19"])
def test_the_limits_themselves_are_not(monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    monkeypatch.setenv("PLACES", said)
    assert numbers.positive("PLACES", 5, least=0, most=19) == int(said)


@pytest.mark.parametrize("said", ["-0.1", "nan", "inf", "soon"])
def test_a_wait_ends(monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    monkeypatch.setenv("PLACES", said)
    with pytest.raises(ImproperlyConfigured, match="PLACES is a number of seconds"):
        numbers.seconds("PLACES", 5)


def test_a_server_takes_its_threads_as_its_settings_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEB_WORKERS", "")
    monkeypatch.setenv("WEB_THREADS", "")
    assert numbers.web_workers() == threads.default_workers()
    assert numbers.web_threads() == threads.DEFAULT_THREADS


# --- As processes --------------------------------------------------------------------------------------


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=PROJECT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("FEED_WAITS", "-5"),
        ("DATABASE_POOL_SIZE", "-1"),
        ("HASHING_WAIT_SECONDS", "-1"),
        ("HASHING_NICENESS", "20"),
    ],
)
def test_what_would_undo_a_guarantee_stops_the_start(variable: str, value: str) -> None:
    done = run("import config.settings", **{variable: value})
    assert done.returncode == 1
    assert f"ImproperlyConfigured: {variable} is a" in done.stderr.splitlines()[-1]


def test_a_server_says_which_number_is_none() -> None:
    done = run("from config.server import serve; raise SystemExit(serve('any:thing'))", WEB_THREADS="many")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "WEB_THREADS is a whole number, at least 1, not 'many'.\n"


def test_empty_numbers_start_as_absent_ones_do() -> None:
    names = ("WEB_WORKERS", "WEB_THREADS", "FEED_WAITS", "HASHING_WAIT_SECONDS", "DATABASE_POOL_SIZE")
    tell = f"from config import settings; print([getattr(settings, name) for name in {names}])"
    done = run(tell, **dict.fromkeys(names, ""))
    number = threads.DEFAULT_THREADS
    expected = [threads.default_workers(), number, threads.default_feed_waits(number), 30.0, 0]
    assert done.stdout == f"{expected}\n", done.stderr
