"""What others do on the same PostgreSQL, on connections that the service knows nothing of."""

from typing import Any

import psycopg
from django.db import connection


def other_session(*, autocommit: bool = True) -> psycopg.Connection[Any]:
    parameters = connection.get_connection_params()
    place = {name: parameters[name] for name in ("host", "port", "user", "password", "dbname")}
    return psycopg.connect(**place, autocommit=autocommit)


def cut_own_connection() -> None:
    """As a failing server would: the backend of this thread's connection ends."""
    connection.ensure_connection()
    with other_session() as session:
        session.execute("SELECT pg_terminate_backend(%s, 5000)", [connection.connection.info.backend_pid])
