"""The API's addresses: no trailing slashes."""

from django.urls import path

from users.api.accounts import AccountViewSet
from users.api.feed import EventViewSet
from users.api.sessions import SessionViewSet, TokenViewSet
from users.api.views import UserViewSet
from users.api.webhooks import WebhookViewSet

urlpatterns = [
    path("users", UserViewSet.as_view({"post": "register", "get": "list"}), name="users"),
    path(
        "users/<str:user_id>",
        UserViewSet.as_view({"get": "retrieve", "patch": "rename", "delete": "erase"}),
        name="user",
    ),
    path("users/<str:user_id>/email", UserViewSet.as_view({"put": "change_email"})),
    path("users/<str:user_id>/password", UserViewSet.as_view({"put": "change_password"})),
    path("users/<str:user_id>/roles", UserViewSet.as_view({"put": "change_roles"})),
    path("users/<str:user_id>/block", UserViewSet.as_view({"post": "block"})),
    path("users/<str:user_id>/unblock", UserViewSet.as_view({"post": "unblock"})),
    path("users/<str:user_id>/events", UserViewSet.as_view({"get": "history"})),
    path("users/<str:user_id>/export", UserViewSet.as_view({"get": "export"})),
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
    path("users/<str:user_id>/sessions", SessionViewSet.as_view({"get": "list_sessions"})),
    path("users/<str:user_id>/sessions/<str:session_id>", SessionViewSet.as_view({"delete": "end_session"})),
    path("auth/token", TokenViewSet.as_view({"post": "log_in"})),
    path("auth/token/refresh", TokenViewSet.as_view({"post": "refresh"})),
    path("auth/logout", TokenViewSet.as_view({"post": "log_out"})),
    path("auth/logout-all", SessionViewSet.as_view({"post": "log_out_everywhere"})),
    path("auth/password-reset", AccountViewSet.as_view({"post": "request_password_reset"})),
    path("auth/password-reset/confirm", AccountViewSet.as_view({"post": "reset_password"})),
    path("auth/email-verification", AccountViewSet.as_view({"post": "request_email_verification"})),
    path("auth/email-verification/confirm", AccountViewSet.as_view({"post": "verify_email"})),
    path("auth/email-change/confirm", AccountViewSet.as_view({"post": "confirm_email_change"})),
    path("auth/email-change/cancel", AccountViewSet.as_view({"post": "cancel_email_change"})),
]
