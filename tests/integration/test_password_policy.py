"""The rules for a new password, by NIST SP 800-63B rev 4 and ASVS 5.0 6.2: alone, and at every way in."""

import hashlib
import io
import sys
from datetime import UTC, datetime

import pytest
from django.core.management import CommandError, call_command

from tests.fixtures import PASSWORD
from users import wiring
from users.infrastructure.passwords.breach_building import build
from users.infrastructure.passwords.policy import NistPasswordPolicy
from users.infrastructure.passwords.words import words_of_service
from users_domain.errors import InvalidPassword

BREACHED = "ten thousand have it"
ANN = {"email": "ann.smith@acme.example", "name": "Ann of Smith"}


@pytest.fixture
def policy():
    words = words_of_service("user-service", ["Roadrunner"])
    return NistPasswordPolicy(service_words=words, breached={BREACHED, "fullwidth"})


def reason(policy, password, *, staff=False):
    try:
        policy.check(password, **ANN, staff=staff)
    except InvalidPassword as refusal:
        return refusal.reason
    return None


@pytest.mark.parametrize(
    ("password", "staff", "fault"),
    [
        ("seven77", False, "too_short"),
        ("密码密码密码密", False, "too_short"),
        ("fourteen chars", True, "too_short"),
        ("x" * 257, False, "too_long"),
        ("password123", False, "common"),
        ("PASSWORD123", False, "common"),
        ("ｐａｓｓｗｏｒｄ１２３", False, "common"),
        (" password123 ", False, "common"),
        ("ann.smith@acme.example", False, "personal"),
        ("Ann.Smith@ACME.example", False, "personal"),
        ("acme.example", False, "personal"),
        ("ann.smith", False, "personal"),
        (" Ann of Smith ", False, "personal"),
        ("annsmith1985", False, "personal"),
        ("4nn5m1th!!", False, "personal"),
        ("acmeacmeacme", False, "personal"),
        ("userservice", False, "context"),
        ("User-Service-2024", False, "context"),
        ("r0adrunner", False, "context"),
        ("ann@roadrunner1", False, "context"),
        (BREACHED, False, "breached"),
        ("ｆｕｌｌｗｉｄｔｈ", False, "breached"),
    ],
)
def test_a_bad_password_is_refused_with_its_reason(policy, password, staff, fault):
    """ASVS 5.0 6.2.1, 6.2.4, 6.2.11, 6.2.12."""
    assert reason(policy, password, staff=staff) == fault


@pytest.mark.parametrize(
    ("password", "staff"),
    [
        ("eight888", False),
        ("fifteen letters", True),
        ("x" * 256, True),
        ("пароль из слов", False),
        ("abcdefghzz", False),
        ("ABCDEFGHZZ", False),
        ("😀😁😂🤣😃😄😅😆", False),
        ("my friend ann smith", False),
        ("the roadrunner is fast", False),
        ("ten thousand have it!", False),
        ("83920174652091", False),
        ("        ", False),
    ],
)
def test_a_good_password_is_taken_whatever_it_is_made_of(policy, password, staff):
    """ASVS 5.0 6.2.5, 6.2.9: no rule about kinds of characters, and a phrase may hold one's own name."""
    assert reason(policy, password, staff=staff) is None


def test_without_breach_set_and_words_the_other_rules_hold():
    policy = NistPasswordPolicy()
    assert [reason(policy, each) for each in (BREACHED, "userservice", "annsmith1985", "password123")] == [
        None, None, "personal", "common",
    ]  # fmt: skip


def test_three_thousand_of_the_most_common_passwords_that_are_long_enough_are_refused(policy):
    """ASVS 5.0 6.2.4."""
    from users.infrastructure.passwords.policy import _common

    long_enough = [each for each in _common() if len(each) >= 8]
    assert len(long_enough) >= 3000
    assert all(reason(policy, each) for each in long_enough[:3000])


# --- At every way in ----------------------------------------------------------------------------------


@pytest.fixture
def breach_file(tmp_path):
    (tmp_path / "list").write_text(hashlib.sha1(BREACHED.encode()).hexdigest() + ":7\n")
    build(tmp_path / "list", tmp_path / "set", now=datetime.now(UTC))
    return tmp_path / "set"


@pytest.fixture
def strict(database, settings, breach_file, monkeypatch):
    """The service as these settings make it."""
    settings.BREACHED_PASSWORDS_FILE = str(breach_file)
    settings.PASSWORD_CONTEXT_WORDS = ["roadrunner"]
    settings.MAIL_SERVICE_NAME = "Coyote & Sons"
    monkeypatch.setattr(wiring, "_service", None)


REFUSED = [
    (BREACHED, "breached"),
    ("roadrunner 12345", "context"),
    ("User-Service-2024", "context"),
    ("c0y0te-sons", "context"),
]


@pytest.mark.parametrize(("password", "fault"), REFUSED)
def test_a_registration_is_held_to_the_settings(strict, anyone, password, fault):
    answer = anyone("POST", "/users", {"email": "ann@example.com", "name": "Ann", "password": password})

    assert answer.status_code == 400
    assert [(each["field"], each["code"]) for each in answer.json()["details"]] == [("password", fault)]
    assert password.encode() not in answer.content


@pytest.mark.parametrize(("password", "fault"), REFUSED)
def test_a_new_password_is_held_to_the_settings(strict, people, password, fault):
    people.user("Ann")
    body = {"current_password": PASSWORD, "new_password": password}
    answer = people.log_in("Ann")("PUT", "/users/me/password", body)

    assert answer.status_code == 400
    assert [(each["field"], each["code"]) for each in answer.json()["details"]] == [("new_password", fault)]
    assert people.log_in("Ann")


@pytest.mark.parametrize(("password", "fault"), REFUSED)
def test_a_password_from_the_command_line_is_held_to_the_settings(strict, monkeypatch, password, fault):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(password.encode())))
    with pytest.raises(CommandError, match="password: "):
        call_command("create_operator", "--email", "sam@example.com", "--password-stdin")


def test_a_password_that_was_taken_once_stays_good(people, anyone, settings, breach_file, monkeypatch):
    """ASVS 5.0 6.2.10: rules are for new passwords."""
    people.user("Ann", password=BREACHED)
    settings.BREACHED_PASSWORDS_FILE = str(breach_file)
    monkeypatch.setattr(wiring, "_service", None)

    assert people.log_in("Ann", password=BREACHED)
