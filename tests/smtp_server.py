"""A mail server of a test's own, which takes mails over SMTP, or answers as it is told to."""

import email
import email.policy
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.message import EmailMessage
from typing import ClassVar

import pytest
from django.conf import settings

from tests.together import PATIENCE

Answer = Callable[[str, str], str | None]
"""From a command (`RCPT`, `DATA`, or `.` for the end of a mail) and the line to a reply; None for the usual
one, an empty one to hang up without a word."""


class SmtpServer(socketserver.ThreadingTCPServer):
    """`received`: mails that it has accepted. `connections`: how often somebody has called. `answer` may be
    set to refuse."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Conversation)
        self.received: list[EmailMessage] = []
        self.recipients: list[str] = []
        self.connections = 0
        self.answer: Answer = lambda command, line: None

    @property
    def port(self) -> int:
        return int(self.server_address[1])


class _Conversation(socketserver.StreamRequestHandler):
    server: SmtpServer
    usual: ClassVar[dict[str, str]] = {"DATA": "354 go on", "QUIT": "221 bye"}

    def handle(self) -> None:
        self.server.connections += 1
        recipient = ""
        if not self._reply("HELLO", "", "220 test"):
            return
        while line := self.rfile.readline().decode().rstrip("\r\n"):
            command = line[:4].upper()
            if command == "RCPT":
                recipient = line.partition("<")[2].partition(">")[0]
            if not self._reply(command, line, self.usual.get(command, "250 fine")) or command == "QUIT":
                return
            if command == "DATA" and self._last.startswith("354"):
                message = self._read_mail()
                if not self._reply(".", recipient, "250 taken"):
                    return
                if self._last.startswith("250"):
                    self.server.received.append(message)
                    self.server.recipients.append(recipient)

    def _reply(self, command: str, line: str, usual: str) -> bool:
        said = self.server.answer(command, line)
        self._last = usual if said is None else said
        self.wfile.write(f"{self._last}\r\n".encode() if self._last else b"")
        return bool(self._last)

    def _read_mail(self) -> EmailMessage:
        lines = []
        while (line := self.rfile.readline()) not in {b".\r\n", b""}:
            lines.append(line.removeprefix(b".") if line.startswith(b"..") else line)
        return email.message_from_bytes(b"".join(lines), policy=email.policy.default)  # type: ignore[return-value]


@contextmanager
def running() -> Iterator[SmtpServer]:
    with SmtpServer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def smtp(monkeypatch: pytest.MonkeyPatch) -> Iterator[SmtpServer]:
    """Where the service sends its mails during this test."""
    with running() as server:
        use(monkeypatch, server.port)
        yield server


def use(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    """The mail server on this port, if there is one."""
    monkeypatch.setattr(settings, "EMAIL_BACKEND", "django.core.mail.backends.smtp.EmailBackend")
    monkeypatch.setattr(settings, "EMAIL_HOST", "127.0.0.1")
    monkeypatch.setattr(settings, "EMAIL_PORT", port)
    monkeypatch.setattr(settings, "EMAIL_TIMEOUT", PATIENCE)
