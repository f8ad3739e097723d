"""What the pages about webhooks have in common: they are for admins, and what is done there is on record."""

from collections.abc import Callable
from functools import wraps
from typing import Any, cast

import httpx
from django import forms
from django.contrib import messages
from django.contrib.admin.models import LogEntry
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import PermissionDenied
from django.db.models import Model
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse

from users.admin.site import ReadOnlyAdmin
from users.admin.webhook_forms import VersionForm, shown_in
from users.admin.webhook_tables import outcome
from users.application.errors import ApplicationError
from users.application.webhooks import DeliveryView, EndpointView
from users.models import UserRecord, WebhookEndpoint
from users_domain.errors import DomainError
from users_domain.value_objects import Role

View = Callable[..., HttpResponse]


def _is_admin(request: HttpRequest) -> bool:
    """Asked about strangers too: the login page lists what its reader may see."""
    return Role.ADMIN in getattr(request.user, "roles", ())


def for_admins(view: View) -> View:
    """Closed to operators; a refusal that no form has room for, such as of a webhook that is gone, leads
    back to the list."""

    @wraps(view)
    def guarded(self: "WebhookPages", request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if not _is_admin(request):
            raise PermissionDenied
        try:
            return view(self, request, *args, **kwargs)
        except (ApplicationError, DomainError) as error:
            self.message_user(request, str(error), messages.ERROR)
            return HttpResponseRedirect(reverse("admin:users_webhookendpoint_changelist"))

    return guarded


class WebhookPages(ReadOnlyAdmin):
    def has_module_permission(self, request: HttpRequest) -> bool:
        return _is_admin(request)

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return _is_admin(request)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return _is_admin(request)

    def page(self, request: HttpRequest, template: str, **context: Any) -> TemplateResponse:
        shared = {**self.admin_site.each_context(request), "opts": self.opts, "media": self.media}
        return TemplateResponse(
            request, f"admin/users/webhookendpoint/{template}.html", {**shared, **context}
        )

    def form_page(
        self, request: HttpRequest, form: forms.Form, endpoint: EndpointView | None = None, **context: Any
    ) -> TemplateResponse:
        return self.page(
            request, "form", form=form, endpoint=endpoint, media=self.media + form.media, **context
        )

    def secret_page(self, request: HttpRequest, endpoint: EndpointView, secret: str) -> TemplateResponse:
        """The answer to the very request that made the secret, which is then nowhere but in the browser:
        a redirect would have to leave it in the session, legible, where the table keeps it encrypted."""
        return self.page(request, "secret", title="The webhook's secret", endpoint=endpoint, secret=secret)

    def confirmed(self, request: HttpRequest, endpoint: EndpointView, act: View, **page: Any) -> HttpResponse:
        """Asks, then acts; but not on what has been changed since it was asked, by somebody else or by the
        same form sent twice."""
        sent = request.POST if request.method == "POST" else None
        form = VersionForm(sent, initial=shown_in(VersionForm, endpoint))
        if not form.is_valid():
            return self.form_page(request, form, endpoint, **page)
        if form.cleaned_data["version"] == endpoint.version:
            return act(request, endpoint)
        self.message_user(request, "It has been changed meanwhile: look at it again.", messages.WARNING)
        return HttpResponseRedirect(page_of(endpoint))

    def tell(self, request: HttpRequest, what: str, delivery: DeliveryView) -> None:
        if delivery.error is None:
            text = f"{what}: accepted with {delivery.status} in {delivery.duration_ms} ms."
            self.message_user(request, text, messages.SUCCESS)
        else:
            status = f" with {delivery.status}" if delivery.status else ""
            self.message_user(request, f"{what}: {outcome(delivery)}{status}.", messages.ERROR)

    def note(self, request: HttpRequest, endpoint: EndpointView, flag: int, text: str) -> None:
        """By the host alone: the rest of an address may be a secret."""
        LogEntry.objects.create(
            user=cast(UserRecord, request.user),
            content_type=ContentType.objects.get_for_model(WebhookEndpoint),
            object_id=endpoint.id,
            object_repr=_host(endpoint.url) or endpoint.id,
            action_flag=flag,
            change_message=text,
        )


def _host(url: str) -> str:
    try:
        return httpx.URL(url).host[:200]
    except (httpx.InvalidURL, ValueError):
        return ""


def page_of(endpoint: EndpointView) -> str:
    return reverse("admin:users_webhookendpoint_change", args=[endpoint.id])
