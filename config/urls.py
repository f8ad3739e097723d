"""All addresses: the API, the operators' pages, documentation, health."""

from typing import Any

from django.conf import settings
from django.urls import include, path
from django.views.generic import RedirectView
from drf_spectacular.views import SpectacularRedocView, SpectacularSwaggerSplitView

from config import health
from users import admin
from users.api import event_schemas, public, schema

urlpatterns = [
    path("", include("users.api.urls")),
    path(".well-known/jwks.json", public.jwks),
    path("problems/<str:code>", public.problem),
    path("health/live", health.live),
    path("health/ready", health.ready),
    path("metrics", public.metrics),
    path("schema", schema.document, name="schema"),
    path("schema/events", event_schemas.document),
    path("schema/events/<str:name>", event_schemas.schema),
    path("admin", RedirectView.as_view(url="/admin/")),
    path("admin/", admin.site.urls),
]
if settings.ACCOUNT_PAGES:
    urlpatterns.append(path("account/", include("users.api.account_pages")))
if settings.API_DOCS:
    page: dict[str, Any] = {"permission_classes": [], "authentication_classes": []}
    urlpatterns += [
        path("", RedirectView.as_view(url="/docs")),
        path("docs", SpectacularSwaggerSplitView.as_view(url_name="schema", **page)),
        path(
            "redoc", SpectacularRedocView.as_view(url_name="schema", template_name="api/redoc.html", **page)
        ),
    ]

handler400 = "users.api.errors.bad_request"
handler403 = "users.api.errors.permission_denied"
handler404 = "users.api.errors.not_found"
handler500 = "users.api.errors.server_error"
