"""Webhooks, for admins."""

from collections.abc import Mapping

from users.api import serializers as forms
from users.api import webhook_forms, webhook_shapes
from users.api.operations.operation import Json, Operation

WEBHOOK_ID = "0198c1a2-8d2f-7e71-8a72-63a1b4b2a1d5"
WEBHOOK: Json = {
    "id": WEBHOOK_ID,
    "url": "https://orders.example.com/hooks/users",
    "description": "The order service",
    "event_types": ["user.blocked", "user.unblocked"],
    "enabled": True,
    "state": "active",
    "position": 4711,
    "waiting": 0,
    "failures": 0,
    "failing_since": None,
    "next_attempt_at": None,
    "paused": None,
    "previous_secret_until": None,
    "created_at": "2026-01-31T09:30:00.000000Z",
    "updated_at": "2026-01-31T09:30:00.000000Z",
    "version": 1,
}
SECRET = {"secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}
DELIVERY: Json = {
    "id": 92,
    "kind": "ping",
    "event_id": "0198c1a2-9e3a-7f82-9b83-74b2c5c3b2e6",
    "event_type": "webhook.ping",
    "sequence": None,
    "attempt": 1,
    "attempted_at": "2026-01-31T09:31:00.000000Z",
    "duration_ms": 38,
    "status": 204,
    "error": None,
}
REDELIVERY: Json = DELIVERY | {"kind": "redelivery", "event_type": "user.blocked", "sequence": 4711}
IN_HAND = ("retrieve_webhook", "change_webhook", "rotate_webhook_secret", "ping_webhook", "list_deliveries")
"""What one may do next with an endpoint that has just been answered."""

WEBHOOK_OPERATIONS: Mapping[str, Operation] = {
    "create_webhook": Operation(
        tag="webhooks",
        summary="Add a webhook",
        text="The answer holds the secret that messages are signed with (Standard Webhooks), this once.",
        body=webhook_forms.CreateWebhookBody,
        body_example={
            "url": WEBHOOK["url"],
            "description": WEBHOOK["description"],
            "event_types": WEBHOOK["event_types"],
        },
        status=201,
        answer=webhook_shapes.WebhookWithSecretShape,
        answer_example=WEBHOOK | SECRET,
        answers_with=("Location", "ETag"),
        problems=("forbidden",),
        leads_to=(*IN_HAND, "redeliver_events", "resume_webhook", "delete_webhook"),
    ),
    "list_webhooks": Operation(
        tag="webhooks",
        summary="List webhooks",
        text="All of them, oldest first.",
        query=forms.StrictQuery,
        answer=webhook_shapes.WebhookListShape,
        answer_example={"results": [WEBHOOK], "next": None},
        problems=("forbidden",),
    ),
    "retrieve_webhook": Operation(
        tag="webhooks",
        summary="Look up a webhook",
        text="Its ETag is that of its settings: deliveries move the position without another one. Whoever "
        "watches them sends no `If-None-Match`.",
        about="webhook",
        query=forms.StrictQuery,
        sends=("If-None-Match",),
        answer=webhook_shapes.WebhookShape,
        answer_example=WEBHOOK,
        answers_with=("ETag",),
        not_modified=True,
        problems=("forbidden",),
        leads_to=IN_HAND,
    ),
    "change_webhook": Operation(
        tag="webhooks",
        summary="Change a webhook",
        text="What is absent stays as it is.",
        about="webhook",
        body=webhook_forms.ChangeWebhookBody,
        body_example={"event_types": [], "enabled": True},
        sends=("If-Match",),
        answer=webhook_shapes.WebhookShape,
        answer_example=WEBHOOK | {"event_types": [], "version": 2},
        answers_with=("ETag",),
        problems=("forbidden", "version_mismatch", "precondition_required"),
        leads_to=IN_HAND,
    ),
    "delete_webhook": Operation(
        tag="webhooks",
        summary="Delete a webhook",
        text="With its log. What was waiting is not sent.",
        about="webhook",
        sends=("If-Match",),
        status=204,
        problems=("forbidden", "version_mismatch", "precondition_required"),
    ),
    "rotate_webhook_secret": Operation(
        tag="webhooks",
        summary="Give a webhook a new secret",
        text="The answer holds it, this once. Until `previous_secret_until` messages carry a signature by "
        "either secret, so that the receiver can change over in peace. A second rotation before then ends "
        "the first secret: say by `If-Match` which version you mean.",
        about="webhook",
        body=forms.NoBody,
        body_example={},
        sends=("If-Match",),
        answer=webhook_shapes.WebhookWithSecretShape,
        answer_example=WEBHOOK
        | SECRET
        | {"previous_secret_until": "2026-02-01T09:30:00.000000Z", "version": 2},
        answers_with=("ETag",),
        problems=("forbidden", "version_mismatch", "precondition_required"),
        leads_to=IN_HAND,
    ),
    "resume_webhook": Operation(
        tag="webhooks",
        summary="Let a webhook try again",
        text="At once, from where it stopped.",
        about="webhook",
        body=forms.NoBody,
        body_example={},
        sends=("If-Match",),
        answer=webhook_shapes.WebhookShape,
        answer_example=WEBHOOK,
        answers_with=("ETag",),
        problems=("forbidden", "version_mismatch", "precondition_required"),
        leads_to=IN_HAND,
    ),
    "ping_webhook": Operation(
        tag="webhooks",
        summary="Send a test message",
        text="Now, whatever the webhook's state. The answer is 200 also when the receiver has failed: "
        "`error` says how.",
        about="webhook",
        body=forms.NoBody,
        body_example={},
        answer=webhook_shapes.DeliveryShape,
        answer_example=DELIVERY,
        problems=("forbidden",),
    ),
    "redeliver_events": Operation(
        tag="webhooks",
        summary="Send events again",
        text="One, by `sequence`: now, and the answer is the delivery, which may have failed. Or all `since` "
        "a sequence: the position goes back, never forward, and the answer is the webhook.",
        about="webhook",
        body=webhook_forms.RedeliverBody,
        body_example={"sequence": 4711},
        sends=("If-Match",),
        answer=(webhook_shapes.DeliveryShape, webhook_shapes.WebhookShape),
        answer_example=REDELIVERY,
        problems=("forbidden", "event_not_found", "version_mismatch", "precondition_required"),
    ),
    "list_deliveries": Operation(
        tag="webhooks",
        summary="List a webhook's deliveries",
        text="Every attempt, newest first, as long as the log is kept.",
        about="webhook",
        query=forms.PageQuery,
        answer=webhook_shapes.DeliveryPageShape,
        answer_example={"results": [DELIVERY], "next": None},
        problems=("forbidden",),
    ),
}
