"""Lua scripts, which Redis carries out as one command; it is taught those that it does not know."""

from collections.abc import Sequence
from hashlib import sha1
from typing import Any

from redis.exceptions import NoScriptError

from users.infrastructure.redis_link import Ask


class Script:
    def __init__(self, text: str) -> None:
        self._text = text
        self._name = sha1(text.encode(), usedforsecurity=False).hexdigest()

    def __call__(self, ask: Ask, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        """In one round trip, or two the first time. Raises redis' own errors."""
        try:
            return ask("EVALSHA", self._name, len(keys), *keys, *arguments)
        except NoScriptError:
            return ask("EVAL", self._text, len(keys), *keys, *arguments)
