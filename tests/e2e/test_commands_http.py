"""PATCH, PUT and POST on one user: what they change, answer and refuse."""

from datetime import UTC, datetime, timedelta

import pytest

from tests.e2e.answers import faults, problem, results, user
from tests.fixtures import PASSWORD, Api, People
from tests.together import eventually
from users.models import UserRecord
from users.wiring import Service

OTHER = "another battery horse"


def soon(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


# --- Rename --------------------------------------------------------------------------------------------


def test_a_rename_changes_name_version_and_time(people: People) -> None:
    ann = people.user("Ann")
    own = people.log_in("Ann")
    before = own("GET", "/users/me").json()
    after = user(own("PATCH", f"/users/{ann}", {"name": "  Anne "}))
    assert after == before | {"name": "Anne", "version": 2, "updated_at": after["updated_at"]}
    assert after["updated_at"] > before["updated_at"]
    assert user(own("GET", "/users/me")) == after


def test_the_same_name_again_changes_nothing(people: People) -> None:
    people.user("Ann")
    own = people.log_in("Ann")
    before = own("GET", "/users/me").json()
    assert user(own("PATCH", "/users/me", {"name": "Ann"})) == before
    assert len(results(own("GET", "/users/me/events"))) == 1


@pytest.mark.parametrize(
    "body", [{}, {"name": "A"}, {"name": 5}, {"name": "Anne", "email": "x@y.org"}, {"name": None}]
)
def test_a_bad_rename_changes_nothing(people: People, body: object) -> None:
    people.user("Ann")
    own = people.log_in("Ann")
    assert faults(own("PATCH", "/users/me", body))
    assert own("GET", "/users/me").json()["version"] == 1


# --- Email ---------------------------------------------------------------------------------------------


def test_one_changes_his_address_with_his_password_at_once(people: People, anyone: Api) -> None:
    people.user("Ann")
    own = people.log_in("Ann")
    after = user(own("PUT", "/users/me/email", {"email": " New@Example.COM", "password": PASSWORD}))
    assert (after["email"], after["email_verified"], after["version"]) == ("new@example.com", False, 2)
    problem(
        anyone("POST", "/auth/token", {"email": "ann@example.com", "password": PASSWORD}),
        "invalid_credentials",
    )
    people.log_in("New")
    assert own("GET", "/users/me").status_code == 200, "an address is no secret: tokens stay good"


def test_a_wrong_password_changes_no_address(people: People) -> None:
    people.user("Ann")
    own = people.log_in("Ann")
    problem(own("PUT", "/users/me/email", {"email": "new@example.com", "password": OTHER}), "wrong_password")
    assert own("GET", "/users/me").json()["email"] == "ann@example.com"


@pytest.mark.parametrize("password", [None, 5, "absent"])
def test_one_cannot_change_his_address_without_a_password(people: People, password: object) -> None:
    people.user("Ann")
    body = {"email": "new@example.com"} | ({} if password == "absent" else {"password": password})
    (fault,) = faults(people.log_in("Ann")("PUT", "/users/me/email", body))
    assert fault[0] == "password"


def test_not_even_an_admin_changes_his_own_address_without_his_password(admin: Api) -> None:
    me = admin("GET", "/users/me").json()["id"]
    assert admin("PUT", f"/users/{me}/email", {"email": "new@example.com"}).status_code == 400
    assert admin("PUT", f"/users/{me.upper()}/email", {"email": "new@example.com"}).status_code == 400


def test_an_admin_changes_an_address_without_password(people: People, admin: Api) -> None:
    ann = people.user("Ann")
    assert (
        user(admin("PUT", f"/users/{ann}/email", {"email": "new@example.com"}))["email"] == "new@example.com"
    )


def test_an_address_that_is_taken_or_the_same_is_a_conflict(people: People, admin: Api) -> None:
    ann = people.user("Ann")
    people.user("Bob")
    problem(admin("PUT", f"/users/{ann}/email", {"email": "BOB@example.com"}), "user_already_exists")
    problem(admin("PUT", f"/users/{ann}/email", {"email": "Ann@Example.com"}), "email_unchanged")
    assert admin("GET", f"/users/{ann}").json()["version"] == 1


def test_an_address_that_is_none_is_refused(people: People, admin: Api) -> None:
    ann = people.user("Ann")
    for email in ("", "x", "a@b", "ﬁ@example.com"):
        assert {field for field, _ in faults(admin("PUT", f"/users/{ann}/email", {"email": email}))} == {
            "email"
        }


# --- Password ------------------------------------------------------------------------------------------


def change_password(api: Api, current: object = PASSWORD, new: object = OTHER) -> object:
    return api("PUT", "/users/me/password", {"current_password": current, "new_password": new})


def test_a_new_password_replaces_the_old_one(people: People, anyone: Api) -> None:
    people.user("Ann")
    answer = change_password(people.log_in("Ann"))
    assert answer.status_code == 204
    assert answer.content == b""
    assert answer["ETag"] == '"2"'
    credentials = {"email": "ann@example.com", "password": PASSWORD}
    problem(anyone("POST", "/auth/token", credentials), "invalid_credentials")
    assert people.log_in("Ann", OTHER)("GET", "/users/me").json()["version"] == 2


def test_a_wrong_current_password_is_its_own_refusal(people: People) -> None:
    people.user("Ann")
    own = people.log_in("Ann")
    problem(change_password(own, current="not my password"), "wrong_password")
    assert own("GET", "/users/me").json()["version"] == 1


@pytest.mark.parametrize(
    ("new", "fault"),
    [
        ("7 chars", "too_short"),
        ("x7" * 128 + "y", "too_long"),
        ("password123", "common"),
        ("ann@example.com", "personal"),
    ],
)
def test_a_weak_new_password_is_refused(people: People, new: str, fault: str) -> None:
    people.user("Ann")
    assert [code for _, code in faults(change_password(people.log_in("Ann"), new=new))] == [fault]


@pytest.mark.parametrize("role", ["operator", "admin"])
def test_staff_needs_15_characters(people: People, role: str) -> None:
    people.staff(role)
    own = people.log_in(role.title())
    assert [code for _, code in faults(change_password(own, new="14 characters!"))] == ["too_short"]
    assert change_password(own, new="15 characters!!").status_code == 204


@pytest.mark.parametrize("field", ["current_password", "new_password"])
@pytest.mark.parametrize("value", [None, 12345678, [], {}, True], ids=str)
def test_a_password_is_a_string(people: People, field: str, value: object) -> None:
    people.user("Ann")
    body = {"current_password": PASSWORD, "new_password": OTHER} | {field: value}
    (fault,) = faults(people.log_in("Ann")("PUT", "/users/me/password", body))
    assert fault[0] == field


# --- Roles ---------------------------------------------------------------------------------------------


def test_an_admin_gives_and_takes_roles(people: People, admin: Api) -> None:
    ann = people.user("Ann")
    given = user(admin("PUT", f"/users/{ann}/roles", {"roles": ["service", "operator"]}))
    assert given["roles"] == ["operator", "service"]
    assert user(admin("PUT", f"/users/{ann}/roles", {"roles": []}))["roles"] == []


@pytest.mark.parametrize(
    "roles",
    [
        "admin",
        None,
        5,
        {},
        ["boss"],
        ["Admin"],
        [None],
        [["admin"]],
        ["admin "],
        ["admin"] * 50,
        [""],
        [1],
        ["admin", "admin"],
    ],
)
def test_roles_that_are_none_are_refused(people: People, admin: Api, roles: object) -> None:
    ann = people.user("Ann")
    assert all(
        field.startswith("roles")
        for field, _ in faults(admin("PUT", f"/users/{ann}/roles", {"roles": roles}))
    )
    assert admin("GET", f"/users/{ann}").json()["version"] == 1


def test_the_last_admin_is_neither_demoted_nor_blocked(people: People, admin: Api) -> None:
    me = admin("GET", "/users/me").json()["id"]
    problem(admin("PUT", "/users/me/roles", {"roles": ["operator"]}), "forbidden")
    problem(admin("POST", f"/users/{me}/block", {"reason": "tired"}), "forbidden")
    assert user(admin("GET", "/users/me"))["version"] == 2  # born, and made admin


def test_a_blocked_admin_does_not_count_as_another_one(people: People, admin: Api) -> None:
    second = people.staff("admin", "Second")
    assert admin("POST", f"/users/{second}/block", {"reason": "gone"}).status_code == 200
    problem(admin("PUT", "/users/me/roles", {"roles": []}), "forbidden")


def test_an_admin_may_step_down_while_there_is_another(people: People, admin: Api) -> None:
    people.staff("admin", "Second")
    assert user(admin("PUT", "/users/me/roles", {"roles": []}))["roles"] == []


# --- Block and unblock ---------------------------------------------------------------------------------


def test_a_block_and_its_end_are_two_changes(people: People, operator: Api) -> None:
    ann = people.user("Ann")
    blocked = user(operator("POST", f"/users/{ann}/block", {"reason": " spam "}))
    assert (blocked["status"], blocked["version"], blocked["blocked"]["reason"]) == ("blocked", 2, "spam")
    assert blocked["blocked"]["until"] is None
    free = user(operator("POST", f"/users/{ann}/unblock"))
    assert (free["status"], free["version"], free["blocked"]) == ("active", 3, None)


def test_twice_is_a_conflict(people: People, operator: Api) -> None:
    ann = people.user("Ann")
    problem(operator("POST", f"/users/{ann}/unblock"), "user_not_blocked")
    operator("POST", f"/users/{ann}/block", {"reason": "spam"})
    problem(operator("POST", f"/users/{ann}/block", {"reason": "more spam"}), "user_already_blocked")
    assert operator("GET", f"/users/{ann}").json()["blocked"]["reason"] == "spam"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"reason": ""}, "reason"),
        ({"reason": "  "}, "reason"),
        ({"reason": "x" * 501}, "reason"),
        ({"reason": None}, "reason"),
        ({"reason": "a\x07b"}, "reason"),
        ({"until": "2001-01-01T00:00:00Z"}, "until"),
        ({"until": "2199-01-01T00:00:00"}, "until"),
        ({"until": "2199-01-01"}, "until"),
        ({"until": "2199-02-30T00:00:00Z"}, "until"),
        ({"until": "2199-01-01T25:00:00Z"}, "until"),
        ({"until": "9999-12-31T23:59:59-14:00"}, "until"),
        ({"until": "tomorrow"}, "until"),
        ({"until": ""}, "until"),
        ({"until": 4102444800}, "until"),
        ({"until": []}, "until"),
        ({"until": True}, "until"),
        ({"by": "me"}, "by"),
    ],
)
def test_a_bad_block_blocks_nobody(
    people: People, admin: Api, changes: dict[str, object], field: str
) -> None:
    ann = people.user("Ann")
    answer = admin("POST", f"/users/{ann}/block", {"reason": "spam"} | changes)
    assert {field for field, _ in faults(answer)} == {field}
    assert admin("GET", f"/users/{ann}").json()["status"] == "active"


def test_a_block_needs_a_reason(people: People, admin: Api) -> None:
    ann = people.user("Ann")
    assert faults(admin("POST", f"/users/{ann}/block", {})) == {("reason", "required")}
    assert faults(admin("POST", f"/users/{ann}/block")) == {("reason", "required")}


def test_until_may_be_null_or_far_away(people: People, admin: Api) -> None:
    for name, until in (
        ("Ann", None),
        ("Bob", "9999-12-31T23:59:59.999999Z"),
        ("Cid", "2199-01-01t00:00:00z"),
    ):
        answer = admin("POST", f"/users/{people.user(name)}/block", {"reason": "spam", "until": until})
        assert user(answer)["status"] == "blocked"


def test_a_block_ends_by_itself(people: People, admin: Api, service: Service) -> None:
    ann = people.user("Ann")
    admin("POST", f"/users/{ann}/block", {"reason": "cool down", "until": soon(3600)})
    credentials = {"email": "ann@example.com", "password": PASSWORD}
    problem(admin("POST", "/auth/token", credentials), "user_blocked")
    ends = datetime.now(UTC) + timedelta(seconds=0.2)
    UserRecord.objects.filter(id=ann).update(blocked_until=ends)
    eventually(lambda: admin("POST", "/auth/token", credentials).status_code == 200)
    assert datetime.now(UTC) >= ends
    service.worker().end_blocks()
    after = user(admin("GET", f"/users/{ann}"))
    assert (after["status"], after["version"]) == ("active", 3)
    last = results(admin("GET", f"/users/{ann}/events"))[-1]
    assert (last["event_type"], last["actor_id"]) == ("user.unblocked", "system")


def test_an_unblock_takes_an_empty_object_or_nothing(people: People, admin: Api) -> None:
    ann = people.user("Ann")
    for body in (None, {}):
        admin("POST", f"/users/{ann}/block", {"reason": "spam"})
        assert user(admin("POST", f"/users/{ann}/unblock", body))["status"] == "active"
    admin("POST", f"/users/{ann}/block", {"reason": "spam"})
    assert faults(admin("POST", f"/users/{ann}/unblock", {"reason": "x"})) == {("reason", "unknown")}


# --- What everybody else reads right after --------------------------------------------------------------


def test_whoever_reads_right_after_a_command_reads_its_outcome(people: People, admin: Api) -> None:
    ann = people.user("Ann")
    for number in range(5):
        admin("GET", f"/users/{ann}")
        changed = admin("PATCH", f"/users/{ann}", {"name": f"Ann {number}"}).json()
        assert admin("GET", f"/users/{ann}").json() == changed
