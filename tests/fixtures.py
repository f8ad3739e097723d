"""What tests against Django share: a swept database, people with accounts, a client that speaks for them."""

import json
from collections.abc import Callable, Iterable, Iterator
from io import BytesIO
from typing import Any

import pytest

import tests.environment  # noqa: F401  # isort: skip - before anything of Django's
from django.conf import settings
from django.core.handlers.wsgi import WSGIRequest
from django.core.management import ManagementUtility
from django.db import connection
from django.http import HttpResponse
from django.test import Client
from django.test.client import ClientHandler
from django_redis import get_redis_connection
from redis import Redis as RedisClient

from config.embedded import Redis
from users import wiring
from users.api.front import Front
from users.application.commands import RegisterStaff, RegisterUser
from users.wiring import Service
from users_domain.value_objects import COMMAND_LINE

PASSWORD = "correct horse battery"
TABLES = [
    "django_admin_log",
    "django_session",
    "idempotency",
    "refresh_tokens",
    "sessions",
    "email_changes",
    "mails",
    "mail_position",
    "erasures",
    "webhook_deliveries",
    "webhook_endpoints",
    "relay_position",
    "outbox",
    "users",
]


@pytest.fixture
def exit_code(monkeypatch: pytest.MonkeyPatch) -> Callable[..., object]:
    """Runs a command as from a shell, in this process, and answers how it exits."""
    # Once more, it would lead the log to what pytest has put into the place of stdout for one test.
    monkeypatch.setattr("django.setup", lambda: None)

    def exit_code(*arguments: str) -> object:
        with pytest.raises(SystemExit) as exit_:
            ManagementUtility(["manage.py", *arguments]).execute()
        return exit_.value.code

    return exit_code


@pytest.fixture
def redis(redis_server: Redis | None) -> RedisClient:
    return get_redis_connection("default")


@pytest.fixture
def database(
    django_db_setup: None, django_db_blocker: Any, redis: RedisClient, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Real commits on a real database, swept out afterwards together with Redis."""
    with django_db_blocker.unblock():
        monkeypatch.setattr(wiring, "_service", None)
        redis.flushall()
        yield
        with connection.cursor() as cursor:
            # Thirty times as fast as TRUNCATE, with as few rows as tests leave.
            cursor.execute("; ".join(f"DELETE FROM {table}" for table in TABLES))


@pytest.fixture
def service(database: None) -> Service:
    return wiring.service()


class FrontedHandler(ClientHandler):
    """The test client's way into Django, through what stands in front of it, as every server's."""

    def __init__(self, *, fronted: bool = settings.FAST_READS) -> None:
        super().__init__(enforce_csrf_checks=True)
        self._fronted = fronted
        self.front = Front(self._ask_django)
        self.asked_django = False

    def __call__(self, environ: dict[str, Any]) -> HttpResponse:
        if not self._fronted:
            return super().__call__(environ)
        environ["wsgi.input"] = BytesIO(environ["wsgi.input"].read())  # that can be read as a server's
        answered: dict[str, HttpResponse] = {}

        def start(status: str, headers: list[tuple[str, str]]) -> None:
            answered["response"] = response = HttpResponse(status=int(status[:3]))
            del response["Content-Type"]  # Django's guess
            for name, value in headers:
                response[name] = value

        body = self.front(environ, start)
        self.asked_django = "tests.response" in environ
        if self.asked_django:
            return environ["tests.response"]
        response = answered["response"]
        response.content = b"".join(body)
        response.wsgi_request = WSGIRequest(environ)
        return response

    def _ask_django(self, environ: dict[str, Any], start: Callable[..., object]) -> Iterable[bytes]:
        environ["tests.response"] = response = super().__call__(environ)
        start(f"{response.status_code} {response.reason_phrase}", [*response.items()])
        return ()


class Api:
    """Django's test client, speaking JSON for one caller."""

    # One for all: each would load all middleware again, which takes longer than most tests.
    handler = FrontedHandler()

    def __init__(self, token: str | None = None) -> None:
        self.client = Client(SERVER_NAME="localhost", HTTP_HOST="localhost", raise_request_exception=False)
        self.client.handler = self.handler
        self.token = token

    def __call__(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        raw: bytes | None = None,
        content_type: str = "application/json",
        **headers: str,
    ) -> HttpResponse:
        """`headers` by keyword: `if_match='"1"'`."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.token and "authorization" not in sent:
            sent["authorization"] = f"Bearer {self.token}"
        data = raw if raw is not None else b"" if body is None else json.dumps(body).encode()
        return self.client.generic(method, path, data, content_type=content_type, headers=sent)


@pytest.fixture
def anyone(database: None) -> Api:
    return Api()


class People:
    """Users with a name, a role, or both, and their tokens."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def user(self, name: str = "Ann", password: str = PASSWORD) -> str:
        """A plain user's id; the address is `<name>@example.com` in lower case."""
        command = RegisterUser(email=f"{name}@example.com", name=name, password=password)
        return self._service.commands.register(command).id

    def staff(self, role: str, name: str | None = None) -> str:
        name = name or role.title()
        command = RegisterStaff(
            email=f"{name}@example.com", name=name, password=PASSWORD, roles=(role,), by=COMMAND_LINE
        )
        return self._service.commands.register_staff(command).id

    def log_in(self, name: str, password: str = PASSWORD) -> Api:
        """Whoever has this name, ready to call."""
        answer = Api()("POST", "/auth/token", {"email": f"{name}@example.com", "password": password})
        assert answer.status_code == 200, answer.content
        return Api(answer.json()["access"])


@pytest.fixture
def people(service: Service) -> People:
    return People(service)


@pytest.fixture
def admin(people: People) -> Api:
    people.staff("admin")
    return people.log_in("Admin")


@pytest.fixture
def operator(people: People) -> Api:
    people.staff("operator")
    return people.log_in("Operator")
