"""Every naughty string in every place of every operation: never a 500, and what is taken comes back."""

import http.client
import json
from collections import Counter
from contextlib import closing
from itertools import count
from typing import Any
from urllib.parse import quote

import pytest

from tests.e2e.served import Served
from tests.fixtures import PASSWORD, Api, People
from tests.soak.conftest import access_token
from tests.soak.naughty import strings
from users_domain.value_objects import Email, UserName

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3000)]

HEADERS = (
    "If-Match",
    "If-None-Match",
    "Idempotency-Key",
    "X-Request-ID",
    "Authorization",
    "Accept",
    "Accept-Language",
    "Content-Type",
    "User-Agent",
    "X-Forwarded-For",
    "Forwarded",
    "Origin",
    "Cookie",
    "Range",
    "Expect",
)
SELF_ONLY = ("/password", "/email", "/export", "/sessions")
Json = dict[str, Any]
_numbers = count()
"""So that every account has an address of its own."""


class Caller:
    """One connection, opened again when the server has closed it; JSON in and out."""

    def __init__(self, port: int, token: str) -> None:
        self._wire = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        self.token = token
        self.statuses: Counter[int] = Counter()
        self.faults: list[str] = []

    def __call__(
        self, method: str, path: str, body: Any = None, headers: dict[str, bytes] | None = None
    ) -> Any:
        sent: dict[str, Any] = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        sent |= headers or {}
        data = None if body is None else json.dumps(body).encode()
        status, content = self._send(method, path, data, sent)
        self.statuses[status] += 1
        if status >= 500:
            self.faults.append(f"{status} {method} {path} {data!r} {headers!r}: {content[:200]!r}")
        return status, content

    def close(self) -> None:
        self._wire.close()

    def _send(self, method: str, path: str, data: bytes | None, headers: dict[str, Any]) -> tuple[int, bytes]:
        for attempt in (1, 2):
            try:
                self._wire.request(method, path, data, headers)
                response = self._wire.getresponse()
                return response.status, response.read()
            except (http.client.HTTPException, OSError):
                self._wire.close()
                if attempt == 2:
                    raise
        raise AssertionError("unreachable")


def resolved(node: Json, document: Json) -> Json:
    while "$ref" in node:
        at: Any = document
        for part in node["$ref"].removeprefix("#/").split("/"):
            at = at[part]
        node = at
    return node


def sample(name: str, schema: Json, document: Json) -> Any:
    """Something that is taken, so that the one naughty field decides."""
    schema = resolved(schema, document)
    if name == "email":
        return f"sample{next(_numbers)}@example.com"
    if "password" in name:
        return PASSWORD
    for where in ("example", "default", "const"):
        if where in schema:
            return schema[where]
    for where in ("examples", "enum"):
        if schema.get(where):
            return schema[where][0]
    kinds = schema.get("type", "string")
    kind = kinds[0] if isinstance(kinds, list) else kinds
    return {"array": [], "boolean": True, "integer": 1, "object": {}}.get(kind, "Some words")


def fields(operation: Json, document: Json) -> Json:
    for content in operation.get("requestBody", {}).get("content", {}).values():
        return resolved(content["schema"], document).get("properties", {})
    return {}


def addressed(path: str, parameters: list[Json], values: dict[str, str]) -> str:
    """The path with its parameters filled in, those that are given; an id of nobody for the others."""
    for parameter in parameters:
        if parameter["in"] == "path":
            value = values.get(parameter["name"], "01a20477-9871-72a9-8efe-734ec2637c15")
            path = path.replace(f"{{{parameter['name']}}}", quote(value, safe=""))
    query = [
        f"{parameter['name']}={quote(values[parameter['name']], safe='')}"
        for parameter in parameters
        if parameter["in"] == "query" and parameter["name"] in values
    ]
    return path + ("?" + "&".join(query) if query else "")


def test_no_text_in_any_place_of_any_operation_is_a_500(target: Served, people: People) -> None:
    people.user("Victim")
    victim = access_token(target, "Victim")
    document: Json = json.loads(target("GET", "/schema").body)
    with closing(Caller(target.port, "")) as call:
        for path, item in document["paths"].items():
            for method in item.keys() & {"get", "post", "put", "patch", "delete"}:
                name = f"Chief{next(_numbers)}"
                chief = people.staff("admin", name)
                call.token = access_token(target, name)
                user_id = chief if path.endswith(SELF_ONLY) else people.user(f"User{next(_numbers)}")
                by_value(call, method.upper(), path, item[method], document, user_id)
    with closing(Caller(target.port, victim)) as headers:
        by_header(headers)
    for each in (call, headers):
        print(f"{each.statuses.total()} calls, {dict(each.statuses)}")
        assert each.faults == []
        assert each.statuses[200] > 500, "hardly anything was let in"
    assert call.statuses.total() > 20_000


def by_value(call: Caller, method: str, path: str, operation: Json, document: Json, user_id: str) -> None:
    """By an admin, and on an account, of this operation's own: some of it may end them."""
    parameters = [resolved(parameter, document) for parameter in operation.get("parameters", [])]
    properties = fields(operation, document)
    for text in set(strings()) - {"me"}:
        for parameter in parameters:
            if parameter["in"] in {"path", "query"}:
                given = {"user_id": user_id, parameter["name"]: text}
                call(method, addressed(path, parameters, given))
        place = addressed(path, parameters, {"user_id": user_id})
        for field in properties:
            body = {each: sample(each, properties[each], document) for each in properties}
            for naughty in (text, [text], {text: text}):
                call(method, place, body | {field: naughty})
        if properties:
            call(method, place, {text: text})


def by_header(call: Caller) -> None:
    """As bytes; lines cannot be broken by the client, whose tests in test_bad_input speak raw."""
    for text in strings():
        value = text.encode().replace(b"\r", b"").replace(b"\n", b"")[:4000]
        for header in HEADERS:
            call("PATCH", "/users/me", {"name": "Ann"}, {header: value})
            call("GET", "/users/me", None, {header: value})


def test_what_is_stored_is_what_is_returned(target: Served, people: People, admin: Api) -> None:
    """After the normalisation that docs/api.md tells: names are trimmed, addresses in canonical form."""
    people.user("Ann")
    taken = Counter[str]()
    with closing(Caller(target.port, access_token(target, "Ann"))) as call:
        for text in strings():
            _keep(call, admin, people, text, taken)
    print(dict(taken))
    assert all(taken[kind] > 15 for kind in ("name", "reason", "email", "password"))


def _keep(call: Caller, admin: Api, people: People, text: str, taken: Counter[str]) -> None:
    taken["name"] += _keeps_name(call, admin, text)
    taken["reason"] += _keeps_reason(admin, people, text)
    taken["email"] += _keeps_email(call, text)
    taken["password"] += _keeps_password(call, text)


def _keeps_name(call: Caller, admin: Api, text: str) -> bool:
    status, content = call("PATCH", "/users/me", {"name": text})
    if status != 200:
        return False
    assert json.loads(content)["name"] == text.strip() == UserName(text).value
    assert json.loads(call("GET", "/users/me")[1])["name"] == text.strip()
    assert admin("GET", "/users?email=ann@example.com").json()["results"][0]["name"] == text.strip()
    return True


def _keeps_reason(admin: Api, people: People, text: str) -> bool:
    mallory = people.user(f"Mallory{next(_numbers)}")
    answer = admin("POST", f"/users/{mallory}/block", {"reason": text})
    if answer.status_code != 200:
        return False
    kept = text.strip().replace("\r\n", "\n")
    assert answer.json()["blocked"]["reason"] == kept
    assert admin("GET", f"/users/{mallory}").json()["blocked"]["reason"] == kept
    assert admin("GET", f"/users/{mallory}/events").json()["results"][-1]["data"]["reason"] == kept
    return True


def _keeps_email(call: Caller, text: str) -> bool:
    address = text if "@" in text else f"{text}@example.com"
    status, content = call("POST", "/users", {"email": address, "name": "Bob", "password": PASSWORD})
    if status != 201:
        return False
    stored = json.loads(content)["email"]
    assert stored == Email(address).value == Email(stored).value
    for spelling in (address, stored, f" {stored.upper()} " if stored.isascii() else stored):
        assert call("POST", "/auth/token", {"email": spelling, "password": PASSWORD})[0] == 200, spelling
    return True


def _keeps_password(call: Caller, text: str) -> bool:
    """Every character counts, blanks at the ends too."""
    email = f"password{next(_numbers)}@example.com"
    password = f"{text}, and long enough"
    status, _ = call("POST", "/users", {"email": email, "name": "Bob", "password": password})
    if status != 201:
        return False
    assert call("POST", "/auth/token", {"email": email, "password": password})[0] == 200
    for other in (password + " ", password[1:], password.swapcase()):
        if other != password:
            assert call("POST", "/auth/token", {"email": email, "password": other})[0] == 401, other
    return True
