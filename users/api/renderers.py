"""How answers leave: ready JSON as it is, everything else through orjson; in development also as pages."""

from collections.abc import Iterable, Mapping
from typing import Any

import orjson
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.renderers import BaseRenderer, BrowsableAPIRenderer
from rest_framework.request import Request


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
