"""The contract of events, served to anyone: the AsyncAPI document, and each event's JSON Schema."""

# mypy: disable-error-code="no-untyped-call"
# drf-spectacular has no annotations.

from functools import lru_cache

import orjson
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe
from django.views.decorators.vary import vary_on_headers
from drf_spectacular.renderers import OpenApiYamlRenderer

from users.api.errors import problem_response
from users.application import asyncapi
from users.application.event_schemas import named

JSON, YAML = "application/json", "application/yaml"
MAX_AGE = "public, max-age=300"


@lru_cache(maxsize=2)
def rendered(media_type: str) -> bytes:
    """The AsyncAPI document."""
    document = asyncapi.document(
        version=settings.SPECTACULAR_SETTINGS["VERSION"], stream=settings.EVENT_STREAM
    )
    if media_type == JSON:
        return orjson.dumps(document)
    written: bytes = OpenApiYamlRenderer().render(document, renderer_context={})
    return written


@require_safe
@vary_on_headers("Accept")
def document(request: HttpRequest) -> HttpResponse:
    """JSON, or YAML to whoever prefers it."""
    media_type = request.get_preferred_type([JSON, YAML]) or JSON
    return HttpResponse(rendered(media_type), content_type=media_type, headers={"Cache-Control": MAX_AGE})


@require_safe
def schema(request: HttpRequest, name: str) -> HttpResponse:
    """Of an event's data, or of the envelope; with or without its version."""
    found = named(name)
    if found is None:
        return problem_response("not_found")
    return HttpResponse(
        orjson.dumps(found.content),
        content_type="application/schema+json",
        headers={"Cache-Control": MAX_AGE},
    )
