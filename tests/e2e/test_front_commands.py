"""Blocks and unblocks in front of Django: answered, recorded, counted and logged as Django does it, and never
done twice."""

import random
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from io import BytesIO
from typing import Any

import orjson
import pytest
import structlog
from django.db import OperationalError, connection
from django.db.models import Sum
from django.http import HttpResponse
from django.test.client import ClientHandler
from redis import Redis as RedisClient
from structlog.contextvars import bound_contextvars

from config.wsgi import _guarded
from tests.e2e.answers import TIME, problem, user
from tests.e2e.both_ways import ask, authorizations, counted, limited, lines_of_requests, shown
from tests.fixtures import Api, FrontedHandler, People
from tests.together import together
from users import wiring
from users.api import front as front_module
from users.api import limits, plain_commands, plain_requests, user_commands
from users.api.authentication import MET
from users.api.front import Front
from users.api.middleware import wanted_id
from users.application.commands import BlockUser, UserCommands
from users.application.privacy import EraseUser
from users.infrastructure import metrics
from users.models import OutboxEvent, UserRecord
from users_domain.errors import UserNotFound
from users_domain.value_objects import COMMAND_LINE

ROUNDS = 1500
SEEDS = 3
NOBODY = "01900000-0000-7000-8000-000000000000"
SPAM = b'{"reason":"spam"}'
JSON = "application/json"
KEPT = (
    "status",
    "block_reason",
    "blocked_until",
    "blocked_by",
    "token_version",
    "ended_sessions",
    "version",
)

Sent = tuple[str, str, dict[str, str], bytes]


def told(answer: HttpResponse) -> tuple[int, dict[str, str], bytes]:
    """What a client sees, at whatever time."""
    status, headers, body = shown(answer)
    return status, headers, re.sub(TIME.pattern.encode(), b"(a time)", body)


class World:
    """Users of all kinds, each a target of some and a caller with tokens good and bad; it can be put back to
    what it was."""

    def __init__(self, people: People, service: wiring.Service, redis: RedisClient) -> None:
        self._redis = redis
        self.ids = {name: people.staff(name.lower()) for name in ("Admin", "Operator", "Service")}
        self.ids |= {name: people.staff("admin", name) for name in ("Ada", "Eve")}
        self.ids |= {name: people.staff("operator", name) for name in ("Olga", "Otto")}
        self.ids |= {name: people.user(name) for name in ("Ann", "Bob", "Bea", "Cid", "Dan", "Fay")}
        self.tokens = {name: str(people.log_in(name).token) for name in self.ids}
        for name in ("Bob", "Bea", "Otto", "Eve"):
            service.commands.block(BlockUser(user_id=self.ids[name], reason="spam", by=COMMAND_LINE))
        past = datetime.now(UTC) - timedelta(hours=1)
        UserRecord.objects.filter(name="Bea").update(blocked_at=past, blocked_until=past)
        service.privacy.erase(EraseUser(user_id=self.ids["Cid"], by=COMMAND_LINE))
        Api(self.tokens["Dan"])("POST", "/auth/logout-all", {})
        self.forget()
        self._rows = {row["id"]: row for row in UserRecord.objects.values()}
        self._versions = sum(row["version"] for row in self._rows.values())
        self._last = OutboxEvent.objects.latest("id").id

    def happened(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """The users who changed, and the events; undone again."""
        recorded = list(OutboxEvent.objects.filter(id__gt=self._last).order_by("id"))
        versions = UserRecord.objects.aggregate(Sum("version"))["version__sum"]
        if not recorded and versions == self._versions:
            return [], []
        rows = UserRecord.objects.order_by("id").values("id", *KEPT)
        changed = [row for row in rows if row["version"] != self._rows[row["id"]]["version"]]
        for row in changed:
            UserRecord.objects.filter(id=row["id"]).update(**self._rows[row["id"]])
            self._redis.delete(f"user:{{{row['id']}}}")
        OutboxEvent.objects.filter(id__gt=self._last).delete()
        return changed, [
            {
                "type": event.event_type,
                "user": (event.user_id, event.user_version),
                "actor": event.actor_id,
                "request": event.request_id,
                "data": event.data
                | dict.fromkeys(event.data.keys() & {"blocked_at", "unblocked_at"}, "then"),
            }
            for event in recorded
        ]

    def forget(self) -> None:
        """All users, in the cache; the stream remains."""
        self._redis.delete("limit:none", *self._redis.keys("user:*"))


class Ways:
    """Puts a request to the front and to Django alone, from the same state."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.fronted = FrontedHandler(fronted=True)
        self.django = FrontedHandler(fronted=False)
        self.answered: Counter[int] = Counter()
        self.met: Counter[int] = Counter()
        for transport in ({}, {"wsgi.url_scheme": "https"}):
            for name, operation in (("Fay", "block"), ("Otto", "unblock")):
                path = f"/users/{world.ids[name]}/{operation}"
                self("POST", path, self.by("Admin") | transport, SPAM if operation == "block" else b"")
        self.answered.clear()

    def by(self, name: str) -> dict[str, str]:
        return {"HTTP_AUTHORIZATION": f"Bearer {self.world.tokens[name]}", "CONTENT_TYPE": JSON}

    def __call__(
        self, method: str, path: str, sent: dict[str, str], body: bytes = b"", *, forgotten: bool = False
    ) -> HttpResponse:
        results = []
        for handler in (self.fronted, self.django):
            if forgotten:
                self.world.forget()
            answer = ask(handler, method, path, sent, body)
            changed, events = self.world.happened()
            assert all(event["request"] == answer["X-Request-ID"] for event in events)
            if wanted_id(sent) is None:
                for event in events:
                    del event["request"]
            results.append((told(answer), changed, events))
            if handler is self.fronted:
                self._count(answer, len(events))
        assert results[0] == results[1], (method, path, sent, body)
        return answer

    def _count(self, answer: HttpResponse, events: int) -> None:
        assert bool(events) == (answer.status_code == 200)
        if not self.fronted.asked_django:
            self.answered[answer.status_code] += 1
        elif MET in answer.wsgi_request.META:
            self.met[answer.status_code] += 1


@pytest.fixture
def world(people: People, service: wiring.Service, redis: RedisClient) -> World:
    return World(people, service, redis)


@pytest.fixture
def ways(world: World) -> Ways:
    return Ways(world)


def reasons(**more: Any) -> bytes:
    return orjson.dumps({"reason": "spam"} | more)


SOON = datetime.now(UTC) + timedelta(days=1)
GOOD_BODIES = [
    SPAM,
    b' {"reason": "\\u0441\\u043f\\u0430\\u043c\\r\\n and more "} ',
    '{"reason": "спам"}'.encode(),
    reasons(until=None),
    reasons(until=SOON.strftime("%Y-%m-%dT%H:%M:%SZ")),
    reasons(until=SOON.strftime("%Y-%m-%d %H:%M:%S.123456789+03:30")),
    reasons(reason="x" * 500),
    SPAM + b" " * (65_536 - len(SPAM)),
]
BAD_BODIES = [
    *(reasons(until=until) for until in ("2001-01-31T09:30:00Z", "2999-01-31T09:30:00", "soon", 17, "", [])),
    *(reasons(until=until) for until in ("9999-12-31T23:59:59-23:59", "2999-02-30T00:00:00Z")),
    *(reasons(reason=reason) for reason in ("x" * 501, "", "  ", "a\x07b", 17, None, True, ["spam"], {})),
    reasons(colour="red"),
    b'{"reason":"spam","reason":"ham"}',
    b'{"reason":"a\\u0000b"}',
    b'{"reason":"a\\ud800b"}',
    b'{"reason":NaN}',
    b'{"reason":1e999}',
    b'{"reason":' + b"1" * 5000 + b"}",
    b'{"reason":' + b"[" * 30 + b"]" * 30 + b"}",
    b"[" * 30_000,
    b'{"reason":"\xff"}',
    b"\xef\xbb\xbf" + SPAM,
    b"",
    b" ",
    b"{}",
    b"{",
    b"[]",
    b"null",
    b'"spam"',
    b"17",
    b"reason=spam",
    SPAM + b" " * 65_536,
    b"{" * 70_000,
]
TAGS = [
    '"1"',
    '"2"',
    '"3"',
    'W/"2"',
    '"1", "2"',
    "*",
    " * ",
    '"0"',
    "1",
    '"',
    '"1" x',
    '"01"',
    "",
    '"99999999999"',
]
PLAIN = {"HTTP_ACCEPT": ["*/*", JSON], "HTTP_X_REQUEST_ID": ["abc", "not allowed!", ""]}
ODD: dict[str, list[str]] = {
    "HTTP_ACCEPT": ["text/html", "application/xml", "", "*/*;q=0"],
    "HTTP_ORIGIN": ["https://app.example.com", "null"],
    "HTTP_COOKIE": ["a=b", "sessionid=x"],
    "HTTP_HOST": ["localhost:8000", "127.0.0.1", "evil.example.com", "local host", "a.localhost"],
    "HTTP_TRANSFER_ENCODING": ["chunked"],
    "HTTP_IF_NONE_MATCH": ['"1"', "*"],
    "HTTP_IDEMPOTENCY_KEY": ["abc"],
    "HTTP_X_HTTP_METHOD_OVERRIDE": ["DELETE"],
    "HTTP_X_REQUESTED_WITH": ["XMLHttpRequest"],
    "wsgi.url_scheme": ["https"],
    "CONTENT_TYPE": [
        "",
        "application/json; charset=utf-8",
        "application/json;charset=utf-8",
        "application/json; charset=latin-1",
        "Application/JSON",
        "application/problem+json",
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "multipart/form-data; boundary=x",
    ],
    "CONTENT_LENGTH": ["0", "", "-1", "x", "70000"],
    "QUERY_STRING": ["a=b", "min_version=1", "%ff"],
}


def a_path(dice: random.Random, world: World) -> str:
    operation = dice.choice(["block", "unblock"])
    likely = ["Ann", "Bea", "Fay"] if operation == "block" else ["Bob", "Bea"]
    target = world.ids[dice.choice(likely if dice.random() < 0.6 else sorted(world.ids))]
    usual = [f"/users/{target}/{operation}"] * 60
    odd = ["me", target.upper(), target[:-1], NOBODY, "17", "%00", "é", "", f"{target}/"]
    more = [f"/users/{named}/{operation}" for named in odd]
    return dice.choice(
        [*usual, *more, f"/users/{target}/Block", f"/users/{target}/block/", f"//users/{target}/block"]
    )


def a_request(dice: random.Random, world: World) -> Sent:
    """Mostly plain, and odd in one or two respects at times."""
    caller = dice.choice(["Admin"] * 10 + ["Operator"] * 10 + sorted(world.ids))
    forms = list(authorizations(dice, world.tokens[caller]))
    authorization = forms[0] if dice.random() < 0.85 else dice.choice(forms)
    sent = {"CONTENT_TYPE": JSON} | ({} if authorization is None else {"HTTP_AUTHORIZATION": authorization})
    if dice.random() < 0.1:
        sent["HTTP_IF_MATCH"] = dice.choice(TAGS)
    for choice, chance in ((PLAIN, 0.3), (ODD, 0.25)):
        if dice.random() < chance:
            name = dice.choice(sorted(choice))
            sent[name] = dice.choice(choice[name])
    method = (
        "POST" if dice.random() < 0.95 else dice.choice(["GET", "HEAD", "PUT", "OPTIONS", "post", "DELETE"])
    )
    path = a_path(dice, world)
    if path.endswith("/unblock"):
        body = b"" if dice.random() < 0.7 else dice.choice([b"{}", b" {} ", SPAM, *BAD_BODIES])
    else:
        body = dice.choice(GOOD_BODIES if dice.random() < 0.7 else BAD_BODIES)
    return method, path, sent, body


@pytest.mark.parametrize("seed", range(SEEDS))
def test_it_does_as_django_does(ways: Ways, seed: int) -> None:
    dice = random.Random(seed)
    for _ in range(ROUNDS // SEEDS):
        ways(*a_request(dice, ways.world), forgotten=dice.random() < 0.1)

    assert ways.answered.keys() == {200}
    assert ways.answered[200] > ROUNDS / SEEDS / 12
    assert ways.met.keys() >= {400, 401, 403, 404, 409, 412}
    assert ways.met.total() > ROUNDS / SEEDS / 3


def test_it_does_as_django_does_without_redis(ways: Ways, no_redis: None) -> None:
    for name, operation in (("Fay", "block"), ("Bob", "block"), ("Bob", "unblock"), ("Ada", "unblock")):
        for caller in ("Admin", "Operator", "Ann", "Dan"):
            body = SPAM if operation == "block" else b""
            ways("POST", f"/users/{ways.world.ids[name]}/{operation}", ways.by(caller), body)
    assert ways.answered[200]


def test_it_wants_a_version_where_django_does(ways: Ways, settings: Any) -> None:
    settings.REQUIRE_IF_MATCH = True
    path = f"/users/{ways.world.ids['Fay']}/block"
    problem(ways("POST", path, ways.by("Admin"), SPAM), "precondition_required")
    assert ways("POST", path, ways.by("Admin") | {"HTTP_IF_MATCH": '"1"'}, SPAM).status_code == 200
    assert (ways.met[428], ways.answered[200]) == (1, 1)


def said(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str, Any]]:
    """All lines but those of requests, without the requests' ids."""
    return [
        (record.name, record.levelname, record.msg["event"] if isinstance(record.msg, dict) else record.msg)
        for record in caplog.records
        if record.name != "users.request"
    ]


def what_is_kept(
    ways: Ways, handler: ClientHandler, asked: list[Sent], caplog: pytest.LogCaptureFixture
) -> tuple[Any, ...]:
    """What the metrics count and the log says of these requests."""
    caplog.clear()
    ways.world.forget()
    before = counted(metrics.page())
    for method, path, sent, body in asked:
        ask(handler, method, path, sent, body)
        ways.world.happened()
    added = counted(metrics.page()) - before
    for name in [*added]:
        if name.startswith(("user_events_", "user_relay_")):  # of events that were undone meanwhile
            del added[name]
    return added, lines_of_requests(caplog), said(caplog)


def test_it_counts_and_logs_what_django_would(ways: Ways, caplog: pytest.LogCaptureFixture) -> None:
    ids = ways.world.ids
    by = {name: ways.by(name) for name in ("Admin", "Operator", "Ann", "Dan")}
    asked: list[Sent] = [
        ("POST", f"/users/{named}/{operation}", by[caller] | more, body)
        for named in (ids["Fay"], ids["Bob"], ids["Ada"], NOBODY, "me", "17")
        for operation, bodies in (("block", [SPAM, b"{}", b"{"]), ("unblock", [b"", SPAM]))
        for body in bodies
        for caller in by
        for more in ({}, {"HTTP_X_REQUESTED_WITH": "XMLHttpRequest"}, {"wsgi.url_scheme": "https"})
    ]
    ours, theirs = (what_is_kept(ways, handler, asked, caplog) for handler in (ways.fronted, ways.django))
    for one, other in zip(ours, theirs, strict=True):
        assert one == other
    counts, lines, _ = ours
    assert len(lines) == len(asked)
    done = sum(line["status"] == 200 for line in lines)
    timed = 'user_command_duration_seconds_count{{operation="{}",status="success"}}'
    assert counts[timed.format("block")] + counts[timed.format("unblock")] == done > 4


class Commanded:
    """Blocks that were begun, each with the id that its events would bear."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, error: Exception | None = None) -> None:
        self.ids: list[str] = []
        real = UserCommands.block

        def block(commands: UserCommands, command: BlockUser) -> Any:
            self.ids.append(structlog.contextvars.get_contextvars()["request_id"])
            if error is not None:
                raise error
            return real(commands, command)

        monkeypatch.setattr(UserCommands, "block", block)


class Falsy(Exception):
    def __bool__(self) -> bool:
        return False


FAULTS = [ZeroDivisionError(), Falsy(), AttributeError(), OperationalError(), UserNotFound()]
CODES = {OperationalError: "unavailable", UserNotFound: "user_not_found"}


@pytest.mark.parametrize("error", FAULTS, ids=lambda error: type(error).__name__)
def test_what_a_command_raises_is_told_by_django_and_not_tried_again(
    ways: Ways, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    commanded = Commanded(monkeypatch, error)
    sent = ways.by("Admin") | {"HTTP_X_REQUEST_ID": "abc"}
    results, path = [], f"/users/{ways.world.ids['Fay']}/block"
    for handler in (ways.fronted, ways.django):
        caplog.clear()
        before = counted(metrics.page())
        answer = ask(handler, "POST", path, sent, SPAM)
        added = counted(metrics.page()) - before
        results.append((told(answer), added, lines_of_requests(caplog), said(caplog)))
    for one, other in zip(*results, strict=True):
        assert one == other
    assert MET in ask(ways.fronted, "POST", path, sent, SPAM).wsgi_request.META
    assert commanded.ids == ["abc"] * 3
    assert ways.world.happened() == ([], [])


@pytest.mark.parametrize("error", FAULTS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("where", ["the answer", "the end"])
def test_a_command_whose_answer_fails_was_carried_out_once(
    ways: Ways, monkeypatch: pytest.MonkeyPatch, where: str, error: Exception
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise error

    @contextmanager
    def fails_at_its_end(**names: str) -> Iterator[None]:
        with bound_contextvars(**names):
            yield
        raise error

    if where == "the end":
        monkeypatch.setattr(plain_commands, "bound_contextvars", fails_at_its_end)
    else:
        monkeypatch.setattr(plain_requests.Copied, "answer", fails)
    commanded = Commanded(monkeypatch)
    answer = ask(ways.fronted, "POST", f"/users/{ways.world.ids['Fay']}/block", ways.by("Admin"), SPAM)
    problem(answer, CODES.get(type(error), "internal_error"))
    assert len(commanded.ids) == 1
    changed, events = ways.world.happened()
    assert [row["status"] for row in changed] == ["blocked"]
    assert [event["type"] for event in events] == ["user.blocked"]


@pytest.mark.parametrize("error", FAULTS, ids=lambda error: type(error).__name__)
def test_what_fails_before_a_command_has_it_not_carried_out_at_all(
    ways: Ways, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(plain_commands, "look_up", fails)
    commanded = Commanded(monkeypatch)
    answer = ask(ways.fronted, "POST", f"/users/{ways.world.ids['Fay']}/block", ways.by("Admin"), SPAM)
    problem(answer, CODES.get(type(error), "internal_error"))
    assert commanded.ids == []
    assert ways.world.happened() == ([], [])


@pytest.mark.parametrize("where", ["start_response", "observe_later", "settle"])
def test_a_server_that_takes_no_answer_has_django_do_nothing(
    ways: Ways, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    front, commanded = ways.fronted.front, Commanded(monkeypatch)
    monkeypatch.setattr(front, "_django", lambda *_: pytest.fail("Django was asked"))
    if where != "start_response":
        monkeypatch.setattr(front_module, where, fails)
    environ = as_a_server(f"/users/{ways.world.ids['Fay']}/block", ways.by("Admin"), SPAM)
    with pytest.raises(ZeroDivisionError):
        front(environ, fails if where == "start_response" else lambda *_: None)
    assert len(commanded.ids) == 1
    assert len(ways.world.happened()[1]) == 1
    assert not front._under_way


class ReadOnce(BytesIO):
    """A body as it comes over the network."""

    def read(self, size: int | None = -1, /) -> bytes:
        content = super().read(size)
        self.close()
        return content


def as_a_server(path: str, sent: dict[str, str], body: bytes) -> dict[str, Any]:
    return {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": path,
        "QUERY_STRING": "",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": "localhost",
        "REMOTE_ADDR": "127.0.0.1",
        "wsgi.url_scheme": "http",
        "wsgi.input": ReadOnce(body),
        "CONTENT_LENGTH": str(len(body)),
    } | sent


def test_a_body_that_can_be_read_once_is_read_by_whoever_needs_it(world: World) -> None:
    by = {"HTTP_AUTHORIZATION": f"Bearer {world.tokens['Admin']}", "CONTENT_TYPE": JSON}
    path = f"/users/{world.ids['Fay']}"
    asked = [(f"{path}/block", body) for body in (SPAM, SPAM, b'{"reason":1}')]
    asked += [(f"{path}/unblock", body) for body in (b"{}", b"{}", b'{"a":1}')]
    front, statuses = Front(_guarded), []

    def posted(where: str, sent: dict[str, str], body: bytes) -> bool:
        answer = front(as_a_server(where, sent, body), lambda status, *_: statuses.append(status))
        assert b"".join(answer)
        getattr(answer, "close", lambda: None)()
        return isinstance(answer, list)

    answered_in_front = [posted(where, by, body) for _ in range(2) for where, body in asked]
    assert [status[:3] for status in statuses] == ["200", "409", "400", "200", "409", "400"] * 2
    assert answered_in_front == [False] * 6 + [True, False, False] * 2

    statuses.clear()
    believed = by | {"CONTENT_LENGTH": "17"}  # by a server that does not count
    posted(f"{path}/block", believed, SPAM + b" " * 70_000)
    assert statuses == ["413 Request Entity Too Large"]


def test_a_request_uses_up_one_of_its_callers_limit_whoever_answers(
    people: People, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    bob = people.user("Bob")
    ann = limited(people, settings, monkeypatch, "caller", 7)
    ann.client.handler = FrontedHandler(fronted=True)
    remaining = []
    for operation, body in (
        ("block", {"reason": "spam"}),
        ("unblock", None),
        ("block", {"reason": "spam"}),
        ("block", {"reason": "spam"}),
        ("block", {"reason": 1}),
        ("unblock", None),
        ("unblock", {}),
    ):
        remaining.append(
            re.search(r'"caller";r=(\d)', ann("POST", f"/users/{bob}/{operation}", body)["RateLimit"])[1]
        )
    assert remaining == ["6", "5", "4", "3", "2", "1", "0"]
    before = counted(metrics.page())
    refused = ann("POST", f"/users/{bob}/block", {"reason": "spam"})
    assert int(refused["Retry-After"]) > 0
    problem(refused, "rate_limited")
    assert (counted(metrics.page()) - before)['user_rate_limited_total{policy="caller"}'] == 1
    assert UserRecord.objects.get(id=bob).version == 5


def test_blocks_and_unblocks_have_no_limits_that_the_front_would_have_to_hold() -> None:
    assert limits.LIMITS.keys().isdisjoint(user_commands.BLOCKING)


def test_a_connection_that_has_had_its_time_is_not_used(ways: Ways) -> None:
    def backend() -> int:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            return int(cursor.fetchone()[0])

    before, connection.close_at = backend(), 0
    try:
        assert (
            ways("POST", f"/users/{ways.world.ids['Fay']}/block", ways.by("Admin"), SPAM).status_code == 200
        )
        assert ways.answered[200] == 1
        assert backend() != before
    finally:
        connection.close_at = None


def test_of_many_who_block_one_user_at_once_one_does(people: People) -> None:
    people.staff("admin")
    token, handler = people.log_in("Admin").token, FrontedHandler(fronted=True)

    def block(user_id: str) -> HttpResponse:
        api = Api(token)
        api.client.handler = handler
        return api("POST", f"/users/{user_id}/block", {"reason": "spam"})

    user(block(people.user("Ann")))  # which is Django's
    for name in ("Bob", "Cid", "Dan"):
        user_id = people.user(name)
        answers: list[HttpResponse] = together([lambda user_id=user_id: block(user_id)] * 32)
        done = [answer for answer in answers if answer.status_code == 200]
        assert len(done) == 1
        assert "tests.response" not in done[0].wsgi_request.environ, "answered by Django"
        for answer in answers:
            if answer is not done[0]:
                problem(answer, "user_already_blocked")
        events = (
            OutboxEvent.objects.filter(user_id=user_id).order_by("id").values_list("event_type", "request_id")
        )
        assert [event for event, _ in events] == ["user.created", "user.blocked"]
        assert events[1][1] == done[0]["X-Request-ID"]
