"""Who may do what: every operation, every kind of caller, every kind of target, held against the contract.

What is expected is written here a second time, in the contract's words, and not read from the code."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from django.http import HttpResponse
from django.urls import get_resolver

from tests.e2e.answers import faults, problem, same_but_for_request_id
from tests.fixtures import PASSWORD, Api, People
from users.api.permissions import MATRIX

NOBODY = "01890000-0000-7000-8000-000000000000"
STAFF_ROLES = ["operator", "admin", "service"]


@dataclass(frozen=True)
class Row:
    """A row of the contract's request table. `who` as it stands there; `command`: whether it changes the
    user, which an operator must not do to another operator or an admin."""

    method: str
    path: str
    who: frozenset[str]
    success: int = 200
    command: bool = False
    body: dict[str, Any] | None = field(default=None)
    own_body: dict[str, Any] | None = field(default=None)


def who(words: str) -> frozenset[str]:
    return frozenset(words.split())


ABOUT_ONE_USER = {
    "retrieve": Row("GET", "/users/{id}", who("self operator admin service")),
    "rename": Row("PATCH", "/users/{id}", who("self operator admin"), command=True, body={"name": "Renamed"}),
    "change_email": Row(
        "PUT",
        "/users/{id}/email",
        who("self admin"),
        command=True,
        body={"email": "new@example.com"},
        own_body={"email": "new@example.com", "password": PASSWORD},
    ),
    "change_password": Row(
        "PUT",
        "/users/{id}/password",
        who("self"),
        204,
        command=True,
        body={"current_password": PASSWORD, "new_password": "another battery horse"},
    ),
    "change_roles": Row("PUT", "/users/{id}/roles", who("admin"), command=True, body={"roles": ["service"]}),
    "block": Row("POST", "/users/{id}/block", who("operator admin"), command=True, body={"reason": "spam"}),
    "unblock": Row("POST", "/users/{id}/unblock", who("operator admin"), command=True),
    "history": Row("GET", "/users/{id}/events", who("self operator admin service")),
    "erase": Row("DELETE", "/users/{id}", who("self admin"), command=True),
    "export": Row("GET", "/users/{id}/export", who("self admin")),
    "list_sessions": Row("GET", "/users/{id}/sessions", who("self admin")),
}
ABOUT_ALL = {
    "list": Row("GET", "/users", who("operator admin service")),
    "feed": Row("GET", "/events", who("service admin")),
    "register_closed": Row(
        "POST",
        "/users",
        who("operator admin service"),
        201,
        body={"email": "new@example.com", "name": "New", "password": PASSWORD},
    ),
}
WEBHOOK = {"url": "http://127.0.0.1:1/hooks"}
ABOUT_WEBHOOKS = {
    "create_webhook": Row("POST", "/webhooks", who("admin"), 201, body=WEBHOOK),
    "list_webhooks": Row("GET", "/webhooks", who("admin")),
    "retrieve_webhook": Row("GET", "/webhooks/{id}", who("admin")),
    "change_webhook": Row("PATCH", "/webhooks/{id}", who("admin"), body={"enabled": False}),
    "delete_webhook": Row("DELETE", "/webhooks/{id}", who("admin"), 204),
    "rotate_webhook_secret": Row("POST", "/webhooks/{id}/rotate-secret", who("admin")),
    "resume_webhook": Row("POST", "/webhooks/{id}/resume", who("admin")),
    "ping_webhook": Row("POST", "/webhooks/{id}/ping", who("admin")),
    "redeliver_events": Row("POST", "/webhooks/{id}/redeliver", who("admin"), body={"sequence": 1}),
    "list_deliveries": Row("GET", "/webhooks/{id}/deliveries", who("admin")),
}
FOR_ANYONE = {
    "register": Row("POST", "/users", who("anyone"), 201, body=ABOUT_ALL["register_closed"].body),
    "log_in": Row(
        "POST", "/auth/token", who("anyone"), body={"email": "plain@example.com", "password": PASSWORD}
    ),
    "request_password_reset": Row(
        "POST", "/auth/password-reset", who("anyone"), 202, body={"email": "plain@example.com"}
    ),
    "request_email_verification": Row(
        "POST", "/auth/email-verification", who("anyone"), 202, body={"email": "plain@example.com"}
    ),
}
BAD_LINK = {"token": "nonsense"}
ABOUT_LINKS = {
    "reset_password": Row(
        "POST", "/auth/password-reset/confirm", who("anyone"), body=BAD_LINK | {"new_password": PASSWORD}
    ),
    "verify_email": Row("POST", "/auth/email-verification/confirm", who("anyone"), body=BAD_LINK),
    "confirm_email_change": Row("POST", "/auth/email-change/confirm", who("anyone"), body=BAD_LINK),
    "cancel_email_change": Row("POST", "/auth/email-change/cancel", who("anyone"), body=BAD_LINK),
}
"""What a good one may do: tests/e2e/test_accounts_http.py."""
ABOUT_SESSIONS = {"end_session", "refresh", "log_out", "log_out_everywhere"}
"""What takes a session of the caller's, or a token of it: tests/e2e/test_sessions_http.py."""
CALLERS = ["nobody", "plain", "operator", "admin", "service"]
TARGETS = ["plain", "nobody", "operator", "admin", "service"]


def test_every_operation_of_the_code_is_in_this_table_and_the_other_way_round() -> None:
    assert set(MATRIX) == {
        *ABOUT_ONE_USER,
        *ABOUT_ALL,
        *ABOUT_WEBHOOKS,
        *FOR_ANYONE,
        *ABOUT_LINKS,
        *ABOUT_SESSIONS,
    }


def test_every_action_that_is_routed_has_its_row() -> None:
    actions: set[str] = set()
    for pattern in get_resolver("users.api.urls").url_patterns:
        actions |= set(pattern.callback.actions.values())
    assert actions == set(MATRIX) - {"register_closed"}


def call(caller: Api, row: Row, target: str = "", own: bool = False) -> HttpResponse:
    body = row.own_body if own and row.own_body else row.body
    return caller(row.method, row.path.format(id=target), body)


@pytest.fixture
def caller_of(people: People) -> Callable[[str], Api]:
    def make(kind: str) -> Api:
        if kind == "nobody":
            return Api()
        if kind == "plain":
            people.user("Caller")
        else:
            people.staff(kind, "Caller")
        return people.log_in("Caller")

    return make


@pytest.fixture
def target_of(people: People, service: Any) -> Callable[[str, str], str]:
    def make(kind: str, operation: str) -> str:
        if kind == "nobody":
            return NOBODY
        target = people.user("Target") if kind == "plain" else people.staff(kind, "Target")
        if operation == "unblock":
            people.staff("admin", "Blocker")
            blocked = people.log_in("Blocker")("POST", f"/users/{target}/block", {"reason": "spam"})
            assert blocked.status_code == 200
        return target

    return make


def expected(row: Row, caller: str, target: str) -> str:
    """In the contract's order: no token; somebody else's account that is closed to him; nobody there; an
    operator over staff; else the door is open."""
    if caller == "nobody":
        return "missing_token"
    if caller not in row.who or target == "nobody":
        return "user_not_found"
    if row.command and caller == "operator" and target in {"operator", "admin"}:
        return "forbidden"
    return "success"


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize("operation", ABOUT_ONE_USER)
def test_somebody_elses_account(
    caller_of: Any, target_of: Any, admin: Api, operation: str, caller: str, target: str
) -> None:
    row, user_id = ABOUT_ONE_USER[operation], target_of(target, operation)
    before = admin("GET", f"/users/{user_id}").content if target != "nobody" else b""
    answer = call(caller_of(caller), row, user_id)
    verdict = expected(row, caller, target)
    if verdict == "success":
        assert answer.status_code == row.success, answer.content
        return
    problem(answer, verdict)
    if before:
        assert admin("GET", f"/users/{user_id}").content == before


@pytest.mark.parametrize("named", ["me", "id"])
@pytest.mark.parametrize("caller", CALLERS[1:])
@pytest.mark.parametrize("operation", ABOUT_ONE_USER)
def test_ones_own_account(caller_of: Any, admin: Api, operation: str, caller: str, named: str) -> None:
    row, own = ABOUT_ONE_USER[operation], caller_of(caller)
    me = own("GET", "/users/me").json()["id"]
    answer = call(own, row, "me" if named == "me" else me, own=True)
    allowed = "self" in row.who or caller in row.who
    if operation == "block" or not allowed:
        problem(answer, "forbidden")
    elif operation == "unblock":
        problem(answer, "user_not_blocked")
    else:
        assert answer.status_code == row.success, answer.content


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize("operation", ABOUT_ALL)
def test_all_accounts(caller_of: Any, settings: Any, operation: str, caller: str) -> None:
    row, api = ABOUT_ALL[operation], caller_of(caller)
    if operation == "register_closed":
        settings.REGISTRATION = "closed"
    answer = call(api, row)
    if caller == "nobody":
        problem(answer, "missing_token")
    elif caller not in row.who:
        problem(answer, "forbidden")
    else:
        assert answer.status_code == row.success, answer.content


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize("operation", ABOUT_WEBHOOKS)
def test_webhooks(caller_of: Any, admin: Api, operation: str, caller: str) -> None:
    """Whoever may not is told so, whether the webhook is there or not."""
    row, api = ABOUT_WEBHOOKS[operation], caller_of(caller)
    there = admin("POST", "/webhooks", WEBHOOK).json()["id"]
    before = admin("GET", "/webhooks").content
    answer = call(api, row, there)
    if caller in row.who:
        assert answer.status_code == row.success, answer.content
        return
    refusal = "missing_token" if caller == "nobody" else "forbidden"
    problem(answer, refusal)
    assert same_but_for_request_id(answer, call(api, row, NOBODY))
    assert admin("GET", "/webhooks").content == before


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize("operation", FOR_ANYONE)
def test_what_is_open_to_anyone(people: People, caller_of: Any, operation: str, caller: str) -> None:
    people.user("Plain")
    row = FOR_ANYONE[operation]
    assert call(caller_of(caller), row).status_code == row.success


@pytest.mark.parametrize("caller", CALLERS)
def test_where_a_link_says_who_somebody_is_nothing_else_does(caller_of: Any, caller: str) -> None:
    api = caller_of(caller)
    for row in ABOUT_LINKS.values():
        assert faults(call(api, row)) == {("token", "invalid_link")}


@pytest.mark.parametrize("caller", ["plain", "service", "operator", "admin"])
@pytest.mark.parametrize("operation", ABOUT_ONE_USER)
def test_who_may_not_cannot_tell_whether_the_user_exists(
    people: People, caller_of: Any, operation: str, caller: str
) -> None:
    """Neither by the body nor by anything in his request being wrong."""
    row = ABOUT_ONE_USER[operation]
    if caller in row.who:
        return
    api, there = caller_of(caller), people.user("Target")
    for body, headers in [
        (row.body, {}),
        ({"nonsense": 1}, {}),
        (None, {"if_match": "nonsense"}),
        (row.body, {"if_match": '"77"'}),
        ([], {"content_type": "text/plain"}),
    ]:
        answers = [
            api(row.method, row.path.format(id=user_id), body, **headers)
            for user_id in (there, NOBODY, there.upper(), "nonsense")
        ]
        problem(answers[0], "user_not_found")
        for other in answers[1:]:
            assert same_but_for_request_id(answers[0], other)
            assert {k: v for k, v in answers[0].items() if k not in {"X-Request-ID", "Content-Length"}} == {
                k: v for k, v in other.items() if k not in {"X-Request-ID", "Content-Length"}
            }


@pytest.mark.parametrize("operation", [*ABOUT_ONE_USER, *ABOUT_ALL, *ABOUT_WEBHOOKS])
def test_the_token_comes_before_everything_else(anyone: Api, settings: Any, operation: str) -> None:
    settings.REGISTRATION, settings.REQUIRE_IF_MATCH = "closed", True
    row = (ABOUT_ONE_USER | ABOUT_ALL | ABOUT_WEBHOOKS)[operation]
    path = row.path.format(id=NOBODY)
    problem(anyone(row.method, path, {"nonsense": 1}), "missing_token")
    problem(anyone(row.method, path + "?nonsense=1", raw=b"\xff", content_type="x/y"), "missing_token")


def test_a_blocked_admin_or_operator_may_nothing(people: People, admin: Api) -> None:
    operator = people.staff("operator")
    blocked = people.log_in("Operator")
    admin("POST", f"/users/{operator}/block", {"reason": "gone"})
    problem(blocked("GET", "/users"), "invalid_token")


def test_several_roles_add_up(people: People, admin: Api) -> None:
    ann = people.user("Ann")
    people.user("Bob")
    admin("PUT", f"/users/{ann}/roles", {"roles": ["operator", "service"]})
    own = people.log_in("Ann")
    assert own("GET", "/events").status_code == 200
    bob = admin("GET", "/users?email=bob@example.com").json()["results"][0]["id"]
    assert own("POST", f"/users/{bob}/block", {"reason": "spam"}).status_code == 200
