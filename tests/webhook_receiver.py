"""A webhook receiver on 127.0.0.1 that misbehaves as told, and verifies what it takes with the official
library of Standard Webhooks."""

import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from standardwebhooks import Webhook, WebhookVerificationError


class Receiver:
    """`taken`: the envelopes that were accepted, in order, repeats too. `seen`: the headers of all requests.
    `mischief`: what is done instead of accepting, once each, from the left on; `always` once those are used
    up (None: accept). `hang_seconds`: how long it hangs, unless it is released before. `forged`: how many
    messages were not signed by a secret that is known; `flooded`: how many bytes of an answer the sender's
    side has taken."""

    def __init__(self) -> None:
        self.secrets: list[str] = []
        self.taken: list[dict[str, Any]] = []
        self.seen: list[dict[str, str]] = []
        self.mischief: deque[str | None] = deque()
        self.always: str | None = None
        self.forged = self.flooded = 0
        self.at_once = self.most_at_once = 0
        self.hang_seconds = 1.0
        self._lock = threading.Lock()
        self._released = threading.Event()
        self._server: ThreadingHTTPServer | None = None
        self._connections: set[socket.socket] = set()
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    @property
    def sequences(self) -> list[int]:
        return [envelope["sequence"] for envelope in self.taken]

    def up(self, tls: ssl.SSLContext | None = None) -> "Receiver":
        self._released.clear()
        self._server = _Server(("127.0.0.1", self.port), _handler(self))
        self.port = self._server.server_address[1]
        if tls:
            self._server.socket = tls.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def down(self) -> None:
        """The port is closed, and so is every connection."""
        self.release()
        if self._server:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
        for connection in list(self._connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def release(self) -> None:
        """Whatever hangs goes on, now and from now on."""
        self._released.set()

    def next_mischief(self) -> str | None:
        with self._lock:
            return self.mischief.popleft() if self.mischief else self.always

    def take(self, body: bytes, headers: dict[str, str]) -> int:
        """The status for a message: 401 when it is signed by nobody who is known."""
        for secret in self.secrets:
            try:
                envelope = Webhook(secret).verify(body, headers)
            except WebhookVerificationError:
                continue
            with self._lock:
                self.taken.append(envelope)
            return 204
        self.forged += 1
        return 401

    @contextmanager
    def counted(self, connection: socket.socket) -> Iterator[None]:
        with self._lock:
            self.at_once += 1
            self.most_at_once = max(self.at_once, self.most_at_once)
        try:
            yield
        finally:
            with self._lock:
                self.at_once -= 1


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Senders that give up are no news."""


def _handler(receiver: Receiver) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Headers and body leave together; otherwise Nagle's algorithm makes each answer take 40 ms.
        wbufsize = -1

        def setup(self) -> None:
            super().setup()
            receiver._connections.add(self.connection)

        def finish(self) -> None:
            receiver._connections.discard(self.connection)
            with suppress(OSError):
                super().finish()

        def do_POST(self) -> None:
            with receiver.counted(self.connection):
                headers = {name.lower(): value for name, value in self.headers.items()}
                body = self.rfile.read(int(headers["content-length"]))
                receiver.seen.append(headers | {":path": self.path})
                self._answer(receiver.next_mischief(), body, headers)

        def do_GET(self) -> None:
            receiver.seen.append({":path": self.path, ":method": "GET"})
            self._status(200)

        def _answer(self, mischief: str | None, body: bytes, headers: dict[str, str]) -> None:
            if mischief is None:
                self._status(receiver.take(body, headers))
            elif mischief.isdigit():
                self._status(int(mischief))
            else:
                getattr(self, f"_{mischief}")(body, headers)

        def _status(self, status: int, **more: str) -> None:
            self.send_response(status)
            for name, value in more.items():
                self.send_header(name.replace("_", "-"), value)
            if status != 204:
                self.send_header("Content-Length", "0")
            self.end_headers()
            self.wfile.flush()

        def _hang(self, *_: Any) -> None:
            receiver._released.wait(receiver.hang_seconds)
            self.close_connection = True

        def _close(self, *_: Any) -> None:
            self.close_connection = True

        def _take_then_close(self, body: bytes, headers: dict[str, str]) -> None:
            """The message has its effect, and the sender does not hear of it."""
            receiver.take(body, headers)
            self.close_connection = True

        def _nonsense(self, *_: Any) -> None:
            self.wfile.write(b"SSH-2.0-OpenSSH_9.9\r\n")
            self.close_connection = True

        def _redirect(self, *_: Any) -> None:
            self._status(307, Location=f"{receiver.url}/elsewhere")

        def _busy(self, *_: Any) -> None:
            self._status(429, Retry_After="7")

        def _drip(self, *_: Any) -> None:
            """A byte of the headers now and then: no single read takes long."""
            self._slowly(b"HTTP/1.1 200 OK\r\nX-Much: " + b"x" * 10_000)

        def _drip_body(self, body: bytes, headers: dict[str, str]) -> None:
            """Accepted at once, with a body that does not end."""
            receiver.take(body, headers)
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
            self._slowly(b"x" * 10_000)

        def _flood(self, body: bytes, headers: dict[str, str]) -> None:
            """Accepted, with more of a body than anybody should read."""
            receiver.take(body, headers)
            head, some = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n", b"x" * 65536
            with suppress(OSError):
                self.connection.sendall(head + some)  # the sender waits at least for the head of it
                receiver.flooded += len(some)
                while True:
                    receiver.flooded += self.wfile.write(some)

        def _slowly(self, text: bytes) -> None:
            self.close_connection = True
            ends = time.monotonic() + receiver.hang_seconds
            with suppress(OSError):
                for number in range(len(text)):
                    if time.monotonic() > ends or receiver._released.wait(0.01):
                        return
                    self.wfile.write(text[number : number + 1])
                    self.wfile.flush()

        def log_message(self, *_: Any) -> None:
            """The test says what was wrong."""

    return Handler
