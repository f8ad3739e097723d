"""Statements asked so often that each connection has them prepared, and gets its rows in binary form.

Past Django's cursor, on Django's connection: binding in the client, wrappers, and a check of the connection
before each request cost three times what the question itself does (docs/performance.md)."""

import threading
from collections.abc import Sequence
from typing import Any, LiteralString

from django.db import InterfaceError, NotSupportedError, OperationalError, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg import ClientCursor, Cursor
from psycopg.rows import TupleRow


class _Kept(threading.local):
    """This thread's cursor. Connections come and go; a cursor goes with its own."""

    cursor: Cursor[TupleRow] | None = None


_kept = _Kept()


def rows(statement: LiteralString, values: Sequence[Any], *, repeatable: bool = True) -> list[TupleRow]:
    """What a statement answers. A connection that was lost since it was used last is replaced, once, and the
    statement, which may have been carried out, asked again; but never within a transaction, and not what is
    not `repeatable`. Raises the database's errors as Django words them."""
    connection = connections["default"]  # looked for once: the name that Django offers looks each time
    was_connected = connection.connection is not None
    try:
        return _rows(connection, statement, values)
    except (OperationalError, InterfaceError):
        if not (repeatable and was_connected) or connection.in_atomic_block or connection.is_usable():
            raise
    except NotSupportedError:  # a plan of before a migration
        if not was_connected or connection.in_atomic_block:
            raise
    connection.close()
    return _rows(connection, statement, values)


def _rows(connection: BaseDatabaseWrapper, statement: LiteralString, values: Sequence[Any]) -> list[TupleRow]:
    connection.ensure_connection()
    if connection.queries_logged:  # whoever counts statements counts this one too
        shown = ClientCursor(connection.connection).mogrify(statement, values)
        connection.queries_log.append({"sql": shown, "time": "0"})
    with connection.wrap_database_errors:
        cursor = _cursor(connection.connection)
        return cursor.execute(statement, values, prepare=True, binary=True).fetchall()


def _cursor(connection: Any) -> Cursor[TupleRow]:
    if _kept.cursor is None or _kept.cursor.connection is not connection:
        _kept.cursor = Cursor(connection)
    return _kept.cursor
