"""Statements asked so often that each connection has them prepared, and gets its rows in binary form.

Past Django's cursor, on Django's connection: binding in the client, wrappers, and a check of the connection
before each request cost three times what the question itself does (docs/performance.md)."""

import re
from collections.abc import Sequence
from functools import cache
from itertools import count
from typing import Any, LiteralString

from django.db import InterfaceError, NotSupportedError, OperationalError, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg import ClientCursor, Connection, errors, generators
from psycopg import OperationalError as ConnectionBroken
from psycopg.adapt import PyFormat, Transformer
from psycopg.pq import ConnStatus, ExecStatus, Format, TransactionStatus
from psycopg.rows import TupleRow


class _Prepared:
    """What one connection has prepared, kept with it, as pools pass connections from thread to thread. A
    statement waits within libpq, which lets other threads have the interpreter once, where a cursor of
    psycopg's does so at each of its steps."""

    def __init__(self, connection: Connection[Any]) -> None:
        self._connection = connection
        self._pq = connection.pgconn
        self._adapt = Transformer.from_context(connection)
        self._names: dict[tuple[str, tuple[int, ...]], bytes] = {}
        self._numbers = count()  # each once: the server may know one of which its answer was not heard

    def rows(self, statement: LiteralString, values: Sequence[Any]) -> list[TupleRow]:
        """Raises psycopg's errors."""
        adapt = self._adapt
        given: Any = adapt.dump_sequence(values, [PyFormat.AUTO] * len(values))
        types, formats = adapt.types or (), adapt.formats
        if not self._connection.autocommit and self._pq.transaction_status == TransactionStatus.IDLE:
            self._check(self._pq.exec_(b"BEGIN"))  # as psycopg's cursors do
        if self._connection.prepare_threshold is None:  # DATABASE_PREPARE
            result = self._pq.exec_params(_numbered(statement), given, types, formats, Format.BINARY)
        else:
            name = self._names.get((statement, types)) or self._prepare(statement, types)
            result = self._pq.exec_prepared(name, given, formats, Format.BINARY)
        self._check(result)
        adapt.set_pgresult(result)
        return adapt.load_rows(0, result.ntuples, tuple)

    def _prepare(self, statement: LiteralString, types: tuple[int, ...]) -> bytes:
        """The step that libpq's own way would take without letting go of the interpreter: whoever waits for a
        lock of a migration's there would hold up the whole process."""
        name = b"users_%d" % next(self._numbers)
        self._pq.send_prepare(name, _numbered(statement), types)
        for result in self._connection.wait(generators.execute(self._pq)):
            self._check(result)
        self._names[statement, types] = name
        return name

    def _check(self, result: Any) -> None:
        if result.status in {ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK}:
            return
        if self._pq.status == ConnStatus.BAD:
            raise ConnectionBroken(result.get_error_message())
        raise errors.error_from_result(result)


@cache
def _numbered(statement: str) -> bytes:
    """With the places of values as PostgreSQL counts them."""
    number = count(1)
    return re.sub("%([s%])", lambda it: f"${next(number)}" if it[1] == "s" else "%", statement).encode()


def rows(statement: LiteralString, values: Sequence[Any], *, repeatable: bool = True) -> list[TupleRow]:
    """What a statement answers. A connection that was lost since it was used last is replaced, once, and the
    statement, which may have been carried out, asked again; but never within a transaction, and not what is
    not `repeatable`. Raises the database's errors as Django words them."""
    connection = connections["default"]  # looked for once: the name that Django offers looks each time
    if not (repeatable or connection.in_atomic_block):
        connection.close_if_health_check_failed()  # as before BEGIN
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
        return _prepared_by(connection.connection).rows(statement, values)


def _prepared_by(connection: Any) -> _Prepared:
    prepared: _Prepared | None = getattr(connection, "users_prepared", None)
    if prepared is None:
        prepared = connection.users_prepared = _Prepared(connection)
    return prepared
