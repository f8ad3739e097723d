"""ETag, If-Match, If-None-Match and min_version."""

from typing import Any

import pytest

from tests.e2e.answers import faults, problem, results, user
from tests.fixtures import PASSWORD, Api, People

COMMANDS = {
    "rename": ("PATCH", "/users/{id}", {"name": "Renamed"}),
    "change_email": ("PUT", "/users/{id}/email", {"email": "new@example.com"}),
    "change_roles": ("PUT", "/users/{id}/roles", {"roles": ["service"]}),
    "block": ("POST", "/users/{id}/block", {"reason": "spam"}),
    "unblock": ("POST", "/users/{id}/unblock", None),
}


@pytest.fixture
def ann(people: People) -> str:
    return people.user("Ann")


@pytest.fixture
def act(admin: Api, ann: str) -> Any:
    """Does a command on Ann, who is ready for it: at version 1, but for unblock, at version 2."""

    def call(command: str, **headers: str) -> Any:
        method, path, body = COMMANDS[command]
        if command == "unblock" and admin("GET", f"/users/{ann}").json()["status"] == "active":
            admin("POST", f"/users/{ann}/block", {"reason": "spam"})
        return admin(method, path.format(id=ann), body, **headers)

    return call


def version_before(command: str) -> int:
    return 2 if command == "unblock" else 1


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    "form", ['"{v}"', ' "{v}" ', '"9", "{v}"', '"{v}","9"', 'W/"{v}", "{v}"', '"abc" , "{v}"', "*", " * "]
)
def test_the_version_known_is_the_version_changed(act: Any, command: str, form: str) -> None:
    v = version_before(command)
    assert user(act(command, if_match=form.format(v=v)))["version"] == v + 1


FOREIGN = [
    '"77"',
    '"0"',
    '"01"',
    '"-1"',
    'W/"{v}"',
    '"abc"',
    '""',
    '"{v}.0"',
    '"77", "78"',
    '"99999999999999999999"',
]
MALFORMED = [
    "1",
    "",
    "  ",
    '"1',
    '1"',
    "'1'",
    "W/1",
    'w/"1"',
    '"1" "2"',
    '*, "1"',
    "**",
    '"1"x',
    '" 1"',
    "\x00",
    "x" * 9000,
]


@pytest.mark.parametrize("command", COMMANDS)
def test_another_version_or_a_weak_tag_changes_nothing(act: Any, admin: Api, ann: str, command: str) -> None:
    v = version_before(command)
    for form in FOREIGN:
        problem(act(command, if_match=form.format(v=v)), "version_mismatch")
    assert admin("GET", f"/users/{ann}").json()["version"] == v
    assert len(results(admin("GET", f"/users/{ann}/events"))) == v


@pytest.mark.parametrize("command", COMMANDS)
def test_a_malformed_tag_is_a_bad_request(act: Any, admin: Api, ann: str, command: str) -> None:
    for form in MALFORMED:
        problem(act(command, if_match=form), "invalid_request")
    assert admin("GET", f"/users/{ann}").json()["version"] == version_before(command)


def test_a_password_is_changed_only_in_the_version_known(people: People, ann: str) -> None:
    own = people.log_in("Ann")
    body = {"current_password": PASSWORD, "new_password": "another battery horse"}
    problem(own("PUT", "/users/me/password", body, if_match='"2"'), "version_mismatch")
    problem(own("PUT", "/users/me/password", body, if_match="1"), "invalid_request")
    assert own("PUT", "/users/me/password", body, if_match='"1"').status_code == 204


@pytest.mark.parametrize("command", [*COMMANDS, "change_password"])
def test_if_match_may_be_demanded(people: People, act: Any, ann: str, settings: Any, command: str) -> None:
    own = people.log_in("Ann")
    if command == "unblock":
        people.staff("admin", "Blocker")
        people.log_in("Blocker")("POST", f"/users/{ann}/block", {"reason": "spam"})
    settings.REQUIRE_IF_MATCH = True
    if command == "change_password":
        body = {"current_password": PASSWORD, "new_password": "another battery horse"}
        problem(own("PUT", "/users/me/password", body), "precondition_required")
        assert own("PUT", "/users/me/password", body, if_match='"1"').status_code == 204
    else:
        problem(act(command), "precondition_required")
        assert user(act(command, if_match=f'"{version_before(command)}"'))


def test_what_is_no_command_on_a_user_needs_no_if_match(
    people: People, anyone: Api, ann: str, settings: Any
) -> None:
    settings.REQUIRE_IF_MATCH = True
    assert people.log_in("Ann")("GET", "/users/me").status_code == 200
    body = {"email": "new@example.com", "name": "New", "password": PASSWORD}
    assert anyone("POST", "/users", body).status_code == 201


def test_of_two_who_know_the_same_version_one_is_late(admin: Api, ann: str) -> None:
    tag = admin("GET", f"/users/{ann}")["ETag"]
    assert admin("PATCH", f"/users/{ann}", {"name": "First"}, if_match=tag).status_code == 200
    problem(admin("PATCH", f"/users/{ann}", {"name": "Second"}, if_match=tag), "version_mismatch")
    assert admin("GET", f"/users/{ann}").json()["name"] == "First"


def test_the_etag_of_an_answer_is_good_for_the_next_command(admin: Api, ann: str) -> None:
    tag = admin("GET", f"/users/{ann}")["ETag"]
    for method, path, body in COMMANDS.values():
        answer = admin(method, path.format(id=ann), body, if_match=tag)
        assert answer["ETag"] != tag
        assert user(answer)
        tag = answer["ETag"]


# --- If-None-Match -------------------------------------------------------------------------------------


KNOWN_TAGS = ['"1"', 'W/"1"', "*", '"9", "1"', '"9",W/"1"', ' "1" ']


@pytest.mark.parametrize("path", ["/users/me", "/users/{id}"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_what_is_known_is_not_sent_again(people: People, ann: str, method: str, path: str) -> None:
    own = people.log_in("Ann")
    for form in KNOWN_TAGS:
        answer = own(method, path.format(id=ann), if_none_match=form)
        assert answer.status_code == 304
        assert answer.content == b""
        assert answer["ETag"] == '"1"'
        assert answer["Cache-Control"] == "private, no-cache"
        assert answer["X-Request-ID"]


UNKNOWN_TAGS = ['"2"', '"11"', '""', "1", "", '"1', "nonsense", '"1" "1"', "\x00"]


def test_what_is_not_known_is_sent(people: People, ann: str) -> None:
    own = people.log_in("Ann")
    for form in UNKNOWN_TAGS:
        assert user(own("GET", "/users/me", if_none_match=form))["version"] == 1


def test_after_a_change_the_old_tag_is_not_good_any_more(people: People, ann: str) -> None:
    own = people.log_in("Ann")
    tag = own("GET", "/users/me")["ETag"]
    own("PATCH", "/users/me", {"name": "Anne"})
    assert user(own("GET", "/users/me", if_none_match=tag))["name"] == "Anne"


# --- min_version ---------------------------------------------------------------------------------------


def test_nothing_older_than_min_version_is_answered(people: People, ann: str) -> None:
    own = people.log_in("Ann")
    own("PATCH", "/users/me", {"name": "Anne"})
    for path in ("/users/me", f"/users/{ann}"):
        for least in (0, 1, 2):
            assert user(own("GET", f"{path}?min_version={least}"))["version"] == 2
        problem(own("GET", f"{path}?min_version=3"), "version_mismatch")
        problem(own("GET", f"{path}?min_version={2**31 - 1}"), "version_mismatch")


def test_min_version_reads_past_a_cache_that_lags(people: People, admin: Api, ann: str, redis: Any) -> None:
    """As after a crash between commit and cache: the entry is old, the table is not."""
    assert admin("GET", f"/users/{ann}").status_code == 200
    entry = redis.get(f"user:{{{ann}}}")
    admin("PATCH", f"/users/{ann}", {"name": "Anne"})
    redis.set(f"user:{{{ann}}}", entry)
    assert admin("GET", f"/users/{ann}").json()["version"] == 1, "the entry was not put back"
    assert user(admin("GET", f"/users/{ann}?min_version=2"))["version"] == 2


@pytest.mark.parametrize(
    "query", ["-1", "x", "", "1.5", "NaN", "1&min_version=2", "%00", "9" * 2000, "1e3", "0x1"]
)
def test_a_min_version_that_is_no_number_is_refused(people: People, ann: str, query: str) -> None:
    (fault,) = faults(people.log_in("Ann")("GET", f"/users/me?min_version={query}"))
    assert fault[0] == "min_version"


def test_a_parameter_that_is_not_ours_is_refused(people: People, ann: str) -> None:
    assert faults(people.log_in("Ann")("GET", "/users/me?version=1")) == {("version", "unknown")}
