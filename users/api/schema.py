"""The OpenAPI document: drf-spectacular, told of our operations, their headers and their problems."""

# mypy: disable-error-code="no-untyped-call"
# drf-spectacular has no annotations.

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe
from django.views.decorators.vary import vary_on_headers
from drf_spectacular.drainage import has_override
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.renderers import OpenApiJsonRenderer, OpenApiYamlRenderer
from rest_framework.serializers import Field, Serializer

from users.api import serializers as forms
from users.api.components import (
    BEARER,
    HEADERS,
    HEADERS_OF_STATUS,
    LIMIT_HEADERS,
    PARAMETERS,
    SECURITY_SCHEMES,
    problem_example,
    problem_schema,
)
from users.api.errors import MEDIA_TYPE, PROBLEMS
from users.api.limits import LIMITED_WITHIN, LIMITS
from users.api.operations import OPERATIONS, PAGES, Json, Operation, Page
from users.api.permissions import MATRIX, Relation

JSON = "application/json"


class ProblemSchema(AutoSchema):
    """Each operation as `OPERATIONS` describes it, with every problem it may answer."""

    view: Any

    @property
    def described(self) -> Operation:
        return OPERATIONS[self.view.action]

    def get_operation_id(self) -> str:
        return str(self.view.action)

    def get_summary(self) -> str:
        return self.described.summary

    def get_description(self) -> str:  # type: ignore[override]
        callers = sorted(MATRIX[self.view.action], key=list(Relation).index)
        return f"{self.described.text}\n\nFor: {', '.join(callers)}.".strip()

    def get_tags(self) -> list[str]:
        return [self.described.tag]

    def get_auth(self) -> list[Json]:
        if not self.view.authentication_classes:
            return []
        return [{BEARER: []}, {}] if _anyone_may(self.view.action) else [{BEARER: []}]

    def get_serializer_name(self, serializer: Serializer[Any], direction: str) -> str:
        return type(serializer).__name__.removesuffix("Shape")

    def get_request_serializer(self) -> type[Serializer[Any]] | None:
        return self.described.body

    def _get_parameters(self) -> list[Json]:
        query = self.described.query
        fields = query().fields.values() if query else ()
        return [
            *([_ref("parameters", f"{self.described.about}_id")] if self.described.about else []),
            *(self._query_parameter(field) for field in fields),
            *(_ref("parameters", name) for name in (*self.described.sends, "X-Request-ID")),
        ]

    def _query_parameter(self, field: Field[Any, Any, Any, Any]) -> Json:
        schema = self._map_serializer_field(field, "request")
        self._insert_field_validators(field, schema)
        text = schema.pop("description", None)
        lists = {"style": "form", "explode": False} if schema.get("type") == "array" else {}
        described = {"description": text} if text else {}
        return {"name": field.field_name, "in": "query", **described, "schema": schema, **lists}

    def _map_basic_serializer(self, serializer: Serializer[Any], direction: str) -> Json:
        schema: Json = super()._map_basic_serializer(serializer, direction)
        if isinstance(serializer, forms.StrictSerializer):
            schema["additionalProperties"] = False
        if isinstance(serializer, forms.OneFieldOnly):
            schema |= {"minProperties": 1, "maxProperties": 1}
        return schema

    def _insert_field_validators(self, field: Field[Any, Any, Any, Any], schema: Json) -> None:
        """Fields that describe themselves in full are left alone: a blank text is no kind of email."""
        if not has_override(field, "field") or isinstance(field, forms.Word):
            super()._insert_field_validators(field, schema)

    def _get_request_body(self, direction: str = "request") -> Json | None:
        body: Json | None = super()._get_request_body(direction)
        if body is not None:
            body["content"][JSON]["example"] = self.described.body_example
            if self.described.body and issubclass(self.described.body, forms.OneFieldOnly):
                body["required"] = True  # though none of its fields is
        return body

    def _get_response_bodies(self, direction: str = "response") -> Json:
        described = self.described
        responses: Json = {str(described.status): self._answer(described)}
        if described.later:
            content = {"schema": self._schema_of(described.later), "example": described.later_example}
            responses["202"] = _response("Not done yet.", headers=self._limits(), content={JSON: content})
        if described.not_modified:
            responses["304"] = _response(
                "Not modified: you have this version.", headers=described.answers_with
            )
        return responses | problem_responses(problems_of(self.view.action))

    def _answer(self, described: Operation) -> Json:
        content = None
        if described.answer:
            schema = self._schema_of(described.answer)
            content = {JSON: {"schema": schema, "example": described.answer_example}}
            for media_type, (also, example) in described.also_as.items():
                content[media_type] = {"schema": also, "example": example}
        headers = [*described.answers_with, *self._limits()]
        response = _response(described.summary, headers=headers, content=content)
        if described.leads_to:
            response["links"] = {name: _ref("links", name) for name in described.leads_to}
        return response

    def _limits(self) -> tuple[str, ...]:
        return LIMIT_HEADERS if is_limited(self.view.action) else ()

    def _schema_of(self, answer: type[Serializer[Any]] | tuple[type[Serializer[Any]], ...]) -> Json:
        if isinstance(answer, tuple):
            return {"oneOf": [self._schema_of(one) for one in answer]}
        component = self.resolve_serializer(answer, "response")
        reference: Json = component.ref if component else {"type": "object"}  # none for one without fields
        return reference


def _anyone_may(action: str) -> bool:
    return Relation.ANYONE in MATRIX[action]


def is_limited(action: str) -> bool:
    """Whether too many of them are refused: of every caller with a token, and of others where it matters."""
    return not _anyone_may(action) or action in LIMITS or action in LIMITED_WITHIN


def problems_of(action: str) -> list[str]:
    """Every code that the operation may answer, in the order of the error table."""
    operation = OPERATIONS[action]
    codes = {"invalid_request", "unavailable", *operation.problems}
    if not _anyone_may(action) or action == "register":
        codes |= {"missing_token", "invalid_token"}
    if is_limited(action):
        codes.add("rate_limited")
    if operation.about:
        codes.add(f"{operation.about}_not_found")
    if operation.body:
        codes |= {"payload_too_large", "unsupported_media_type"}
    return [code for code in PROBLEMS if code in codes]


def problem_responses(codes: Iterable[str]) -> Json:
    """By status, references to responses with exactly these codes."""
    by_status: dict[int, list[str]] = {}
    for code in codes:
        by_status.setdefault(PROBLEMS[code].status, []).append(code)
    return {str(status): _ref("responses", "_or_".join(names)) for status, names in by_status.items()}


def add_what_is_shared(result: Json, **_: Any) -> Json:
    """A postprocessing hook: pages outside DRF, and the components that all operations refer to."""
    result["paths"] = dict(sorted({**result["paths"], **_pages()}.items()))
    components = result["components"]
    components["schemas"] = dict(sorted({**components["schemas"], "Problem": problem_schema()}.items()))
    components["responses"] = _problem_components(result["paths"])
    components["examples"] = {code: {"value": problem_example(code)} for code in sorted(PROBLEMS)}
    components["parameters"] = PARAMETERS
    components["headers"] = HEADERS
    components["links"] = {name: _link(name) for name in sorted(OPERATIONS) if OPERATIONS[name].about}
    components["securitySchemes"] = SECURITY_SCHEMES
    return result


def _pages() -> Json:
    return {address: {"get": _page(page)} for address, page in PAGES.items()}


def _page(page: Page) -> Json:
    content = {media_type: {"schema": schema} for media_type, schema in page.content.items()}
    return {
        "operationId": page.operation_id,
        "description": page.text or page.summary,
        "summary": page.summary,
        "parameters": [*page.parameters, _ref("parameters", "X-Request-ID")],
        "tags": [page.tag],
        "responses": {
            "200": _response(page.summary, content=content),
            **problem_responses(("invalid_request", *page.problems)),
        },
    }


def _problem_components(paths: Json) -> Json:
    """The responses that are referred to, made from their names."""
    referred = {
        response["$ref"].rpartition("/")[2]
        for item in paths.values()
        for operation in item.values()
        for response in operation["responses"].values()
        if "$ref" in response
    }
    return {name: _problem_response(name.split("_or_")) for name in sorted(referred)}


def _problem_response(codes: list[str]) -> Json:
    status = PROBLEMS[codes[0]].status
    only = {"properties": {"status": {"const": status}, "error": {"enum": codes}}}
    content = {
        "schema": {"allOf": [_ref("schemas", "Problem"), only]},
        "examples": {code: _ref("examples", code) for code in codes},
    }
    text = " ".join(f"`{code}`: {PROBLEMS[code].meaning}" for code in codes)
    return _response(text, headers=HEADERS_OF_STATUS.get(status, ()), content={MEDIA_TYPE: content})


def _response(text: str, *, headers: Iterable[str] = (), content: Json | None = None) -> Json:
    described = {name.partition(".")[0]: _ref("headers", name) for name in (*headers, "X-Request-ID")}
    return {"description": text, "headers": described} | ({"content": content} if content else {})


def _ref(kind: str, name: str) -> Json:
    return {"$ref": f"#/components/{kind}/{name}"}


def _link(action: str) -> Json:
    operation = OPERATIONS[action]
    parameters = {f"path.{operation.about}_id": "$response.body#/id"}
    if "If-Match" in operation.sends:
        parameters["header.If-Match"] = "$response.header.ETag"
    return {"operationId": action, "parameters": parameters}


@lru_cache(maxsize=2)
def _rendered(media_type: str) -> bytes:
    document = SchemaGenerator().get_schema(request=None, public=True)
    renderer = OpenApiJsonRenderer() if media_type == JSON else OpenApiYamlRenderer()
    rendered: bytes = renderer.render(document, renderer_context={})
    return rendered


@require_safe
@vary_on_headers("Accept")
def document(request: HttpRequest) -> HttpResponse:
    """The document, made once a process: JSON, which YAML's readers take too, or YAML to whoever asks."""
    media_type = request.get_preferred_type([JSON, "application/yaml"]) or JSON
    response = HttpResponse(_rendered(media_type), content_type=media_type)
    response["Cache-Control"] = "public, max-age=300"
    return response
