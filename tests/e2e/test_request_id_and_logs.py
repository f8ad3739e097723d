"""X-Request-ID on every answer, and one line of JSON for every request, without personal data."""

import io
import json
import logging
import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import IntegrityError, OperationalError
from psycopg import errors as postgres

from tests.e2e.answers import UUID7
from tests.e2e.served import Served
from tests.fixtures import PASSWORD, Api, People
from users.api.views import UserViewSet

BORING = {"timestamp", "level", "event", "request_id"}
REQUEST_LINE = BORING | {"method", "route", "operation", "status", "duration_ms", "user_id"}


class Log:
    """What the service has written to stdout meanwhile."""

    def __init__(self, stream: io.StringIO) -> None:
        self._stream = stream

    @property
    def text(self) -> str:
        return self._stream.getvalue()

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.splitlines()]

    def of(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self.lines if line["event"] == event]


@pytest.fixture
def log() -> Iterator[Log]:
    (handler,) = (h for h in logging.getLogger().handlers if h.get_name() == "stdout")
    assert isinstance(handler, logging.StreamHandler)
    stream = io.StringIO()
    before = handler.setStream(stream)
    yield Log(stream)
    handler.setStream(before)


# --- X-Request-ID --------------------------------------------------------------------------------------


@pytest.mark.parametrize("inbound", ["a", "A-z_0-9", "x" * 64, "01a20477-9871-72a9-8efe-734ec2637c15"])
def test_a_well_formed_id_is_kept(anyone: Api, inbound: str) -> None:
    for path in ("/health/live", "/users/me", "/nope"):
        answer = anyone("GET", path, x_request_id=inbound)
        assert answer["X-Request-ID"] == inbound
        if answer.status_code >= 400:
            assert answer.json()["request_id"] == inbound


@pytest.mark.parametrize(
    "inbound", ["", " ", "x" * 65, "a b", "a.b", "a\n", "é", "٣", "<script>", '"', "a,b", "\x00"]
)
def test_another_one_is_replaced(anyone: Api, inbound: str) -> None:
    answer = anyone("GET", "/users/me", x_request_id=inbound)
    assert UUID7.fullmatch(answer["X-Request-ID"])
    assert answer.json()["request_id"] == answer["X-Request-ID"]


def test_each_request_gets_its_own(anyone: Api) -> None:
    assert len({anyone("GET", "/health/live")["X-Request-ID"] for _ in range(5)}) == 5


@pytest.mark.parametrize(
    ("method", "path", "more", "status"),
    [
        ("GET", "/health/live", {}, 200),
        ("GET", "/health/ready", {}, 200),
        ("GET", "/metrics", {}, 200),
        ("GET", "/schema", {}, 200),
        ("GET", "/docs", {}, 200),
        ("GET", "/.well-known/jwks.json", {}, 200),
        ("GET", "/static/admin/css/base.css", {}, 200),
        ("GET", "/static/nope.css", {}, 404),
        ("GET", "/admin/", {}, 302),
        ("GET", "/admin/login/", {}, 200),
        ("POST", "/admin/login/", {}, 403),
        ("GET", "/admin", {}, 302),
        ("GET", "/nope", {}, 404),
        ("GET", "/users", {}, 401),
        ("DELETE", "/users", {}, 405),
        ("DELETE", "/metrics", {}, 405),
        ("POST", "/users", {"raw": b"{"}, 400),
        ("POST", "/users", {"raw": b"x" * 70_000}, 413),
        ("POST", "/users", {"raw": b"x", "content_type": "a/b"}, 415),
        ("GET", "/users", {"host": "evil.example"}, 400),
        ("OPTIONS", "/users", {"origin": "https://x.example", "access_control_request_method": "PUT"}, 200),
        ("HEAD", "/health/live", {}, 200),
    ],
)
def test_every_kind_of_answer_has_the_id(
    anyone: Api, method: str, path: str, more: dict[str, Any], status: int
) -> None:
    answer = anyone(method, path, x_request_id="kept-1", **more)
    assert answer.status_code == status
    assert answer["X-Request-ID"] == "kept-1"
    answer.close()


def test_answers_without_content_have_the_id_too(people: People) -> None:
    people.user("Ann")
    own = people.log_in("Ann")
    assert own("GET", "/users/me", if_none_match="*", x_request_id="kept-1")["X-Request-ID"] == "kept-1"
    body = {"current_password": PASSWORD, "new_password": "another battery horse"}
    assert own("PUT", "/users/me/password", body, x_request_id="kept-2")["X-Request-ID"] == "kept-2"


# --- The line of a request -----------------------------------------------------------------------------


def test_a_request_is_one_line_of_json(people: People, admin: Api, log: Log) -> None:
    ann = people.user("Ann")
    boss = admin("GET", "/users/me").json()["id"]
    before = len(log.of("request"))
    admin("POST", f"/users/{ann}/block", {"reason": "spam"}, x_request_id="block-1")
    (line,) = log.of("request")[before:]
    assert set(line) == REQUEST_LINE
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?Z", line["timestamp"])
    assert line["duration_ms"] > 0
    told = {name: line[name] for name in REQUEST_LINE - {"timestamp", "duration_ms"}}
    assert told == {
        "level": "info",
        "event": "request",
        "request_id": "block-1",
        "method": "POST",
        "route": "/users/<str:user_id>/block",
        "operation": "block",
        "status": 200,
        "user_id": boss,
    }


def test_refusals_have_their_line_too(anyone: Api, log: Log) -> None:
    anyone("GET", "/nope?token=secret-in-query")
    anyone("GET", "/secret-in-path@example.com")
    anyone("POST", "/users", raw=b"x" * 70_000)
    anyone("GET", "/users", host="evil.example")
    assert [line["status"] for line in log.of("request")] == [404, 404, 413, 400]
    assert "secret" not in log.text


def test_nothing_personal_is_ever_in_the_log(anyone: Api, people: People, admin: Api, log: Log) -> None:
    """A session as users, staff and attackers have it, the errors included."""
    email, password, name = "grace.hopper@navy.example", "very secret phrase 1", "Grace Brewster Hopper"
    ann = anyone("POST", "/users", {"email": email, "name": name, "password": password}).json()["id"]
    anyone("POST", "/users", {"email": email.upper(), "name": name, "password": password})
    anyone("POST", "/users", {"email": email, "name": "", "password": password, email: password})
    anyone("POST", "/users", {"email": email, "name": name, "password": email})
    anyone("POST", "/users", raw=json.dumps({"email": email, "password": password}).encode()[:-1])
    anyone("POST", "/users", {"email": email, "name": name, "password": password}, idempotency_key=email)
    credentials = {"email": email, "password": password}
    own = Api(anyone("POST", "/auth/token", credentials).json()["access"])
    anyone("POST", "/auth/token", credentials | {"password": password + "!"})
    own("GET", "/users/me")
    own("GET", f"/users/me?email={email}")
    own("PUT", "/users/me/email", {"email": "new." + email, "password": password})
    own("PUT", "/users/me/email", {"email": "new." + email, "password": password + "?"})
    admin("GET", f"/users?email={email}")
    admin("GET", f"/users?q={email}&limit=1")
    admin("GET", f"/users/{email}")
    admin("POST", f"/users/{ann}/block", {"reason": f"asked by {email}"})
    anyone("POST", "/auth/token", credentials | {"email": "new." + email})
    own("GET", "/users/me")
    admin("POST", f"/users/{ann}/unblock")
    own("PUT", "/users/me/password", {"current_password": password, "new_password": password + "2"})
    token = own.token or ""
    Api(token[:-3] + "abc")("GET", "/users/me", cookie=f"sessionid={token}")
    anyone("POST", "/admin/login/", raw=f"username={email}&password={password}".encode())
    assert len(log.of("request")) >= 20
    for secret in (
        "grace",
        "hopper",
        "navy",
        "secret phrase",
        "bcrypt",
        token,
        *token.split("."),
        "Brewster",
    ):
        assert secret.lower() not in log.text.lower(), secret
    assert "@" not in log.text


# --- A fault of ours -----------------------------------------------------------------------------------


def test_a_fault_of_ours_is_logged_with_its_traceback(
    people: People, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    people.user("Ann")
    own = people.log_in("Ann")

    def retrieve(*_: Any, **__: Any) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr(UserViewSet, "retrieve", retrieve)
    answer = own("GET", "/users/me?email=ann@example.com", x_request_id="fault-1", cookie="x=secret")
    assert answer.json()["request_id"] == "fault-1"
    (fault,) = [line for line in log.lines if line["level"] == "error"]
    assert fault["request_id"] == "fault-1"
    assert "RuntimeError: boom" in fault["exception"]
    assert "Traceback" in fault["exception"]
    assert "in retrieve" in fault["exception"]
    (line,) = [line for line in log.of("request") if line["request_id"] == "fault-1"]
    assert (line["status"], line["operation"]) == (500, "retrieve")
    for secret in ("ann@example.com", "secret", own.token or ""):
        assert secret not in log.text


@pytest.mark.parametrize("trouble", [OperationalError("away"), RuntimeError("boom")], ids=repr)
def test_no_trouble_writes_the_raw_path(
    people: People, log: Log, monkeypatch: pytest.MonkeyPatch, trouble: Exception
) -> None:
    people.user("Ann")
    own = people.log_in("Ann")

    def retrieve(*_: Any, **__: Any) -> None:
        raise trouble

    monkeypatch.setattr(UserViewSet, "initial", retrieve)
    assert own("GET", "/users/grace@navy.example").status_code in {500, 503}
    assert own("GET", "/nowhere/grace@navy.example").status_code == 404
    assert "grace" not in log.text


def test_what_postgresql_says_of_a_row_is_not_logged(
    people: People, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its errors quote the offending values."""
    people.user("Ann")
    own = people.log_in("Ann")
    said = 'key "users_email_unique" is violated\nDETAIL:  Key (email)=(ann@example.com) already exists.'

    def retrieve(*_: Any, **__: Any) -> None:
        try:
            raise postgres.UniqueViolation(said)
        except postgres.UniqueViolation as error:
            raise IntegrityError(*error.args) from error

    monkeypatch.setattr(UserViewSet, "retrieve", retrieve)
    assert own("GET", "/users/me?min_version=1").status_code == 500
    assert "UniqueViolation" in log.text
    assert "ann@example.com" not in log.text


# --- As a process --------------------------------------------------------------------------------------


@pytest.mark.xdist_group("production")
def test_the_real_server_writes_nothing_but_json(served: Served) -> None:
    body = {"email": "grace@navy.example", "name": "Grace", "password": PASSWORD}
    assert served("POST", "/users", body, x_request_id="real-1").status == 201
    assert served("POST", "/auth/token", {"email": body["email"], "password": PASSWORD}).status == 200
    assert served("GET", "/nope").headers["X-Request-ID"]
    lines = [json.loads(line) for line in served.log.splitlines()]
    assert all({"timestamp", "level", "event"} <= set(line) for line in lines)
    (line,) = [line for line in lines if line.get("request_id") == "real-1"]
    assert (line["operation"], line["status"]) == ("register", 201)
    assert "navy.example" not in served.log
    assert PASSWORD not in served.log
