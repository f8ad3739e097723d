"""The API's addresses: no trailing slashes."""

from django.urls import path

from users.api.feed import EventViewSet
from users.api.views import TokenViewSet, UserViewSet
from users.api.webhooks import WebhookViewSet

urlpatterns = [
    path("users", UserViewSet.as_view({"post": "register", "get": "list"}), name="users"),
    path("users/<str:user_id>", UserViewSet.as_view({"get": "retrieve", "patch": "rename"}), name="user"),
    path("users/<str:user_id>/email", UserViewSet.as_view({"put": "change_email"})),
    path("users/<str:user_id>/password", UserViewSet.as_view({"put": "change_password"})),
    path("users/<str:user_id>/roles", UserViewSet.as_view({"put": "change_roles"})),
    path("users/<str:user_id>/block", UserViewSet.as_view({"post": "block"})),
    path("users/<str:user_id>/unblock", UserViewSet.as_view({"post": "unblock"})),
    path("users/<str:user_id>/events", UserViewSet.as_view({"get": "history"})),
    path("events", EventViewSet.as_view({"get": "feed"})),
    path("webhooks", WebhookViewSet.as_view({"post": "create_webhook", "get": "list_webhooks"})),
    path(
        "webhooks/<str:webhook_id>",
        WebhookViewSet.as_view(
            {"get": "retrieve_webhook", "patch": "change_webhook", "delete": "delete_webhook"}
        ),
        name="webhook",
    ),
    path(
        "webhooks/<str:webhook_id>/rotate-secret", WebhookViewSet.as_view({"post": "rotate_webhook_secret"})
    ),
    path("webhooks/<str:webhook_id>/resume", WebhookViewSet.as_view({"post": "resume_webhook"})),
    path("webhooks/<str:webhook_id>/ping", WebhookViewSet.as_view({"post": "ping_webhook"})),
    path("webhooks/<str:webhook_id>/redeliver", WebhookViewSet.as_view({"post": "redeliver_events"})),
    path("webhooks/<str:webhook_id>/deliveries", WebhookViewSet.as_view({"get": "list_deliveries"})),
    path("auth/token", TokenViewSet.as_view({"post": "log_in"})),
]
