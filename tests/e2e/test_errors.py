"""Every refusal is a problem (RFC 9457): ours, DRF's, Django's, at every address and for every method."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.db import DataError, InterfaceError, OperationalError
from django.http import Http404

from tests.e2e.answers import STATUS, problem
from tests.fixtures import PASSWORD, Api, People
from users.api.errors import PROBLEMS
from users.api.views import UserViewSet

NOBODY = "01890000-0000-7000-8000-000000000000"
ADDRESSES = {
    "/users": {"GET", "HEAD", "POST"},
    f"/users/{NOBODY}": {"GET", "HEAD", "PATCH", "DELETE"},
    f"/users/{NOBODY}/sessions": {"GET", "HEAD"},
    f"/users/{NOBODY}/sessions/{NOBODY}": {"DELETE"},
    f"/users/{NOBODY}/export": {"GET", "HEAD"},
    "/auth/token/refresh": {"POST"},
    "/auth/logout-all": {"POST"},
    "/auth/password-reset": {"POST"},
    "/account/verify-email": {"GET", "HEAD"},
    f"/users/{NOBODY}/email": {"PUT"},
    f"/users/{NOBODY}/password": {"PUT"},
    f"/users/{NOBODY}/roles": {"PUT"},
    f"/users/{NOBODY}/block": {"POST"},
    f"/users/{NOBODY}/unblock": {"POST"},
    f"/users/{NOBODY}/events": {"GET", "HEAD"},
    "/events": {"GET", "HEAD"},
    "/auth/token": {"POST"},
    "/.well-known/jwks.json": {"GET", "HEAD"},
    "/problems/forbidden": {"GET", "HEAD"},
    "/health/live": {"GET", "HEAD"},
    "/health/ready": {"GET", "HEAD"},
    "/metrics": {"GET", "HEAD"},
    "/schema": {"GET", "HEAD"},
    "/docs": {"GET", "HEAD"},
    "/redoc": {"GET", "HEAD"},
}
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "X" * 50]


def test_the_codes_are_those_of_the_contract() -> None:
    assert {code: known.status for code, known in PROBLEMS.items()} == STATUS


@pytest.mark.parametrize("path", ADDRESSES)
def test_a_method_that_an_address_does_not_know_is_refused_with_those_that_it_knows(
    anyone: Api, admin: Api, path: str
) -> None:
    for method in METHODS:
        if method not in ADDRESSES[path]:
            for caller in (anyone, admin):
                answer = caller(method, path)
                if method == "HEAD":
                    assert (answer.status_code, answer.content) == (405, b"")
                else:
                    problem(answer, "method_not_allowed")
                assert {name.strip() for name in answer["Allow"].split(",")} - {"OPTIONS"} == ADDRESSES[path]


@pytest.mark.parametrize(
    "path",
    [
        "/nope",
        "/users/",
        "/users/me/",
        "/users/me/nope",
        "/users//block",
        "/USERS",
        "/user",
        "/auth",
        "/auth/",
        "/auth/token/",
        "/events/",
        "/health",
        "/health/",
        "/metrics/",
        "/schema/",
        "/docs/",
        "/.well-known",
        "/.well-known/jwks",
        "/favicon.ico",
        "/robots.txt",
        "/index.html",
        "/users.json",
        "/static/nope.css",
        "/static/",
        "/static/../manage.py",
        "/%00",
        "/%ff%fe",
        "/\x7f",
        "/" + "x" * 8000,
        "/users/me/block/x/y/z",
        "/%2e%2e/etc/passwd",
        "/api/v1/users",
        "/problems/",
        "/problems/nope",
        "/admin%00/",
    ],
)
def test_an_address_where_nothing_is_says_so_as_a_problem(anyone: Api, path: str) -> None:
    for method in ("GET", "POST", "DELETE", "OPTIONS", "TRACE"):
        known = path == "/problems/nope" and method != "GET"
        problem(anyone(method, path, accept="text/html"), "method_not_allowed" if known else "not_found")


@pytest.mark.parametrize(
    "accept", ["text/html", "text/html;q=0.9,*/*", "application/xml", "image/png", "", "x", "*/*;q=0"]
)
def test_whatever_is_accepted_a_problem_is_json(anyone: Api, settings: Any, accept: str) -> None:
    """Pages are for browsers, in development; `text/html` comes first there."""
    for path in ("/nope", "/metrics", "/docs", "/schema"):
        answer = anyone("DELETE", path, accept=accept)
        assert answer["Content-Type"] == "application/problem+json"
    if "html" not in accept:
        problem(anyone("GET", "/users", accept=accept), "missing_token")


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost:99999x", "a b", "[", "localhost@evil", "", "évil", "x" * 300]
)
def test_a_host_that_is_not_ours_is_refused(admin: Api, host: str) -> None:
    for path in ("/users", "/users/me", "/metrics", "/nope"):
        answer = admin.client.get(path, headers={"host": host, "authorization": f"Bearer {admin.token}"})
        if path == "/metrics":
            assert answer.status_code == 200, "scrapers name us by address"
        else:
            problem(answer, "invalid_request")


def test_a_form_of_the_pages_without_its_token_is_a_problem_too(anyone: Api) -> None:
    problem(anyone("POST", "/admin/login/", {}), "forbidden")


@pytest.mark.parametrize(
    "cookie",
    [
        'sessionid="\\000aaaaaaaaaaaaaaa"',
        "sessionid=" + "a" * 5000,
        'sessionid="\\377\\376aaaaaaaaaa"',
        "sessionid=" + ("🍪" * 9).encode().decode("latin-1"),
        'csrftoken="\\000"; sessionid=../../x',
        "messages=nonsense; sessionid=%00%00%00%00%00%00%00%00",
        "=; ;;=x;\x00",
    ],
)
def test_a_cookie_that_is_none_of_ours_does_no_harm(anyone: Api, people: People, cookie: str) -> None:
    people.user("Ann")
    own = people.log_in("Ann")
    problem(anyone("GET", "/users/me", cookie=cookie), "missing_token")
    assert own("GET", "/users/me", cookie=cookie).status_code == 200
    assert anyone("GET", "/admin/", cookie=cookie).status_code == 302


# --- What nobody expected ------------------------------------------------------------------------------


@pytest.fixture
def fault(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Makes every read of one user raise."""

    def install(error: Exception) -> None:
        def retrieve(*_: Any, **__: Any) -> None:
            raise error

        monkeypatch.setattr(UserViewSet, "retrieve", retrieve)

    return install


@pytest.mark.parametrize(
    "error", [RuntimeError("secret"), KeyError("secret"), DataError("secret"), RecursionError("secret")]
)
def test_a_fault_of_ours_is_a_problem_without_particulars(
    people: People, fault: Any, error: Exception
) -> None:
    people.user("Ann")
    own = people.log_in("Ann")
    fault(error)
    answer = own("GET", "/users/me?min_version=1")
    assert "details" not in problem(answer, "internal_error")
    assert b"secret" not in answer.content


@pytest.mark.parametrize("error", [OperationalError("secret"), InterfaceError("secret")])
def test_a_database_that_is_away_is_told_with_a_time_to_come_back(
    people: People, fault: Any, error: Exception
) -> None:
    people.user("Ann")
    own = people.log_in("Ann")
    fault(error)
    answer = own("GET", "/users/me?min_version=1")
    problem(answer, "unavailable")
    assert b"secret" not in answer.content


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Http404("secret"), "not_found"),
        (PermissionDenied("secret"), "forbidden"),
        (SuspiciousOperation("secret"), "invalid_request"),
    ],
)
def test_what_django_raises_is_put_in_our_words(
    people: People, fault: Any, error: Exception, code: str
) -> None:
    people.user("Ann")
    own = people.log_in("Ann")
    fault(error)
    answer = own("GET", "/users/me?min_version=1")
    problem(answer, code)
    assert b"secret" not in answer.content


def test_no_problem_may_be_kept_by_a_cache(anyone: Api) -> None:
    for path in ("/users/me", "/nope"):
        assert anyone("GET", path)["Cache-Control"] == "no-store"
    assert anyone("POST", "/users", {"password": PASSWORD})["Cache-Control"] == "no-store"
