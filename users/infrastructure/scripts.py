"""Lua scripts, which Redis carries out as one command; it is taught those that it does not know."""

from collections.abc import Sequence
from hashlib import sha1
from typing import Any

from redis.exceptions import NoScriptError

from users.infrastructure.redis_link import Ask, OwnConnection
from users.infrastructure.redis_wire import Ahead


class Script:
    def __init__(self, text: str) -> None:
        self._text = text
        self._name = sha1(text.encode(), usedforsecurity=False).hexdigest()

    def __call__(self, ask: Ask, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        """In one round trip, or two the first time. Raises redis' own errors."""
        try:
            return ask(*self._command(keys, arguments))
        except NoScriptError:
            return ask("EVAL", self._text, len(keys), *keys, *arguments)

    def ahead(self, own: OwnConnection, keys: Sequence[str], arguments: Sequence[Any]) -> Ahead:
        """Along with what is asked next, in the same round trip. The answer may be None, or an error, which
        leaves it open whether it was carried out."""
        return own.wire.ahead(*self._command(keys, arguments)) if own.wire else Ahead()

    def tell(self, own: OwnConnection, ask: Ask, keys: Sequence[str], arguments: Sequence[Any]) -> None:
        """Without waiting, as soon as Redis has shown on this connection that it knows the script. Raises
        redis' own errors, but not what comes of it later."""
        told = own.wire.told.get(self._name) if own.wire else None
        if own.wire is None or told is None or isinstance(told.answer, NoScriptError):
            self(ask, keys, arguments)
            told = Ahead()
        else:
            told = own.wire.tell(*self._command(keys, arguments))
        if own.wire:
            own.wire.told[self._name] = told

    def _command(self, keys: Sequence[str], arguments: Sequence[Any]) -> tuple[Any, ...]:
        return "EVALSHA", self._name, len(keys), *keys, *arguments
