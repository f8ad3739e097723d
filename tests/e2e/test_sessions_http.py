"""Sessions over HTTP: refresh, logging out here and everywhere, and the list of where one is logged in."""

from collections.abc import Callable
from typing import Any

import jwt
import pytest
from django.http import HttpResponse

from tests.e2e.answers import TIME, UUID7, faults, problem
from tests.fixtures import PASSWORD, Api, People

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
LogInOn = Callable[..., dict[str, str]]


@pytest.fixture
def ann(people: People) -> str:
    return people.user("Ann")


@pytest.fixture
def log_in(anyone: Api, ann: str) -> LogInOn:
    def log_in(device: str = "curl/8.0", name: str = "ann") -> dict[str, str]:
        body = {"email": f"{name}@example.com", "password": PASSWORD}
        answer = anyone("POST", "/auth/token", body, user_agent=device)
        assert answer.status_code == 200, answer.content
        return dict(answer.json())

    return log_in


def refresh(api: Api, token: Any) -> HttpResponse:
    return api("POST", "/auth/token/refresh", {"refresh": token})


def claims(token: str) -> dict[str, Any]:
    return dict(jwt.decode(token, options={"verify_signature": False}))


# --- Refresh --------------------------------------------------------------------------------------------


def test_a_login_brings_both_tokens_and_nothing_else(log_in: LogInOn) -> None:
    assert set(log_in()) == {"access", "refresh"}


def test_a_refresh_token_is_good_for_a_new_pair_in_the_same_session(anyone: Api, log_in: LogInOn) -> None:
    first = log_in()
    answer = refresh(anyone, first["refresh"])
    assert answer.status_code == 200
    assert answer["Cache-Control"] == "no-store"
    second = answer.json()
    assert set(second) == {"access", "refresh"}
    assert second["refresh"] != first["refresh"]
    assert (
        claims(second["access"])["sid"] == claims(first["access"])["sid"] == claims(second["refresh"])["sid"]
    )
    assert claims(second["access"])["jti"] != claims(first["access"])["jti"]
    assert Api(second["access"])("GET", "/users/me").status_code == 200


def test_the_same_token_within_the_grace_brings_the_same_successor(anyone: Api, log_in: LogInOn) -> None:
    first = log_in()
    assert len({refresh(anyone, first["refresh"]).json()["refresh"] for _ in range(3)}) == 1


@pytest.mark.parametrize("token", ["", "nonsense", "a.b.c", "x" * 5000, "\ud7ff", "0" * 4096])
def test_what_is_no_refresh_token_is_refused(anyone: Api, token: str) -> None:
    problem(refresh(anyone, token), "invalid_token")
    problem(anyone("POST", "/auth/logout", {"refresh": token}), "invalid_token")


def test_no_token_is_taken_for_one_of_the_other_kind(anyone: Api, log_in: LogInOn) -> None:
    tokens = log_in()
    problem(refresh(anyone, tokens["access"]), "invalid_token")
    problem(Api(tokens["refresh"])("GET", "/users/me"), "invalid_token")


@pytest.mark.parametrize("path", ["/auth/token/refresh", "/auth/logout"])
@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, {("refresh", "required")}),
        ({"refresh": 7}, {("refresh", "invalid")}),
        ({"refresh": None}, {("refresh", "null")}),
        ({"refresh": "x", "more": 1}, {("more", "unknown")}),
    ],
)
def test_the_form_is_checked(anyone: Api, path: str, body: object, expected: object) -> None:
    assert faults(anyone("POST", path, body)) == expected


def test_a_blocked_user_refreshes_nothing_and_nothing_after_the_block(
    anyone: Api, admin: Api, ann: str, log_in: LogInOn
) -> None:
    tokens = log_in()
    admin("POST", f"/users/{ann}/block", {"reason": "spam"})
    problem(refresh(anyone, tokens["refresh"]), "invalid_token")
    admin("POST", f"/users/{ann}/unblock")
    problem(refresh(anyone, tokens["refresh"]), "invalid_token")


def test_refreshed_tokens_tell_the_roles_of_now(anyone: Api, people: People) -> None:
    people.staff("operator", "Ann")
    tokens = anyone("POST", "/auth/token", {"email": "ann@example.com", "password": PASSWORD}).json()
    assert claims(refresh(anyone, tokens["refresh"]).json()["access"])["roles"] == ["operator"]


# --- Logging out ----------------------------------------------------------------------------------------


def test_who_logs_out_is_out_at_once_and_only_here(anyone: Api, log_in: LogInOn) -> None:
    here, there = log_in(), log_in()
    for _ in range(2):
        answer = anyone("POST", "/auth/logout", {"refresh": here["refresh"]})
        assert (answer.status_code, answer.content) == (204, b"")
    problem(Api(here["access"])("GET", "/users/me"), "invalid_token")
    problem(refresh(anyone, here["refresh"]), "invalid_token")
    assert Api(there["access"])("GET", "/users/me").status_code == 200


def test_who_logs_out_everywhere_is_out_everywhere(anyone: Api, log_in: LogInOn) -> None:
    here, there = log_in(), log_in()
    assert Api(here["access"])("POST", "/auth/logout-all").status_code == 204
    for tokens in (here, there):
        problem(Api(tokens["access"])("GET", "/users/me"), "invalid_token")
        problem(refresh(anyone, tokens["refresh"]), "invalid_token")
    assert Api(log_in()["access"])("GET", "/users/me").status_code == 200


def test_logging_out_everywhere_takes_a_token_and_no_body(anyone: Api, log_in: LogInOn) -> None:
    problem(anyone("POST", "/auth/logout-all"), "missing_token")
    assert faults(Api(log_in()["access"])("POST", "/auth/logout-all", {"all": True})) == {("all", "unknown")}


def test_consumers_learn_of_it(admin: Api, ann: str, log_in: LogInOn, anyone: Api) -> None:
    tokens = log_in()
    anyone("POST", "/auth/logout", {"refresh": tokens["refresh"]})
    event = admin("GET", f"/users/{ann}/events").json()["results"][-1]
    assert event["event_type"] == "user.sessions_ended"
    assert event["actor_id"] == ann
    assert event["data"] == {
        "user_id": ann,
        "session_id": claims(tokens["access"])["sid"],
        "cause": "log_out",
        "ended_at": event["timestamp"],
    }


# --- The list -------------------------------------------------------------------------------------------


def test_the_list_says_where_one_is_logged_in(log_in: LogInOn) -> None:
    log_in(FIREFOX)
    tokens = log_in("curl/8.0")
    answer = Api(tokens["access"])("GET", "/users/me/sessions")
    assert answer.status_code == 200
    page = answer.json()
    assert page["next"] is None
    newest, older = page["results"]
    assert set(newest) == {"id", "device", "address", "created_at", "last_used_at", "expires_at", "current"}
    assert (newest["device"], newest["current"]) == ("curl", True)
    assert (older["device"], older["current"]) == ("Firefox on Linux", False)
    assert newest["id"] == claims(tokens["access"])["sid"]
    assert newest["address"] == "127.0.0.0/24"
    assert UUID7.fullmatch(newest["id"])
    for time in ("created_at", "last_used_at", "expires_at"):
        assert TIME.fullmatch(newest[time])


@pytest.mark.parametrize("device", ["", "\u0131\u0000", "x" * 5000, "<script>alert(1)</script>"])
def test_whatever_a_device_calls_itself_the_list_can_be_read(log_in: LogInOn, device: str) -> None:
    tokens = log_in(device)
    [session] = Api(tokens["access"])("GET", "/users/me/sessions").json()["results"]
    assert session["device"] is None or len(session["device"]) <= 300


def test_a_session_is_ended_from_another_device(anyone: Api, ann: str, log_in: LogInOn) -> None:
    lost, here = log_in(), log_in()
    lost_id = claims(lost["access"])["sid"]
    answer = Api(here["access"])("DELETE", f"/users/me/sessions/{lost_id.upper()}")
    assert answer.status_code == 204
    problem(Api(lost["access"])("GET", "/users/me"), "invalid_token")
    problem(refresh(anyone, lost["refresh"]), "invalid_token")
    [remaining] = Api(here["access"])("GET", "/users/me/sessions").json()["results"]
    assert remaining["current"] is True
    problem(Api(here["access"])("DELETE", f"/users/me/sessions/{lost_id}"), "session_not_found")


@pytest.mark.parametrize("session_id", ["nonsense", "01890000-0000-7000-8000-000000000000", "%00", "me"])
def test_there_is_no_such_session(log_in: LogInOn, session_id: str) -> None:
    problem(Api(log_in()["access"])("DELETE", f"/users/me/sessions/{session_id}"), "session_not_found")


def test_an_admin_may_end_the_session_of_another_and_nobody_else_may(
    people: People, admin: Api, operator: Api, ann: str, log_in: LogInOn
) -> None:
    tokens = log_in()
    sid = claims(tokens["access"])["sid"]
    people.user("Bob")
    bob = people.log_in("Bob")
    for stranger in (bob, operator):
        problem(stranger("GET", f"/users/{ann}/sessions"), "user_not_found")
        problem(stranger("DELETE", f"/users/{ann}/sessions/{sid}"), "user_not_found")
    problem(bob("DELETE", f"/users/me/sessions/{sid}"), "session_not_found")
    assert admin("DELETE", f"/users/{ann}/sessions/{sid}").status_code == 204
    problem(Api(tokens["access"])("GET", "/users/me"), "invalid_token")


def test_ends_of_sessions_honour_if_match(settings: Any, log_in: LogInOn) -> None:
    tokens = log_in()
    own, sid = Api(tokens["access"]), claims(tokens["access"])["sid"]
    ways = [("DELETE", f"/users/me/sessions/{sid}"), ("POST", "/auth/logout-all")]
    for method, path in ways:
        problem(own(method, path, if_match='"7"'), "version_mismatch")
        problem(own(method, path, if_match='W/"1"'), "version_mismatch")
    settings.REQUIRE_IF_MATCH = True
    for method, path in ways:
        problem(own(method, path), "precondition_required")
    assert own("DELETE", ways[0][1], if_match='"1"').status_code == 204
