"""Statements that are prepared: on which connection, and what becomes of one that is lost."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from django.db import OperationalError, connection, connections, transaction
from django.test.utils import CaptureQueriesContext

from tests.fixtures import People
from tests.other_session import cut_own_connection, other_session
from tests.together import PATIENCE, eventually, together
from users.infrastructure import prepared
from users.infrastructure.reads import DatabaseReads

ONE = "SELECT %s::int + 1"


def of_this_connection() -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT statement FROM pg_prepared_statements")
        return [statement for (statement,) in cursor.fetchall()]


def test_a_statement_is_prepared_once_for_each_connection(database: None) -> None:
    for number in range(5):
        assert prepared.rows(ONE, [number]) == [(number + 1,)]
    assert of_this_connection().count("SELECT $1::int + 1") == 1


def test_it_may_be_switched_off_for_poolers_that_know_no_prepared_statements(database: None) -> None:
    prepared.rows(ONE, [0])
    connection.close()
    connection.ensure_connection()
    connection.connection.prepare_threshold = None  # DATABASE_PREPARE=off
    assert prepared.rows(ONE, [1]) == [(2,)]
    assert of_this_connection() == []
    connection.close()


def test_a_connection_that_was_lost_is_replaced_without_an_error(database: None) -> None:
    prepared.rows(ONE, [0])
    cut_own_connection()
    assert prepared.rows(ONE, [1]) == [(2,)]


def test_within_a_transaction_nothing_is_asked_again(database: None) -> None:
    def lose_it_on_the_way() -> None:
        prepared.rows(ONE, [0])
        cut_own_connection()
        prepared.rows(ONE, [1])

    with pytest.raises(OperationalError), transaction.atomic():
        lose_it_on_the_way()
    assert prepared.rows(ONE, [1]) == [(2,)]


def test_a_statement_that_takes_too_long_is_not_asked_again(database: None) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = 50")
    try:
        with CaptureQueriesContext(connection) as queries, pytest.raises(OperationalError):
            prepared.rows("SELECT pg_sleep(9), %s::int", [1])
    finally:
        connection.close()
    assert sum("pg_sleep" in query["sql"] for query in queries) == 1


def test_threads_have_cursors_of_their_own(database: None) -> None:
    both = threading.Barrier(4)

    def ask(number: int) -> list[object]:
        try:
            both.wait(PATIENCE)
            return [prepared.rows(ONE, [number]) for _ in range(100)]
        finally:
            connection.close()

    told = together([lambda number=number: ask(number) for number in range(4)])
    assert told == [[[(number + 1,)]] * 100 for number in range(4)]


def test_whoever_counts_statements_counts_these(people: People) -> None:
    user_id = people.user("Ann")
    with CaptureQueriesContext(connection) as queries:
        assert DatabaseReads().view(user_id)
    assert len(queries) == 1


def test_a_plan_that_a_migration_has_overtaken_is_made_anew(database: None) -> None:
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE IF NOT EXISTS plans (word varchar(5))")
    try:
        prepared.rows("SELECT word FROM plans WHERE word = %s", ["a"])
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE plans ALTER COLUMN word TYPE varchar(9)")
        for _ in range(2):
            assert prepared.rows("SELECT word FROM plans WHERE word = %s", ["a"]) == []
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP TABLE plans")


def test_a_server_that_is_not_there_is_looked_for_once(database: None) -> None:
    connection.close()
    tried: list[object] = []

    def connect(*_: object) -> None:
        tried.append(None)
        raise OperationalError("away")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connections["default"], "get_new_connection", connect)
        with pytest.raises(OperationalError):
            prepared.rows(ONE, [1])
    assert len(tried) == 1


# --- Whether a connection is alive -------------------------------------------------------------------------


def asked_by(act: Callable[[], object]) -> list[str]:
    """The statements that go to PostgreSQL meanwhile, checks included."""
    asked: list[str] = []
    real = psycopg.Cursor.execute

    def execute(cursor: psycopg.Cursor[Any], query: Any, *rest: Any, **options: Any) -> Any:
        asked.append(str(query))
        return real(cursor, query, *rest, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(psycopg.Cursor, "execute", execute)
        act()
    return asked


def ask_as_a_new_request() -> None:
    connection.health_check_done = False  # as the end of a request leaves it
    with connection.cursor() as cursor:
        cursor.execute("SELECT 2")


def test_a_quiet_connection_is_not_asked_whether_it_is_alive(database: None) -> None:
    assert asked_by(ask_as_a_new_request) == ["SELECT 2"]


def test_one_that_was_lost_between_requests_is_replaced(database: None) -> None:
    ask_as_a_new_request()
    cut_own_connection()
    before = connection.connection
    ask_as_a_new_request()
    assert connection.connection is not before


def test_after_an_error_it_is_asked(database: None) -> None:
    connection.ensure_connection()
    connection.errors_occurred = True
    assert asked_by(ask_as_a_new_request) == ["SELECT 1", "SELECT 2"]
    connection.errors_occurred = False


def test_a_connection_that_comes_back_knows_what_it_has_prepared(database):
    """As a pool's do, to this thread or to another."""
    assert prepared.rows("SELECT %s::int", [1]) == [(1,)]
    first = connection.connection
    connection.connection = other = connection.get_new_connection(connection.get_connection_params())
    assert prepared.rows("SELECT %s::int", [2]) == [(2,)]
    connection.connection = first
    other.close()
    assert prepared.rows("SELECT %s::int", [3]) == [(3,)]


def test_a_statement_whose_preparing_was_interrupted_is_in_nobodys_way(database, monkeypatch):
    """The server may know it all the same, by its name."""
    prepared.rows(ONE, [1])
    real = psycopg.Connection.wait

    def interrupted(*arguments: Any, **options: Any) -> Any:
        real(*arguments, **options)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(psycopg.Connection, "wait", interrupted)
        with pytest.raises(KeyboardInterrupt):
            prepared.rows("SELECT %s::int + 2", [1])
    assert prepared.rows("SELECT %s::int + 3", [1]) == [(4,)]
    assert prepared.rows("SELECT %s::int + 2", [1]) == [(3,)]


def test_others_go_on_while_a_statement_waits_to_be_prepared(database):
    """For a lock of a migration's, say: to prepare it, PostgreSQL looks at the table."""
    migration, locked = other_session(autocommit=False), threading.Event()

    def waits() -> bool:
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'users'::regclass"
        return bool(migration.execute(waiting).fetchone()[0])

    def migrate() -> None:
        with migration:
            migration.execute("LOCK TABLE users")
            locked.set()
            eventually(waits)

    def read() -> list[tuple[int]]:
        assert locked.wait(PATIENCE)
        return prepared.rows("SELECT 17 FROM users WHERE version > %s", [0])

    assert together([migrate, read]) == [None, []]


@pytest.fixture
def among_many(people: People) -> Iterator[str]:
    """Ann, and three thousand like her, as PostgreSQL knows."""
    ann = people.user("Ann")
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO users SELECT another.* FROM users, generate_series(1, 3000) AS place, "
            "json_populate_record(users, json_build_object("
            "'id', gen_random_uuid(), 'email', place || '@example.com')) AS another"
        )
        cursor.execute("ANALYZE users")
    connection.close()  # and what it has prepared
    yield ann
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM users")
        cursor.execute("ANALYZE users")


def test_reading_one_user_is_planned_a_few_times_and_never_again(among_many: str) -> None:
    """As it would be for an array of one: what PostgreSQL expects of any array costs more than to plan."""
    for _ in range(30):
        assert DatabaseReads().view(among_many)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT generic_plans, custom_plans FROM pg_prepared_statements WHERE statement LIKE %s",
            ["SELECT id, email, % FROM users WHERE id = %"],
        )
        ((generic, custom),) = cursor.fetchall()
    assert generic >= 15 > custom
