"""The feed of all events: as our envelopes, or as CloudEvents to whoever prefers those; held back for a while
where the caller has all there is and wants to wait."""

import hashlib
from typing import Any

import orjson
from django.conf import settings
from rest_framework import status
from rest_framework.request import Request
from rest_framework.response import Response

from users import wiring
from users.api import serializers as forms
from users.api.conditions import has_tag
from users.api.pagination import next_address
from users.api.renderers import CloudEventsOnRequest, CloudEventsRenderer
from users.api.views import Endpoint
from users.application.cloud_events import cloud_event
from users.application.event_schemas import SCHEMAS
from users.application.queries import FeedPage, is_empty

COME_BACK = 1
"""Seconds after which a reader who would have waited, and could not, does well to ask again."""


class EventViewSet(Endpoint):
    renderer_classes = (*Endpoint.renderer_classes, CloudEventsRenderer)
    content_negotiation_class = CloudEventsOnRequest

    def feed(self, request: Request) -> Response:
        query = self.query(forms.FeedQuery)
        page = wiring.service().queries.feed(**query, unchanged=self._is_known)
        headers = _headers(request, page)
        if has_tag(request, headers.get("ETag")):
            return Response(status=status.HTTP_304_NOT_MODIFIED, headers=headers)
        return Response(_content(request, page), headers=headers)

    def _is_known(self, page: FeedPage) -> bool:
        """Whether the caller has this page already: by its tag, if he names any; else whether it is empty."""
        if "HTTP_IF_NONE_MATCH" in self.request.META:
            return has_tag(self.request, _headers(self.request, page).get("ETag"))
        return is_empty(page)


def _headers(request: Request, page: FeedPage) -> dict[str, str]:
    headers = {"Cache-Control": "private, no-cache", "Vary": "Accept, Authorization"}
    following = next_address(request, after=page.next)
    if following:
        headers["Link"] = f'<{following}>; rel="next"'
    content = _content(request, page)
    if isinstance(content, bytes):
        # With the address of the next page, which a batch of CloudEvents has in its header alone.
        digest = hashlib.sha256(content + (following or "").encode())
        headers["ETag"] = f'"{digest.hexdigest()[:32]}"'
    if page.early:
        headers["Retry-After"] = str(COME_BACK)
    return headers


def _content(request: Request, page: FeedPage) -> Any:
    """The very bytes of the answer; what is shown to a browser, whose page differs each time, as values."""
    if isinstance(request.accepted_renderer, CloudEventsRenderer):
        return orjson.dumps([_as_cloud_event(request, envelope) for envelope in page.results])
    values = {"results": page.results, "next": next_address(request, after=page.next)}
    return values if request.accepted_renderer.format == "api" else orjson.dumps(values)


def _as_cloud_event(request: Request, envelope: dict[str, Any]) -> dict[str, Any]:
    known = SCHEMAS.get(envelope["event_type"])
    address = f"/schema/events/{known.versioned_name}" if known else None
    return cloud_event(
        envelope,
        source=settings.EVENT_SOURCE,
        dataschema=address and request.build_absolute_uri(address),
    )
