"""An event as all readers get it."""

from collections.abc import Mapping
from typing import Any


class Envelope(dict[str, Any]):
    """The nine public fields. Beside them, and never sent with them: `schema_version`, the one of `data`,
    which tells whoever names a schema which one held when the event was written."""

    __slots__ = ("schema_version",)

    def __init__(self, fields: Mapping[str, Any], *, schema_version: int) -> None:
        super().__init__(fields)
        self.schema_version = schema_version
