"""replay_events: what it tells, to whom, and how it ends."""

import io
import json
import signal
import subprocess
import sys
from typing import Any

import pytest
from django.conf import settings
from redis import Redis as RedisClient

from tests.fixtures import People
from tests.integration.test_management_commands import ROOT, Ran, Run, Terminal, environment, run  # noqa: F401
from tests.together import PATIENCE
from users.application.commands import BlockUser, RenameUser
from users.infrastructure import outbox
from users.infrastructure.redis_link import RedisAway
from users.management.commands import replay_events
from users.models import OutboxEvent
from users.wiring import Service
from users_domain.value_objects import COMMAND_LINE


@pytest.fixture
def past(service: Service, people: People) -> list[str]:
    """Ann is registered, renamed and blocked, Bob registered: sequences 1 to 4. Answers their ids."""
    ann = people.user("Ann")
    service.commands.rename(RenameUser(user_id=ann, name="Ann Lee", by=COMMAND_LINE))
    service.commands.block(BlockUser(user_id=ann, reason="spam", by=COMMAND_LINE))
    return [ann, people.user("Bob")]


def told(ran: Ran) -> list[int]:
    return [envelope["sequence"] for envelope in ran.json]


def test_all_events_are_told_as_the_feed_tells_them(run: Run, past: list[str]) -> None:  # noqa: F811
    ran = run("replay_events")

    assert ran.code == 0
    assert ran.json == outbox.batch(0, 10)
    assert told(ran) == [1, 2, 3, 4]
    assert ran.err == "4 events\n"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--from", "2"], [2, 3, 4]),
        (["--from", "2", "--to", "3"], [2, 3]),
        (["--to", "99"], [1, 2, 3, 4]),
        (["--from", "5"], []),
        (["--user", "Ann@Example.com"], [1, 2, 3]),
        (["--type", "user.created"], [1, 4]),
        (["--type", "user.created", "--type", "user.blocked"], [1, 3, 4]),
        (["--user", "ann@example.com", "--type", "user.created", "--from", "1"], [1]),
    ],
)
def test_a_choice_is_told_in_order(
    run: Run,  # noqa: F811
    past: list[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    expected: list[int],
) -> None:
    monkeypatch.setattr(replay_events, "AT_ONCE", 2)
    ran = run("replay_events", *arguments)
    assert (ran.code, told(ran)) == (0, expected)


def test_a_user_is_named_by_id_too(run: Run, past: list[str]) -> None:  # noqa: F811
    assert told(run("replay_events", "--user", past[1])) == [4]


def test_what_was_set_aside_is_told_as_a_tombstone_and_can_be_chosen(run: Run, past: list[str]) -> None:  # noqa: F811
    OutboxEvent.objects.filter(sequence=2).update(
        set_aside_at="2026-01-31T09:30:00Z", set_aside_because="it cannot be read"
    )
    ran = run("replay_events", "--type", "user.set_aside")
    assert [envelope["event_type"] for envelope in ran.json] == ["user.set_aside"]
    assert told(ran) == [2]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--from", "3", "--to", "2"], "--from 3 lies behind --to 2"),
        (["--from", "0"], "'0' is not a sequence"),
        (["--to", "soon"], "'soon' is not a sequence"),
        (["--type", "user.eaten"], "invalid choice: 'user.eaten'"),
        (["--to-stream", "users.events"], "users.events is the service's own stream"),
    ],
)
def test_wrong_usage_is_refused_with_2_and_nothing_told(
    database: None, arguments: list[str], complaint: str
) -> None:
    ran = shell_replay(*arguments)
    assert (ran.code, ran.out) == (2, "")
    assert complaint in ran.err


def test_an_unknown_user_is_1(run: Run, past: list[str]) -> None:  # noqa: F811
    ran = run("replay_events", "--user", "nobody@example.com")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == "CommandError: --user nobody@example.com: There is no such user.\n"


def test_a_dry_run_counts_and_tells_nothing(run: Run, past: list[str], redis: RedisClient) -> None:  # noqa: F811
    ran = run("replay_events", "--dry-run", "--from", "2", "--to-stream", "again")
    assert ran.lines[0] == "3 events, from sequence 2 to 4"
    assert sorted(line.split() for line in ran.lines[1:]) == [
        ["1", "user.blocked"],
        ["1", "user.created"],
        ["1", "user.renamed"],
    ]
    assert not redis.exists("again")
    assert run("replay_events", "--dry-run", "--from", "9").out == "0 events\n"


def test_another_stream_gets_the_same_entries_as_our_own(
    run: Run,  # noqa: F811
    past: list[str],
    redis: RedisClient,
) -> None:
    ran = run("replay_events", "--to-stream", "again")
    assert ran.out == "4 events added to again, 0 skipped\n"
    assert redis.xrange("again") == redis.xrange(settings.EVENT_STREAM)


def test_what_another_stream_has_is_skipped_and_counted(
    run: Run,  # noqa: F811
    past: list[str],
    redis: RedisClient,
) -> None:
    run("replay_events", "--to-stream", "again", "--to", "2")
    ran = run("replay_events", "--to-stream", "again")
    assert ran.out == "2 events added to again, 2 skipped\n"
    assert [entry for entry, _ in redis.xrange("again")] == [b"1-0", b"2-0", b"3-0", b"4-0"]


def test_a_key_that_is_no_stream_is_said_to_be_none(run: Run, past: list[str], redis: RedisClient) -> None:  # noqa: F811
    redis.set("again", "a string")
    ran = run("replay_events", "--to-stream", "again")
    assert ran.code == 1
    assert "WRONGTYPE" in ran.err
    assert redis.get("again") == b"a string"


def test_redis_away_is_one_line_and_says_where_to_go_on(
    run: Run,  # noqa: F811
    past: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(replay_events, "AT_ONCE", 2)
    add = replay_events.Stream.add

    def until_it_goes(stream: replay_events.Stream, batch: list[Any]) -> None:
        if batch[0]["sequence"] > 2:
            raise RedisAway
        add(stream, batch)

    monkeypatch.setattr(replay_events.Stream, "add", until_it_goes)
    ran = run("replay_events", "--to-stream", "again")
    assert ran.code == 1
    assert ran.out == "2 events added to again, 0 skipped\n"
    assert ran.err == "CommandError: Redis does not answer; to go on, say --from 3\n"


def test_a_redis_that_is_not_there_is_one_line(past: list[str]) -> None:
    ran = shell_replay("--to-stream", "again", REDIS_URL="redis://127.0.0.1:1/0")
    assert ran.code == 1
    assert ran.err.splitlines()[-1] == "CommandError: Redis does not answer; to go on, say --from 1"
    assert "Traceback" not in ran.err


def test_ctrl_c_says_where_to_go_on(past: list[str]) -> None:
    process = start_replay(AT_ONCE="1")
    assert process.stdout
    assert json.loads(process.stdout.readline())["sequence"] == 1
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    said = err.decode().splitlines()[-1]
    assert said in {f"CommandError: interrupted; to go on, say --from {n}" for n in (1, 2)}  # never later


def test_a_reader_that_has_enough_is_no_error(past: list[str]) -> None:
    process = start_replay(AT_ONCE="1")
    assert process.stdout
    process.stdout.readline()
    process.stdout.close()
    assert process.stdin
    process.stdin.close()
    assert process.stderr
    err = process.stderr.read().decode()
    process.stderr.close()
    assert process.wait(PATIENCE) == 141
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("stream", "a_few", "shown"), [(Terminal, 3, True), (Terminal, 4, False), (io.StringIO, 0, False)]
)
def test_a_progress_bar_is_for_people_who_have_to_wait(
    run: Run,  # noqa: F811
    past: list[str],
    monkeypatch: pytest.MonkeyPatch,
    stream: type[io.StringIO],
    a_few: int,
    shown: bool,
) -> None:
    monkeypatch.setattr(replay_events, "A_FEW", a_few)
    err = stream()
    monkeypatch.setattr(sys, "stderr", err)
    ran = run("replay_events")
    assert told(ran) == [1, 2, 3, 4]
    assert ("4/4" in err.getvalue() or "/4 [" in err.getvalue()) is shown


SLOWLY = """
import sys
sys.argv = ["manage.py", "replay_events"]
import os
os.environ["DJANGO_SETTINGS_MODULE"] = "tests.patient_settings"
from django.core.management import execute_from_command_line
import django
django.setup()
from users.management.commands import replay_events
replay_events.AT_ONCE = 1
page = replay_events._page
def slowly(chosen, after):
    if after > 0:
        sys.stdin.readline()
    return page(chosen, after)
replay_events._page = slowly
execute_from_command_line(sys.argv)
"""


def start_replay(**more: str) -> "subprocess.Popen[bytes]":
    """A process that tells one event at a time and waits before each but the first until it hears something,
    or nothing any more, from its stdin."""
    return subprocess.Popen(
        [sys.executable, "-c", SLOWLY],
        cwd=ROOT,
        env=environment(**more),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def shell_replay(*arguments: str, **more: str) -> Ran:
    done = subprocess.run(
        [sys.executable, "manage.py", "replay_events", *arguments],
        cwd=ROOT,
        env=environment(**more),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return Ran(done.returncode, done.stdout, done.stderr)
