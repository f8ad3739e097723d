"""What a read costs: SQL statements and round trips to Redis, counted by the servers' own clients."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from redis.connection import AbstractConnection

from tests.fixtures import PASSWORD
from users import wiring
from users.infrastructure.cache import EPOCH


class Cost:
    """SQL statements and Redis round trips while the block runs; a pipeline is one."""

    def __init__(self, monkeypatch):
        self._queries = CaptureQueriesContext(connection)
        self.redis = []
        real = AbstractConnection.send_packed_command

        def send(link, command, *arguments, **options):
            self.redis.append(command)
            return real(link, command, *arguments, **options)

        self._patch = lambda: monkeypatch.setattr(AbstractConnection, "send_packed_command", send)
        self._restore = lambda: monkeypatch.setattr(AbstractConnection, "send_packed_command", real)

    def __enter__(self):
        self.redis.clear()
        self._patch()
        self._queries.__enter__()
        return self

    def __exit__(self, *error):
        self._queries.__exit__(*error)
        self._restore()

    @property
    def sql(self):
        return [query["sql"] for query in self._queries.captured_queries]

    @property
    def counted(self):
        return len(self.sql), len(self.redis)


@pytest.fixture
def cost(monkeypatch, database):
    return Cost(monkeypatch)


@pytest.fixture
def ann(people):
    """Ann's id and her way to call, warm: cached, scripts known, connections open."""
    user_id = people.user("Ann")
    caller = people.log_in("Ann")
    for _ in range(2):
        assert caller("GET", "/users/me").status_code == 200
    return user_id, caller


def test_a_cached_read_of_oneself_is_no_sql_and_one_round_trip_the_token_check_included(ann, cost):
    user_id, caller = ann
    for path in ("/users/me", f"/users/{user_id}", f"/users/{user_id}?min_version=1"):
        with cost:
            assert caller("GET", path).status_code == 200
        assert cost.counted == (0, 1), (path, cost.sql, cost.redis)


def test_a_cached_read_of_another_by_staff_is_no_sql_and_one_round_trip(ann, operator, cost):
    user_id, _ = ann
    assert operator("GET", "/users/me").status_code == 200
    with cost:
        assert operator("GET", f"/users/{user_id}").status_code == 200
    assert cost.counted == (0, 1)


def test_not_modified_costs_no_more(ann, cost):
    _, caller = ann
    with cost:
        assert caller("GET", "/users/me", if_none_match='"1"').status_code == 304
    assert cost.counted == (0, 1)


def test_a_miss_of_another_is_one_statement_and_three_round_trips(ann, operator, cost, redis):
    """Peek, take the lease, fill."""
    user_id, _ = ann
    operator("GET", "/users/me")
    redis.delete(f"user:{{{user_id}}}")
    with cost:
        assert operator("GET", f"/users/{user_id}").status_code == 200
    assert cost.counted == (1, 3)
    with cost:
        operator("GET", f"/users/{user_id}")
    assert cost.counted == (0, 1)


def test_a_miss_of_oneself_is_one_statement(ann, cost, redis):
    user_id, caller = ann
    redis.delete(f"user:{{{user_id}}}")
    with cost:
        assert caller("GET", "/users/me").status_code == 200
    assert len(cost.sql) == 1
    assert len(cost.redis) <= 4


def test_a_list_is_one_statement_besides_the_token_check(ann, operator, cost):
    operator("GET", "/users/me")
    for path in (
        "/users",
        "/users?limit=1",
        "/users?status=active&q=ann&email_prefix=a",
        f"/users?ids={ann[0]}",
        "/users?role=operator&email=operator@example.com",
    ):
        with cost:
            answer = operator("GET", path)
        assert len(answer.json()["results"]) >= 1
        assert cost.counted == (1, 1), (path, cost.sql)
    with cost:
        assert operator("GET", operator("GET", "/users?limit=1").json()["next"]).status_code == 200
    assert cost.counted == (2, 2)


def test_a_history_is_one_statement_besides_the_token_check(ann, operator, cost):
    operator("GET", "/users/me")
    with cost:
        assert len(operator("GET", f"/users/{ann[0]}/events").json()["results"]) == 1
    assert cost.counted == (1, 1)


def test_the_feed_is_one_statement_besides_the_token_check(ann, admin, cost):
    admin("GET", "/users/me")
    with cost:
        assert admin("GET", "/events?limit=1").json()["next"]
    assert cost.counted == (1, 1)


def test_without_redis_a_read_is_two_statements(ann, cost, fragile_redis):
    """The token check and the user."""
    _, caller = ann
    fragile_redis.kill()
    for _ in range(3):  # until the way to Redis is known to be shut
        caller("GET", "/users/me")
    with cost:
        assert caller("GET", "/users/me").status_code == 200
    assert len(cost.sql) <= 2
    assert len(cost.redis) == 0


def test_refusals_cost_little(ann, cost, anyone):
    _, caller = ann
    with cost:
        assert anyone("GET", "/users/me").status_code == 401
        assert anyone("GET", "/users/me", authorization="Bearer nonsense").status_code == 401
    assert cost.counted == (0, 0)
    with cost:
        assert caller("GET", "/users").status_code == 403
    assert cost.counted == (0, 1)


def test_logging_in_reads_the_user_and_writes_a_session_and_asks_nothing_of_redis(ann, anyone, cost):
    """Begin and commit, the session, its token, and whether it is one too many."""
    with cost:
        body = {"email": "ann@example.com", "password": PASSWORD}
        assert anyone("POST", "/auth/token", body).status_code == 200
    assert cost.counted == (6, 0)


@pytest.fixture
def with_limits(database, settings, monkeypatch):
    """As in production."""
    settings.RATE_LIMITS = True
    monkeypatch.setattr(wiring, "_service", None)


@pytest.mark.usefixtures("with_limits")
def test_with_limits_a_cached_read_takes_no_round_trip_more(people, cost):
    people.user("Ann")
    caller = people.log_in("Ann")
    for _ in range(2):
        caller("GET", "/users/me")
    with cost:
        answer = caller("GET", "/users/me")
    assert '"caller"' in answer["RateLimit"]
    assert cost.counted == (0, 1), cost.redis


@pytest.mark.usefixtures("with_limits")
def test_with_limits_logging_in_asks_redis_once_before_the_hash_and_once_or_twice_after(people, anyone, cost):
    people.user("Ann")
    for password in (PASSWORD, "wrong"):  # from now on Redis knows the scripts
        anyone("POST", "/auth/token", {"email": "ann@example.com", "password": password})
    for password, trips in ((PASSWORD, 3), ("wrong", 2)):
        with cost:
            anyone("POST", "/auth/token", {"email": "ann@example.com", "password": password})
        assert len(cost.redis) == trips, cost.redis


def test_a_command_reads_the_user_once_and_writes_row_and_event_once(ann, cost):
    """Besides what the relay does after the commit."""
    _, caller = ann
    with cost:
        assert caller("PATCH", "/users/me", {"name": "Anna"}).status_code == 200

    def count(*beginnings):
        return sum(statement.startswith(beginnings) for statement in cost.sql)

    assert count('SELECT "users"') == 1
    assert count('UPDATE "users"') == 1
    assert count('INSERT INTO "outbox"') == 1


def test_the_count_itself_counts(cost, redis):
    with cost:
        redis.get(EPOCH)
        redis.mget("a", "b")
        with redis.pipeline(transaction=False) as pipeline:
            pipeline.get("a").get("b").execute()
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    assert cost.counted == (1, 3)
