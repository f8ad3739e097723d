"""The API's addresses: no trailing slashes."""

from django.urls import path

from users.api.views import EventViewSet, TokenViewSet, UserViewSet

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
    path("auth/token", TokenViewSet.as_view({"post": "log_in"})),
]
