"""The committed contract of events, users/application/schemas/ and docs/asyncapi.yaml: `write` it, or `check`
that it is what the code says, valid, and breaks no reader.

A schema of one version only grows. What a reader of yesterday relies on has to hold for what is sent
tomorrow: every field that he knows is there, of the same type or a narrower one. Whoever must break that
raises the event's `schema_version`, and the schema of the next version appears beside the one before.
"""

import json
import os
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft7Validator, Draft202012Validator

from config.embedded import PROJECT
from users.application.event_schemas import FOLDER, SCHEMAS, Schema

Json = dict[str, Any]

ASYNCAPI = PROJECT / "docs" / "asyncapi.yaml"
META_SCHEMA = PROJECT / "tests" / "data" / "asyncapi-3.0.0.json"

WORDS = {"$schema", "$id", "$comment", "title", "description", "examples"}
"""Of a schema, what says nothing about the values."""
LOWER_LIMITS = {"minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"}
UPPER_LIMITS = {"maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"}


def breaks(old: Json, new: Json, at: str = "data") -> Iterator[str]:
    """How values by the schema `new` may surprise a reader who knows `old`. Keywords that are not understood
    here count as broken when they change."""
    yield from _fields_that_break(old, new, at)
    rest = old.keys() - WORDS - {"properties", "required"}
    for keyword in sorted(rest):
        if keyword == "items" and "items" in new:
            yield from breaks(old["items"], new["items"], f"{at}[]")
        elif keyword not in new or not _holds(keyword, old[keyword], new[keyword]):
            said = json.dumps(new[keyword]) if keyword in new else "nothing"
            yield f"{at}: {keyword} was {json.dumps(old[keyword])} and is {said}"


def _fields_that_break(old: Json, new: Json, at: str) -> Iterator[str]:
    present = new.get("properties", {})
    for name, field in old.get("properties", {}).items():
        if name in present:
            yield from breaks(field, present[name], f"{at}.{name}")
        else:
            yield f"{at}.{name}: removed"
    for name in old.get("required", []):
        if name in present and name not in new.get("required", []):
            yield f"{at}.{name}: may be missing"


def _holds(keyword: str, old: Any, new: Any) -> bool:
    """Whether all that the keyword lets through now it would have let through before."""
    if keyword == "type":
        return _types(new) <= _types(old)
    if keyword == "enum":
        return all(value in old for value in new)
    if keyword in LOWER_LIMITS:
        return bool(new >= old)
    if keyword in UPPER_LIMITS:
        return bool(new <= old)
    return bool(new == old)


def _types(value: str | list[str]) -> set[str]:
    types = {value} if isinstance(value, str) else set(value)
    return types | {"integer"} if "number" in types else types


def breaches(folder: Path, schemas: Collection[Schema]) -> Iterator[str]:
    """What in the committed schemas of the `folder` these would break."""
    present = {schema.name: schema for schema in schemas}
    for file in sorted(folder.glob("*.json")):
        name, _, version = file.stem.rpartition(".v")
        schema = present.get(name)
        if schema is None:
            yield f"{file.name}: there is no event {name} any more; its readers would wait for ever"
        elif schema.version < int(version):
            yield f"{file.name}: {name} has version {schema.version} by now; versions only rise"
        elif schema.version == int(version):
            for breach in breaks(json.loads(file.read_text()), schema.content):
                yield f"{file.name}: {breach}; raise schema_version of {name}"


def drift(folder: Path, schemas: Collection[Schema]) -> Iterator[str]:
    for schema in schemas:
        file = _file(folder, schema)
        if not file.exists():
            yield f"{file.name} is missing"
        elif file.read_text() != _text(schema):
            yield f"{file.name} is not what the code says"


def write(folder: Path, schemas: Collection[Schema]) -> list[str]:
    """Writes the schemas, unless that would break a reader; answers what would."""
    found = list(breaches(folder, schemas))
    if not found:
        folder.mkdir(parents=True, exist_ok=True)
        for schema in schemas:
            _file(folder, schema).write_text(_text(schema))
    return found


def _file(folder: Path, schema: Schema) -> Path:
    return folder / f"{schema.versioned_name}.json"


def _text(schema: Schema) -> str:
    return json.dumps(schema.content, indent=2, ensure_ascii=False) + "\n"


def asyncapi_text() -> str:
    from users.api.event_schemas import YAML, rendered

    return rendered(YAML).decode()


def invalid(document: Mapping[str, Any], schemas: Collection[Schema]) -> Iterator[str]:
    """What the official meta-schemas find wrong."""
    for error in Draft7Validator(json.loads(META_SCHEMA.read_text())).iter_errors(document):
        yield f"asyncapi.yaml: {error.json_path}: {error.message[:300]}"
    for schema in schemas:
        for error in Draft202012Validator(Draft202012Validator.META_SCHEMA).iter_errors(schema.content):
            yield f"{schema.versioned_name}: {error.json_path}: {error.message}"


def check() -> list[str]:
    text = asyncapi_text()
    faults = [*breaches(FOLDER, SCHEMAS.values()), *invalid(yaml.safe_load(text), SCHEMAS.values())]
    stale = list(drift(FOLDER, SCHEMAS.values()))
    if not ASYNCAPI.exists() or ASYNCAPI.read_text() != text:
        stale.append("asyncapi.yaml is not what the code says")
    return faults + [f"{file}: run `make schema`" for file in stale]


def write_all() -> list[str]:
    found = write(FOLDER, SCHEMAS.values())
    if not found:
        ASYNCAPI.write_text(asyncapi_text())
    return found


def main(act: Callable[[], list[str]]) -> int:
    import django

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    django.setup()
    found = act()
    print("\n".join(found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main({"write": write_all, "check": check}[sys.argv[1]]))
