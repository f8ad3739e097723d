"""Health: is the process there (live), and should requests be sent to it (ready)."""

import orjson
from django.db import Error, connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe

from users import wiring
from users.api.errors import problem_response

_migrated = False


@require_safe
def live(request: HttpRequest) -> HttpResponse:
    """200 as long as a thread answers: no I/O, so that a lost database restarts nobody."""
    return _answer("ok")


@require_safe
def ready(request: HttpRequest) -> HttpResponse:
    """503 while the process drains, PostgreSQL is away or migrations are pending; 200, `degraded`, when
    only Redis is away."""
    if wiring.is_draining():
        return _unready({"draining": "yes"})
    checks = {"postgresql": _postgresql()}
    if checks["postgresql"] != "ok":
        return _unready(checks)
    checks["redis"] = "ok" if wiring.service().redis.answers() else "unavailable"
    return _answer("ok" if checks["redis"] == "ok" else "degraded", checks)


def _postgresql() -> str:
    global _migrated  # noqa: PLW0603 - once migrated, a process stays so
    try:
        if not _migrated:
            executor = MigrationExecutor(connection)
            _migrated = not executor.migration_plan(executor.loader.graph.leaf_nodes())
        else:
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1")
    except Error:
        return "unavailable"
    return "ok" if _migrated else "migrations pending"


def _answer(status: str, checks: dict[str, str] | None = None) -> HttpResponse:
    body = {"status": status} | ({"checks": checks} if checks else {})
    response = HttpResponse(orjson.dumps(body), content_type="application/json")
    response["Cache-Control"] = "no-store"
    return response


def _unready(checks: dict[str, str]) -> HttpResponse:
    return problem_response("unavailable", checks=checks)
