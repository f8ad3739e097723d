"""POST /users: who may register, what is kept, what is refused."""

import re
from typing import Any

import pytest

from tests.e2e.answers import faults, problem, same_but_for_request_id, user
from tests.fixtures import PASSWORD, Api, People

ANN = {"email": "ann@example.com", "name": "Ann", "password": PASSWORD}


def register(api: Api, idempotency_key: str | None = None, **changes: object) -> object:
    headers = {"idempotency_key": idempotency_key} if idempotency_key else {}
    return api("POST", "/users", ANN | changes, **headers)


def test_a_new_user_is_active_unverified_and_without_roles(anyone: Api) -> None:
    answer = register(anyone)
    body = user(answer, 201)
    assert answer["Location"] == f"/users/{body['id']}"
    assert answer["ETag"] == '"1"'
    fixed = {key: body[key] for key in ("email", "name", "status", "roles", "email_verified", "version")}
    assert fixed == {
        "email": "ann@example.com",
        "name": "Ann",
        "status": "active",
        "roles": [],
        "email_verified": False,
        "version": 1,
    }
    assert body["created_at"] == body["updated_at"]


def test_neither_password_nor_hash_is_ever_answered(anyone: Api, people: People) -> None:
    answers = [register(anyone), people.log_in("Ann")("GET", "/users/me")]
    for answer in answers:
        assert PASSWORD.encode() not in answer.content
        assert b"bcrypt" not in answer.content
        assert b"password" not in answer.content
        assert b"hash" not in answer.content
        assert b"token_version" not in answer.content


def test_the_location_leads_to_the_user(anyone: Api, admin: Api) -> None:
    answer = register(anyone)
    assert admin("GET", answer["Location"]).json() == answer.json()


@pytest.mark.parametrize("field", ["email", "name", "password"])
def test_each_field_is_required(anyone: Api, field: str) -> None:
    body = {key: value for key, value in ANN.items() if key != field}
    assert faults(anyone("POST", "/users", body)) == {(field, "required")}


@pytest.mark.parametrize("field", ["roles", "status", "id", "version", "email_verified", "Email", ""])
def test_a_field_that_is_not_ours_is_refused(anyone: Api, field: str) -> None:
    assert faults(register(anyone, **{field: "admin"})) == {(field, "unknown")}


NO_STRINGS = [12345678, True, None, [], ["x"], {}, {"a": "b"}, 1.5]


@pytest.mark.parametrize("field", ["email", "name", "password"])
def test_only_a_string_is_taken_for_a_string(anyone: Api, field: str) -> None:
    for value in NO_STRINGS:
        (fault,) = faults(register(anyone, **{field: value}))
        assert fault[0] == field


# --- Registration may be closed ----------------------------------------------------------------------


def test_closed_registration_asks_anybody_for_a_token(anyone: Api, settings: object) -> None:
    settings.REGISTRATION = "closed"
    problem(register(anyone), "missing_token")


@pytest.mark.parametrize("role", ["operator", "admin", "service"])
def test_closed_registration_is_open_to_staff_and_services(
    people: People, settings: object, role: str
) -> None:
    people.staff(role)
    settings.REGISTRATION = "closed"
    assert register(people.log_in(role.title())).status_code == 201


def test_closed_registration_is_forbidden_to_plain_users(people: People, settings: object) -> None:
    people.user("Bob")
    settings.REGISTRATION = "closed"
    problem(register(people.log_in("Bob")), "forbidden")


def test_open_registration_does_not_overlook_a_bad_token(anyone: Api) -> None:
    problem(anyone("POST", "/users", ANN, authorization="Bearer nonsense"), "invalid_token")


# --- Emails --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("  Ann@Example.COM \n", "ann@example.com"),
        ("ANN.Lee+tag@example.com", "ann.lee+tag@example.com"),
        ("ann@BÜCHER.example", "ann@xn--bcher-kva.example"),
        ("ann@bücher.example", "ann@xn--bcher-kva.example"),
        ("ann@XN--BCHER-KVA.example", "ann@xn--bcher-kva.example"),
        ("jörg@example.com", "jörg@example.com"),
    ],
)
def test_the_canonical_address_is_what_is_kept_returned_and_unique(
    anyone: Api, admin: Api, given: str, kept: str
) -> None:
    answer = register(anyone, email=given)
    assert user(answer, 201)["email"] == kept
    assert admin("GET", answer["Location"]).json()["email"] == kept
    problem(register(anyone, email=kept), "user_already_exists")
    problem(register(anyone, email=given), "user_already_exists")


@pytest.mark.parametrize(
    "email",
    [
        "",
        " ",
        "ann",
        "ann@",
        "@example.com",
        "ann@example",
        "ann@@example.com",
        "ann@exa mple.com",
        "ann lee@example.com",
        "ann@-example.com",
        "ann@example..com",
        "ann@.example.com",
        ".ann@example.com",
        "ann.@example.com",
        "an..n@example.com",
        "ann@[127.0.0.1]",
        '"ann lee"@example.com',
        "Ann <ann@example.com>",
        "ann\n@example.com",
        "ann@example.com, bob@example.com",
        "a" * 65 + "@example.com",
        "ann@" + "a" * 64 + ".com",
        "ann@" + ".".join(["a" * 60] * 5) + ".com",
        "x" * 60_000,
        "ﬁnn@example.com",
        "ａnn@example.com",
        "a\u0308nn@example.com",
        "ann\u200b@example.com",
        "ann\u202e@example.com",
        "ann@exa\u00admple\u200b.com",
    ],
)
def test_what_is_no_address_is_refused_in_detail(anyone: Api, email: str) -> None:
    (fault,) = faults(register(anyone, email=email))
    assert fault[0] == "email"


def test_a_taken_address_is_a_conflict_and_says_nothing_about_its_owner(anyone: Api, people: People) -> None:
    owner = people.user("Ann")
    answer = register(anyone, name="Another", email="ANN@example.com")
    problem(answer, "user_already_exists")
    assert owner.encode() not in answer.content


# --- Names ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "kept"),
    [("  Ann ", "Ann"), ("Al", "Al"), ("n" * 100, "n" * 100), ("李明", "李明"), ("O'X-Y", "O'X-Y")],
)
def test_a_name_is_trimmed_and_has_2_to_100_characters(anyone: Api, given: str, kept: str) -> None:
    assert user(register(anyone, name=given), 201)["name"] == kept


@pytest.mark.parametrize(
    "name",
    ["", " ", "A", " A ", "n" * 101, "A\nB", "A\tB", "A\x7fB", "A\u0085B", "A\u2028B", "A\u202eB", "A\x1bB"],
)
def test_a_name_too_short_too_long_or_with_control_characters_is_refused(anyone: Api, name: str) -> None:
    (fault,) = faults(register(anyone, name=name))
    assert fault[0] == "name"


# --- Passwords -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "password",
    [
        "8 chars!",
        "x7" * 128,
        "a b c d e f g " * 6,  # more than bcrypt's own 72 bytes
        "пароль-из-букв",
        "密码密码密码密码",
        "😀" * 40,
        "  spaces count  ",
        '"quoted\\back"',
    ],
)
def test_a_password_of_8_to_256_characters_of_any_script_is_taken_to_the_letter(
    anyone: Api, password: str
) -> None:
    assert register(anyone, password=password).status_code == 201
    assert log_in(anyone, password).status_code == 200
    for other in (password.strip() + "!", password[:-1], password.upper() + "A", password + " "):
        problem(log_in(anyone, other), "invalid_credentials")


def test_bytes_behind_the_72nd_count(anyone: Api) -> None:
    assert register(anyone, password="x7" * 40 + "1").status_code == 201
    problem(log_in(anyone, "x7" * 40 + "2"), "invalid_credentials")


def test_a_password_is_not_trimmed(anyone: Api) -> None:
    assert register(anyone, password="  correct horse ").status_code == 201
    problem(log_in(anyone, "correct horse"), "invalid_credentials")
    assert log_in(anyone, "  correct horse ").status_code == 200


@pytest.mark.parametrize(
    ("password", "fault"),
    [
        ("", "too_short"),
        ("7 chars", "too_short"),
        ("密码密码密码密", "too_short"),
        ("x7" * 128 + "y", "too_long"),
        ("password", "common"),
        ("PassWord1", "common"),
        ("football1", "common"),
        ("ann@example.com", "personal"),
        ("ANN@Example.com", "personal"),
        ("ann of the north", "personal"),
        ("Ann Of The North", "personal"),
    ],
)
def test_a_weak_password_is_refused_in_detail(anyone: Api, password: str, fault: str) -> None:
    answer = register(anyone, password=password, name="Ann of the North")
    assert faults(answer) == {("password", fault)}
    assert password in ("", "password") or password.encode() not in answer.content


def test_a_refusal_says_all_that_is_wrong_with_the_form(anyone: Api) -> None:
    answer = anyone("POST", "/users", {"email": 1, "name": None})
    assert {field for field, _ in faults(answer)} == {"email", "name", "password"}


def log_in(api: Api, password: str) -> object:
    return api("POST", "/auth/token", {"email": "ann@example.com", "password": password})


# --- Idempotency-Key -----------------------------------------------------------------------------------


def test_the_same_key_and_request_get_the_same_answer_and_one_user(anyone: Api, admin: Api) -> None:
    first = anyone("POST", "/users", ANN, idempotency_key="k-1")
    again = anyone("POST", "/users", ANN, idempotency_key="k-1")
    assert user(first, 201) == user(again, 201)
    assert [first[name] for name in ("Location", "ETag")] == [again[name] for name in ("Location", "ETag")]
    assert len(admin("GET", "/users?q=ann").json()["results"]) == 1


def test_a_repeat_gets_the_answer_as_it_was_then(anyone: Api, people: People) -> None:
    first = anyone("POST", "/users", ANN, idempotency_key="k-1")
    assert people.log_in("Ann")("PATCH", "/users/me", {"name": "Renamed"}).status_code == 200
    assert anyone("POST", "/users", ANN, idempotency_key="k-1").json() == first.json()


@pytest.mark.parametrize(
    "changed", [{"name": "Bob"}, {"email": "b@example.com"}, {"password": "another horse"}]
)
def test_the_same_key_with_another_request_is_refused(anyone: Api, changed: dict[str, str]) -> None:
    assert anyone("POST", "/users", ANN, idempotency_key="k-1").status_code == 201
    problem(anyone("POST", "/users", ANN | changed, idempotency_key="k-1"), "idempotency_key_reused")


def test_a_refused_request_does_not_use_its_key_up(anyone: Api) -> None:
    bad = anyone("POST", "/users", ANN | {"password": "short"}, idempotency_key="k-1")
    assert bad.status_code == 400
    assert anyone("POST", "/users", ANN, idempotency_key="k-1").status_code == 201


def test_keys_of_different_callers_have_nothing_to_do_with_each_other(anyone: Api, admin: Api) -> None:
    assert anyone("POST", "/users", ANN, idempotency_key="k-1").status_code == 201
    problem(admin("POST", "/users", ANN, idempotency_key="k-1"), "user_already_exists")


@pytest.mark.parametrize("key", ["", "x" * 256, "käse", "a\tb"])
def test_a_key_that_is_none_is_refused(anyone: Api, key: str) -> None:
    problem(anyone("POST", "/users", ANN, idempotency_key=key), "invalid_request")


def test_two_refusals_of_one_address_are_alike(anyone: Api, people: People) -> None:
    people.user("Ann")
    assert same_but_for_request_id(register(anyone), register(anyone, email="Ann@Example.com"))
    assert not re.search(rb"ann@", register(anyone).content)


# --- Registering without telling who is registered -------------------------------------------------------


@pytest.fixture
def quiet(database: None, settings: Any) -> None:
    settings.REGISTRATION_DISCLOSURE = "accepted"


@pytest.mark.usefixtures("quiet")
def test_quietly_a_new_and_a_taken_address_are_answered_alike(
    anyone: Api, people: People, admin: Api
) -> None:
    people.user("Ann")
    new, taken = register(anyone, email="new@example.com"), register(anyone, email="ann@example.com")
    assert new.status_code == taken.status_code == 202
    assert new.content == taken.content == b"{}"
    assert set(new.headers) == set(taken.headers)
    assert "Location" not in new.headers
    emails = [user["email"] for user in admin("GET", "/users?email_prefix=n").json()["results"]]
    assert emails == ["new@example.com"]
    assert log_in(anyone, PASSWORD).status_code == 200  # Ann's password is hers still


@pytest.mark.usefixtures("quiet")
def test_quietly_a_user_without_a_role_learns_no_more_than_anybody(people: People) -> None:
    people.user("Ann")
    people.user("Bob")
    bob = people.log_in("Bob")
    assert register(bob, email="ann@example.com").status_code == 202


@pytest.mark.usefixtures("quiet")
def test_quietly_staff_and_services_hear_the_truth(people: People, admin: Api) -> None:
    people.user("Ann")
    user(register(admin, email="new@example.com"), 201)
    problem(register(admin, email="ann@example.com"), "user_already_exists")


@pytest.mark.usefixtures("quiet")
def test_quietly_a_bad_form_is_refused_whoever_has_the_address(anyone: Api, people: People) -> None:
    people.user("Ann")
    answers = [register(anyone, email=f"{name}@example.com", password="short") for name in ("ann", "new")]
    assert [faults(answer) for answer in answers] == [{("password", "too_short")}] * 2


@pytest.mark.usefixtures("quiet")
def test_quietly_a_key_tells_nothing_either(anyone: Api, people: People) -> None:
    """One that came with a taken address is used up like any other."""
    people.user("Ann")
    for name in ("ann", "new"):
        first = {"email": f"{name}@example.com", "idempotency_key": name}
        assert [register(anyone, **first).status_code for _ in range(2)] == [202, 202]
        other = register(anyone, email="other@example.com", idempotency_key=name)
        problem(other, "idempotency_key_reused")
