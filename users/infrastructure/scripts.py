"""Lua scripts, which Redis carries out as one command; it is taught those that it does not know."""

from collections.abc import Sequence
from hashlib import sha1
from typing import Any

from redis.exceptions import NoScriptError

from users.infrastructure.redis_link import Ask, OwnConnection
from users.infrastructure.redis_wire import Ahead, Wire


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

    def tell(self, own: OwnConnection, keys: Sequence[str], arguments: Sequence[Any]) -> None:
        """Without waiting, as soon as Redis has shown on this connection that it knows the script. Raises
        redis' own errors, but not what comes of it later."""
        if (wire := own.wire) and self._is_known_to(wire):
            wire.told[self._name] = wire.tell(*self._command(keys, arguments))
            return
        self(own, keys, arguments)
        if wire := own.wire:
            wire.told[self._name] = Ahead()

    def _is_known_to(self, wire: Wire) -> bool:
        told = wire.told.get(self._name)
        return told is not None and not isinstance(told.answer, NoScriptError)

    def _command(self, keys: Sequence[str], arguments: Sequence[Any]) -> tuple[Any, ...]:
        return "EVALSHA", self._name, len(keys), *keys, *arguments
