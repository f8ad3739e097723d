"""What stands in front of Django answers as Django does: thousands of requests, put to both ways."""

import random
import re
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import OperationalError
from django.http import HttpResponse
from django.test.client import ClientHandler
from redis import Redis as RedisClient

from tests.e2e.answers import problem
from tests.e2e.both_ways import DJANGO, ask, authorizations, counted, limited, lines_of_requests, shown
from tests.fixtures import Api, FrontedHandler, People
from users import wiring
from users.api import plain_reads
from users.application.commands import BlockUser
from users.application.privacy import EraseUser
from users.application.queries import UserQueries
from users.infrastructure import metrics
from users.infrastructure.reads import DatabaseReads
from users_domain.value_objects import COMMAND_LINE

ROUNDS = 3000


class Both:
    """Puts a request to Django alone and to what stands in front of it."""

    def __init__(self) -> None:
        self.fronted = FrontedHandler(fronted=True)
        self.answered: Counter[str] = Counter()

    def __call__(self, method: str, path: str, **environ: str) -> HttpResponse:
        """The answer of the front, which is that of Django, and which it gives again."""
        ours, again, theirs = (
            ask(handler, method, path, environ) for handler in (self.fronted, self.fronted, DJANGO)
        )
        assert shown(ours) == shown(again) == shown(theirs), (method, path, environ)
        if not self.fronted.asked_django:
            self.answered[str(ours.status_code)] += 1
        return ours


@pytest.fixture
def both(database: None) -> Both:
    return Both()


class Population:
    """Users of all kinds, and all that somebody may show for a token."""

    def __init__(self, people: People, service: wiring.Service) -> None:
        for role in ("admin", "operator", "service"):
            people.staff(role)
        self.ids = {name: people.user(name) for name in ("Ann", "Bob", "Cid", "Dan")}
        self.tokens = {
            name: str(people.log_in(name).token) for name in (*self.ids, "Admin", "Operator", "Service")
        }
        service.commands.block(BlockUser(user_id=self.ids["Bob"], reason="spam", by=COMMAND_LINE))
        service.privacy.erase(EraseUser(user_id=self.ids["Cid"], by=COMMAND_LINE))
        ended = people.log_in("Dan")
        assert ended("POST", "/auth/logout-all", {}).status_code == 204
        self.tokens["ended"] = str(ended.token)

    def headers(self, dice: random.Random) -> Iterator[str | None]:
        alive = ["Ann", "Operator", "Admin", "Service"]
        return authorizations(dice, self.tokens[dice.choice([*alive * 4, *sorted(self.tokens)])])


TAGS = ['"1"', '"2"', 'W/"1"', '"1", "2"', "*", '"0"', "1", '"', '"1" x', '"01"', "", 'W/"2" , "9"']
ODD_PATHS = ["/users/", "/users", "/users/me/", "/users/me/events", "/users/17", "/users/ME", "/users/%00"]
PLAIN = {"HTTP_ACCEPT": ["*/*", "application/json"], "HTTP_X_REQUEST_ID": ["abc", "not allowed!", ""]}
ODD: dict[str, list[str]] = {
    "HTTP_ACCEPT": ["text/html", "application/xml", "application/json;q=0.1", "", "*/*;q=0"],
    "HTTP_ORIGIN": ["https://app.example.com", "null"],
    "HTTP_COOKIE": ["a=b", "sessionid=x"],
    "HTTP_HOST": ["localhost:8000", "127.0.0.1", "evil.example.com", "local host", "a.localhost"],
    "HTTP_TRANSFER_ENCODING": ["chunked"],
    "HTTP_IF_MATCH": ['"1"', '"9"', "x"],
    "HTTP_RANGE": ["bytes=0-1"],
    "HTTP_X_FORWARDED_PROTO": ["https"],
    "HTTP_X_HTTP_METHOD_OVERRIDE": ["DELETE"],
    "HTTP_X_REQUESTED_WITH": ["XMLHttpRequest"],
    "CONTENT_TYPE": ["application/json", "text/plain; charset=base64", "multipart/form-data"],
    "CONTENT_LENGTH": ["0", "", "-1", "x", "70000"],
    "QUERY_STRING": [
        "min_version=1",
        "min_version=9",
        "min_version=x",
        "a=b",
        "%ff",
        "min_version=1&min_version=1",
    ],
}


def a_path(dice: random.Random, population: Population) -> str:
    known = dice.choice(sorted(population.ids.values()))
    usual = ["/users/me", f"/users/{known}", f"/users/{known}"]
    return dice.choice(
        usual * 6
        + [
            *ODD_PATHS,
            f"/users/{known.upper()}",
            f"/users/{known[:-1]}",
            f"/users/{known}/",
            f"//users/{known}",
        ]
        + ["/users/01900000-0000-7000-8000-000000000000", "/users/00000000-0000-4000-8000-000000000000"]
    )


def a_request(dice: random.Random, population: Population) -> tuple[str, str, dict[str, str]]:
    """Mostly plain, odd in one or two respects at times."""
    headers = list(population.headers(dice))
    authorization = headers[0] if dice.random() < 0.7 else dice.choice(headers)
    sent = {} if authorization is None else {"HTTP_AUTHORIZATION": authorization}
    if dice.random() < 0.4:
        sent["HTTP_IF_NONE_MATCH"] = dice.choice(TAGS)
    for choice, chance in ((PLAIN, 0.3), (ODD, 0.25)):
        if dice.random() < chance:
            name = dice.choice(sorted(choice))
            sent[name] = dice.choice(choice[name])
    method = "GET" if dice.random() < 0.9 else dice.choice(["HEAD", "OPTIONS", "get", "QUERY", "TRACE"])
    return method, a_path(dice, population), sent


@pytest.mark.parametrize("seed", range(3))
def test_it_answers_as_django_does(
    both: Both, people: People, service: wiring.Service, redis: RedisClient, seed: int
) -> None:
    population = Population(people, service)
    dice = random.Random(seed)
    for _ in range(ROUNDS // 3):
        if dice.random() < 0.1:
            redis.delete(*(f"user:{{{user_id}}}" for user_id in population.ids.values()))
        method, path, sent = a_request(dice, population)
        both(method, path, **sent)

    assert both.answered["200"] > ROUNDS // 15
    assert both.answered["304"] > ROUNDS // 150


def test_it_answers_as_django_does_without_redis(both: Both, people: People, no_redis: None) -> None:
    people.user("Ann")
    token = f"Bearer {people.log_in('Ann').token}"
    for tag in TAGS:
        both("GET", "/users/me", HTTP_AUTHORIZATION=token, HTTP_IF_NONE_MATCH=tag)
    assert both.answered["200"]


def what_is_kept(
    handler: ClientHandler,
    asked: list[tuple[str, dict[str, str]]],
    caplog: pytest.LogCaptureFixture,
) -> tuple[Counter[str], list[dict[str, Any]]]:
    """What the metrics count and the log says of these requests."""
    caplog.clear()
    before = counted(metrics.page())
    for path, sent in asked:
        ask(handler, "GET", path, sent)
    return counted(metrics.page()) - before, lines_of_requests(caplog)


def test_it_counts_and_logs_what_django_would(
    both: Both, operator: Api, people: People, redis: RedisClient, caplog: pytest.LogCaptureFixture
) -> None:
    user_id = people.user("Ann")
    paths = [f"/users/{user_id}", "/users/me", "/users/01900000-0000-7000-8000-000000000000"]
    kinds = [{}, {"HTTP_IF_NONE_MATCH": '"1"'}, {"HTTP_X_REQUESTED_WITH": "XMLHttpRequest"}]
    tokens = [f"Bearer {operator.token}", f"Bearer {people.log_in('Ann').token}"]
    asked = [
        (path, {"HTTP_AUTHORIZATION": token, **kind}) for path in paths for token in tokens for kind in kinds
    ]
    for path, sent in asked:
        both("GET", path, **sent)
    told = []
    for handler in (both.fronted, DJANGO):
        redis.delete(f"user:{{{user_id}}}")
        told.append(what_is_kept(handler, asked, caplog))

    (ours, our_lines), (theirs, their_lines) = told
    assert ours == theirs
    # Ann's entry, and whom nobody knows, who is looked for each time that somebody may know.
    assert ours['user_cache_requests_total{result="miss"}'] == 1 + len(kinds)
    assert our_lines == their_lines
    assert len(our_lines) == len(asked)


@pytest.mark.parametrize("redis_is", ["up", "away"])
def test_what_it_hands_on_is_counted_once(
    people: People,
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    redis_is: str,
) -> None:
    ann = limited(people, settings, monkeypatch, "caller", 5)
    if redis_is == "away":
        request.getfixturevalue("no_redis")
    nobody = "/users/01900000-0000-7000-8000-000000000000"
    remaining = []
    for path in ("/users/me", "/users/me", nobody, f"{nobody}?min_version=1", "/users/me"):
        remaining.append(re.search(r'"caller";r=(\d)', ann("GET", path)["RateLimit"])[1])

    assert remaining == ["4", "3", "2", "1", "0"]
    refused = ann("GET", "/users/me")
    problem(refused, "rate_limited")
    assert int(refused["Retry-After"]) > 0


def test_what_nobody_has_foreseen_is_logged_and_left_to_django(
    both: Both, people: People, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    people.user("Ann")
    token = f"Bearer {people.log_in('Ann').token}"
    both("GET", "/users/me", HTTP_AUTHORIZATION=token)

    def fails(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(plain_reads, "look_up", fails)
    both.answered.clear()
    caplog.clear()
    assert both("GET", "/users/me", HTTP_AUTHORIZATION=token).status_code == 200
    assert not both.answered
    assert [record.msg["event"] for record in caplog.records if record.levelname == "ERROR"] == [
        "front_failed"
    ] * 2


def test_a_database_that_fails_is_told_by_django(
    both: Both, people: People, redis: RedisClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    people.user("Ann")
    token = f"Bearer {people.log_in('Ann').token}"
    both("GET", "/users/me", HTTP_AUTHORIZATION=token)
    redis.flushdb()

    def fails(*_: object, **__: object) -> None:
        raise OperationalError("gone")

    monkeypatch.setattr(UserQueries, "_read", fails)
    problem(both("GET", "/users/me", HTTP_AUTHORIZATION=token), "unavailable")


def test_copies_stay_few_whatever_hosts_there_are(people: People, settings: Any) -> None:
    settings.ALLOWED_HOSTS = [".example.com", "localhost"]
    people.user("Ann")
    fronted = FrontedHandler(fronted=True)
    ann = people.log_in("Ann")
    ann.client.handler = fronted
    for number in range(5):
        ann.client.defaults["HTTP_HOST"] = f"host{number}.example.com:{number}"
        assert ann("GET", "/users/me").status_code == 200
    ann.client.defaults["HTTP_HOST"] = "example.org"
    assert ann("GET", "/users/me").status_code == 400
    assert len(fronted.front._copies._copied) == 1


def test_a_database_that_is_away_is_asked_once(
    people: People, redis: RedisClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each try may take its whole timeout."""
    people.user("Ann")
    ann = people.log_in("Ann")
    ann("GET", "/users/me")
    redis.flushdb()
    tried: list[object] = []

    def fails(*_: object, **__: object) -> None:
        tried.append(None)
        raise OperationalError("away")

    monkeypatch.setattr(DatabaseReads, "view", fails)
    problem(ann("GET", "/users/me"), "unavailable")
    assert len(tried) == 1


def test_what_it_hands_on_has_taken_as_long_as_it_has(
    people: People, redis: RedisClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    people.user("Ann")
    ann = people.log_in("Ann")
    ann("GET", "/users/me")
    redis.flushdb()

    def fails(*_: object, **__: object) -> None:
        time.sleep(0.05)
        raise OperationalError("away")

    monkeypatch.setattr(DatabaseReads, "view", fails)
    before = metrics.page()
    problem(ann("GET", "/users/me"), "unavailable")
    *_, line = (record.msg for record in caplog.records if record.name == "users.request")
    assert line["duration_ms"] >= 50
    spent = [seconds_of_reads(page) for page in (before, metrics.page())]
    assert spent[1] - spent[0] >= 0.05


def seconds_of_reads(page: bytes) -> float:
    name = r"django_http_requests_latency_seconds_by_view_method_sum"
    return float(re.search(name + r'{method="GET",view="user"} (\S+)', page.decode())[1])


def test_a_token_that_is_none_is_verified_once(people: People, monkeypatch: pytest.MonkeyPatch) -> None:
    people.user("Ann")
    ann = people.log_in("Ann")
    ann("GET", "/users/me")
    verified: list[object] = []
    tokens = wiring.service().tokens
    real = tokens.read
    monkeypatch.setattr(tokens, "read", lambda raw: (verified.append(raw), real(raw))[1])
    problem(ann("GET", "/users/me", authorization=f"Bearer {ann.token}x"), "invalid_token")
    assert len(verified) == 1


def test_a_refusal_is_counted_once_and_logged_as_the_callers(
    people: People, settings: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ann = limited(people, settings, monkeypatch, "caller", 3)
    for _ in range(3):
        assert ann("GET", "/users/me").status_code == 200
    before = counted(metrics.page())
    problem(ann("GET", "/users/me"), "rate_limited")
    assert (counted(metrics.page()) - before)['user_rate_limited_total{policy="caller"}'] == 1
    *served, refused = (record.msg["user_id"] for record in caplog.records if record.name == "users.request")
    assert served[-1] == refused is not None
