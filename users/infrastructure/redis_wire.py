"""A connection to Redis for one thread that asks one thing at a time.

redis-py makes it: address, TLS, password, database. What is asked then goes over its socket by hiredis, and
the kernel keeps the time: a socket of Python's with a timeout is polled before each call, and each poll lets
another thread have the interpreter, which on a busy core costs more than the call
(docs/adr/0012-a-front-for-reads.md)."""

import math
import socket
import struct
from collections import deque
from contextlib import suppress
from typing import Any

import hiredis
from redis import ConnectionError as ConnectionLost
from redis import ConnectionPool
from redis import TimeoutError as TookTooLong
from redis.connection import DefaultParser
from redis.exceptions import InvalidResponse

BYTES = 65_536


class Ahead:
    """Something asked whose answer comes with that to the next question; None until then, and for ever where
    the connection is lost first. To what Redis refuses its error is the answer."""

    answer: Any = None


class Wire:
    def __init__(self, pool: ConnectionPool) -> None:
        """As the pool would connect, but not of its number, which it would count for ever. Raises redis' own
        errors."""
        kwargs = pool.connection_kwargs | {"protocol": 2}  # in which Redis speaks when it is asked, only
        self._connection: Any = pool.connection_class(**kwargs)
        self._connection.connect()
        self._socket = _kept_in_time(self._connection._sock)
        self._reader = hiredis.Reader(
            protocolError=InvalidResponse, replyError=DefaultParser.parse_error, notEnoughData=Ellipsis
        )
        self._to_send = b""
        self._unheard: deque[Ahead] = deque()
        self.told: dict[str, Ahead] = {}
        """By script, what was asked of it last without waiting for the answer."""

    def ask(self, *command: Any) -> Any:
        """What Redis answers. Raises redis' own errors; after any but a refusal by Redis the wire is closed,
        so that nobody takes an answer for that to another question."""
        with self:
            self._send(command)
            while self._unheard:
                self._unheard.popleft().answer = self._received()
            answer = self._received()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def ahead(self, *command: Any) -> Ahead:
        """Is sent with what is asked next, in one piece."""
        self._to_send += hiredis.pack_command(command)
        return self._awaited()

    def tell(self, *command: Any) -> Ahead:
        """Is sent at once; nobody waits for the answer. Raises as `ask`."""
        with self:
            self._send(command)
        return self._awaited()

    def __enter__(self) -> None:
        """Whatever interrupts what follows closes the wire."""

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if error is None:
            return
        self.close()
        if isinstance(error, BlockingIOError | TimeoutError):
            raise TookTooLong("Redis took too long.") from error
        if isinstance(error, OSError):  # as redis-py words it
            raise ConnectionLost(str(error)) from error

    def _awaited(self) -> Ahead:
        self._unheard.append(ahead := Ahead())
        return ahead

    def _send(self, command: tuple[Any, ...]) -> None:
        to_send, self._to_send = self._to_send + hiredis.pack_command(command), b""
        self._socket.sendall(to_send)

    def _received(self) -> Any:
        while (answer := self._reader.gets()) is Ellipsis:
            received = self._socket.recv(BYTES)
            if not received:
                raise ConnectionLost("Redis has closed the connection.")
            self._reader.feed(received)
        return answer

    def close(self) -> None:
        self._connection.disconnect()

    def __del__(self) -> None:
        """With its thread. redis-py's connections are in circles, which are looked for rarely."""
        with suppress(Exception):
            self.close()


def _kept_in_time(connected: socket.socket) -> socket.socket:
    """With the timeout that it has, kept by the kernel where that can: TLS needs Python to."""
    if type(connected) is socket.socket and (timeout := connected.gettimeout()):
        whole = math.floor(timeout)
        kept = struct.pack("@ll", whole, round((timeout - whole) * 1e6))
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, kept)
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, kept)
        connected.settimeout(None)
    return connected
