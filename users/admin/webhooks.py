"""Webhooks, for admins only: the list, one with its settings and its log, and what can be done with it.

Written and read through `Webhooks`, in the operator's name; the model gives the pages their addresses."""

from datetime import timedelta
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.models import ADDITION, CHANGE, DELETION
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse

from users import wiring
from users.admin.site import site
from users.admin.users import actor_of
from users.admin.webhook_forms import AddForm, ChangeForm, RedeliverForm, refusals_in, shown_in
from users.admin.webhook_pages import WebhookPages, for_admins, page_of
from users.admin.webhook_tables import delivery_rows, facts, list_rows
from users.application.webhooks import SECRET_OVERLAP, ChangeEndpoint, CreateEndpoint, EndpointView
from users.models import WebhookEndpoint

LOGGED = 100
"""How many deliveries a page shows."""


@admin.register(WebhookEndpoint, site=site)
class WebhookAdmin(WebhookPages):
    object_history_template = "admin/users/webhookendpoint/history.html"

    def get_urls(self) -> list[URLPattern]:
        actions = {
            "ping": self.ping_view,
            "resume": self.resume_view,
            "rotate": self.rotate_view,
            "redeliver": self.redeliver_view,
        }
        own = (
            path(
                f"<str:webhook_id>/{name}/",
                self.admin_site.admin_view(view),
                name=f"users_webhookendpoint_{name}",
            )
            for name, view in actions.items()
        )
        return [*own, *super().get_urls()]

    # --- Looking ----------------------------------------------------------------------------------

    @for_admins
    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        rows = list_rows(wiring.service().webhooks.endpoints())
        return self.page(request, "list", title="Webhooks", rows=rows)

    def history_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        """Without the address in its title, which may be long."""
        return super().history_view(request, object_id, {"title": "What admins have done on these pages"})

    # --- Settings ---------------------------------------------------------------------------------

    @for_admins
    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        form = AddForm(request.POST if request.method == "POST" else None)
        if form.is_valid():
            with refusals_in(form):
                command = CreateEndpoint(**form.cleaned_data, by=actor_of(request))
                endpoint, secret = wiring.service().webhooks.create(command)
                self.note(request, endpoint, ADDITION, "Added.")
                return self.secret_page(request, endpoint, secret)
        return self.form_page(request, form, title="Add webhook", verb="Add")

    @for_admins
    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        webhooks = wiring.service().webhooks
        endpoint = webhooks.get(object_id)
        sent = request.POST if request.method == "POST" else None
        form = ChangeForm(sent, initial=shown_in(ChangeForm, endpoint))
        if form.is_valid():
            with refusals_in(form):
                self._change(request, endpoint, form)
                return HttpResponseRedirect(page_of(endpoint))
        log = delivery_rows(endpoint, webhooks.deliveries(endpoint.id, limit=LOGGED))
        context = {"endpoint": endpoint, "facts": facts(endpoint), "log": log, "full": len(log) == LOGGED}
        return self.page(request, "endpoint", title="Webhook", form=form, **context)

    def _change(self, request: HttpRequest, endpoint: EndpointView, form: ChangeForm) -> None:
        """Only what is different: `enabled` alone, said again, would let a paused webhook try again."""
        fields = {name: form.cleaned_data[name] for name in form.changed_data if name != "version"}
        expected = {form.cleaned_data["version"]}
        command = ChangeEndpoint(endpoint_id=endpoint.id, **fields, expected=expected, by=actor_of(request))
        wiring.service().webhooks.change(command)
        self.note(request, endpoint, CHANGE, f"Changed: {', '.join(fields) or 'nothing'}.")
        self.message_user(request, "Saved.", messages.SUCCESS)

    @for_admins
    def delete_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        endpoint = wiring.service().webhooks.get(object_id)
        return self.confirmed(
            request,
            endpoint,
            self._delete,
            title="Delete this webhook?",
            verb="Delete",
            warning="It is deleted with its log, and what waits for it is not sent.",
        )

    def _delete(self, request: HttpRequest, endpoint: EndpointView) -> HttpResponse:
        wiring.service().webhooks.delete(endpoint.id, expected={endpoint.version}, by=actor_of(request))
        self.note(request, endpoint, DELETION, "Deleted.")
        self.message_user(request, "Deleted.", messages.SUCCESS)
        return HttpResponseRedirect(reverse("admin:users_webhookendpoint_changelist"))

    @for_admins
    def rotate_view(self, request: HttpRequest, webhook_id: str) -> HttpResponse:
        endpoint = wiring.service().webhooks.get(webhook_id)
        hours = SECRET_OVERLAP // timedelta(hours=1)
        return self.confirmed(
            request,
            endpoint,
            self._rotate,
            title="Give this webhook a new secret?",
            verb="Rotate secret",
            warning=f"It is shown once. For {hours} hours messages are signed with the present one too.",
        )

    def _rotate(self, request: HttpRequest, endpoint: EndpointView) -> HttpResponse:
        rotated, secret = wiring.service().webhooks.rotate_secret(
            endpoint.id, expected={endpoint.version}, by=actor_of(request)
        )
        self.note(request, endpoint, CHANGE, "Rotated the secret.")
        return self.secret_page(request, rotated, secret)

    # --- Acting -----------------------------------------------------------------------------------

    @for_admins
    def ping_view(self, request: HttpRequest, webhook_id: str) -> HttpResponse:
        endpoint = wiring.service().webhooks.get(webhook_id)
        if request.method == "POST":
            delivery = wiring.service().webhooks.ping(endpoint.id, by=actor_of(request))
            self.note(request, endpoint, CHANGE, "Sent a test ping.")
            self.tell(request, "Ping", delivery)
        return HttpResponseRedirect(page_of(endpoint))

    @for_admins
    def resume_view(self, request: HttpRequest, webhook_id: str) -> HttpResponse:
        endpoint = wiring.service().webhooks.get(webhook_id)
        if request.method == "POST":
            wiring.service().webhooks.resume(endpoint.id, by=actor_of(request))
            self.note(request, endpoint, CHANGE, "Resumed.")
            self.message_user(request, "Resumed: it is tried again at once.", messages.SUCCESS)
        return HttpResponseRedirect(page_of(endpoint))

    @for_admins
    def redeliver_view(self, request: HttpRequest, webhook_id: str) -> HttpResponse:
        endpoint = wiring.service().webhooks.get(webhook_id)
        sent = request.POST if request.method == "POST" else None
        form = RedeliverForm(sent, initial={"sequence": request.GET.get("sequence")})
        if form.is_valid():
            with refusals_in(form):
                self._redeliver(request, endpoint, **form.cleaned_data)
                return HttpResponseRedirect(page_of(endpoint))
        return self.form_page(request, form, endpoint, title="Send events again", verb="Send again")

    def _redeliver(self, request: HttpRequest, endpoint: EndpointView, *, sequence: int, scope: str) -> None:
        webhooks, by = wiring.service().webhooks, actor_of(request)
        if scope == "since":
            webhooks.redeliver_since(endpoint.id, sequence, by=by)
            self.message_user(request, f"All since {sequence} will be sent again.", messages.SUCCESS)
        else:
            self.tell(request, f"Event {sequence}", webhooks.redeliver(endpoint.id, sequence, by=by))
        self.note(request, endpoint, CHANGE, f"Sent again: {scope} {sequence}.")
