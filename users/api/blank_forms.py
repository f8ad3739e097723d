"""Forms that are filled in again and again. To make one copies each of its fields, which takes longer than to
read what came."""

from collections import defaultdict
from typing import Any

from rest_framework.serializers import Serializer

_blank: defaultdict[type[Serializer[Any]], list[Serializer[Any]]] = defaultdict(list)
"""As many of each form as were ever filled in at the same time; one in use is not here."""
_WRITING = ("initial_data", "_validated_data", "_errors")


def fill_in(form: type[Serializer[Any]], data: Any) -> dict[str, Any]:
    """The values, as the fields read them. Raises DRF's ValidationError."""
    filled = _take(form)
    try:
        filled.initial_data = data
        filled.is_valid(raise_exception=True)
        return dict(filled.validated_data)
    finally:
        _give_back(form, filled)


def _take(form: type[Serializer[Any]]) -> Serializer[Any]:
    try:
        return _blank[form].pop()
    except IndexError:
        return form()


def _give_back(form: type[Serializer[Any]], filled: Serializer[Any]) -> None:
    """Blank again: there may have been a password on it."""
    for name in _WRITING:
        vars(filled).pop(name, None)
    _blank[form].append(filled)
