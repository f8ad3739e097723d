"""An event as all readers get it."""

from collections.abc import Mapping
from typing import Any

import orjson

MAX_SEQUENCE = 2**63 - 1
"""As far as PostgreSQL counts."""


class Envelope(dict[str, Any]):
    """The nine public fields. Beside them, and never sent with them: `schema_version`, the one of `data`,
    which tells whoever names a schema which one held when the event was written."""

    __slots__ = ("_json", "schema_version")

    def __init__(self, fields: Mapping[str, Any], *, schema_version: int) -> None:
        super().__init__(fields)
        self.schema_version = schema_version
        self._json: bytes | None = None

    @property
    def json(self) -> bytes:
        """As the stream and webhooks carry it, made once. Raises orjson.JSONEncodeError."""
        if self._json is None:
            self._json = orjson.dumps(self)
        return self._json
