"""The feed of all events: as our envelopes, or as CloudEvents to whoever prefers those; held back for a while
where the caller has all there is and wants to wait."""

import hashlib
from dataclasses import dataclass, replace
from typing import Any

import orjson
from django.conf import settings
from rest_framework import status
from rest_framework.request import Request
from rest_framework.response import Response

from users import wiring
from users.api import serializers as forms
from users.api.conditions import has_tag, if_none_match, names_tags
from users.api.pagination import next_address
from users.api.renderers import CloudEventsOnRequest, CloudEventsRenderer
from users.api.views import Endpoint
from users.application.cloud_events import cloud_event
from users.application.envelope import Envelope
from users.application.event_schemas import SCHEMAS
from users.application.queries import FeedPage, is_empty

COME_BACK = 1
"""Seconds after which a reader who would have waited, and could not, does well to ask again."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What the answer to a page is made of: its content, the address of the next page, the tag of both."""

    page: FeedPage
    content: Any
    following: str | None
    tag: str | None


class EventViewSet(Endpoint):
    renderer_classes = (*Endpoint.renderer_classes, CloudEventsRenderer)
    content_negotiation_class = CloudEventsOnRequest

    _last: Shown | None = None

    def feed(self, request: Request) -> Response:
        query = self.query(forms.FeedQuery)
        page = wiring.service().queries.feed(**query, unchanged=self._is_known)
        shown = self._shown(page)
        headers = _headers(shown, early=page.early)
        if has_tag(if_none_match(request), shown.tag):
            return Response(status=status.HTTP_304_NOT_MODIFIED, headers=headers)
        return Response(shown.content, headers=headers)

    def _is_known(self, page: FeedPage) -> bool:
        """Whether the caller has this page already: by its tag, if he names any; else whether it is empty."""
        if names_tags(if_none_match(self.request)):
            return has_tag(if_none_match(self.request), self._shown(page).tag)
        return is_empty(page)

    def _shown(self, page: FeedPage) -> Shown:
        """Made once, however often the same page is read during a wait."""
        page = replace(page, early=False)
        if self._last is None or self._last.page != page:
            self._last = _show(self.request, page)
        return self._last


def _show(request: Request, page: FeedPage) -> Shown:
    following = next_address(request, after=page.next)
    content = _content(request, page, following)
    if not isinstance(content, bytes):
        return Shown(page, content, following, None)
    # With the address of the next page, which a batch of CloudEvents has in its header alone.
    digest = hashlib.sha256(content + (following or "").encode())
    return Shown(page, content, following, f'"{digest.hexdigest()[:32]}"')


def _headers(shown: Shown, *, early: bool) -> dict[str, str]:
    headers = {"Cache-Control": "private, no-cache", "Vary": "Accept, Authorization"}
    if shown.following:
        headers["Link"] = f'<{shown.following}>; rel="next"'
    if shown.tag:
        headers["ETag"] = shown.tag
    if early:
        headers["Retry-After"] = str(COME_BACK)
    return headers


def _content(request: Request, page: FeedPage, following: str | None) -> Any:
    """The very bytes of the answer; what is shown to a browser, whose page differs each time, as values."""
    if isinstance(request.accepted_renderer, CloudEventsRenderer):
        return orjson.dumps([_as_cloud_event(request, envelope) for envelope in page.results])
    values = {"results": page.results, "next": following}
    return values if request.accepted_renderer.format == "api" else orjson.dumps(values)


def _as_cloud_event(request: Request, envelope: Envelope) -> dict[str, Any]:
    name = envelope["event_type"]
    address = f"/schema/events/{name}.v{envelope.schema_version}" if name in SCHEMAS else None
    return cloud_event(
        envelope,
        source=settings.EVENT_SOURCE,
        dataschema=address and request.build_absolute_uri(address),
    )
