"""What tests share that put the same request to Django alone and to what stands in front of it."""

import random
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from django.http import HttpResponse
from django.test.client import ClientHandler

from tests.e2e.answers import UUID7
from tests.fixtures import Api, People
from users import wiring
from users.application.limits import Policy

DJANGO = ClientHandler(enforce_csrf_checks=True)
UNEQUAL = re.compile(r"_created[ {]|_lag_seconds |seconds\w*_(?:sum|bucket)|^process_|^python_")


def ask(
    handler: ClientHandler, method: str, path: str, environ: dict[str, str], body: bytes = b""
) -> HttpResponse:
    api = Api()
    api.client.handler = handler
    return api.client.generic(method, path, body, **environ)


def shown(answer: HttpResponse) -> tuple[int, dict[str, str], bytes]:
    """What a client sees; where it named no request, the id is any, and in pages there is a secret of the
    day."""
    headers = {name.lower(): value for name, value in answer.items()}
    body = answer.content
    if UUID7.fullmatch(headers["x-request-id"]):
        body = body.replace(headers["x-request-id"].encode(), b"(an id)")
        headers["x-request-id"] = "(an id)"
        headers.pop("content-length", None)
    return answer.status_code, headers, b"" if b"csrf" in body else body


def authorizations(dice: random.Random, token: str) -> Iterator[str | None]:
    """This token, shown as it should be, and in all other ways."""
    changed = dice.randrange(len(token))
    yield f"Bearer {token}"
    yield f"bearer {token}"
    yield f" Bearer   {token} "
    yield f"Bearer {token[:changed]}{dice.choice('AQgw.=')}{token[changed + 1 :]}"
    yield f"Bearer {token} {token}"
    yield f"Bearer {token}é"
    yield f"Basic {token}"
    yield "Bearer "
    yield ""
    yield None


def counted(page: bytes) -> Counter[str]:
    """What the metrics page counts, but for how long things took."""
    lines = (line for line in page.decode().splitlines() if not line.startswith("#"))
    pairs = (line.rsplit(" ", 1) for line in lines if not UNEQUAL.search(line))
    return Counter({name: float(value) for name, value in pairs})


def lines_of_requests(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    """The log's, without what differs from request to request."""
    lines = [dict(record.msg) for record in caplog.records if record.name == "users.request"]
    for line in lines:
        for name in ("duration_ms", "request_id", "timestamp"):
            assert line.pop(name)
    return lines


def limited(people: People, settings: Any, monkeypatch: pytest.MonkeyPatch, policy: str, quota: int) -> Api:
    """Ann, an operator, under this limit."""
    people.staff("operator", "Ann")
    token = people.log_in("Ann").token
    settings.RATE_LIMITS = True
    settings.RATE_LIMIT_POLICIES = settings.RATE_LIMIT_POLICIES | {policy: Policy(policy, quota, 3600)}
    monkeypatch.setattr(wiring, "_service", None)
    return Api(token)
