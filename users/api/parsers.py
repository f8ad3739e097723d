"""JSON as the contract wants it: what two parsers could read in two ways is refused (RFC 8259, I-JSON)."""

import json
from collections.abc import Mapping
from typing import IO, Any

from django.conf import settings
from django.core.exceptions import RequestDataTooBig
from rest_framework.exceptions import ParseError
from rest_framework.parsers import BaseParser

MAX_DEPTH = 20


class StrictJSONParser(BaseParser):
    """UTF-8; no duplicate keys, NaN, infinities, NUL, lone surrogates, nesting over 20, or over 64 KiB."""

    media_type = "application/json"

    def parse(
        self,
        stream: IO[bytes],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        body = stream.read(settings.MAX_BODY_BYTES + 1)
        if len(body) > settings.MAX_BODY_BYTES:
            raise RequestDataTooBig
        return parse_strictly(body)


def parse_strictly(body: bytes) -> Any:
    """Raises ParseError, with a sentence that says what is wrong."""
    try:
        value = json.loads(
            body.decode(),
            object_pairs_hook=_object_without_duplicates,
            parse_constant=_refuse_constant,
            parse_float=_finite,
        )
    except UnicodeDecodeError:
        raise ParseError("The body is not UTF-8.") from None
    except RecursionError:
        raise ParseError(f"The JSON nests deeper than {MAX_DEPTH} levels.") from None
    except json.JSONDecodeError as error:
        raise ParseError(
            f"The body is not JSON: {error.msg} (line {error.lineno}, column {error.colno})."
        ) from None
    except ValueError:
        raise ParseError("The body holds a number that is too long.") from None
    _check(value, depth=1)
    return value


def _object_without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ParseError("The JSON has the same key twice in one object.")
    return found


def _refuse_constant(name: str) -> None:
    raise ParseError(f"{name} is not JSON.")


def _finite(text: str) -> float:
    number = float(text)
    if number in {float("inf"), float("-inf")}:
        raise ParseError("The JSON holds a number that is too large.")
    return number


def _check(value: Any, depth: int) -> None:
    if depth > MAX_DEPTH and isinstance(value, dict | list):
        raise ParseError(f"The JSON nests deeper than {MAX_DEPTH} levels.")
    if isinstance(value, str):
        _check_text(value)
    elif isinstance(value, list):
        for item in value:
            _check(item, depth + 1)
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_text(key)
            _check(item, depth + 1)


def _check_text(text: str) -> None:
    if "\x00" in text:
        raise ParseError("A text holds the character NUL.")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise ParseError("A text holds half of a surrogate pair.")
