"""PostgreSQL or Redis stopped, frozen, killed and back, as the HTTP callers of a running process see it."""

import io
import json
import time
from dataclasses import dataclass

import pytest
from django.core.handlers.wsgi import WSGIHandler
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tests.builders import an_actor, an_admin
from tests.fixtures import PASSWORD
from tests.patient_settings import SECONDS
from tests.together import eventually, in_background
from users.application.commands import BlockUser
from users.infrastructure.redis_link import RedisLink

ADMIN = an_actor(an_admin())


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: dict

    @property
    def code(self):
        return self.body.get("error", self.status)


class Process:
    """The service as a WSGI server runs it: Django's own test client never replaces a broken connection."""

    def __init__(self):
        self._application = WSGIHandler()

    def __call__(self, method, path, body=None, token=None, **headers):
        content = json.dumps(body).encode() if body is not None else b""
        environ = {
            "REQUEST_METHOD": method,
            "PATH_INFO": path,
            "QUERY_STRING": "",
            "SERVER_NAME": "localhost",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(content),
            "CONTENT_LENGTH": str(len(content)),
            "CONTENT_TYPE": "application/json",
            **({"HTTP_AUTHORIZATION": f"Bearer {token}"} if token else {}),
            **headers,
        }
        started = []
        response = self._application(environ, lambda *line: started.append(line))
        content = b"".join(response)
        response.close()
        [(status, header_list, *_)] = started
        return Answer(int(status[:3]), dict(header_list), json.loads(content) if content else {})

    def log_in(self, name):
        answer = self("POST", "/auth/token", {"email": f"{name}@example.com", "password": PASSWORD})
        assert answer.status == 200, answer
        return answer.body["access"]


@pytest.fixture
def process(service):
    return Process()


def new_user(number):
    return {"email": f"new{number}@example.com", "name": "New", "password": PASSWORD}


# --- PostgreSQL --------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["stop", "kill"])
def test_without_postgresql_the_api_says_so_and_recovers_by_itself(process, people, fragile_postgres, way):
    user_id = people.user("Ann")
    token = process.log_in("Ann")
    assert process("GET", "/users/me", token=token).status == 200  # cached from here on
    getattr(fragile_postgres, way)()

    for method, path, body in [
        ("POST", "/users", new_user(1)),
        ("POST", "/auth/token", {"email": "ann@example.com", "password": PASSWORD}),
        ("PATCH", "/users/me", {"name": "Anna"}),
        ("GET", f"/users/{user_id}/events", None),
    ]:
        for _ in range(2):
            answer = process(method, path, body, token=token)
            assert (answer.status, answer.code) == (503, "unavailable"), (method, path, answer)
            assert answer.headers["Content-Type"] == "application/problem+json"
            assert int(answer.headers["Retry-After"]) >= 1
    assert process("GET", "/users/me", token=token).body["version"] == 1  # from the cache

    fragile_postgres.start()
    assert process("POST", "/users", new_user(2)).status == 201  # at once: broken connections are replaced
    assert process("PATCH", "/users/me", {"name": "Anna"}, token=token).body["version"] == 2
    assert process("GET", "/users/me", token=token).body["version"] == 2


def test_a_restart_between_two_requests_goes_unnoticed(process, people, fragile_postgres):
    people.user("Ann")
    token = process.log_in("Ann")
    fragile_postgres.restart()

    assert process("PATCH", "/users/me", {"name": "Anna"}, token=token).status == 200


def test_a_frozen_postgresql_is_not_waited_for_for_ever(process, people, fragile_postgres):
    people.user("Ann")
    token = process.log_in("Ann")
    connection.close()
    fragile_postgres.pause()
    began = time.monotonic()
    answer = process("PATCH", "/users/me", {"name": "Anna"}, token=token)
    took = time.monotonic() - began
    fragile_postgres.resume()

    assert answer.code == "unavailable"
    assert took < SECONDS / 2
    assert process("PATCH", "/users/me", {"name": "Anna"}, token=token).status == 200


# --- Redis -------------------------------------------------------------------------------------------


def everything_works(process, people, number):
    """The whole round of a user's life, from an id of its own."""
    name = f"User{number}"
    created = process("POST", "/users", {"email": f"{name}@example.com", "name": name, "password": PASSWORD})
    assert created.status == 201
    user_id, token, operator = created.body["id"], process.log_in(name), process.log_in("Operator")
    assert process("GET", "/users/me", token=token).body["version"] == 1
    assert process("PATCH", "/users/me", {"name": "Renamed"}, token=token).body["version"] == 2
    assert process("GET", f"/users/{user_id}", token=operator).body["name"] == "Renamed"
    assert process("GET", "/users", token=operator).status == 200
    blocked = process("POST", f"/users/{user_id}/block", {"reason": "spam"}, token=operator)
    assert blocked.body["status"] == "blocked"
    assert process("GET", "/users/me", token=token).code == "invalid_token"
    assert process("POST", f"/users/{user_id}/unblock", {}, token=operator).status == 200
    history = process("GET", f"/users/{user_id}/events", token=operator).body["results"]
    assert [event["user_version"] for event in history] == [1, 2, 3, 4]
    return user_id


@pytest.mark.parametrize("way", ["stop", "kill", "pause"])
def test_without_redis_everything_works_and_the_events_go_out_later(
    process, service, people, fragile_redis, redis_client, way
):
    people.staff("operator")
    everything_works(process, people, 1)
    getattr(fragile_redis, way)()
    began = time.monotonic()
    everything_works(process, people, 2)
    everything_works(process, people, 3)
    assert time.monotonic() - began < SECONDS / 2

    fragile_redis.resume()
    fragile_redis.start()
    with in_background(service.worker().run):
        # two of the operator's, four of each user's
        eventually(lambda: redis_client.xlen("users.events") == 2 + 3 * 4)
    everything_works(process, people, 4)


def test_without_redis_the_feed_of_events_goes_on(process, service, people, fragile_redis):
    """Consumers catch up there when the stream is away."""
    people.staff("service")
    token = process.log_in("Service")
    fragile_redis.kill()
    for n in range(8):  # some before, some after the way to Redis is known to be shut
        assert process("POST", "/users", new_user(n)).status == 201

    events = process("GET", "/events", token=token).body["results"]
    assert [event["sequence"] for event in events] == list(range(1, 11))
    assert [event["event_type"] for event in events[2:]] == ["user.created"] * 8


def test_while_redis_is_known_to_be_away_no_command_looks_for_events_to_send(
    process, service, people, fragile_redis
):
    """There may be a million of them by then."""
    people.user("Ann")
    token = process.log_in("Ann")
    fragile_redis.kill()
    for n in range(6):
        process("PATCH", "/users/me", {"name": f"Ann {n}"}, token=token)

    with CaptureQueriesContext(connection) as queries:
        assert process("PATCH", "/users/me", {"name": "Anna"}, token=token).status == 200

    assert not [query for query in queries.captured_queries if 'ORDER BY "outbox"' in query["sql"]]


@pytest.fixture
def waited(monkeypatch):
    """How often Redis was asked in vain, a fifth of a second each time, by all that is built from now on."""
    errors, note = [], RedisLink._note_failure
    monkeypatch.setattr(
        RedisLink, "_note_failure", lambda link, error: errors.append(error) or note(link, error)
    )
    return errors


def test_a_command_hardly_waits_for_a_frozen_redis(waited, process, people, fragile_redis):
    """The first ones pay for finding out; then nobody asks."""
    people.user("Ann")
    token = process.log_in("Ann")
    fragile_redis.pause()
    began = time.monotonic()
    costs = []
    for n in range(8):
        before = len(waited)
        assert process("PATCH", "/users/me", {"name": f"Ann {n}"}, token=token).status == 200
        costs.append(len(waited) - before)
    seconds = time.monotonic() - began

    assert max(costs) <= 5, costs
    assert min(costs) == 0, costs
    assert sum(costs) <= 5 + seconds + 1, costs  # once a second somebody looks whether it is back
    assert seconds < SECONDS / 2


@pytest.mark.parametrize("trouble", ["kill", "pause", "flush", "stop", "cut"])
@pytest.mark.parametrize("first", ["trouble", "block"])
def test_the_token_of_a_blocked_user_is_refused_at_the_very_next_request(
    process, service, people, fragile_redis, redis_client, trouble, first
):
    """Whether Redis fails before the block or right after it. `cut`: this process alone cannot reach it, and
    what it has cached survives there."""
    user_id = people.user("Ann")
    token = process.log_in("Ann")
    assert [process("GET", "/users/me", token=token).status for _ in range(2)] == [200, 200]

    def block():
        service.commands.block(BlockUser(user_id=user_id, reason="spam", by=ADMIN))

    def fail():
        if trouble == "flush":
            redis_client.flushall()
        elif trouble == "cut":
            service.redis._failed = service.redis._limit
            service.redis._try_at = time.monotonic() + 0.3
        else:
            getattr(fragile_redis, trouble)()

    for act in (fail, block) if first == "trouble" else (block, fail):
        act()
    assert process("GET", "/users/me", token=token).code == "invalid_token"

    fragile_redis.resume()
    fragile_redis.start()
    until = time.monotonic() + (0.6 if trouble == "cut" else 0.1)
    while time.monotonic() < until:
        assert process("GET", "/users/me", token=token).code == "invalid_token"
        time.sleep(0.01)


def test_with_both_away_the_answer_is_still_a_problem_and_both_come_back(
    process, people, fragile_postgres, fragile_redis
):
    people.user("Ann")
    token = process.log_in("Ann")
    fragile_redis.kill()
    fragile_postgres.kill()

    for _ in range(3):
        assert process("GET", "/users/me", token=token).code == "unavailable"
    fragile_postgres.start()
    assert process("GET", "/users/me", token=token).status == 200
    fragile_redis.start()
    assert process("PATCH", "/users/me", {"name": "Anna"}, token=token).status == 200
