"""The commands for a shell or cron: what they do, what they print and where, and how they exit."""

import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from redis import Redis as RedisClient

from tests.fixtures import PASSWORD, Api, People
from tests.together import PATIENCE
from users import wiring
from users.application.commands import BlockUser
from users.infrastructure import outbox
from users.management import bulk
from users.management.commands.create_operator import name_from
from users.models import OutboxEvent, UserRecord
from users.wiring import Service
from users_domain.value_objects import COMMAND_LINE, Email, UserId

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    @property
    def json(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines]


Run = Callable[..., Ran]


@pytest.fixture
def run(database: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command in this process, as its arguments would be written in a shell."""

    def run(*arguments: str, stdin: str | bytes = b"") -> Ran:
        fed = stdin if isinstance(stdin, bytes) else stdin.encode()
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(fed)))
        capsys.readouterr()
        code, complaint = 0, ""
        try:
            call_command(*arguments)
        except CommandError as error:
            code, complaint = error.returncode, f"CommandError: {error}\n"
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err + complaint)

    return run


def environment(**more: str) -> dict[str, str]:
    """Of a process that works on this test's own database and Redis."""
    at = connection.settings_dict
    address = f"postgres://{at['USER']}:{at['PASSWORD']}@{at['HOST']}:{at['PORT']}/{at['NAME']}"
    return {**os.environ, "DATABASE_URL": address, "REDIS_URL": redis_address(), "BCRYPT_COST": "4", **more}


def redis_address() -> str:
    from django.core.cache import caches

    return str(caches.settings["default"]["LOCATION"])


def shell(*arguments: str, stdin: str = "", **more: str) -> Ran:
    """Runs a command as a process of its own."""
    done = subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env=environment(**more),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


def record(user_id: str) -> UserRecord:
    return UserRecord.objects.get(id=user_id)


def types_of(user_id: str) -> list[str]:
    events = OutboxEvent.objects.filter(user_id=user_id).order_by("user_version")
    return list(events.values_list("event_type", flat=True))


# --- block_user and unblock_user --------------------------------------------------------------------


def test_users_are_blocked_by_id_and_by_address_in_any_spelling(run: Run, people: People) -> None:
    ann, bob, cid = people.user("Ann"), people.user("Bob"), people.user("Cid")

    ran = run("block_user", ann.upper(), " BOB@Example.com ", "--reason", " spam ")

    assert ran.code == 0
    assert ran.lines == [
        f"blocked: ann@example.com {ann}",
        f"blocked: bob@example.com {bob}",
        "2 blocked, 0 refused",
    ]
    for user_id in (ann, bob):
        row = record(user_id)
        assert (row.status, row.block_reason, row.blocked_by) == ("blocked", "spam", "cli")
        assert types_of(user_id) == ["user.created", "user.blocked"]
    assert record(cid).status == "active"


def test_all_events_of_one_run_share_a_request_id(run: Run, people: People) -> None:
    ann, bob = people.user("Ann"), people.user("Bob")

    run("block_user", ann, bob, "--reason", "spam")
    run("unblock_user", ann)

    ids = {
        (str(event.user_id), event.event_type): event.request_id
        for event in OutboxEvent.objects.filter(actor_id="cli")
    }
    assert ids[ann, "user.blocked"] == ids[bob, "user.blocked"]
    assert ids[ann, "user.unblocked"] != ids[ann, "user.blocked"]
    assert None not in ids.values()


def test_a_block_from_the_command_line_is_what_the_api_shows_at_once(
    run: Run, people: People, operator: Api
) -> None:
    ann = people.user("Ann")
    reader = people.log_in("Ann")
    assert operator("GET", f"/users/{ann}").json()["status"] == "active"

    run("block_user", ann, "--reason", "spam")

    assert operator("GET", f"/users/{ann}").json()["blocked"]["reason"] == "spam"
    assert reader("GET", "/users/me").status_code == 401


def test_unblock_lifts_the_block(run: Run, people: People) -> None:
    ann = people.user("Ann")
    run("block_user", ann, "--reason", "spam")

    ran = run("unblock_user", "ann@example.com")

    assert (ran.code, ran.lines[-1]) == (0, "1 unblocked, 0 refused")
    assert record(ann).status == "active"
    assert types_of(ann)[-1] == "user.unblocked"


def test_a_user_named_twice_counts_once(run: Run, people: People) -> None:
    ann = people.user("Ann")

    ran = run("block_user", ann, "ann@example.com", ann, "Ann@EXAMPLE.com", "--reason", "spam")

    assert ran.lines == [f"blocked: ann@example.com {ann}", "1 blocked, 0 refused"]
    assert ran.code == 0


def test_a_refusal_names_its_cause_stops_nobody_else_and_shows_in_the_exit_code(
    run: Run, people: People
) -> None:
    ann, admin = people.user("Ann"), people.staff("admin")
    nobody = str(UserId.new())

    ran = run("block_user", admin, "no one", nobody, "x@example.com", ann, "--reason", "spam")

    assert ran.code == 1
    assert ran.lines == [
        f"refused: {admin}: The last active admin can be neither blocked nor demoted nor erased.",
        "refused: no one: This is neither a user id nor an email address.",
        f"refused: {nobody}: There is no such user.",
        "refused: x@example.com: There is no such user.",
        f"blocked: ann@example.com {ann}",
        "1 blocked, 4 refused",
    ]
    assert ran.err == "CommandError: 4 of 5 users refused\n"
    assert record(admin).status == "active"


def test_json_has_a_line_for_each_user_and_a_summary_last(run: Run, people: People) -> None:
    ann = people.user("Ann")

    ran = run("block_user", "ann@example.com", "nobody", "--reason", "spam", "--json")

    assert ran.json == [
        {
            "named": "ann@example.com",
            "user_id": ann,
            "email": "ann@example.com",
            "outcome": "blocked",
            "version": 2,
            "error": None,
            "message": None,
        },
        {
            "named": "nobody",
            "user_id": None,
            "email": None,
            "outcome": "refused",
            "version": None,
            "error": "invalid_request",
            "message": "This is neither a user id nor an email address.",
        },
        {"summary": {"blocked": 1, "refused": 1, "dry_run": False}},
    ]
    assert ran.code == 1


def test_a_dry_run_tries_every_rule_and_changes_nothing(run: Run, people: People, redis: RedisClient) -> None:
    ann, bob, admin = people.user("Ann"), people.user("Bob"), people.staff("admin")
    run("block_user", bob, "--reason", "before")
    before = list(UserRecord.objects.order_by("id").values_list())
    events, keys = OutboxEvent.objects.count(), sorted(redis.keys())

    ran = run("block_user", ann, bob, admin, "--reason", "spam", "--dry-run")

    assert ran.lines == [
        f"would be blocked: ann@example.com {ann}",
        f"refused: {bob}: The user is blocked already.",
        f"refused: {admin}: The last active admin can be neither blocked nor demoted nor erased.",
        "1 would be blocked, 2 refused",
    ]
    assert ran.code == 1
    assert list(UserRecord.objects.order_by("id").values_list()) == before
    assert OutboxEvent.objects.count() == events
    assert sorted(redis.keys()) == keys
    assert redis.xlen("users.events") == events


def test_a_dry_run_says_so_in_json_too(run: Run, people: People) -> None:
    people.user("Ann")

    ran = run("unblock_user", "ann@example.com", "--dry-run", "--json")

    assert ran.json[0]["error"] == "user_not_blocked"
    assert ran.json[-1] == {"summary": {"unblocked": 0, "refused": 1, "dry_run": True}}


@pytest.mark.parametrize("how", ["-", "--file -", "--file path"])
def test_users_are_read_line_by_line(run: Run, people: People, tmp_path: Path, how: str) -> None:
    ann, _ = people.user("Ann"), people.user("Bob")
    lines = f"\ufeff{ann}\r\n\n  bob@example.com  \n{ann}\n"
    (tmp_path / "users.txt").write_text(lines)
    arguments = how.replace("path", str(tmp_path / "users.txt")).split()

    ran = run("block_user", "--reason", "spam", *arguments, stdin=lines)

    assert (ran.code, ran.lines[-1]) == (0, "2 blocked, 0 refused")
    assert UserRecord.objects.filter(status="blocked").count() == 2


def test_more_users_than_are_looked_up_at_once_are_all_found(
    run: Run, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("users.management.selection.AT_ONCE", 2)
    names = [f"{name}@example.com" for name in ("ann", "bob", "cid", "dan", "eve")]
    for name in names:
        people.user(name.partition("@")[0])
    ann = str(UserRecord.objects.get(email="ann@example.com").pk)

    ran = run("block_user", *names, ann, "--reason", "spam")

    assert ran.lines[-1] == "5 blocked, 0 refused"


def test_an_empty_list_is_nothing_to_do(run: Run) -> None:
    ran = run("block_user", "--reason", "spam", "-", stdin="\n\n")

    assert (ran.code, ran.out) == (0, "0 blocked, 0 refused\n")


def test_broken_input_is_shown_escaped_and_not_obeyed_by_the_terminal(run: Run) -> None:
    ran = run("block_user", "--reason", "spam", "-", stdin=b"\xff\xfe\n\x1b[2J@example.com\n")

    assert ran.code == 1
    assert "\x1b" not in ran.out
    assert "refused: \\x1b[2J@example.com: This is not an email address." in ran.lines


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["ann@example.com"], "--reason"),
        (["--reason", "spam"], "name at least one user"),
        (["ann@example.com", "--reason", "  "], "--reason: A block needs a reason."),
        (["ann@example.com", "--reason", "x" * 501], "--reason: A reason has at most 500 characters."),
        (["ann@example.com", "--reason", "spam", "--file", "/nonexistent"], "/nonexistent: No such file"),
        (["ann@example.com", "--reason", "spam", "--file", "/"], "/: Is a directory"),
        (["ann@example.com", "--reason", "spam", "--until", "soon"], "'soon' is neither a time"),
        (["ann@example.com", "--reason", "spam", "--until", "2099-01-31"], "is neither a time"),
        (["ann@example.com", "--reason", "spam", "--until", "2099-01-31T09:30:00"], "with its zone"),
        (["ann@example.com", "--reason", "spam", "--until", "2099-02-31T09:30:00Z"], "is neither a time"),
        (["ann@example.com", "--reason", "spam", "--until", "2001-01-31T09:30:00Z"], "not lie in the future"),
        (["ann@example.com", "--reason", "spam", "--until", "0d"], "not lie in the future"),
        (["ann@example.com", "--reason", "spam", "--until", "99999999999w"], "is neither a time"),
        (["ann@example.com", "--reason", "spam", "--until", f"{'9' * 5000}d"], "is neither a time"),
        (["ann@example.com", "--reason", "spam", "--until", "7"], "is neither a time"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2_and_nobody_is_blocked(
    people: People,
    arguments: list[str],
    complaint: str,
    capsys: pytest.CaptureFixture[str],
    exit_code: Callable[..., object],
) -> None:
    people.user("Ann")

    assert exit_code("block_user", *arguments) == 2
    err = capsys.readouterr().err
    assert complaint in err
    assert "Traceback" not in err
    assert UserRecord.objects.get(name="Ann").status == "active"


@pytest.mark.parametrize(
    ("until", "expected"),
    [
        ("2099-01-31T09:30:00Z", datetime(2099, 1, 31, 9, 30, tzinfo=UTC)),
        ("2099-01-31t09:30:00.5+02:00", datetime(2099, 1, 31, 7, 30, 0, 500000, tzinfo=UTC)),
        ("2w", timedelta(weeks=2)),
        ("7d", timedelta(days=7)),
        ("12h", timedelta(hours=12)),
        ("90m", timedelta(minutes=90)),
        ("1d12h", timedelta(hours=36)),
    ],
)
def test_until_is_a_time_with_its_zone_or_a_duration(
    run: Run, people: People, until: str, expected: datetime | timedelta
) -> None:
    ann = people.user("Ann")

    ran = run("block_user", ann, "--reason", "spam", "--until", until)

    assert ran.code == 0
    wanted = expected if isinstance(expected, datetime) else datetime.now(UTC) + expected
    slack = timedelta(0) if isinstance(expected, datetime) else timedelta(seconds=PATIENCE)
    stored = record(ann).blocked_until
    assert stored is not None
    assert abs(stored - wanted) <= slack


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "count", "shown"), [(Terminal, 3, True), (Terminal, 2, False), (io.StringIO, 3, False)]
)
def test_a_progress_bar_is_for_people_who_have_to_wait(
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    stream: type[io.StringIO],
    count: int,
    shown: bool,
) -> None:
    monkeypatch.setattr(bulk, "A_FEW", 2)
    err = stream()
    monkeypatch.setattr(sys, "stderr", err)

    ran = run("unblock_user", *[f"user{number}@example.com" for number in range(count)], "--json")

    assert len(ran.json) == count + 1
    assert ("user/s" in err.getvalue()) is shown


def test_when_the_database_goes_away_half_way_the_report_says_how_far_it_came(
    run: Run, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann, bob = people.user("Ann"), people.user("Bob")
    block = wiring.service().commands.block

    def until_it_goes(command: BlockUser) -> Any:
        if command.user_id == bob:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        return block(command)

    monkeypatch.setattr(wiring.service().commands, "block", until_it_goes)

    ran = run("block_user", ann, bob, "--reason", "spam")
    connection.close()

    assert ran.code == 1
    assert ran.lines[-1] == "1 blocked, 0 refused"
    assert re.fullmatch(r"CommandError: PostgreSQL: [^\n]+\n", ran.err)
    assert record(bob).status == "active"


def test_as_a_process_its_stdout_holds_the_report_alone_even_with_redis_away(people: People) -> None:
    names = [f"user{number}" for number in range(6)]
    for name in names:
        people.user(name)

    ran = shell(
        "block_user",
        "-",
        "--reason",
        "spam",
        "--json",
        stdin="\n".join(f"{name}@example.com" for name in names),
        REDIS_URL="redis://127.0.0.1:1/0",
        LOG_LEVEL="DEBUG",
    )

    assert ran.code == 0, ran.err
    assert [line.get("outcome") for line in ran.json] == ["blocked"] * 6 + [None]
    assert "redis_away" in ran.err
    assert UserRecord.objects.filter(status="blocked").count() == 6
    assert outbox.backlog().pending == 6


def test_as_a_process_without_a_database_it_says_so_in_one_line(database: None) -> None:
    ran = shell("unblock_user", "ann@example.com", DATABASE_URL="postgres://127.0.0.1:1/users")

    assert ran.code == 1
    assert ran.out == "0 unblocked, 0 refused\n"
    assert re.fullmatch(r"CommandError: PostgreSQL: [^\n]+refused[^\n]*\n", ran.err), ran.err


# --- create_operator --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "roles"),
    [([], ["operator"]), (["--role", "admin"], ["admin"]), (["--role", "service"], ["service"])],
)
def test_an_account_is_created_with_its_role_and_the_password_from_stdin(
    run: Run, service: Service, arguments: list[str], roles: list[str]
) -> None:
    ran = run(
        "create_operator",
        "--email",
        " Ann.Lee@Example.com",
        *arguments,
        "--password-stdin",
        stdin=f"{PASSWORD}\n",
    )

    assert (ran.code, ran.out) == (0, f"Created the {roles[0]} ann.lee@example.com\n")
    row = UserRecord.objects.get(email="ann.lee@example.com")
    assert (row.name, row.roles) == ("Ann Lee", roles)
    assert types_of(str(row.pk)) == ["user.created", "user.roles_changed"]
    assert OutboxEvent.objects.filter(actor_id="cli").count() == 2
    login = Api()("POST", "/auth/token", {"email": "ann.lee@example.com", "password": PASSWORD})
    assert login.status_code == 200


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("ann@example.com", "Ann"),
        ("ann.lee+ops_2@example.com", "Ann Lee Ops 2"),
        ("a@example.com", "a@example.com"),
        ("---@example.com", "---@example.com"),
        (f"{'abcdefg.' * 7}abcdefg@example.com", " ".join(["Abcdefg"] * 8)),
    ],
)
def test_a_name_is_made_from_the_address(address: str, name: str) -> None:
    assert name_from(Email(address)) == name


def test_a_name_may_be_given(run: Run) -> None:
    run("create_operator", "--email", "ann@example.com", "--name", "Ann L.", "--generate-password")

    assert UserRecord.objects.get().name == "Ann L."


def test_a_generated_password_is_printed_once_and_works(run: Run) -> None:
    ran = run("create_operator", "--email", "ann@example.com", "--generate-password")

    [created, shown] = ran.lines
    assert created == "Created the operator ann@example.com"
    password = shown.removeprefix("Password, shown this once: ")
    assert len(password) >= 20
    assert Api()("POST", "/auth/token", {"email": "ann@example.com", "password": password}).status_code == 200


def at_a_terminal(*arguments: str, answers: dict[str, str]) -> Ran:
    """Runs a command as a process whose stdin is a terminal, and answers its prompts."""
    ours, its = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env=environment(),
        stdin=its,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout
    assert process.stderr
    said = b""
    for prompt, answer in answers.items():
        while not said.endswith(prompt.encode()):
            character = process.stderr.read(1)
            assert character, said
            said += character
        os.write(ours, f"{answer}\n".encode())
    out, err = process.communicate(timeout=PATIENCE)
    os.close(ours)
    os.close(its)
    return Ran(process.returncode, out.decode(), (said + err).decode())


def test_a_password_is_asked_for_twice_and_never_shown(database: None) -> None:
    ask = ("create_operator", "--email")

    done = at_a_terminal(
        *ask, "ann@example.com", answers={"Password: ": PASSWORD, "Password again: ": PASSWORD}
    )
    refused = at_a_terminal(
        *ask, "bob@example.com", answers={"Password: ": PASSWORD, "Password again: ": "another"}
    )

    assert (done.code, done.out) == (0, "Created the operator ann@example.com\n"), done.err
    assert PASSWORD not in done.err
    assert refused.code == 1
    assert "CommandError: the two passwords differ" in refused.err
    assert UserRecord.objects.get().email == "ann@example.com"


def test_without_a_terminal_nobody_is_asked(run: Run) -> None:
    ran = run("create_operator", "--email", "ann@example.com")

    assert ran.code == 2
    assert "use --password-stdin or --generate-password" in ran.err
    assert not UserRecord.objects.exists()


@pytest.mark.parametrize(
    ("arguments", "stdin", "complaint"),
    [
        ([], b"short\n", "password: A password has at least 15 characters here."),
        ([], b"", "password: A password has at least 15 characters here."),
        ([], b"\xff\xff\n", "the password on stdin is not UTF-8"),
        (["--name", "x"], PASSWORD.encode(), "A name has 2 to 100 characters and no control characters."),
    ],
)
def test_a_bad_value_is_one_line_and_creates_nobody(
    run: Run, arguments: list[str], stdin: bytes, complaint: str
) -> None:
    ran = run("create_operator", "--email", "ann@example.com", "--password-stdin", *arguments, stdin=stdin)

    assert (ran.code, ran.err) == (1, f"CommandError: {complaint}\n")
    assert not UserRecord.objects.exists()


def test_an_address_that_is_none_is_refused(run: Run) -> None:
    ran = run("create_operator", "--email", "ann", "--generate-password")

    assert (ran.code, ran.out, ran.err) == (1, "", "CommandError: This is not an email address.\n")


def test_a_plain_user_s_account_is_not_taken_over(run: Run, people: People) -> None:
    ann = people.user("Ann")

    ran = run("create_operator", "--email", "ann@example.com", "--generate-password")

    assert ran.code == 1
    assert ran.out == ""
    assert "ann@example.com is the address of an existing user" in ran.err
    assert "PUT /users/<id>/roles" in ran.err
    assert record(ann).roles == []


def test_the_password_in_the_environment_is_for_the_first_admin_only(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADMIN_PASSWORD", PASSWORD)

    assert run("create_operator", "--email", "ann@example.com").code == 2

    first = run("create_operator", "--email", "admin@example.com", "--first-admin")
    assert (first.code, first.out) == (0, "Created the admin admin@example.com\n")
    login = Api()("POST", "/auth/token", {"email": "admin@example.com", "password": PASSWORD})
    assert login.status_code == 200


def test_without_one_the_first_admin_s_password_is_generated_and_printed(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADMIN_PASSWORD", "")

    ran = run("create_operator", "--role", "admin", "--email", "admin@example.com", "--first-admin")

    assert ran.lines[0] == "Created the admin admin@example.com"
    assert re.fullmatch(r"Password, shown this once: \S{20,}", ran.lines[1])
    assert UserRecord.objects.get().roles == ["admin"]


def test_where_there_is_an_active_admin_first_admin_is_silent_and_done(run: Run, people: People) -> None:
    people.staff("admin")

    ran = run("create_operator", "--role", "admin", "--email", "other@example.com", "--first-admin")

    assert (ran.code, ran.out, ran.err) == (0, "", "")
    assert UserRecord.objects.count() == 1


def test_first_admin_says_what_is_wrong_with_the_password(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADMIN_PASSWORD", "short")

    ran = run("create_operator", "--email", "admin@example.com", "--first-admin")

    assert (ran.code, ran.err) == (1, "CommandError: password: A password has at least 15 characters here.\n")


def test_first_admin_creates_nothing_but_an_admin(run: Run) -> None:
    ran = run("create_operator", "--email", "a@example.com", "--first-admin", "--role", "operator")

    assert ran.code == 2
    assert not UserRecord.objects.exists()


def test_a_password_is_in_no_log_line_of_the_process(database: None) -> None:
    ran = shell(
        "create_operator",
        "--email",
        "ann@example.com",
        "--password-stdin",
        stdin=f"{PASSWORD}\n",
        LOG_LEVEL="DEBUG",
    )

    assert (ran.code, ran.out) == (0, "Created the operator ann@example.com\n"), ran.err
    assert PASSWORD not in ran.err


# --- relay_events -----------------------------------------------------------------------------------


@pytest.fixture
def unsent(people: People, redis: RedisClient, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Three users whose events are committed and not in the stream."""
    with monkeypatch.context() as patch:
        patch.setattr(type(wiring.service().relay), "drain", lambda *_, **__: None)
        users = [people.user(name) for name in ("Ann", "Bob", "Cid")]
    assert redis.xlen("users.events") == 0
    return users


def in_stream(redis: RedisClient) -> list[str]:
    return [json.loads(fields[b"event"])["user_id"] for _, fields in redis.xrange("users.events")]


def test_relay_once_sends_what_is_waiting_and_says_how_much(
    run: Run, unsent: list[str], redis: RedisClient
) -> None:
    ran = run("relay_events", "--once")
    again = run("relay_events", "--once")

    assert (ran.code, ran.out) == (0, "3 events sent\n")
    assert (again.code, again.out) == (0, "0 events sent\n")
    assert in_stream(redis) == unsent


def test_relay_once_as_a_process_says_in_one_line_who_is_away(unsent: list[str]) -> None:
    redis_away = shell("relay_events", "--once", REDIS_URL="redis://127.0.0.1:1/0")
    database_away = shell("relay_events", "--once", DATABASE_URL="postgres://127.0.0.1:1/users")

    assert (redis_away.code, redis_away.out) == (1, "")
    assert redis_away.err == "CommandError: Redis does not answer; the events wait in the outbox\n"
    assert (database_away.code, database_away.out) == (1, "")
    assert re.fullmatch(r"CommandError: PostgreSQL: [^\n]+\n", database_away.err), database_away.err
    assert outbox.backlog().pending == 3


@pytest.fixture
def worker(database: None) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "manage.py", "relay_events"],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    yield process
    if process.poll() is None:
        process.kill()
    process.communicate()


def wait_for(condition: Callable[[], bool], seconds: float = PATIENCE) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_the_worker_sends_events_and_ends_blocks_until_it_is_told_to_stop(
    unsent: list[str], service: Service, worker: Any, redis: RedisClient, signum: signal.Signals
) -> None:
    ann = unsent[0]
    service.commands.block(BlockUser(user_id=ann, reason="short", by=COMMAND_LINE))
    UserRecord.objects.filter(id=ann).update(blocked_until=datetime.now(UTC))

    assert wait_for(lambda: record(ann).status == "active")
    assert wait_for(lambda: len(in_stream(redis)) == 5)
    worker.send_signal(signum)
    out, err = worker.communicate(timeout=PATIENCE)

    assert worker.returncode == 0, err
    assert err == ""
    logged = [json.loads(line) for line in out.splitlines()]
    assert [logged[0]["event"], logged[-1]["event"]] == ["relay_started", "relay_stopped"]
    assert OutboxEvent.objects.get(event_type="user.unblocked").actor_id == "system"


def test_the_worker_survives_a_database_that_drops_it(
    database: None, people: People, worker: Any, redis: RedisClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert '"relay_started"' in worker.stdout.readline()
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    monkeypatch.setattr(type(wiring.service().relay), "drain", lambda *_, **__: 0)

    ann = people.user("Ann")

    assert wait_for(lambda: in_stream(redis) == [ann])
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(PATIENCE) == 0
