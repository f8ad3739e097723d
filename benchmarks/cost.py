"""What does one request cost, and which part of it how much? `python -m benchmarks.cost`

In one process without a server in front, on a PostgreSQL and a Redis of its own, with the settings of
production: whole requests first, then the parts of a cached read, each by itself and again and again. A part
is cheaper so than within a request, where others have used the processor's caches meanwhile: the parts tell
what is dear, the requests what is true. CPU of this process in microseconds, medians of many batches."""

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import Any

import orjson
from uuid_utils import uuid7

from benchmarks import report, rig

BATCHES, EACH = 60, 25
PERSON = {"email": "ann@example.com", "name": "Ann", "password": "twelve grey elephants"}


def main() -> None:
    rig.end_on_sigterm()
    with rig.running(rig.cores(1)) as stage:
        set_up(stage)
        os.sched_setaffinity(0, stage.cores.server)
        stdout = os.dup(1)
        os.dup2(os.open(stage.folder / "log", os.O_WRONLY | os.O_CREAT), 1)  # where the service's lines go
        try:
            found = [*requests(), *parts()]
        finally:
            os.dup2(stdout, 1)
        where = f"{report.machine()}. {report.our_versions()}."
        rows = [[name, f"{each:.1f}"] for name, each in found]
        report.publish(
            "cost", where, report.table(["", "µs of CPU"], rows), write="--no-write" not in sys.argv
        )


def set_up(stage: rig.Rig) -> None:
    os.environ |= rig.as_in_production(stage) | {
        "STATIC_ROOT": str(stage.folder),
        "BCRYPT_COST": "10",
        "PROMETHEUS_MULTIPROC_DIR": tempfile.mkdtemp(dir=stage.folder),
    }
    rig.run([sys.executable, "-m", "config.role", "migrate"], {**os.environ})


def ask(method: str, path: str, body: object = None, token: str = "", query: str = "") -> bytes:
    """As a server asks the application."""
    from config.wsgi import application

    content = b"" if body is None else orjson.dumps(body)
    environ: dict[str, Any] = {
        "REQUEST_METHOD": method,
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "80",
        "HTTP_HOST": "127.0.0.1",
        "REMOTE_ADDR": "127.0.0.1",
        "wsgi.url_scheme": "http",
        "wsgi.input": BytesIO(content),
        "CONTENT_LENGTH": str(len(content)),
        "CONTENT_TYPE": "application/json",
    }
    if token:
        environ["HTTP_AUTHORIZATION"] = f"Bearer {token}"
    answer = application(environ, lambda *_: None)
    said = b"".join(answer)
    getattr(answer, "close", lambda: None)()
    return said


def cost(act: Callable[[], object]) -> float:
    for _ in range(EACH * 4):
        act()
    taken = []
    for _ in range(BATCHES):
        began = time.process_time()
        for _ in range(EACH):
            act()
        taken.append((time.process_time() - began) / EACH * 1e6)
    return statistics.median(taken)


def requests() -> Iterator[tuple[str, float]]:
    token, other = people()
    yield "`GET /users/me`, in the cache", cost(lambda: ask("GET", "/users/me", token=token))
    by_django = cost(lambda: ask("GET", "/users/me", token=token, query="min_version=1"))
    yield "the same through Django (`?min_version=1`)", by_django
    yield "`GET /users/{id}`, not in the cache", cost(lambda: missed(other, token))
    yield "`PATCH /users/{id}`, and its event in the stream", cost(lambda: renamed(other, token))
    yield "a block and an unblock, each with its event in the stream", cost(lambda: blocked(other, token))
    by_django = cost(lambda: blocked(other, token, query="by=django"))
    yield "the same two through Django (with a query string)", by_django
    yield "`GET /users?limit=10`", cost(lambda: ask("GET", "/users", token=token, query="limit=10"))
    yield "`GET /health/live`: Django and the middlewares alone", cost(lambda: ask("GET", "/health/live"))


def people() -> tuple[str, str]:
    """An admin's token, and somebody's id."""
    ask("GET", "/health/live")  # sets Django up
    from users import wiring
    from users.application.commands import RegisterStaff
    from users_domain.value_objects import COMMAND_LINE

    boss = PERSON | {"email": "boss@example.com"}
    wiring.service().commands.register_staff(RegisterStaff(**boss, roles=("admin",), by=COMMAND_LINE))
    somebody = orjson.loads(ask("POST", "/users", PERSON))["id"]
    credentials = {name: boss[name] for name in ("email", "password")}
    return orjson.loads(ask("POST", "/auth/token", credentials))["access"], somebody


def missed(user_id: str, token: str) -> None:
    from users import wiring

    wiring.service().cache.forget(user_id)
    ask("GET", f"/users/{user_id}", token=token)


def renamed(user_id: str, token: str) -> None:
    ask("PATCH", f"/users/{user_id}", {"name": f"Ann {time.monotonic_ns()}"}, token)


def blocked(user_id: str, token: str, query: str = "") -> None:
    """And unblocked, or he could be blocked only once."""
    ask("POST", f"/users/{user_id}/block", {"reason": "spam"}, token, query)
    ask("POST", f"/users/{user_id}/unblock", None, token, query)


def parts() -> Iterator[tuple[str, float]]:
    from users import wiring
    from users.api import observation, request_metrics
    from users.api.authentication import look_up, recognise
    from users.infrastructure.reads import DatabaseReads

    service = wiring.service()
    credentials = {name: PERSON[name] for name in ("email", "password")}
    raw = orjson.loads(ask("POST", "/auth/token", credentials))["access"].encode()
    bearer = service.tokens.bearer(raw)
    shown = look_up(raw, "me")
    seen = recognise(shown).caller.seen[bearer.user_id]
    kind = request_metrics.Kind("GET", "user", True, 200, "http", "utf-8", "None")
    figures = request_metrics.Figures(kind, 0, 300)
    exchange = observation.Exchange("GET", "/users/<str:user_id>", "retrieve", 200, bearer.user_id, figures)
    observed = observation.Observed(exchange, str(uuid7()), time.time(), 0.001, 0.001, 0.00001)
    yield "verifying a token (ES256)", cost(lambda: service.tokens.read(raw))
    yield "one that is remembered", cost(lambda: service.tokens.bearer(raw))
    yield (
        "the round trip to Redis, and taking the entry apart",
        cost(lambda: service.cache.peek([bearer.user_id])),
    )
    yield "these two together, as for every read", cost(lambda: look_up(raw, "me"))
    yield "judging anew who calls", cost(lambda: recognise(shown))
    yield "the query, from what was seen", cost(lambda: service.queries.get(bearer.user_id, seen=seen))
    yield "the row by a prepared statement, as ready JSON", cost(lambda: DatabaseReads().view(bearer.user_id))
    yield "the log's line and the metrics, by themselves", cost(lambda: observation.observe(observed))
    yield "the same among many", cost(lambda: observation.observe_later(observed))


if __name__ == "__main__":
    main()
