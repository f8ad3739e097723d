"""What is said of an operation, or of a page, beyond what its address and its forms say."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from rest_framework.serializers import Serializer

from users.api import serializers as forms

Json = dict[str, Any]
CONDITIONAL = ("version_mismatch", "precondition_required", "concurrent_update")
"""What every command on one user may answer on account of his version."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """`about`: what the address names, if anything, by id. `problems` are those beyond what every operation
    of its kind may answer. `sends` and `answers_with` name header components; `leads_to` are operations that
    take the id and version of what is answered. Two forms of `answer` stand for one of both. `also_as`: the
    answer's schema and example in further media types. `later`: what is answered, with 202, where it is not
    done at once."""

    tag: str
    summary: str
    about: Literal["user", "webhook"] | None = None
    text: str = ""
    body: type[Serializer[Any]] | None = None
    body_example: Json | None = None
    query: type[forms.StrictQuery] | None = None
    sends: tuple[str, ...] = ()
    status: int = 200
    answer: type[Serializer[Any]] | tuple[type[Serializer[Any]], ...] | None = None
    answer_example: Any = None
    also_as: Mapping[str, tuple[Json, Any]] = field(default_factory=dict)
    answers_with: tuple[str, ...] = ()
    later: type[Serializer[Any]] | None = None
    later_example: Any = None
    not_modified: bool = False
    problems: tuple[str, ...] = ()
    leads_to: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What is served outside DRF, to anyone, by GET. `content` is a schema for each media type."""

    operation_id: str
    tag: str = "service"
    summary: str
    text: str = ""
    parameters: tuple[Json, ...] = ()
    content: Mapping[str, Json] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
