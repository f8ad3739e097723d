"""HTTP for readers in a hurry: a kept connection, one request at a time, no more parsed than needed."""

import re
import socket
from dataclasses import dataclass

HEAD_END = b"\r\n\r\n"
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
ETAG = re.compile(rb'\r\netag: *"(\d+)"', re.IGNORECASE)
CLOSING = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)


class Broken(Exception):
    """No answer will come on this connection."""


@dataclass(slots=True)
class Answer:
    status: int
    version: int | None
    """By the ETag."""
    body: bytes
    closing: bool


class Wire:
    """Non-blocking once it is connected: `send`, then `receive` whenever there is something."""

    def __init__(self, port: int) -> None:
        """Raises OSError."""
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=2)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.setblocking(False)
        self._received = b""

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, request: bytes) -> None:
        """A small one, which fits into the kernel's buffer. Raises OSError."""
        self._socket.sendall(request)

    def receive(self) -> Answer | None:
        """None until the answer is whole. Raises OSError, Broken."""
        added = self._socket.recv(65536)
        if not added:
            raise Broken
        self._received += added
        head_end = self._received.find(HEAD_END)
        if head_end < 0:
            return None
        head, body = self._received[: head_end + 2], self._received[head_end + len(HEAD_END) :]
        status = int(head[9:12])
        length = LENGTH.search(head)
        if len(body) < (int(length[1]) if length and status != 304 else 0):
            return None
        self._received = b""
        tag = ETAG.search(head)
        return Answer(status, int(tag[1]) if tag else None, body, CLOSING.search(head) is not None)

    def close(self) -> None:
        self._socket.close()


def request(path: str, token: str = "", *, known: int | None = None, body: bytes | None = None) -> bytes:
    """`known`: the version for If-None-Match. With a body it is a POST."""
    lines = [f"{'GET' if body is None else 'POST'} {path} HTTP/1.1", "Host: 127.0.0.1"]
    if token:
        lines.append(f"Authorization: Bearer {token}")
    if known is not None:
        lines.append(f'If-None-Match: "{known}"')
    if body is not None:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + (body or b"")
