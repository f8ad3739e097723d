"""Wapiti and sqlmap against a served process of this machine, for a bounded time: they find nothing.

Modules that look things up elsewhere, or call back from outside, stay off. Either tool is shown a site with
holes as well: a scanner that cannot find any proves nothing."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.browser import Browser
from tests.e2e.served import Served
from tests.fixtures import PASSWORD, People
from tests.soak.conftest import access_token
from tests.soak.vulnerable import vulnerable_site

pytestmark = [pytest.mark.soak, pytest.mark.timeout(2400)]

API_MODULES = (
    "crlf,exec,file,htaccess,http_headers,ldap,methods,permanentxss,redirect,shellshock,sql,timesql,xss"
)
PAGE_MODULES = f"{API_MODULES},backup,cookieflags,csp,csrf,upload"
SECONDS = int(os.environ.get("SCAN_SECONDS", "300"))
ACCEPTED = {"HttpOnly Flag cookie", "Secure Flag cookie", "Secure cookie", "Strict-Transport-Security"}
"""Of development alone, without TLS, where a script of /docs reads the CSRF cookie. Production is held
by tests/e2e/test_security_headers.py."""
Tool = Callable[[str], str]


def wapiti(tool: Tool, folder: Path, *arguments: str) -> dict[str, Any]:
    report = folder / "wapiti.json"
    limits = ["--max-scan-time", str(SECONDS), "--max-attack-time", str(SECONDS // 4), "-t", "10"]
    places = ["--store-session", str(folder / "session"), "--store-config", str(folder / "config")]
    command = [tool("wapiti"), *arguments, *limits, *places, "--flush-session", "--no-bugreport", "-v", "1"]
    ran = subprocess.run(
        [*command, "-f", "json", "-o", str(report)],
        capture_output=True,
        text=True,
        timeout=SECONDS + 600,
        check=False,
        cwd=folder,
    )
    assert report.exists(), ran.stdout[-3000:] + ran.stderr[-3000:]
    found: dict[str, Any] = json.loads(report.read_text())
    return found


def findings(report: dict[str, Any]) -> list[str]:
    return [
        f"{kind}: {each['method']} {each['path']} {each['info']}"
        for group in ("vulnerabilities", "anomalies")
        for kind, listed in report[group].items()
        for each in listed
    ]


def sqlmap(tool: Tool, folder: Path, url: str, *arguments: str) -> str:
    how = [
        "--batch",
        "--level",
        "2",
        "--threads",
        "4",
        "--timeout",
        "10",
        "--retries",
        "0",
        "--flush-session",
    ]
    ran = subprocess.run(
        [tool("sqlmap"), "-u", url, *how, "--disable-coloring", "--output-dir", str(folder), *arguments],
        capture_output=True,
        text=True,
        timeout=SECONDS + 600,
        check=False,
        cwd=folder,
        stdin=subprocess.DEVNULL,
    )
    return ran.stdout + ran.stderr


def injectable(output: str) -> list[str]:
    """What sqlmap stands by; a guess that it takes back itself is none."""
    said = ("is vulnerable", "identified the following injection point")
    return [line for line in output.splitlines() if any(words in line for words in said)]


@pytest.mark.parametrize("scanner", ["wapiti", "sqlmap"])
def test_a_site_with_holes_is_seen_through(tool: Tool, tmp_path: Path, scanner: str) -> None:
    with vulnerable_site() as url:
        if scanner == "wapiti":
            found = findings(wapiti(tool, tmp_path, "-u", url, "-m", "sql,xss"))
            assert any(each.startswith("SQL Injection") for each in found)
            assert any(each.startswith("Reflected Cross Site Scripting") for each in found)
        else:
            assert injectable(sqlmap(tool, tmp_path, url))


def test_wapiti_finds_nothing_in_the_api(tool: Tool, target: Served, people: People, tmp_path: Path) -> None:
    people.staff("admin", "Chief")
    token = access_token(target, "Chief")
    base = f"http://127.0.0.1:{target.port}"
    for number in range(3):
        people.user(f"User{number}")
    starts = [
        f"{base}/users?q=user&email_prefix=u&status=active&role=admin&limit=2",
        f"{base}/users?email=user1@example.com&ids=&created_after=2026-01-01T00:00:00Z",
        f"{base}/users/me?min_version=1",
        f"{base}/users/me/events?limit=1",
        f"{base}/events?after=0&limit=1&types=user.created",
        f"{base}/schema/events",
        f"{base}/docs",
        f"{base}/redoc",
    ]
    said = ["-u", f"{base}/", "-H", f"Authorization: Bearer {token}", "-m", API_MODULES]
    for start in starts:
        said += ["-s", start]
    document = tmp_path / "openapi.json"
    document.write_bytes(target("GET", "/schema").body)
    report = wapiti(tool, tmp_path, *said, "--swagger", str(document))
    print(f"{report['infos'].get('crawled_pages_nbr')} places")
    assert _counted(report) > len(starts)
    assert [each for each in findings(report) if each.partition(":")[0] not in ACCEPTED] == []
    assert '"level": "error"' not in target.log


def test_wapiti_finds_nothing_in_the_pages(
    tool: Tool, target: Served, people: People, boss: Browser, tmp_path: Path
) -> None:
    people.user("Ann")
    base = f"http://127.0.0.1:{target.port}"
    cookies = "; ".join(f"{name}={morsel.value}" for name, morsel in boss.client.cookies.items())
    away = ["-x", f"{base}/admin/logout/", "-x", f"{base}/admin/login/"]
    said = ["-u", f"{base}/admin/", "-C", cookies, "-m", PAGE_MODULES, *away]
    report = wapiti(tool, tmp_path, *said)
    print(f"{report['infos'].get('crawled_pages_nbr')} places")
    assert _counted(report) > 10, "the scanner was not let in"
    assert [each for each in findings(report) if each.partition(":")[0] not in ACCEPTED] == []
    assert '"level": "error"' not in target.log


def _counted(report: dict[str, Any]) -> int:
    return int(report["infos"].get("crawled_pages_nbr") or 0)


BODIES: list[tuple[str, str, dict[str, str]]] = [
    ("POST", "/auth/token", {"email": "ann@example.com", "password": PASSWORD}),
    ("POST", "/auth/password-reset", {"email": "ann@example.com"}),
    ("POST", "/users", {"email": "new@example.com", "name": "Ann", "password": PASSWORD}),
    ("PATCH", "/users/me", {"name": "Ann"}),
    ("POST", "/users/{id}/block", {"reason": "spam", "until": "2030-01-01T00:00:00Z"}),
]
QUERIES = [
    "/users?q=ann&email_prefix=ann&email=ann%40example.com&status=active&role=admin&limit=2",
    "/users?ids={id}&created_after=2026-01-01T00:00:00Z&created_before=2030-01-01T00:00:00Z",
    "/users?cursor=abc",
    "/users/{id}*?min_version=1",
    "/users/{id}*/events?limit=1&cursor=abc",
    "/events?after=0&limit=1&types=user.created&wait=0",
]


@pytest.fixture
def chief(people: People, target: Served) -> str:
    people.staff("admin", "Chief")
    return access_token(target, "Chief")


@pytest.mark.parametrize("query", QUERIES)
def test_sqlmap_finds_no_query_to_inject_into(
    tool: Tool, target: Served, people: People, chief: str, tmp_path: Path, query: str
) -> None:
    url = f"http://127.0.0.1:{target.port}{query.replace('{id}', people.user('Ann'))}"
    output = sqlmap(tool, tmp_path, url, *_postgresql(chief))
    assert "tested parameters do not appear to be injectable" in output, output[-3000:]
    assert injectable(output) == []
    assert '"level": "error"' not in target.log


@pytest.mark.parametrize(("method", "path", "body"), BODIES)
def test_sqlmap_finds_no_body_to_inject_into(
    tool: Tool,
    target: Served,
    people: People,
    chief: str,
    tmp_path: Path,
    method: str,
    path: str,
    body: dict[str, str],
) -> None:
    url = f"http://127.0.0.1:{target.port}{path.replace('{id}', people.user('Ann'))}"
    data = ["--method", method, "--data", json.dumps(body), "-H", "Content-Type: application/json"]
    output = sqlmap(tool, tmp_path, url, *data, *_postgresql(chief))
    assert "tested parameters do not appear to be injectable" in output, output[-3000:]
    assert injectable(output) == []
    assert '"level": "error"' not in target.log


def _postgresql(token: str) -> list[str]:
    """Answers other than 200 are answers, not a reason to stop."""
    codes = ",".join(str(code) for code in range(400, 430))
    said = ["-H", f"Authorization: Bearer {token}", "--dbms", "PostgreSQL", "--ignore-code", codes]
    return [*said, "--skip-heuristics", "--technique", "BEUST"]
