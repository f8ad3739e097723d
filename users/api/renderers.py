"""How answers leave: ready JSON as it is, everything else through orjson; in development also as pages."""

from collections.abc import Iterable, Mapping
from typing import Any

import orjson
from django.http.request import MediaType
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.renderers import BaseRenderer, BrowsableAPIRenderer
from rest_framework.request import Request

from users.application.cloud_events import BATCH


class ReadyJSONRenderer(BaseRenderer):
    """Bytes are JSON already, from the cache or the read side; a list may mix them with other values."""

    media_type = "application/json"
    format = "json"
    charset = None
    render_style = "binary"

    def render(
        self,
        data: Any,
        accepted_media_type: str | None = None,
        renderer_context: Mapping[str, Any] | None = None,
    ) -> bytes:
        if data is None:
            return b""
        return data if isinstance(data, bytes) else orjson.dumps(_with_fragments(data))


def _with_fragments(data: Any) -> Any:
    if isinstance(data, Mapping) and isinstance(data.get("results"), list):
        results = [orjson.Fragment(item) if isinstance(item, bytes) else item for item in data["results"]]
        return {**data, "results": results}
    return data


class CloudEventsRenderer(ReadyJSONRenderer):
    """Several at once, as the JSON batch format has them."""

    media_type = BATCH
    format = "cloudevents"


class ReadableBrowsableAPIRenderer(BrowsableAPIRenderer):
    """DRF's pages, with the JSON indented and without forms for half of what they cannot know."""

    def get_default_renderer(self, view: Any) -> BaseRenderer:
        return ReadyJSONRenderer()

    def get_content(
        self,
        renderer: BaseRenderer,
        data: Any,
        accepted_media_type: str | None,
        renderer_context: Mapping[str, Any],
    ) -> str:
        compact = ReadyJSONRenderer().render(data)
        return orjson.dumps(orjson.loads(compact), option=orjson.OPT_INDENT_2).decode() if compact else ""


class JSONUnlessBrowser(BaseContentNegotiation):
    """Always JSON, whatever Accept says, but for browsers where pages are offered. Never 406: an answer in
    the only language we speak helps more than none (RFC 9110, 12.4.1)."""

    def select_parser(self, request: Request, parsers: Iterable[Any]) -> Any:
        media_type = request.content_type.partition(";")[0].strip().lower()
        return next((parser for parser in parsers if parser.media_type == media_type), None)

    def select_renderer(
        self, request: Request, renderers: Iterable[Any], format_suffix: str | None = None
    ) -> tuple[Any, str]:
        accepts_pages = "text/html" in request.META.get("HTTP_ACCEPT", "")
        first, *others = renderers
        for renderer in others:
            if renderer.format == "api" and accepts_pages:
                return renderer, renderer.media_type
        return first, first.media_type


class CloudEventsOnRequest(JSONUnlessBrowser):
    """As everywhere, but CloudEvents to whoever likes them better than JSON."""

    def select_renderer(
        self, request: Request, renderers: Iterable[Any], format_suffix: str | None = None
    ) -> tuple[Any, str]:
        offered = list(renderers)
        usual, media_type = super().select_renderer(request, offered, format_suffix)
        accept = request.META.get("HTTP_ACCEPT", "")
        if usual.format == "json" and _liking(accept, BATCH) > _liking(accept, media_type):
            return next((each, BATCH) for each in offered if each.media_type == BATCH)
        return usual, media_type


def _liking(accept: str, media_type: str) -> tuple[float, int]:
    """How much it is wanted (RFC 9110, 12.5.1), and how plainly that is said. Parameters such as a charset
    make no difference to what we have."""
    wanted = MediaType(media_type)
    fitting = [(0, 0.0)]
    for one in map(MediaType, accept.lower().split(",")):
        main = one.main_type == wanted.main_type
        if (main and one.sub_type in {wanted.sub_type, "*"}) or (one.main_type, one.sub_type) == ("*", "*"):
            fitting.append((min(one.specificity, 2) + 1, one.quality))
    specificity, quality = max(fitting)
    return quality, specificity if quality else 0
