"""What people with a browser see of the API: its documentation, and in development the API itself."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from django.http import HttpResponse
from django.test import Client

from config.embedded import PROJECT
from tests.e2e.served import PRODUCTION_ENVIRONMENT, Answer, Served, write_signing_key
from tests.fixtures import PASSWORD, Api, People
from tests.yaml_text import read_yaml
from users.api import schema

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("served")]

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


def test_the_document_is_served_as_json_unless_yaml_is_preferred(anyone: Api) -> None:
    committed = read_yaml((PROJECT / "docs" / "openapi.yaml").read_text())
    for accept, media_type in {
        "": "application/json",
        "*/*": "application/json",
        BROWSER: "application/json",
        "text/csv": "application/json",
        "application/json": "application/json",
        "application/yaml": "application/yaml",
        "application/yaml,*/*;q=0.5": "application/yaml",
        "application/yaml;q=0.5, application/json": "application/json",
    }.items():
        answer = anyone("GET", "/schema", accept=accept)
        assert (answer.status_code, answer["Content-Type"]) == (200, media_type), accept
        assert "Accept" in answer["Vary"]
        assert read_yaml(answer.content) == committed  # JSON is YAML
    assert anyone("POST", "/schema").status_code == 405


def test_the_document_is_made_once(anyone: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    anyone("GET", "/schema")
    monkeypatch.setattr(schema, "SchemaGenerator", None)
    assert anyone("GET", "/schema").status_code == 200


@pytest.mark.parametrize("page", ["/docs", "/redoc"])
def test_a_page_of_the_documentation_needs_nothing_from_elsewhere(anyone: Api, page: str) -> None:
    shown = anyone("GET", page, accept=BROWSER)
    assert shown.status_code == 200
    text = shown.content.decode()
    scripts = re.findall(r'<script src="(/docs[^"]*)"', text)
    assert "/schema" in text + "".join(anyone("GET", script).content.decode() for script in scripts)
    assert "//" not in re.sub(r"(?m)^\s*//.*$", "", text)  # no other host, in whatever attribute or script
    needed = re.findall(r"""(?:src|href)=["']([^"']+)""", text)
    assert needed
    for address in set(needed) - set(scripts):
        assert address.startswith("/static/"), address
        static = anyone("GET", address)
        assert static.status_code == 200, address
        static.close()


def test_the_root_leads_to_the_documentation(anyone: Api) -> None:
    assert anyone("GET", "/")["Location"] == "/docs"


class Person:
    """Somebody with a browser, logged in at the admin pages, who uses the form of a browsable page as its
    JavaScript does."""

    def __init__(self, name: str) -> None:
        self.client = Client(enforce_csrf_checks=True, SERVER_NAME="localhost", raise_request_exception=False)
        login = self.client.get("/admin/login/").content.decode()
        token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', login)
        assert token
        fields = {
            "username": f"{name}@example.com",
            "password": PASSWORD,
            "csrfmiddlewaretoken": token[1],
            "next": "/admin/",
        }
        assert self.client.post("/admin/login/", fields).status_code == 302

    def get(self, path: str) -> HttpResponse:
        return self.client.get(path, headers={"accept": BROWSER})

    def send(self, method: str, path: str, body: Any, *, page: str) -> HttpResponse:
        token = re.search(r'"csrfToken": "(\w+)"', self.get(page).content.decode())
        assert token
        return self.client.generic(
            method,
            path,
            json.dumps(body).encode(),
            content_type="application/json",
            headers={"accept": BROWSER, "x-csrftoken": token[1]},
        )


@pytest.fixture
def person(people: People) -> Person:
    people.staff("admin")
    return Person("Admin")


def read(page: HttpResponse) -> str:
    """What stands on a page, without its tags."""
    return re.sub(r"<[^>]+>", "", page.content.decode()).replace("&quot;", '"')


def test_an_admin_reads_the_api_in_the_browser(person: Person, people: People) -> None:
    known = people.user("Ann")
    for path in ("/users", f"/users/{known}", "/users/me", f"/users/{known}/events", "/events"):
        page = person.get(path)
        assert (page.status_code, page["Content-Type"].partition(";")[0]) == (200, "text/html"), path
        assert "HTTP 200 OK" in read(page)
    assert "ann@example.com" in read(person.get("/users"))


def test_an_admin_writes_through_the_forms_of_the_pages(person: Person, people: People) -> None:
    known = people.user("Ann")
    new = {"email": "bob@example.com", "name": "Bob", "password": "seven green umbrellas"}
    for method, path, body, status in [
        ("POST", "/users", new, 201),
        ("PATCH", f"/users/{known}", {"name": "Ann Miller"}, 200),
        ("PUT", f"/users/{known}/roles", {"roles": ["service"]}, 200),
        ("POST", f"/users/{known}/block", {"reason": "spam"}, 200),
        ("POST", f"/users/{known}/unblock", {}, 200),
    ]:
        form = f'(data-)?method="{method}"'
        assert re.search(form, person.get(path).content.decode()), path
        answer = person.send(method, path, body, page=path)
        assert answer.status_code == status, read(answer)
        assert answer["Content-Type"].startswith("text/html")
    shown = read(person.get(f"/users/{known}"))
    assert '"name": "Ann Miller"' in shown
    assert '"version": 5' in shown


def test_a_page_shows_a_refusal_as_well(person: Person) -> None:
    answer = person.send("POST", "/users/me/block", {"reason": "spam"}, page="/users/me/block")
    assert answer.status_code == 403
    assert "Nobody blocks himself." in read(answer)


def test_a_session_alone_writes_nothing(person: Person) -> None:
    """Some other site could make the browser send this."""
    body = json.dumps({"name": "Mallory"}).encode()
    answer = person.client.generic("PATCH", "/users/me", body, content_type="application/json")
    assert answer.status_code == 403
    assert "Mallory" not in read(person.get("/users/me"))


def test_a_browser_without_a_session_is_nobody(anyone: Api) -> None:
    answer = anyone("GET", "/users", accept=BROWSER)
    assert answer.status_code == 401
    assert "missing_token" in read(answer)


# --- In production ----------------------------------------------------------------------------


def is_problem(answer: Answer, status: int, code: str) -> bool:
    return (answer.status, answer.headers["Content-Type"], answer.json()["error"]) == (
        status,
        "application/problem+json",
        code,
    )


def test_production_has_no_pages_but_the_document(production: Served) -> None:
    for page in ("/docs", "/redoc", "/"):
        assert is_problem(production("GET", page, accept=BROWSER), 404, "not_found"), page
    assert is_problem(production("GET", "/users", accept=BROWSER), 401, "missing_token")
    assert production("GET", "/schema").status == 200


def test_production_takes_no_session_for_the_api(production: Served) -> None:
    assert is_problem(production("GET", "/users", cookie="sessionid=" + "a" * 32), 401, "missing_token")


def test_production_shows_the_documentation_when_told_to(tmp_path: Path) -> None:
    environment = PRODUCTION_ENVIRONMENT | {
        "JWT_SIGNING_KEY_FILE": str(write_signing_key(tmp_path)),
        "LOCAL_DIR": str(tmp_path),
        "STATIC_ROOT": str(tmp_path),
        "API_DOCS": "true",
        "WEB_WORKERS": "1",
        "DRAIN_SECONDS": "0",
    }
    served = Served(tmp_path, **environment)
    try:
        served.until_it_answers()
        assert served("GET", "/docs", accept=BROWSER).status == 200
        assert served("GET", "/redoc", accept=BROWSER).status == 200
        assert is_problem(served("GET", "/users", accept=BROWSER), 401, "missing_token")
    finally:
        served.stop()
