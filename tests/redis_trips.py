"""Counting what is asked of Redis."""

import pytest
from redis.connection import AbstractConnection

from users.infrastructure.redis_wire import Wire


def noted_trips(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What is sent from here on, a pipeline as one, by redis-py's clients and by threads' own connections."""
    sent: list[object] = []
    for kind, name in ((AbstractConnection, "send_packed_command"), (Wire, "ask"), (Wire, "tell")):
        _note(monkeypatch, kind, name, sent)
    return sent


def _note(monkeypatch: pytest.MonkeyPatch, kind: type, name: str, sent: list[object]) -> None:
    real = getattr(kind, name)

    def noting(link: object, *arguments: object, **options: object) -> object:
        sent.append(arguments)
        return real(link, *arguments, **options)

    monkeypatch.setattr(kind, name, noting)
