"""/health/live and /health/ready."""

from pathlib import Path
from typing import Any

import pytest
from django.db import InterfaceError, OperationalError
from django.db.backends.postgresql.base import DatabaseWrapper
from django.db.migrations.executor import MigrationExecutor

from config import health
from tests.e2e.answers import problem
from tests.e2e.served import Served
from tests.fixtures import Api
from users import wiring


@pytest.fixture(autouse=True)
def unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process that has just begun, which does not know whether the database is migrated."""
    monkeypatch.setattr(health, "_migrated", False)


@pytest.fixture
def no_postgresql(broken: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OperationalError("connection refused")

    broken.setattr(DatabaseWrapper, "cursor", refuse)
    broken.setattr(DatabaseWrapper, "ensure_connection", refuse)


def test_all_is_well(anyone: Api) -> None:
    for _ in range(2):
        answer = anyone("GET", "/health/ready")
        assert answer.status_code == 200
        assert answer["Content-Type"] == "application/json"
        assert answer["Cache-Control"] == "no-store"
        assert answer.json() == {"status": "ok", "checks": {"postgresql": "ok", "redis": "ok"}}


def test_live_says_that_a_thread_answers(anyone: Api) -> None:
    answer = anyone("GET", "/health/live")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


def test_live_does_no_io(
    anyone: Api, no_postgresql: None, no_redis: None, broken: pytest.MonkeyPatch
) -> None:
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("live has nothing to ask")

    broken.setattr(wiring, "service", never)
    broken.setattr(Path, "exists", never)
    broken.setattr(DatabaseWrapper, "cursor", never)
    for headers in ({}, {"authorization": "Bearer x"}, {"cookie": "sessionid=" + "a" * 32}):
        assert anyone("GET", "/health/live", **headers).status_code == 200


def test_without_redis_it_is_degraded_but_ready(anyone: Api, no_redis: None) -> None:
    answer = anyone("GET", "/health/ready")
    assert answer.status_code == 200
    assert answer.json() == {"status": "degraded", "checks": {"postgresql": "ok", "redis": "unavailable"}}


@pytest.mark.parametrize("known", [False, True])
def test_without_postgresql_it_is_not_ready(
    anyone: Api, no_postgresql: None, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    monkeypatch.setattr(health, "_migrated", known)
    assert problem(anyone("GET", "/health/ready"), "unavailable")["checks"] == {"postgresql": "unavailable"}


def test_a_connection_that_broke_is_not_ready_either(anyone: Api, broken: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise InterfaceError("the connection is closed")

    broken.setattr(health, "_migrated", True)
    broken.setattr(DatabaseWrapper, "cursor", refuse)
    assert problem(anyone("GET", "/health/ready"), "unavailable")["checks"] == {"postgresql": "unavailable"}


def test_with_migrations_pending_it_is_not_ready(anyone: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = MigrationExecutor.migration_plan
    monkeypatch.setattr(MigrationExecutor, "migration_plan", lambda *_: [("users", "0002")])
    body = problem(anyone("GET", "/health/ready"), "unavailable")
    assert body["checks"] == {"postgresql": "migrations pending"}
    monkeypatch.setattr(MigrationExecutor, "migration_plan", plan)
    assert anyone("GET", "/health/ready").status_code == 200, "it notices when they have been applied"


def test_while_it_drains_it_is_not_ready_but_serves(anyone: Api, settings: Any, tmp_path: Path) -> None:
    settings.DRAIN_FILE = str(tmp_path / "draining")
    assert anyone("GET", "/health/ready").status_code == 200
    (tmp_path / "draining").touch()
    assert problem(anyone("GET", "/health/ready"), "unavailable")["checks"] == {"draining": "yes"}
    assert anyone("GET", "/health/live").status_code == 200
    assert anyone("GET", "/.well-known/jwks.json").status_code == 200
    (tmp_path / "draining").unlink()
    assert anyone("GET", "/health/ready").status_code == 200


def test_probes_may_name_any_host(anyone: Api) -> None:
    for path in ("/health/live", "/health/ready", "/metrics"):
        assert anyone("GET", path, host="10.0.0.7:8000").status_code == 200


@pytest.mark.xdist_group("production")
def test_the_real_server_is_ready(served: Served) -> None:
    assert served("GET", "/health/ready").json()["status"] == "ok"


# --- What else happens without PostgreSQL --------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/users", {"email": "a@example.com", "name": "Ann", "password": "correct horse"}),
        ("POST", "/auth/token", {"email": "a@example.com", "password": "correct horse"}),
    ],
)
def test_without_postgresql_requests_are_told_to_come_back(
    anyone: Api, no_postgresql: None, method: str, path: str, body: object
) -> None:
    problem(anyone(method, path, body), "unavailable")


def test_without_postgresql_the_other_metrics_are_still_told(anyone: Api, no_postgresql: None) -> None:
    answer = anyone("GET", "/metrics")
    assert answer.status_code == 200
    assert b"user_creations_total" in answer.content
    assert b"user_events_pending" not in answer.content
