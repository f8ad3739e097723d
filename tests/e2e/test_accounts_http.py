"""Forgotten passwords and addresses over HTTP: from the request to the mail, from its link to the account."""

import re
from typing import Any

import pytest
from django.conf import LazySettings
from django.db import connection
from django.http import HttpResponse
from django.test.utils import CaptureQueriesContext

from tests.e2e.answers import TIME, faults, problem, same_but_for_request_id, user
from tests.fixtures import PASSWORD, Api, People
from users import wiring
from users.infrastructure.links import SignedLinks
from users.infrastructure.mail import letters
from users.models import EmailChange, Mail, UserRecord

NEW_PASSWORD = "a new password, and a long one"
ASKING = ["/auth/password-reset", "/auth/email-verification"]
LINKS = {
    "/auth/password-reset/confirm": {"new_password": NEW_PASSWORD},
    "/auth/email-verification/confirm": {},
    "/auth/email-change/confirm": {},
    "/auth/email-change/cancel": {},
}


@pytest.fixture
def verified(settings: LazySettings, people: People, monkeypatch: pytest.MonkeyPatch) -> None:
    """Changes of address wait for their proof."""
    settings.EMAIL_CHANGE = "verified"
    monkeypatch.setattr(wiring, "_service", None)


def letters_to(to: str, kind: str) -> list[str]:
    """The texts of the mails of this kind that are on their way to this address, as they will be sent."""
    composed = [letters.compose(mail, SignedLinks()) for mail in Mail.objects.filter(kind=kind)]
    return [message.body for message in composed if message and message.to == [to]]


def letter(kind: str, to: str) -> str:
    """The only one."""
    [text] = letters_to(to, kind)
    return text


def link(kind: str, to: str) -> str:
    """The token in its link."""
    [token] = re.findall(r"#token=(\S+)", letter(kind, to))
    return token


def queued() -> list[tuple[str, str | None]]:
    return list(Mail.objects.order_by("id").values_list("kind", "email"))


def unmarked(answer: HttpResponse) -> tuple[int, bytes, dict[str, str]]:
    """All that there is of an answer, but for the id of its request."""
    headers = {name: value for name, value in answer.items() if name != "X-Request-ID"}
    return answer.status_code, answer.content, headers


def done(answer: HttpResponse) -> None:
    assert (answer.status_code, answer.content) == (204, b""), answer.content
    assert answer["Cache-Control"] == "no-store"


# --- Asking: nobody learns anything (ASVS 5.0 6.3.8) ---------------------------------------------------


@pytest.mark.parametrize("path", ASKING)
def test_whether_an_address_is_known_is_told_by_nothing_in_the_answer(
    people: People, admin: Api, anyone: Api, path: str
) -> None:
    people.user("Ann")
    admin("POST", f"/users/{people.user('Blocked')}/block", {"reason": "spam"})
    UserRecord.objects.filter(email="ann@example.com").update(email_verified=True)
    anyone("POST", path, {"email": "warm@example.com"})

    answers, statements = [], []
    for name in ("nobody", "ann", "blocked", "admin"):
        with CaptureQueriesContext(connection) as queries:
            answers.append(anyone("POST", path, {"email": f"{name}@example.com"}))
        statements.append([query["sql"].replace(f"{name}@", "") for query in queries.captured_queries])

    assert unmarked(answers[0])[:2] == (202, b"{}")
    assert answers[0]["Cache-Control"] == "no-store"
    assert [unmarked(answer) for answer in answers[1:]] == [unmarked(answers[0])] * 3
    assert len(statements[0]) == 1
    assert statements[0][0].startswith('INSERT INTO "mails"')
    assert statements[1:] == [statements[0]] * 3


@pytest.mark.parametrize("path", ASKING)
def test_what_is_no_address_is_refused_and_nothing_queued(anyone: Api, path: str) -> None:
    for email in ("", "x", "a@b", "a b@example.com", "ﬁ@example.com", "a" * 250 + "@example.com"):
        assert {field for field, _ in faults(anyone("POST", path, {"email": email}))} == {"email"}
    for body in ({}, {"email": None}, {"email": 5}, {"email": ["a@example.com"]}):
        assert {field for field, _ in faults(anyone("POST", path, body))} == {"email"}
    assert faults(anyone("POST", path, {"email": "a@example.com", "name": "A"})) == {("name", "unknown")}
    assert queued() == []


@pytest.mark.parametrize("path", ASKING)
def test_a_token_that_comes_along_is_not_looked_at(anyone: Api, path: str) -> None:
    answer = anyone("POST", path, {"email": "a@example.com"}, authorization="Bearer nonsense")
    assert answer.status_code == 202


# --- Links (ASVS 5.0 6.5.1, 6.6.2) ------------------------------------------------------------------------


@pytest.mark.parametrize("path", LINKS)
def test_a_bad_link_is_one_and_the_same_refusal(people: People, anyone: Api, path: str) -> None:
    people.user("Ann")
    anyone("POST", "/auth/password-reset", {"email": "ann@example.com"})
    good = link("reset_password", "ann@example.com")
    bad = ["", "nonsense", "\U0001f600", good[:-1], good + "A", good.swapcase(), "a" * 60_000]
    if "password" not in path:
        bad.append(good)

    answers = [anyone("POST", path, {"token": token} | LINKS[path]) for token in bad]

    assert faults(answers[0]) == {("token", "invalid_link")}
    assert all(same_but_for_request_id(answer, answers[0]) for answer in answers)
    people.log_in("Ann")


@pytest.mark.parametrize("path", LINKS)
def test_a_link_is_a_text_and_nothing_else_is_taken(anyone: Api, path: str) -> None:
    for token in (None, 5, ["a"], {"a": "b"}, True):
        assert {field for field, _ in faults(anyone("POST", path, {"token": token} | LINKS[path]))} == {
            "token"
        }
    assert ("token", "required") in faults(anyone("POST", path, {}))
    extra = {"token": "x", "more": 1} | LINKS[path]
    assert ("more", "unknown") in faults(anyone("POST", path, extra))


# --- A forgotten password (ASVS 5.0 6.4.3) ------------------------------------------------------------------


@pytest.fixture
def reset_link(people: People, anyone: Api) -> str:
    """Ann's."""
    people.user("Ann")
    anyone("POST", "/auth/password-reset", {"email": " ANN@example.com"})
    return link("reset_password", "ann@example.com")


def reset(api: Api, token: str, password: str = NEW_PASSWORD) -> HttpResponse:
    return api("POST", "/auth/password-reset/confirm", {"token": token, "new_password": password})


def test_a_link_gives_a_new_password_and_ends_every_session(
    people: People, anyone: Api, reset_link: str
) -> None:
    own = people.log_in("Ann")
    done(reset(anyone, reset_link))

    problem(own("GET", "/users/me"), "invalid_token")
    credentials = {"email": "ann@example.com", "password": PASSWORD}
    problem(anyone("POST", "/auth/token", credentials), "invalid_credentials")
    after = user(people.log_in("Ann", NEW_PASSWORD)("GET", "/users/me"))
    assert (after["email_verified"], after["version"]) == (True, 3)


def test_a_reset_link_works_once(people: People, anyone: Api, reset_link: str) -> None:
    done(reset(anyone, reset_link))
    assert faults(reset(anyone, reset_link, "yet another password")) == {("token", "invalid_link")}
    people.log_in("Ann", NEW_PASSWORD)


@pytest.mark.parametrize(
    ("password", "code"), [("short", "too_short"), ("password123", "common"), ("ann@example.com", "personal")]
)
def test_a_password_that_is_refused_does_not_use_the_link_up(
    anyone: Api, reset_link: str, password: str, code: str
) -> None:
    assert faults(reset(anyone, reset_link, password)) == {("new_password", code)}
    done(reset(anyone, reset_link))


def test_staff_needs_15_characters_here_too(people: People, anyone: Api) -> None:
    people.staff("operator")
    anyone("POST", "/auth/password-reset", {"email": "operator@example.com"})
    token = link("reset_password", "operator@example.com")
    assert faults(reset(anyone, token, "fourteen chars")) == {("new_password", "too_short")}
    done(reset(anyone, token))


def test_a_change_of_the_account_kills_the_link(people: People, anyone: Api, reset_link: str) -> None:
    people.log_in("Ann")("PATCH", "/users/me", {"name": "Anna"})
    assert faults(reset(anyone, reset_link)) == {("token", "invalid_link")}
    people.log_in("Ann")


def test_who_is_blocked_may_choose_a_password_and_stays_blocked(
    people: People, admin: Api, anyone: Api
) -> None:
    ann = people.user("Ann")
    admin("POST", f"/users/{ann}/block", {"reason": "spam"})
    anyone("POST", "/auth/password-reset", {"email": "ann@example.com"})
    done(reset(anyone, link("reset_password", "ann@example.com")))

    assert admin("GET", f"/users/{ann}").json()["status"] == "blocked"
    credentials = {"email": "ann@example.com", "password": NEW_PASSWORD}
    problem(anyone("POST", "/auth/token", credentials), "user_blocked")


# --- Proving an address -------------------------------------------------------------------------------------


def test_a_link_proves_the_address_and_again_is_no_error(people: People, anyone: Api) -> None:
    people.user("Ann")
    own = people.log_in("Ann")
    anyone("POST", "/auth/email-verification", {"email": "ann@example.com"})
    token = link("verify_email", "ann@example.com")
    for _ in range(2):
        done(anyone("POST", "/auth/email-verification/confirm", {"token": token}))

    after = user(own("GET", "/users/me"))
    assert (after["email_verified"], after["version"]) == (True, 2)


def test_a_link_to_another_address_proves_nothing(people: People, admin: Api, anyone: Api) -> None:
    ann = people.user("Ann")
    anyone("POST", "/auth/email-verification", {"email": "ann@example.com"})
    token = link("verify_email", "ann@example.com")
    admin("PUT", f"/users/{ann}/email", {"email": "new@example.com"})

    answer = anyone("POST", "/auth/email-verification/confirm", {"token": token})

    assert faults(answer) == {("token", "invalid_link")}
    assert admin("GET", f"/users/{ann}").json()["email_verified"] is False


# --- Changing an address (ASVS 5.0 7.5.1) -------------------------------------------------------------------


def test_changed_at_once_the_address_before_is_told(people: People, admin: Api) -> None:
    ann, own = people.user("Ann"), people.log_in("Ann")
    user(own("PUT", "/users/me/email", {"email": "first@example.com", "password": PASSWORD}))
    user(admin("PUT", f"/users/{ann}/email", {"email": "second@example.com"}))

    assert queued() == [("email_changed", "ann@example.com"), ("email_changed", "first@example.com")]
    assert "first@" not in letter("email_changed", "ann@example.com")


@pytest.fixture
def ann(people: People, verified: None) -> Api:
    people.user("Ann")
    return people.log_in("Ann")


def ask(api: Api, email: str = "new@example.com", password: str = PASSWORD, **headers: str) -> HttpResponse:
    return api("PUT", "/users/me/email", {"email": email, "password": password}, **headers)


def confirm(api: Api, token: str) -> HttpResponse:
    return api("POST", "/auth/email-change/confirm", {"token": token})


def cancel(api: Api, token: str) -> HttpResponse:
    return api("POST", "/auth/email-change/cancel", {"token": token})


def test_a_new_address_waits_for_its_proof_and_the_old_one_stays_good(
    people: People, ann: Api, anyone: Api
) -> None:
    answer = ask(ann, " New@Example.com")
    assert answer.status_code == 202
    assert list(answer.json()) == ["email", "expires_at"]
    assert answer.json()["email"] == "new@example.com"
    assert TIME.fullmatch(answer.json()["expires_at"])
    assert answer["Cache-Control"] == "no-store"
    assert "ETag" not in answer
    before = user(ann("GET", "/users/me"))
    assert (before["email"], before["version"]) == ("ann@example.com", 1)
    people.log_in("Ann")

    done(confirm(anyone, link("confirm_email_change", "new@example.com")))

    after = user(ann("GET", "/users/me"))
    assert (after["email"], after["email_verified"], after["version"]) == ("new@example.com", True, 3)
    people.log_in("New")
    credentials = {"email": "ann@example.com", "password": PASSWORD}
    problem(anyone("POST", "/auth/token", credentials), "invalid_credentials")
    assert ("email_changed", "ann@example.com") in queued()


def test_as_long_as_it_waits_only_the_old_address_gets_a_link_to_a_new_password(
    ann: Api, anyone: Api
) -> None:
    ask(ann)
    for email in ("ann@example.com", "new@example.com"):
        anyone("POST", "/auth/password-reset", {"email": email})
    done(reset(anyone, link("reset_password", "ann@example.com")))
    # The new password has ended the proposal too: whoever made it knew the old one.
    for kind in ("confirm_email_change", "reset_password"):
        assert letters_to("new@example.com", kind) == []


def test_the_owner_of_the_old_address_can_cancel(people: People, ann: Api, anyone: Api) -> None:
    ask(ann)
    confirmation = link("confirm_email_change", "new@example.com")
    cancellation = link("email_change_asked", "ann@example.com")
    for _ in range(2):
        done(cancel(anyone, cancellation))

    assert faults(confirm(anyone, confirmation)) == {("token", "invalid_link")}
    assert user(ann("GET", "/users/me"))["email"] == "ann@example.com"


def test_what_has_happened_cannot_be_cancelled_any_more(ann: Api, anyone: Api) -> None:
    ask(ann)
    cancellation = link("email_change_asked", "ann@example.com")
    done(confirm(anyone, link("confirm_email_change", "new@example.com")))

    assert faults(cancel(anyone, cancellation)) == {("token", "invalid_link")}
    assert user(ann("GET", "/users/me"))["email"] == "new@example.com"


def test_whether_the_new_address_is_taken_is_told_to_its_owner_alone(
    people: People, ann: Api, admin: Api
) -> None:
    people.user("Bob")
    blocked = people.user("Bea")
    admin("POST", f"/users/{blocked}/block", {"reason": "spam"})
    ask(ann, "warm@example.com")
    Mail.objects.all().delete()

    answers, statements = [], []
    for name in ("nil", "bob", "bea"):
        with CaptureQueriesContext(connection) as queries:
            answers.append(ask(ann, f"{name}@example.com"))
        statements.append([_shape(query["sql"]) for query in queries.captured_queries])

    assert [answer.status_code for answer in answers] == [202] * 3
    shapes = [{name: len(value) for name, value in answer.json().items()} for answer in answers]
    assert shapes == [shapes[0]] * 3
    assert statements[1:] == [statements[0]] * 2
    to_old = ("email_change_asked", "ann@example.com")
    assert queued() == [
        ("confirm_email_change", "nil@example.com"),
        to_old,
        ("already_registered", "bob@example.com"),
        to_old,
        ("already_registered", "bea@example.com"),
        to_old,
    ]
    assert "#token=" not in letter("already_registered", "bob@example.com")


def _shape(sql: str) -> str:
    """A statement without its values."""
    return re.sub(r"('[^']*'|\b\d+\b|\bNULL\b)(::\w+)?", "?", sql)


def test_an_address_that_is_taken_meanwhile_is_a_conflict_at_the_end(
    people: People, ann: Api, anyone: Api
) -> None:
    ask(ann)
    token = link("confirm_email_change", "new@example.com")
    people.user("New")
    problem(confirm(anyone, token), "user_already_exists")
    assert user(ann("GET", "/users/me"))["email"] == "ann@example.com"


def test_what_one_must_show_and_may_not_do_is_as_ever(ann: Api) -> None:
    problem(ask(ann, password="not hers"), "wrong_password")
    assert {field for field, _ in faults(ann("PUT", "/users/me/email", {"email": "new@example.com"}))} == {
        "password"
    }
    problem(ask(ann, "Ann@example.com"), "email_unchanged")
    problem(ask(ann, if_match='"7"'), "version_mismatch")
    assert not EmailChange.objects.exists()
    assert queued() == []
    assert ask(ann, if_match='"1"').status_code == 202


def test_an_admin_changes_the_address_of_others_at_once_there_too(
    people: People, verified: None, admin: Api
) -> None:
    bob = people.user("Bob")
    after = user(admin("PUT", f"/users/{bob}/email", {"email": "new@example.com"}))
    assert (after["email"], after["email_verified"]) == ("new@example.com", False)
    me = admin("PUT", "/users/me/email", {"email": "boss@example.com", "password": PASSWORD})
    assert me.status_code == 202


# --- The language of mails ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "preferred", "locale"),
    [
        ("ru", "en", "ru"),
        ("en", "ru", "en"),
        (None, "ru", "ru"),
        (None, "ru-RU,en;q=0.8", "ru"),
        (None, "de-DE,en;q=0.5,ru;q=0.7", "ru"),
        (None, "RU", "ru"),
        (None, "ru;q=0, *", "en"),
        (None, "de, fr", "en"),
        (None, "rue", "en"),
        (None, "*", "en"),
        (None, "", "en"),
        (None, ";;q=,,", "en"),
        (None, "ru;q=nonsense", "en"),
    ],
)
def test_the_language_is_what_is_said_or_else_what_is_preferred(
    anyone: Api, said: str | None, preferred: str, locale: str
) -> None:
    body: dict[str, Any] = {"email": "ann@example.com", "name": "Ann", "password": PASSWORD}
    body |= {"locale": said} if said else {}
    answer = anyone("POST", "/users", body, accept_language=preferred)
    assert "locale" not in user(answer, 201)
    assert UserRecord.objects.get().locale == locale


def test_where_nothing_is_preferred_the_setting_counts(anyone: Api, settings: LazySettings) -> None:
    settings.DEFAULT_LOCALE = "ru"
    anyone("POST", "/users", {"email": "ann@example.com", "name": "Ann", "password": PASSWORD})
    assert UserRecord.objects.get().locale == "ru"


@pytest.mark.parametrize("said", ["de", "", "EN", "en-GB", None, 5])
def test_a_language_without_texts_is_refused(anyone: Api, said: object) -> None:
    body = {"email": "ann@example.com", "name": "Ann", "password": PASSWORD, "locale": said}
    assert {field for field, _ in faults(anyone("POST", "/users", body))} == {"locale"}


def test_the_same_request_with_another_preference_is_the_same_request(anyone: Api) -> None:
    body = {"email": "ann@example.com", "name": "Ann", "password": PASSWORD}
    answers = [
        anyone("POST", "/users", body, idempotency_key="k", accept_language=language)
        for language in ("ru", "en")
    ]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[0].content == answers[1].content
