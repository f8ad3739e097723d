"""The endpoints about webhooks, for admins."""

from typing import Any

from django.urls import reverse
from rest_framework import status
from rest_framework.request import Request
from rest_framework.response import Response

from users import wiring
from users.api import serializers as forms
from users.api.conditions import etag, expected_versions, is_known
from users.api.pagination import page_response
from users.api.views import NO_STORE, Endpoint
from users.api.webhook_forms import ChangeWebhookBody, CreateWebhookBody, RedeliverBody
from users.application.representation import timestamp
from users.application.webhooks import ChangeEndpoint, CreateEndpoint, DeliveryView, EndpointView
from users.infrastructure.cursors import SignedCursors


class WebhookViewSet(Endpoint):
    lookup_field = "webhook_id"

    def create_webhook(self, request: Request) -> Response:
        command = CreateEndpoint(**self.body(CreateWebhookBody), by=self.caller.actor)
        view, secret = wiring.service().webhooks.create(command)
        response = endpoint_response(view, status.HTTP_201_CREATED, secret=secret)
        response["Location"] = reverse("webhook", kwargs={"webhook_id": view.id})
        return response

    def list_webhooks(self, request: Request) -> Response:
        self.query(forms.StrictQuery)
        return page_response(
            request, [endpoint_fields(view) for view in wiring.service().webhooks.endpoints()]
        )

    def retrieve_webhook(self, request: Request, webhook_id: str) -> Response:
        self.query(forms.StrictQuery)
        view = wiring.service().webhooks.get(webhook_id)
        if is_known(request, view.version):
            return Response(status=status.HTTP_304_NOT_MODIFIED, headers=_headers(view))
        return endpoint_response(view)

    def change_webhook(self, request: Request, webhook_id: str) -> Response:
        command = ChangeEndpoint(
            **self.body(ChangeWebhookBody),
            endpoint_id=webhook_id,
            expected=expected_versions(request),
            by=self.caller.actor,
        )
        return endpoint_response(wiring.service().webhooks.change(command))

    def delete_webhook(self, request: Request, webhook_id: str) -> Response:
        wiring.service().webhooks.delete(
            webhook_id, expected=expected_versions(request), by=self.caller.actor
        )
        return Response(status=status.HTTP_204_NO_CONTENT)

    def rotate_webhook_secret(self, request: Request, webhook_id: str) -> Response:
        self.body(forms.NoBody)
        view, secret = wiring.service().webhooks.rotate_secret(
            webhook_id, expected=expected_versions(request), by=self.caller.actor
        )
        return endpoint_response(view, secret=secret)

    def resume_webhook(self, request: Request, webhook_id: str) -> Response:
        self.body(forms.NoBody)
        view = wiring.service().webhooks.resume(
            webhook_id, expected=expected_versions(request), by=self.caller.actor
        )
        return endpoint_response(view)

    def ping_webhook(self, request: Request, webhook_id: str) -> Response:
        self.body(forms.NoBody)
        return delivery_response(wiring.service().webhooks.ping(webhook_id, by=self.caller.actor))

    def redeliver_events(self, request: Request, webhook_id: str) -> Response:
        asked = self.body(RedeliverBody)
        webhooks = wiring.service().webhooks
        who: dict[str, Any] = {"expected": expected_versions(request), "by": self.caller.actor}
        if "sequence" in asked:
            return delivery_response(webhooks.redeliver(webhook_id, asked["sequence"], **who))
        return endpoint_response(webhooks.redeliver_since(webhook_id, asked["since"], **who))

    def list_deliveries(self, request: Request, webhook_id: str) -> Response:
        query = self.query(forms.PageQuery)
        found, cursor = delivery_page(webhook_id, **query)
        return page_response(request, [delivery_fields(view) for view in found], cursor=cursor)


def delivery_page(
    webhook_id: str, *, limit: int, cursor: str | None = None
) -> tuple[list[DeliveryView], str | None]:
    """A page of the log, and where the next one begins. A cursor is good for its own webhook only.
    Raises InvalidQuery, WebhookNotFound."""
    cursors, kind = SignedCursors(), f"deliveries.{webhook_id.lower()}"
    before = int(cursors.read(kind, cursor)[0]) if cursor else None
    found = wiring.service().webhooks.deliveries(webhook_id, limit=limit + 1, before=before)
    more = len(found) > limit
    return found[:limit], cursors.write(kind, [found[limit - 1].id]) if more else None


def endpoint_response(view: EndpointView, code: int = status.HTTP_200_OK, **secret: str) -> Response:
    return Response(endpoint_fields(view) | secret, status=code, headers=_headers(view))


def delivery_response(view: DeliveryView) -> Response:
    return Response(delivery_fields(view), headers=NO_STORE)


def _headers(view: EndpointView) -> dict[str, str]:
    """Kept by nobody: there may be a secret in it, and a browser that asked by the version alone would show
    an old position."""
    return {"ETag": etag(view.version), "Vary": "Authorization"} | NO_STORE


def endpoint_fields(view: EndpointView) -> dict[str, Any]:
    paused = view.paused_at and {"at": timestamp(view.paused_at), "because": view.paused_because}
    return {
        "id": view.id,
        "url": view.url,
        "description": view.description,
        "event_types": view.event_types,
        "enabled": view.enabled,
        "state": view.state,
        "position": view.position,
        "waiting": view.waiting,
        "failures": view.failures,
        "failing_since": view.failing_since and timestamp(view.failing_since),
        "next_attempt_at": view.next_attempt_at and timestamp(view.next_attempt_at),
        "paused": paused,
        "previous_secret_until": view.previous_secret_until and timestamp(view.previous_secret_until),
        "created_at": timestamp(view.created_at),
        "updated_at": timestamp(view.updated_at),
        "version": view.version,
    }


def delivery_fields(view: DeliveryView) -> dict[str, Any]:
    return {
        "id": view.id,
        "kind": view.kind,
        "event_id": view.event_id,
        "event_type": view.event_type,
        "sequence": view.sequence,
        "attempt": view.attempt,
        "attempted_at": timestamp(view.attempted_at),
        "duration_ms": view.duration_ms,
        "status": view.status,
        "error": view.error,
    }
