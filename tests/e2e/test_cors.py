"""CORS: an allow-list, no credentials, and whatever a browser has to see exposed."""

from typing import Any

import pytest

from tests.fixtures import Api, People

APP = "https://app.example.com"


@pytest.fixture
def allowed(settings: Any) -> None:
    settings.CORS_ALLOWED_ORIGINS = [APP]


def words(value: str) -> set[str]:
    return {word.strip().lower() for word in value.split(",")}


def cors_headers(answer: Any) -> set[str]:
    return {name for name in answer.headers if name.lower().startswith("access-control-")}


def preflight(api: Api, path: str = "/users", origin: str = APP, method: str = "PATCH") -> Any:
    asked = {
        "access_control_request_method": method,
        "access_control_request_headers": "authorization,if-match",
    }
    return api("OPTIONS", path, origin=origin, **asked)


@pytest.mark.parametrize("path", ["/users", "/users/me", "/auth/token", "/users/me/block", "/events"])
def test_a_preflight_is_answered(anyone: Api, allowed: None, path: str) -> None:
    answer = preflight(anyone, path)
    assert answer.status_code in {200, 204}
    assert answer["Access-Control-Allow-Origin"] == APP
    assert {"get", "post", "put", "patch", "delete"} <= words(answer["Access-Control-Allow-Methods"])
    wanted = {"authorization", "content-type", "if-match", "if-none-match", "idempotency-key", "x-request-id"}
    assert wanted <= words(answer["Access-Control-Allow-Headers"])
    assert int(answer["Access-Control-Max-Age"]) > 0
    assert "Access-Control-Allow-Credentials" not in answer
    assert answer["X-Request-ID"]


def test_answers_are_readable_with_their_headers(people: People, allowed: None) -> None:
    people.user("Ann")
    answer = people.log_in("Ann")("GET", "/users/me", origin=APP)
    assert answer["Access-Control-Allow-Origin"] == APP
    assert words(answer["Access-Control-Expose-Headers"]) == {
        "etag",
        "location",
        "retry-after",
        "x-request-id",
    }
    assert "Access-Control-Allow-Credentials" not in answer
    assert "origin" in words(answer["Vary"])


@pytest.mark.parametrize(
    ("method", "path", "more", "status"),
    [
        ("GET", "/users/me", {}, 401),
        ("GET", "/nope", {}, 404),
        ("DELETE", "/metrics", {}, 405),
        ("POST", "/users", {"raw": b"x" * 70_000}, 413),
        ("POST", "/users", {"raw": b"x", "content_type": "text/plain"}, 415),
        ("GET", "/users/me", {"host": "evil.example"}, 400),
    ],
)
def test_refusals_are_readable_too(
    anyone: Api, allowed: None, method: str, path: str, more: dict[str, Any], status: int
) -> None:
    answer = anyone(method, path, origin=APP, **more)
    assert answer.status_code == status
    assert answer["Access-Control-Allow-Origin"] == APP
    assert "x-request-id" in words(answer["Access-Control-Expose-Headers"])


STRANGERS = [
    "https://evil.example",
    "http://app.example.com",
    "https://app.example.com:8443",
    "https://app.example.com.evil.example",
    "https://evil-app.example.com",
    "https://sub.app.example.com",
    "https://APP.example.com.",
    "null",
    "*",
    "",
    "http://[",
    "app.example.com",
    "\x00",
]


def test_an_origin_that_is_not_listed_gets_nothing(people: People, allowed: None) -> None:
    people.user("Ann")
    own = people.log_in("Ann")
    for origin in STRANGERS:
        assert cors_headers(own("GET", "/users/me", origin=origin)) == set()
        assert cors_headers(preflight(own, origin=origin)) == set()


def test_nobody_is_listed_by_default(anyone: Api) -> None:
    assert cors_headers(preflight(anyone)) == set()
    assert cors_headers(anyone("GET", "/health/live", origin=APP)) == set()


def test_without_an_origin_nothing_is_said(anyone: Api, allowed: None) -> None:
    assert cors_headers(anyone("GET", "/health/live")) == set()


@pytest.mark.xdist_group("production")
def test_the_list_of_the_environment_may_have_spaces(served: Any) -> None:
    for origin in (APP, "https://other.example.com:8443"):
        assert served("GET", "/health/live", origin=origin).headers["Access-Control-Allow-Origin"] == origin
