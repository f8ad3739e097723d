"""What others do on the same PostgreSQL, on connections that the service knows nothing of."""

from typing import Any

import psycopg
from django.db import connection


def other_session(*, autocommit: bool = True) -> psycopg.Connection[Any]:
    parameters = connection.get_connection_params()
    place = {name: parameters[name] for name in ("host", "port", "user", "password", "dbname")}
    return psycopg.connect(**place, autocommit=autocommit)


def somebody_waits_for_a_lock() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_clear_snapshot()")
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        return bool(cursor.fetchone()[0])


def cut_own_connection() -> None:
    """As a failing server would: the backend of this thread's connection ends."""
    connection.ensure_connection()
    with other_session() as session:
        session.execute("SELECT pg_terminate_backend(%s, 5000)", [connection.connection.info.backend_pid])
