"""What a read costs: SQL statements and round trips to Redis, counted by the servers' own clients."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tests.fixtures import PASSWORD
from tests.redis_trips import noted_trips
from users import wiring
from users.application.commands import (
    BlockUser,
    ChangeEmail,
    ChangePassword,
    ChangeRoles,
    EndBlock,
    RegisterUser,
    RenameUser,
    UnblockUser,
)
from users.application.credentials import LogIn
from users.application.privacy import EraseUser
from users.infrastructure.cache import EPOCH
from users.models import UserRecord
from users_domain.value_objects import Actor, Role


class Cost:
    """SQL statements and Redis round trips while the block runs; a pipeline is one."""

    def __init__(self, monkeypatch):
        self._queries = CaptureQueriesContext(connection)
        self._monkeypatch = monkeypatch
        self.redis = []

    def __enter__(self):
        self._counting = self._monkeypatch.context()
        self.redis = noted_trips(self._counting.__enter__())
        self._queries.__enter__()
        return self

    def __exit__(self, *error):
        self._queries.__exit__(*error)
        self._counting.__exit__(*error)

    @property
    def sql(self):
        return [query["sql"] for query in self._queries.captured_queries]

    @property
    def listed(self):
        """Each on its line, as far as it tells which one it is."""
        return "\n".join(" ".join(str(each).split())[:120] for each in [*self.sql, *self.redis])

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


def test_a_miss_of_another_is_one_statement_and_two_round_trips(ann, operator, cost, redis):
    """Peek with the lease; and fill, for which nobody waits."""
    user_id, _ = ann
    operator("GET", "/users/me")
    for _ in range(2):  # this thread has filled before
        redis.delete(f"user:{{{user_id}}}")
        with cost:
            assert operator("GET", f"/users/{user_id}").status_code == 200
    assert cost.counted == (1, 2)
    assert isinstance(cost.redis[-1][0], str)
    with cost:
        operator("GET", f"/users/{user_id}")
    assert cost.counted == (0, 1)


def test_a_miss_of_oneself_is_one_statement(ann, cost, redis):
    user_id, caller = ann
    redis.delete(f"user:{{{user_id}}}")
    with cost:
        assert caller("GET", "/users/me").status_code == 200
    assert len(cost.sql) == 1
    assert len(cost.redis) <= 3


def test_a_list_is_one_statement_besides_the_token_check_a_search_one_more(ann, operator, cost):
    """Which walks over those who came last; a second asks the index for what is missing."""
    operator("GET", "/users/me")
    for path, statements in {
        "/users": 1,
        "/users?limit=1": 1,
        "/users?status=active&q=ann&email_prefix=a": 2,
        f"/users?ids={ann[0]}": 1,
        "/users?role=operator&email=operator@example.com": 1,
    }.items():
        with cost:
            answer = operator("GET", path)
        assert len(answer.json()["results"]) >= 1
        assert cost.counted == (statements, 1), (path, cost.sql)
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
    """The user, the session with its token, and whether it is one too many."""
    with cost:
        body = {"email": "ann@example.com", "password": PASSWORD}
        assert anyone("POST", "/auth/token", body).status_code == 200
    assert cost.counted == (3, 0)


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


# --- Commands -----------------------------------------------------------------------------------------
#
# Of one command: the user, his row with its events, which commit themselves; then one statement that numbers
# and reads what is new, one exchange with Redis that puts and publishes, one statement that says so. Where
# more is written there are BEGIN and COMMIT as well. A request checks its connection besides, at its
# beginning (CONN_HEALTH_CHECKS), which is not counted here.

OPERATOR = Actor("cli", frozenset({Role.ADMIN}))


def registered(service, user_id, tokens, **more):
    service.commands.register(RegisterUser(email="new@example.com", name="New", password=PASSWORD, **more))


def registered_with_a_key(service, user_id, tokens):
    registered(service, user_id, tokens, scope="ann", idempotency_key="k", fingerprint="f")


def renamed(service, user_id, tokens):
    service.commands.rename(RenameUser(user_id=user_id, name="Anna", by=OPERATOR))


def moved(service, user_id, tokens):
    service.commands.change_email(ChangeEmail(user_id=user_id, email="anna@example.com", by=OPERATOR))


def given_a_password(service, user_id, tokens):
    service.commands.change_password(
        ChangePassword(
            user_id=user_id,
            current_password=PASSWORD,
            new_password="another battery horse",
            by=Actor(user_id),
        )
    )


def given_roles(service, user_id, tokens):
    service.commands.change_roles(ChangeRoles(user_id=user_id, roles=("service",), by=OPERATOR))


def blocked(service, user_id, tokens, **more):
    service.commands.block(BlockUser(user_id=user_id, reason="spam", by=OPERATOR, **more))


def unblocked(service, user_id, tokens):
    service.commands.unblock(UnblockUser(user_id=user_id, by=OPERATOR))


def let_in_by_the_date(service, user_id, tokens):
    service.unattended.end_block(EndBlock(user_id=user_id))


def logged_in(service, user_id, tokens):
    service.sessions.log_in(LogIn(email="ann@example.com", password=PASSWORD))


def refreshed(service, user_id, tokens):
    service.sessions.refresh(tokens.refresh)


def logged_out(service, user_id, tokens):
    service.sessions.log_out(tokens.refresh)


def logged_out_everywhere(service, user_id, tokens):
    service.sessions.log_out_everywhere(user_id, by=Actor(user_id))


def erased(service, user_id, tokens):
    service.privacy.erase(EraseUser(user_id=user_id, by=OPERATOR))


def block_him(service, user_id, tokens):
    blocked(service, user_id, tokens)


def block_him_until_just_now(service, user_id, tokens):
    blocked(service, user_id, tokens, until=timezone.now() + timedelta(hours=1))
    past = timezone.now() - timedelta(hours=1)
    UserRecord.objects.filter(id=user_id).update(blocked_until=past)


def nothing_before(service, user_id, tokens):
    pass


COMMANDS = [
    (registered, nothing_before, 4, 1),
    (registered_with_a_key, nothing_before, 8, 1),
    (renamed, nothing_before, 4, 1),
    (moved, nothing_before, 7, 1),
    (given_a_password, nothing_before, 5, 1),
    (given_roles, nothing_before, 4, 1),
    (blocked, nothing_before, 4, 1),
    (unblocked, block_him, 4, 1),
    (let_in_by_the_date, block_him_until_just_now, 2, 1),  # the worker publishes
    (logged_in, nothing_before, 3, 0),
    (refreshed, nothing_before, 5, 0),
    (logged_out, nothing_before, 8, 1),
    (logged_out_everywhere, nothing_before, 7, 1),
    (erased, nothing_before, 21, 4),
]


@pytest.mark.parametrize(
    ("act", "before", "statements", "trips"), COMMANDS, ids=[command[0].__name__ for command in COMMANDS]
)
def test_what_a_command_costs(service, ann, cost, act, before, statements, trips):
    user_id, _ = ann
    service.commands.rename(RenameUser(user_id=user_id, name="Annie", by=OPERATOR))
    service.cache.put([])  # from now on Redis knows the scripts
    tokens = service.sessions.log_in(LogIn(email="ann@example.com", password=PASSWORD))
    before(service, user_id, tokens)
    service.queries.get(user_id)

    with cost:
        act(service, user_id, tokens)

    assert cost.counted == (statements, trips), cost.listed


def test_a_command_reads_the_user_once_and_writes_row_and_event_at_once(ann, cost):
    """Besides what the relay does after the commit."""
    _, caller = ann
    with cost:
        assert caller("PATCH", "/users/me", {"name": "Anna"}).status_code == 200

    def count(*words):
        return sum(all(word in statement for word in words) for statement in cost.sql)

    assert count("SELECT id", "FROM users") == 1
    assert count("UPDATE users", "INSERT INTO outbox") == 1
    assert count("UPDATE users") == count("INSERT INTO outbox") == 1


def test_the_count_itself_counts(cost, redis):
    with cost:
        redis.get(EPOCH)
        redis.mget("a", "b")
        with redis.pipeline(transaction=False) as pipeline:
            pipeline.get("a").get("b").execute()
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    assert cost.counted == (1, 3)
