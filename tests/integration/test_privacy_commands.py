"""erase_user and export_user, and how the admin pages and the other commands deal with who is gone."""

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from django.core.management import CommandError, call_command

from tests.browser import USERS, Browser, text, told
from tests.fixtures import People
from users.application.privacy import EraseUser
from users.models import Mail, OutboxEvent, UserRecord
from users.wiring import Service
from users_domain.value_objects import COMMAND_LINE

NOBODY = "01890000-0000-7000-8000-000000000000"


class Ran:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def json(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


Run = Callable[..., Ran]


class Terminal(io.StringIO):
    """Somebody has typed this."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def run(database: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """As from a shell. `typed`: at a terminal; without it there is none."""

    def run(*arguments: str, typed: str | None = None, stdin: str = "") -> Ran:
        piped = io.TextIOWrapper(io.BytesIO(stdin.encode()))
        monkeypatch.setattr(sys, "stdin", piped if typed is None else Terminal(typed))
        capsys.readouterr()
        code, complaint = 0, ""
        try:
            call_command(*arguments)
        except CommandError as error:
            code, complaint = error.returncode, f"CommandError: {error}\n"
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err + complaint)

    return run


def status_of(user_id: str) -> str:
    return UserRecord.objects.get(id=user_id).status


# --- erase_user -----------------------------------------------------------------------------------------


def test_whoever_types_the_address_is_believed_and_gets_a_receipt(run: Run, people: People) -> None:
    ann = people.user("Ann")

    ran = run("erase_user", ann, typed=" ANN@example.com\n")

    assert ran.code == 0, ran.err
    assert "Type its email address: " in ran.err
    assert f"erased: {ann}\n" in ran.out
    receipt = ran.out.split("receipt: ")[1].split()[0]
    assert jwt.get_unverified_header(receipt)["typ"] == "erasure-receipt+jwt"
    assert "ann@" not in ran.out, "it would outlive the user in somebody's log"
    assert status_of(ann) == "erased"
    assert OutboxEvent.objects.get(event_type="user.erased").actor_id == "cli"


@pytest.mark.parametrize("typed", ["\n", "yes\n", "bob@example.com\n", ""])
def test_any_other_answer_erases_nobody(run: Run, people: People, typed: str) -> None:
    ann = people.user("Ann")

    ran = run("erase_user", "ann@example.com", typed=typed)

    assert (ran.code, status_of(ann)) == (2, "active")
    assert "nobody was erased" in ran.err


def test_several_take_their_number(run: Run, people: People) -> None:
    ids = [people.user(name) for name in ("Ann", "Bob")]

    assert run("erase_user", *ids, typed="3\n").code == 2
    assert [status_of(each) for each in ids] == ["active", "active"]
    assert run("erase_user", *ids, typed="2\n").code == 0
    assert [status_of(each) for each in ids] == ["erased", "erased"]


def test_without_a_terminal_it_has_to_be_said_beforehand(run: Run, people: People) -> None:
    ann = people.user("Ann")

    ran = run("erase_user", "-", stdin="ann@example.com\n")
    assert (ran.code, status_of(ann)) == (2, "active")
    assert "--yes" in ran.err

    assert run("erase_user", "-", "--yes", stdin="ann@example.com\n").code == 0
    assert status_of(ann) == "erased"


def test_a_dry_run_counts_and_changes_nothing(run: Run, people: People) -> None:
    ann = people.user("Ann")
    people.log_in("Ann")
    Mail.objects.all().delete()

    ran = run("erase_user", "ann@example.com", "--dry-run")

    assert ran.code == 0
    assert f"would be erased: {ann}" in ran.out
    assert "outbox 1, refresh_tokens 1, sessions 1" in ran.out
    assert "receipt" not in ran.out
    assert status_of(ann) == "active"
    assert OutboxEvent.objects.get(user_id=ann).data["name"] == "Ann"
    people.log_in("Ann")


def test_json_lines_say_all_there_is_to_know(run: Run, people: People) -> None:
    ann = people.user("Ann")

    ran = run("erase_user", ann, NOBODY, "--yes", "--json")

    done, refused, summary = ran.json
    assert ran.code == 1
    assert done["outcome"] == "erased"
    assert (done["user_id"], done["version"], done["email"]) == (ann, 2, None)
    assert done["receipt"].count(".") == 2
    assert refused["error"] == "user_not_found"
    assert summary == {"summary": {"erased": 1, "refused": 1, "dry_run": False}}


def test_the_last_admin_is_refused(run: Run, people: People) -> None:
    boss = people.staff("admin", "Boss")

    ran = run("erase_user", boss, "--yes")

    assert (ran.code, status_of(boss)) == (1, "active")
    assert "last active admin" in ran.out


@pytest.mark.parametrize(
    "command",
    [
        ("erase_user", "--yes"),
        ("block_user", "--reason=spam"),
        ("unblock_user",),
        ("export_user",),
    ],
)
def test_commands_say_of_an_erased_user_that_he_is(
    run: Run, people: People, service: Service, command: tuple[str, ...]
) -> None:
    ann = people.user("Ann")
    service.privacy.erase(EraseUser(user_id=ann, by=COMMAND_LINE))

    ran = run(command[0], ann, *command[1:])

    assert ran.code == 1
    assert "This user has been erased." in ran.out + ran.err


# --- export_user ----------------------------------------------------------------------------------------


def test_an_export_is_printed_as_json(run: Run, people: People) -> None:
    ann = people.user("Ann")

    ran = run("export_user", "Ann@Example.com")

    assert ran.code == 0
    assert json.loads(ran.out)["user"]["id"] == ann


def test_an_export_goes_into_a_new_file_that_nobody_else_may_read(
    run: Run, people: People, tmp_path: Path
) -> None:
    people.user("Ann")
    file = tmp_path / "ann.json"

    ran = run("export_user", "ann@example.com", "--output", str(file))
    assert (ran.code, ran.out) == (0, "")
    assert file.stat().st_mode & 0o777 == 0o600
    assert json.loads(file.read_bytes())["user"]["email"] == "ann@example.com"

    again = run("export_user", "ann@example.com", "--output", str(file))
    assert again.code == 2
    assert "File exists" in again.err


def test_half_an_export_is_none(
    run: Run, people: People, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    people.user("Ann")

    def breaks_off(*_: object) -> Any:
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr("users.infrastructure.export._written", breaks_off)

    assert run("export_user", "ann@example.com", "--output", str(tmp_path / "ann.json")).code == 130
    assert list(tmp_path.iterdir()) == []


def test_nobody_is_exported_who_is_not_there(run: Run) -> None:
    ran = run("export_user", NOBODY)

    assert ran.code == 1
    assert "There is no such user" in ran.err


# --- The admin pages ------------------------------------------------------------------------------------


@pytest.fixture
def gone(people: People, service: Service) -> str:
    user_id = people.user("Gone")
    service.privacy.erase(EraseUser(user_id=user_id, by=COMMAND_LINE))
    return user_id


def test_an_erased_user_is_shown_by_his_id_and_has_no_buttons(browser: Browser, gone: str) -> None:
    for query in ({}, {"status": "erased"}, {"q": gone}):
        assert gone in browser.get(USERS, **query).content.decode()
    assert gone not in browser.get(USERS, q="gone@example.com").content.decode()

    page = browser.get(f"{USERS}{gone}/change/")

    assert page.status_code == 200
    assert "erased" in text(page)
    assert "user.erased" in text(page)
    assert "Block…" not in text(page)
    assert "gone@" not in page.content.decode().lower()


def test_the_actions_refuse_an_erased_user_with_a_sentence(browser: Browser, gone: str) -> None:
    asked = browser.choose("block", gone)
    assert asked.status_code == 200
    assert gone in text(asked)

    answer = browser.send(f"{USERS}block/?id={gone}", reason="spam", until_0="", until_1="")

    assert told(answer) == [f"Not blocked: {gone}. There is no such user."]


def test_what_an_erased_operator_did_is_shown_under_his_id(
    browser: Browser, people: People, service: Service
) -> None:
    people.staff("operator", "Sam")
    sam = people.log_in("Sam")
    bob = people.user("Bob")
    assert sam("POST", f"/users/{bob}/block", {"reason": "spam"}).status_code == 200
    sam_id = sam("GET", "/users/me").json()["id"]

    service.privacy.erase(EraseUser(user_id=sam_id, by=COMMAND_LINE))

    assert sam_id in text(browser.get(f"{USERS}{bob}/change/"))
    assert browser.get("/admin/users/outboxevent/").status_code == 200
