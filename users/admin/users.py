"""Users: the list, one in detail with his history, and the confirmation before he is blocked or unblocked."""

from collections.abc import Callable, Sequence
from typing import Any, cast

from django.contrib import admin, messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.db.models import Q, QuerySet, Value
from django.db.models.functions import Upper
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.http import urlencode
from django.utils.safestring import SafeString

from users.admin.display import NOT_SET, as_uuid, moment, named_actors
from users.admin.events import recent_events
from users.admin.filters import CreatedFilter, RoleFilter, StatusFilter, order, standings
from users.admin.forms import ActForm, BlockForm, UnblockForm
from users.admin.site import BoundedPaginator, ReadOnlyAdmin, site
from users.application.errors import ApplicationError
from users.infrastructure.criteria import pieces
from users.models import SEARCHED, UserRecord
from users_domain.errors import DomainError
from users_domain.value_objects import Actor, Role

AT_ONCE = 100
"""How many users one confirmation may be about; more is work for the command line."""


@admin.register(UserRecord, site=site)
class UserAdmin(ReadOnlyAdmin):
    list_display = ("email", "name", "status_badge", "roles_text", "created")
    list_filter = (StatusFilter, RoleFilter, CreatedFilter)
    parameters = frozenset({"status", "role", "created"})
    search_fields = ("email", "name")
    search_help_text = (
        "A part of the email or name (with three letters or digits in a row), the beginning of an email, or "
        "a whole id. "
        f"The list goes back {BoundedPaginator.bound:,} users; search or filter to see others."
    )
    actions = ("block", "unblock")
    fieldsets = (
        ("Account", {"fields": ("id", "email", "email_verified", "name", "roles_text")}),
        ("Status", {"fields": ("status_badge", "block_reason", "blocked", "until", "blocked_by_whom")}),
        ("Record", {"fields": ("created", "updated", "version", "token_version")}),
    )
    change_form_template = "admin/users/userrecord/change_form.html"

    # --- Columns and fields -----------------------------------------------------------------------

    @admin.display(description="Status")
    def status_badge(self, user: UserRecord) -> SafeString:
        return format_html('<span class="status status-{0}">{0}</span>', user.status)

    @admin.display(description="Roles")
    def roles_text(self, user: UserRecord) -> str:
        return ", ".join(sorted(user.roles)) or NOT_SET

    @admin.display(description="Created")
    def created(self, user: UserRecord) -> str:
        return moment(user.created_at)

    @admin.display(description="Updated")
    def updated(self, user: UserRecord) -> str:
        return moment(user.updated_at)

    @admin.display(description="Blocked")
    def blocked(self, user: UserRecord) -> str:
        return moment(user.blocked_at)

    @admin.display(description="Until")
    def until(self, user: UserRecord) -> str:
        forever = "until somebody unblocks" if user.blocked_at else NOT_SET
        return moment(user.blocked_until) if user.blocked_until else forever

    @admin.display(description="Blocked by")
    def blocked_by_whom(self, user: UserRecord) -> str:
        return named_actors([user.blocked_by])[user.blocked_by]

    # --- Finding ----------------------------------------------------------------------------------

    def get_queryset(self, request: HttpRequest) -> QuerySet[UserRecord]:
        return super().get_queryset(request).defer("password_hash")

    def get_ordering(self, request: HttpRequest) -> tuple[str, ...]:
        """As lists of the API."""
        return (f"-{order(request)}created_at", "-id")

    def get_paginator(
        self, request: HttpRequest, queryset: QuerySet[UserRecord], *more: Any, **named: Any
    ) -> BoundedPaginator:
        """Joined with so many standings, the planner might read all users."""
        paginator = cast(BoundedPaginator, super().get_paginator(request, queryset, *more, **named))
        paginator.counted = standings(request) if queryset.model is UserRecord else None  # or a history
        return paginator

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[UserRecord], search_term: str
    ) -> tuple[QuerySet[UserRecord], bool]:
        """By whole id, or as `q` of GET /users; what no trigram is known of is the beginning of an email."""
        text = search_term.strip()
        if user_id := as_uuid(text):
            return queryset.filter(id=user_id), False
        if not text:
            return queryset, False
        if not (wanted := pieces(text)):
            self._tell_of_beginnings(request)
            return queryset.filter(email__startswith=text.lower()), False
        found = queryset.filter(Q(email__icontains=text) | Q(name__icontains=text)).alias(searched=SEARCHED)
        for piece in wanted:  # by these the index knows them
            found = found.filter(searched__contains=Upper(Value(piece)))
        return found, False

    def _tell_of_beginnings(self, request: HttpRequest) -> None:
        if request.method == "GET":  # an action asks once more, and shows another page
            self.message_user(
                request,
                "Only emails that begin so were looked for: to find a part of an email or name, three "
                "letters or digits in a row are needed.",
                messages.INFO,
            )

    # --- Looking at one ---------------------------------------------------------------------------

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        user = self.get_object(request, object_id)
        context = {} if user is None else {"events": recent_events(user.pk)}
        return super().change_view(request, object_id, form_url, {**context, **(extra_context or {})})

    # --- Acting -----------------------------------------------------------------------------------

    def get_urls(self) -> list[URLPattern]:
        views = (
            path(
                f"{form.verb}/",
                self.admin_site.admin_view(self._view_for(form)),
                name=f"users_userrecord_{form.verb}",
            )
            for form in (BlockForm, UnblockForm)
        )
        return [*views, *super().get_urls()]

    @admin.action(description="Block selected users…")
    def block(self, request: HttpRequest, queryset: QuerySet[UserRecord]) -> HttpResponse | None:
        return self._ask(request, BlockForm, queryset)

    @admin.action(description="Unblock selected users…")
    def unblock(self, request: HttpRequest, queryset: QuerySet[UserRecord]) -> HttpResponse | None:
        return self._ask(request, UnblockForm, queryset)

    def _ask(
        self, request: HttpRequest, form: type[ActForm], users: QuerySet[UserRecord]
    ) -> HttpResponse | None:
        ids = [str(user_id) for user_id in users.values_list("id", flat=True)[: AT_ONCE + 1]]
        if len(ids) > AT_ONCE:
            command = f"manage.py {form.verb}_user"
            self.message_user(
                request, f"At most {AT_ONCE} users at once; for more there is {command}.", messages.ERROR
            )
            return None
        address = reverse(f"admin:users_userrecord_{form.verb}")
        return HttpResponseRedirect(f"{address}?{urlencode({'id': ids}, doseq=True)}")

    def _view_for(self, form: type[ActForm]) -> Callable[[HttpRequest], HttpResponse]:
        def view(request: HttpRequest) -> HttpResponse:
            return self._confirm(request, form)

        return view

    def _confirm(self, request: HttpRequest, form: type[ActForm]) -> HttpResponse:
        """Shows whom it is about and asks what the command needs; sent, dispatches one command a user."""
        ids = [user_id for text in request.GET.getlist("id")[:AT_ONCE] if (user_id := as_uuid(text))]
        users = list(self.get_queryset(request).filter(id__in=ids).order_by(*self.get_ordering(request)))
        if not users:
            self.message_user(request, f"There is nobody to {form.verb}.", messages.WARNING)
            return HttpResponseRedirect(reverse("admin:users_userrecord_changelist"))
        filled = form(request.POST if request.method == "POST" else None)
        if request.method == "POST" and filled.is_valid():
            self._dispatch(request, filled, users)
            return HttpResponseRedirect(page_of(users))
        context = {
            **self.admin_site.each_context(request),
            "title": f"{form.verb.title()} {'this user' if len(users) == 1 else f'{len(users)} users'}?",
            "opts": self.opts,
            "media": self.media + filled.media,
            "form": filled,
            "users": users,
            "back": page_of(users),
        }
        return TemplateResponse(request, "admin/users/userrecord/confirm.html", context)

    def log_change(self, request: HttpRequest, obj: UserRecord, message: Any) -> LogEntry:
        """By the id alone: a name or an address that is kept here would outlive the user's erasure."""
        return LogEntry.objects.create(
            user=cast(UserRecord, request.user),
            content_type=ContentType.objects.get_for_model(obj),
            object_id=str(obj.pk),
            object_repr=str(obj.pk),
            action_flag=CHANGE,
            change_message=message,
        )

    def _dispatch(self, request: HttpRequest, form: ActForm, users: Sequence[UserRecord]) -> None:
        """One refusal stops nobody else's command; each is told."""
        by = actor_of(request)
        done = []
        for user in users:
            try:
                form.dispatch(str(user.pk), by)
            except (DomainError, ApplicationError) as error:
                refusal = f"Not {form.done.lower()}: {_called(user)}. {error}"
                self.message_user(request, refusal, messages.ERROR)
            else:
                self.log_change(request, user, form.note())
                done.append(_called(user))
        if done:
            self.message_user(request, f"{form.done}: {', '.join(done)}", messages.SUCCESS)


def _called(user: UserRecord) -> str:
    """An erased user has no address any more."""
    return user.email or str(user.pk)


def page_of(users: Sequence[UserRecord]) -> str:
    """Where to look at them: the one user's own page, or the list."""
    if len(users) == 1:
        return reverse("admin:users_userrecord_change", args=[users[0].pk])
    return reverse("admin:users_userrecord_changelist")


def actor_of(request: HttpRequest) -> Actor:
    """The operator, with the roles that he has now."""
    operator = cast(UserRecord, request.user)
    return Actor(str(operator.pk), frozenset(Role(role) for role in operator.roles))
