"""What browsers are told about each answer, the cookies of the pages, and requests that pretend."""

import re
from http.cookies import SimpleCookie
from typing import Any

import pytest
from django.http import HttpResponse

from tests.browser import Browser
from tests.e2e.answers import problem
from tests.e2e.served import Served
from tests.fixtures import PASSWORD, Api, People
from users.api.headers import DATA, DEVELOPERS_PAGE, PAGE

pytestmark = pytest.mark.e2e

HTML = "text/html,application/xhtml+xml,*/*;q=0.8"
ANSWERS: list[tuple[str, str, dict[str, Any], int]] = [
    ("GET", "/health/live", {}, 200),
    ("GET", "/metrics", {}, 200),
    ("GET", "/schema", {}, 200),
    ("GET", "/.well-known/jwks.json", {}, 200),
    ("GET", "/problems/forbidden", {}, 200),
    ("GET", "/docs", {"accept": HTML}, 200),
    ("GET", "/redoc", {"accept": HTML}, 200),
    ("GET", "/account/reset-password", {"accept": HTML}, 200),
    ("GET", "/admin/login/", {}, 200),
    ("GET", "/admin/", {}, 302),
    ("GET", "/static/admin/css/base.css", {}, 200),
    ("GET", "/static/nope.css", {}, 404),
    ("GET", "/users", {}, 401),
    ("GET", "/users", {"accept": HTML}, 401),
    ("POST", "/users", {"raw": b"{"}, 400),
    ("POST", "/users", {"raw": b"x" * 70_000}, 413),
    ("DELETE", "/metrics", {}, 405),
    ("GET", "/nope", {}, 404),
    ("GET", "/users", {"host": "evil.example"}, 400),
    ("OPTIONS", "/users", {"origin": "https://x.example", "access_control_request_method": "PUT"}, 200),
]


def directives(policy: str) -> dict[str, list[str]]:
    return {name: values for name, *values in (each.split() for each in policy.split(";"))}


# --- Headers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "path", "more", "status"), ANSWERS)
def test_every_kind_of_answer_tells_browsers_to_keep_to_it(
    anyone: Api, method: str, path: str, more: dict[str, Any], status: int
) -> None:
    answer = anyone(method, path, **more)
    answer.close()
    assert answer.status_code == status
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["Referrer-Policy"] in {"same-origin", "no-referrer"}
    policy = directives(answer["Content-Security-Policy"])
    policy.setdefault("object-src", policy["default-src"])
    for closed in ("default-src", "object-src", "base-uri", "frame-ancestors"):
        assert policy[closed] == ["'none'"], closed


def test_nothing_in_an_answer_of_the_api_is_ever_run_or_loaded(people: People, anyone: Api) -> None:
    people.user("Ann")
    own = people.log_in("Ann")
    answers = [
        own("GET", "/users/me"),
        own("GET", "/users/me/events"),
        anyone("GET", "/users"),
        own("GET", "/x"),
    ]
    assert {answer["Content-Security-Policy"] for answer in answers} == {DATA}
    assert directives(DATA).keys() == {"default-src", "object-src", "base-uri", "frame-ancestors"}


def test_pages_run_only_scripts_of_our_own(anyone: Api, boss: Browser) -> None:
    for policy in (PAGE, DEVELOPERS_PAGE):
        assert directives(policy)["script-src"] == ["'self'"]
        assert directives(policy)["form-action"] == ["'self'"]
        assert "unsafe-eval" not in policy
    assert "unsafe" not in PAGE
    for page in ("/docs", "/redoc"):
        assert anyone("GET", page, accept=HTML)["Content-Security-Policy"] == DEVELOPERS_PAGE
    for page in ("/admin/", "/admin/users/userrecord/", "/admin/users/webhookendpoint/add/"):
        assert boss.get(page)["Content-Security-Policy"] == PAGE


def test_no_page_needs_what_its_policy_forbids(anyone: Api, boss: Browser) -> None:
    pages: list[HttpResponse] = [anyone("GET", page, accept=HTML) for page in ("/docs", "/redoc")]
    admin_pages = [
        boss.get(page)
        for page in ("/admin/", "/admin/users/userrecord/", "/admin/users/webhookendpoint/add/", "/users/me")
    ]
    for page in pages + admin_pages:
        text = page.content.decode()
        inline = re.findall(r"<script(?![^>]*(?:src=|type=\"application/json\"))[^>]*>", text)
        assert inline == []
        assert re.findall(r"\son\w+=[\"']", text) == []
    for page in admin_pages[:-1]:
        assert re.findall(r"<style|\sstyle=", page.content.decode()) == []


def test_a_script_in_a_name_is_only_a_name(people: People, boss: Browser, anyone: Api) -> None:
    name = "<script>alert('x')</script>"
    body = {"email": "mallory@example.com", "name": name, "password": PASSWORD}
    answer = anyone("POST", "/users", body)
    assert answer.status_code == 201
    assert answer.json()["name"] == name
    assert answer["Content-Type"] == "application/json"
    users = "/admin/users/userrecord/"
    for page in (users, f"{users}{answer.json()['id']}/change/", "/users"):
        shown = boss.client.get(page, headers={"accept": HTML}).content.decode()
        assert "<script>alert" not in shown
        assert "&lt;script&gt;alert" in shown, page


def test_every_page_for_staff_has_a_way_out_and_is_kept_by_no_browser(boss: Browser) -> None:
    for page in ("/admin/", "/admin/users/userrecord/", "/admin/users/webhookendpoint/"):
        shown = boss.get(page)
        assert 'action="/admin/logout/"' in shown.content.decode()
        assert "no-store" in shown["Cache-Control"]


def test_passwords_are_typed_unseen_and_may_be_pasted_or_filled_in(anyone: Api) -> None:
    for page in ("/admin/login/", "/account/reset-password"):
        text = anyone("GET", page, accept=HTML).content.decode()
        fields = [field for field in re.findall(r"<input[^>]*>", text) if "password" in field]
        assert fields
        for field in fields:
            assert 'type="password"' in field
            assert re.search(r'autocomplete="(current|new)-password"', field)
        assert "onpaste" not in text


# --- Over TLS, in production ---------------------------------------------------------------------------


@pytest.mark.xdist_group("production")
def test_browsers_come_back_over_tls_for_a_year_and_to_all_subdomains(served: Served) -> None:
    for path in ("/health/live", "/nope", "/admin/login/"):
        answer = served("GET", path, x_forwarded_proto="https")
        assert answer.headers["Strict-Transport-Security"] == "max-age=31536000; includeSubDomains; preload"
    assert served("GET", "/users").status == 401  # and nobody who calls without is led on, with his token


@pytest.mark.xdist_group("production")
def test_cookies_are_for_this_host_and_for_no_script(served: Served, people: People) -> None:
    people.staff("admin", "Boss")
    page = served("GET", "/admin/login/", x_forwarded_proto="https")
    token = re.search(rb'name="csrfmiddlewaretoken" value="(\w+)"', page.body)
    assert token
    form = f"username=boss@example.com&password={PASSWORD}&csrfmiddlewaretoken={token[1].decode()}"
    answer = served(
        "POST",
        "/admin/login/",
        form.replace(" ", "+").encode(),
        content_type="application/x-www-form-urlencoded",
        cookie=page.headers["Set-Cookie"].partition(";")[0],
        x_forwarded_proto="https",
        referer=f"https://127.0.0.1:{served.port}/admin/login/",
    )
    assert answer.status == 302, answer.body
    cookies: SimpleCookie = SimpleCookie()
    for set_ in answer.headers.get_all("Set-Cookie"):
        cookies.load(set_)
    assert cookies.keys() == {"__Host-sessionid", "__Host-csrftoken"}
    for cookie in cookies.values():
        assert (cookie["secure"], cookie["httponly"], cookie["samesite"]) == (True, True, "Lax")
        assert (cookie["path"], cookie["domain"]) == ("/", "")


@pytest.mark.xdist_group("production")
def test_a_request_is_not_sent_back_to_whoever_traces_it(served: Served) -> None:
    for path in (b"/", b"/users", b"/admin/"):
        answer = served.raw(
            b"TRACE " + path + b" HTTP/1.1\r\nHost: localhost\r\nX-Secret: echo\r\nConnection: close\r\n\r\n"
        )
        assert answer.split()[1] in {b"404", b"405", b"403", b"302"}
        assert b"echo" not in answer


@pytest.mark.xdist_group("production")
def test_one_request_is_never_taken_for_two(served: Served) -> None:
    """Whichever length a proxy in front believes, nobody here answers what is hidden behind the other."""
    hidden = b"GET /users HTTP/1.1\r\nHost: localhost\r\n\r\n"
    both = b"Content-Length: %d\r\nTransfer-Encoding: chunked\r\n" % (5 + len(hidden))
    twice = b"Content-Length: 0\r\nContent-Length: %d\r\n" % len(hidden)
    for lengths, body in ((both, b"0\r\n\r\n"), (twice, hidden), (b"Transfer-Encoding: x\r\n", hidden)):
        head = b"POST /auth/token HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        answer = served.raw(head + lengths + b"Connection: close\r\n\r\n" + body)
        assert answer.count(b"HTTP/1.1") == 1
        assert answer.split()[1] == b"400"


@pytest.mark.xdist_group("production")
def test_no_version_of_anything_is_told(served: Served) -> None:
    for path in ("/health/live", "/nope", "/admin/login/", "/users"):
        answer = served("GET", path)
        assert answer.headers["Server"] == "granian"
        assert "X-Powered-By" not in answer.headers
        assert not re.search(rb"(?i)django[ /]\d|python[ /]\d|postgresql \d", answer.body)


@pytest.mark.xdist_group("production")
@pytest.mark.parametrize(
    "path",
    [
        "/static/",
        "/static/admin/",
        "/.git/config",
        "/static/../manage.py",
        "/static/%2e%2e/manage.py",
        "/static/..%2f..%2fetc/passwd",
        "/.env",
        "/manage.py",
        "/config/settings.py",
    ],
)
def test_files_and_folders_of_the_service_are_not_served(served: Served, path: str) -> None:
    answer = served("GET", path)
    assert (answer.status, answer.json()["error"]) == (404, "not_found")


# --- Requests that pretend ------------------------------------------------------------------------------


def test_a_header_does_not_make_another_method_of_a_request(people: People) -> None:
    people.user("Ann")
    own = people.log_in("Ann")
    for header in ("x_http_method_override", "x_http_method", "x_method_override"):
        answer = own("POST", "/users/me", {"name": "Mallory"}, **{header: "PATCH"})
        problem(answer, "method_not_allowed")
    assert own("GET", "/users/me").json()["name"] == "Ann"


def test_the_host_that_a_proxy_is_said_to_have_seen_is_not_believed(people: People, admin: Api) -> None:
    for number in range(3):
        people.user(f"User{number}")
    headers = {"x_forwarded_host": "evil.example", "forwarded": "host=evil.example", "x_host": "evil.example"}
    answers = [
        admin("GET", "/users?limit=1", **headers),
        admin("POST", "/users", {"email": "bob@example.com", "name": "Bob", "password": PASSWORD}, **headers),
        admin("GET", "/docs", **headers),
        admin("GET", "/admin", **headers),
    ]
    assert answers[0].json()["next"]
    for answer in answers:
        assert "evil.example" not in answer.content.decode() + str(answer.headers)


def test_nobody_is_led_to_another_site(people: People) -> None:
    people.staff("admin", "Chief")
    for target in ("https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)"):
        browser = Browser()
        path = f"/admin/login/?next={target}"
        shown = browser.get(path)
        token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', shown.content.decode())
        assert token
        fields = {"username": "chief@example.com", "password": PASSWORD, "next": target}
        answer = browser.client.post(path, fields | {"csrfmiddlewaretoken": token[1]})
        assert answer.status_code == 302
        assert answer["Location"].startswith("/admin/")


@pytest.mark.parametrize(
    "media_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""]
)
def test_what_a_form_of_another_site_can_send_is_not_taken(anyone: Api, media_type: str) -> None:
    """Browsers ask first (CORS) before they send anything else."""
    body = b'{"email": "ann@example.com", "name": "Ann", "password": "correct horse battery"}'
    for path in ("/users", "/auth/token"):
        answer = anyone("POST", path, raw=body, content_type=media_type)
        problem(answer, "unsupported_media_type")


def test_no_answer_is_wrapped_into_a_call(anyone: Api) -> None:
    answer = anyone("GET", "/.well-known/jwks.json?callback=steal&jsonp=steal")
    assert "steal" not in answer.content.decode()
