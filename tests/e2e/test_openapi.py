"""The OpenAPI document, docs/api.md and the service say the same."""

import json
import re
import tomllib
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from django.conf import LazySettings, settings
from django.http import HttpResponse
from django.urls import URLPattern, URLResolver, get_resolver
from drf_spectacular.drainage import GENERATOR_STATS, reset_generator_stats
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.renderers import OpenApiYamlRenderer
from jsonschema import Draft202012Validator, FormatChecker
from openapi_spec_validator import OpenAPIV31SpecValidator

from config.embedded import PROJECT
from tests.fixtures import PASSWORD, Api, People
from tests.yaml_text import read_yaml
from users import wiring
from users.api import serializers as forms
from users.api.errors import PROBLEMS
from users.api.operations import OPERATIONS, PAGES
from users.api.permissions import MATRIX, Relation
from users.application.errors import ApplicationError
from users.application.event_schemas import EVENT_TYPES
from users.application.webhooks import _description as description
from users_domain.errors import DomainError
from users_domain.value_objects import BlockReason, UserId, UserName

pytestmark = pytest.mark.e2e

Json = dict[str, Any]
TEXT = (PROJECT / "docs" / "openapi.yaml").read_text()
DOCUMENT: Json = read_yaml(TEXT)
FOR_PEOPLE = {"/", "/docs", "/redoc", "/admin"}
METHODS = {"get", "post", "put", "patch", "delete"}
WITHOUT_TOKEN = {
    "log_in",
    "refresh",
    "log_out",
    "request_password_reset",
    "reset_password",
    "request_email_verification",
    "verify_email",
    "confirm_email_change",
    "cancel_email_change",
}
"""For whoever is nobody yet, or is somebody by what he sends: a token that comes along is not looked at."""


def resolve(node: Json) -> Json:
    while "$ref" in node:
        found: Any = DOCUMENT
        for step in node["$ref"].removeprefix("#/").split("/"):
            found = found[step]
        node = found
    return node


def operations() -> Iterator[tuple[str, str, Json]]:
    for path, item in DOCUMENT["paths"].items():
        for method in METHODS & item.keys():
            yield path, method, item[method]


# --- The document itself ----------------------------------------------------------------------


def test_the_committed_document_is_what_the_code_says() -> None:
    reset_generator_stats()
    fresh = OpenApiYamlRenderer().render(SchemaGenerator().get_schema(public=True), renderer_context={})
    assert not GENERATOR_STATS, "drf-spectacular warns: see `make schema`"
    assert fresh.decode() == TEXT, "run `make schema`"


def test_the_document_is_valid_openapi_3_1() -> None:
    assert DOCUMENT["openapi"].startswith("3.1.")
    assert [error.message for error in OpenAPIV31SpecValidator(DOCUMENT).iter_errors()] == []


def test_the_document_has_the_version_of_the_project() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    assert DOCUMENT["info"]["version"] == project["version"]


def test_every_example_of_the_document_is_valid() -> None:
    for path, method, operation in operations():
        if "requestBody" in operation:
            content = operation["requestBody"]["content"]["application/json"]
            assert faults(content["schema"], content["example"]) == [], (path, method)
        for status, response in operation["responses"].items():
            for content in resolve(response).get("content", {}).values():
                for example in examples(content):
                    assert faults(content["schema"], example) == [], (path, method, status)


def examples(content: Json) -> Iterable[Any]:
    named = [resolve(example)["value"] for example in content.get("examples", {}).values()]
    return named + ([content["example"]] if "example" in content else [])


def faults(schema: Json, value: Any) -> list[str]:
    whole = {**schema, "components": DOCUMENT["components"]}  # where its references lead
    validator = Draft202012Validator(whole, format_checker=FormatChecker())
    return [error.message for error in validator.iter_errors(value)]


# --- The document and the code ----------------------------------------------------------------


def routes(patterns: Iterable[URLPattern | URLResolver], prefix: str = "/") -> Iterator[tuple[str, Any]]:
    for entry in patterns:
        address = prefix + str(entry.pattern)
        if isinstance(entry, URLPattern):
            yield re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", address), entry.callback
        elif not address.startswith(("/admin", "/account")):
            yield from routes(entry.url_patterns, address)


def test_every_address_is_documented_with_all_its_methods_and_no_other() -> None:
    served = {
        (address, method)
        for address, view in routes(get_resolver().url_patterns)
        if address not in FOR_PEOPLE
        for method in getattr(view, "actions", {"get": ""})
        if method in METHODS
    }
    assert {(path, method) for path, method, _ in operations()} == served


def test_every_operation_is_described_once_and_has_its_permissions() -> None:
    documented = [operation["operationId"] for _, _, operation in operations()]
    assert sorted(documented) == sorted([*OPERATIONS, *(page.operation_id for page in PAGES.values())])
    assert set(OPERATIONS) == set(MATRIX) - {"register_closed"}


def test_a_token_is_asked_for_where_the_permissions_say_so() -> None:
    for _, _, operation in operations():
        name, security = operation["operationId"], operation.get("security", [])
        if name not in MATRIX or name in WITHOUT_TOKEN:
            assert security == [], name
        else:
            needed = Relation.ANYONE not in MATRIX[name]
            assert security == [{"bearerAuth": []}] + ([] if needed else [{}]), name


def test_every_problem_is_documented_and_every_documented_problem_exists() -> None:
    assert DOCUMENT["components"]["schemas"]["Problem"]["properties"]["error"]["enum"] == list(PROBLEMS)
    documented = set()
    for _, _, operation in operations():
        for status, response in operation["responses"].items():
            for media_type, content in resolve(response).get("content", {}).items():
                if media_type == "application/problem+json":
                    codes = content["schema"]["allOf"][1]["properties"]["error"]["enum"]
                    assert {PROBLEMS[code].status for code in codes} == {int(status)}
                    documented |= set(codes)
    # What the document does not name is answered by the first, no request by the second.
    assert documented == set(PROBLEMS) - {"method_not_allowed", "internal_error"}


def test_what_is_limited_says_so_with_its_headers() -> None:
    limited = {
        operation["operationId"] for _, _, operation in operations() if "429" in operation["responses"]
    }
    assert limited >= {"register", "log_in", "refresh", "retrieve", "list", "block"}
    assert not limited & {page.operation_id for page in PAGES.values()}
    for _, _, operation in operations():
        if operation["operationId"] in limited:
            good = {status for status in operation["responses"] if status in {"200", "201", "202", "204"}}
            assert good
            for status in ("429", *good):
                headers = resolve(operation["responses"][status])["headers"]
                assert {"RateLimit", "RateLimit-Policy"} <= set(headers), operation["operationId"]


def test_every_event_is_documented() -> None:
    event = DOCUMENT["components"]["schemas"]["Event"]
    assert event["properties"]["event_type"]["enum"] == list(EVENT_TYPES)
    assert len(event["properties"]) == len(event["required"]) == 9


# --- The document and the service -------------------------------------------------------------


def accepts(kind: Any, text: str) -> bool:
    try:
        kind(text)
    except (DomainError, ApplicationError):
        return False
    return True


def every_character() -> Iterator[str]:
    """Of the basic plane, and some beyond it; halves of surrogate pairs no JSON text of ours may hold."""
    yield from (chr(code) for code in range(1, 0xD800))
    yield from (chr(code) for code in (*range(0xE000, 0x10000), 0x1F600, 0xE0001, 0x10FFFF))


@pytest.mark.parametrize(
    ("pattern", "kind"), [(forms.NAME, UserName), (forms.REASON, BlockReason), (forms.LINE, description)]
)
@pytest.mark.parametrize("text", ["A{}b", "{}Ab", "Ab{}", "{0}{0}", "A\r\n{}b"])
def test_a_documented_pattern_says_what_the_domain_says_for_every_character(
    pattern: str, kind: Any, text: str
) -> None:
    compiled = re.compile(pattern)
    different = [
        hex(ord(character))
        for character in every_character()
        if bool(compiled.search(text.format(character))) != accepts(kind, text.format(character))
    ]
    assert different == []


@pytest.mark.parametrize(
    ("pattern", "kind", "longest"),
    [(forms.NAME, UserName, 100), (forms.REASON, BlockReason, 500), (forms.LINE, description, 200)],
)
@pytest.mark.parametrize("unit", ["a", "\U0001f600"])
def test_a_documented_pattern_counts_as_the_domain_does(
    pattern: str, kind: Any, longest: int, unit: str
) -> None:
    for length in (0, 1, 2, 3, longest - 1, longest, longest + 1):
        text = f" {unit * length}\t"
        assert bool(re.search(pattern, text)) == accepts(kind, text), length


def test_the_documented_pattern_of_an_id_is_that_of_an_id() -> None:
    pattern = resolve(DOCUMENT["components"]["parameters"]["user_id"])["schema"]["pattern"]
    known = str(UserId.new())
    assert re.search(pattern, "me")
    for text in (known, known.upper(), known[:14] + "4" + known[15:], known[:-1], "nobody", known + "0"):
        assert bool(re.search(pattern, text)) == accepts(UserId.parse, text), text


@pytest.mark.parametrize(
    "value",
    [
        '"1"',
        '"7", W/"1"',
        "*",
        'W/"1"',
        '"1","2"',
        '""',
        '"a b"',
        "1",
        '"1',
        "W/1",
        '"1";',
        '"1" "2"',
        "**",
        ",",
    ],
)
def test_the_documented_pattern_of_if_match_is_what_the_service_reads(admin: Api, value: str) -> None:
    pattern = DOCUMENT["components"]["parameters"]["If-Match"]["schema"]["pattern"]
    answer = admin("PATCH", "/users/me", {"name": "Ann"}, if_match=value)
    assert answer.status_code in {200, 412, 400}
    assert bool(re.fullmatch(pattern, value)) == (answer.status_code != 400)


def conforms(answer: HttpResponse, method: str, path: str) -> None:
    documented = resolve(DOCUMENT["paths"][path][method]["responses"][str(answer.status_code)])
    for name, header in ((name, resolve(header)) for name, header in documented["headers"].items()):
        if header["required"] or name in answer:
            assert faults(header["schema"], answer[name]) == [], name
    if "content" in documented:
        content = documented["content"][answer["Content-Type"].partition(";")[0]]
        assert faults(content["schema"], answer.json()) == []


def test_answers_are_as_documented(admin: Api, anyone: Api, people: People) -> None:
    body = {"email": "new@example.com", "name": "New", "password": "seven green umbrellas"}
    registered = anyone("POST", "/users", body)
    assert registered.status_code == 201
    conforms(registered, "post", "/users")
    one = f"/users/{registered.json()['id']}"
    for method, path, sent, status, documented in [
        ("POST", "/users", body, 409, "/users"),
        ("POST", "/users", {"name": 1, "new": 2}, 400, "/users"),
        ("GET", "/users?limit=1", None, 200, "/users"),
        ("GET", one, None, 200, "/users/{user_id}"),
        ("GET", "/users/nobody", None, 404, "/users/{user_id}"),
        (
            "POST",
            f"{one}/block",
            {"reason": "spam", "until": "2099-01-01T00:00:00Z"},
            200,
            "/users/{user_id}/block",
        ),
        ("POST", f"{one}/block", {"reason": "spam"}, 409, "/users/{user_id}/block"),
        ("GET", f"{one}/events", None, 200, "/users/{user_id}/events"),
        ("GET", "/events", None, 200, "/events"),
        ("GET", "/events?limit=1", None, 200, "/events"),
        ("GET", "/schema/events", None, 200, "/schema/events"),
        ("GET", "/schema/events/user.created", None, 200, "/schema/events/{name}"),
        ("GET", "/schema/events/nothing", None, 404, "/schema/events/{name}"),
        ("POST", "/auth/token", {"email": "admin@example.com", "password": PASSWORD}, 200, "/auth/token"),
        ("POST", "/auth/token", {"email": "admin@example.com", "password": "no"}, 401, "/auth/token"),
        ("GET", "/.well-known/jwks.json", None, 200, "/.well-known/jwks.json"),
        ("GET", "/health/ready", None, 200, "/health/ready"),
        ("DELETE", one, None, 200, "/users/{user_id}"),
        ("GET", one, None, 200, "/users/{user_id}"),
        ("GET", f"{one}/events", None, 200, "/users/{user_id}/events"),
        ("DELETE", one, None, 404, "/users/{user_id}"),
    ]:
        answer = admin(method, path, sent)
        assert answer.status_code == status, (method, path, answer.content)
        conforms(answer, method.lower(), documented)
    conforms(admin("GET", "/events", accept="application/cloudevents-batch+json"), "get", "/events")


def test_an_export_is_as_documented(admin: Api) -> None:
    answer = admin("GET", "/users/me/export")
    documented = DOCUMENT["paths"]["/users/{user_id}/export"]["get"]["responses"]["200"]
    schema = documented["content"]["application/json"]["schema"]
    assert faults(schema, json.loads(answer.getvalue())) == []
    assert (
        faults(resolve(documented["headers"]["Content-Disposition"])["schema"], answer["Content-Disposition"])
        == []
    )


def test_answers_about_mails_and_links_are_as_documented(
    admin: Api, settings: LazySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.EMAIL_CHANGE = "verified"
    monkeypatch.setattr(wiring, "_service", None)
    address, link = {"email": "new@example.com"}, {"token": "nonsense"}
    for method, path, sent, status in [
        ("POST", "/auth/password-reset", address, 202),
        ("POST", "/auth/password-reset/confirm", link | {"new_password": PASSWORD}, 400),
        ("POST", "/auth/email-verification", address, 202),
        ("POST", "/auth/email-verification/confirm", link, 400),
        ("POST", "/auth/email-change/confirm", link, 400),
        ("POST", "/auth/email-change/cancel", link, 400),
        ("PUT", "/users/me/email", address | {"password": PASSWORD}, 202),
        ("PUT", "/users/me/email", address | {"password": "no"}, 403),
    ]:
        answer = admin(method, path, sent)
        assert answer.status_code == status, (method, path, answer.content)
        conforms(answer, method.lower(), path.replace("/me/", "/{user_id}/"))


def test_answers_about_webhooks_are_as_documented(admin: Api) -> None:
    made = admin("POST", "/webhooks", {"url": "http://127.0.0.1:1/hooks", "event_types": ["user.created"]})
    assert made.status_code == 201
    conforms(made, "post", "/webhooks")
    one, documented = made["Location"], "/webhooks/{webhook_id}"
    for method, path, sent, status in [
        ("POST", "/ping", None, 200),
        ("POST", "/redeliver", {"sequence": 1}, 200),
        ("POST", "/redeliver", {"since": 1}, 200),
        ("POST", "/redeliver", {"sequence": 1, "since": 1}, 400),
        ("POST", "/redeliver", {"sequence": 99}, 404),
        ("GET", "/deliveries", None, 200),
        ("POST", "/rotate-secret", None, 200),
        ("POST", "/resume", None, 200),
        ("PATCH", "", {"enabled": False}, 200),
        ("GET", "", None, 200),
    ]:
        answer = admin(method, f"{one}{path}", sent)
        assert answer.status_code == status, (method, path, answer.content)
        conforms(answer, method.lower(), f"{documented}{path}")
    conforms(admin("GET", "/webhooks"), "get", "/webhooks")
    conforms(admin("GET", one, if_none_match='"3"'), "get", documented)
    conforms(admin("DELETE", one), "delete", documented)


# --- docs/api.md --------------------------------------------------------------------------------


def table(head: list[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def errors_table() -> str:
    rows = ([f"`{code}`", str(problem.status), problem.meaning] for code, problem in PROBLEMS.items())
    return table(["error", "status", "meaning"], rows)


def permissions_table() -> str:
    addresses = {
        operation["operationId"]: f"`{method.upper()} {re.sub('{user_id}|{webhook_id}', '{id}', path)}`"
        for path, method, operation in operations()
    }
    addresses["register_closed"] = f"{addresses['register']} with `REGISTRATION=closed`"
    rows = (
        [addresses[name], *("yes" if relation in callers else "" for relation in Relation)]
        for name, callers in MATRIX.items()
    )
    return table(["request", *Relation], rows)


@pytest.mark.parametrize("expected", [errors_table(), permissions_table()], ids=["errors", "permissions"])
def test_the_guide_has_the_tables_that_the_code_has(expected: str) -> None:
    assert expected in (PROJECT / "docs" / "api.md").read_text(), f"paste this:\n{expected}"


def test_the_guide_names_the_limits_that_hold() -> None:
    guide = (PROJECT / "docs" / "api.md").read_text()
    assert f"{settings.MAX_BODY_BYTES // 1024} KiB" in guide
    assert f"at most {forms.MAX_PAGE}" in guide
    assert f"{settings.IDEMPOTENCY_HOURS} hours" in guide
