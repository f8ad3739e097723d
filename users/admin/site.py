"""The site, and what all of its pages have in common: they only show."""

import math
from http import HTTPStatus
from typing import Any, ClassVar, cast

from django.conf import settings
from django.contrib import admin
from django.contrib.admin.forms import AdminAuthenticationForm
from django.core.exceptions import ValidationError
from django.core.paginator import Paginator
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, URLResolver
from django.utils.functional import cached_property

from users.admin.display import NOT_SET


class LoginForm(AdminAuthenticationForm):
    """Says so when the login was not even tried, for there were too many before it."""

    def get_invalid_login_error(self) -> ValidationError:
        seconds = getattr(self.request, "retry_after", None)
        if seconds is None:
            return super().get_invalid_login_error()
        minutes = math.ceil(seconds / 60)
        when = "a minute" if minutes == 1 else f"{minutes} minutes"
        return ValidationError(f"There were too many attempts. Try again in {when}.", code="rate_limited")


class OperatorSite(admin.AdminSite):
    """Django's admin, without what would write past the commands: no password page, no other applications."""

    site_header = "User service"
    site_title = "User service"
    index_title = "Operators' pages"
    site_url = "/docs" if settings.API_DOCS else None
    login_form = LoginForm
    _closed: ClassVar = {"password_change", "password_change_done", "autocomplete", "view_on_site"}

    def get_urls(self) -> list[URLPattern | URLResolver]:
        return [url for url in super().get_urls() if getattr(url, "name", None) not in self._closed]

    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        response = super().login(request, extra_context)
        if (seconds := getattr(request, "retry_after", None)) is not None:
            response.status_code = HTTPStatus.TOO_MANY_REQUESTS
            response["Retry-After"] = str(seconds)
        return response

    def has_permission(self, request: HttpRequest) -> bool:
        """Asked at every page, so this is where the request's log line learns who looks."""
        allowed = super().has_permission(request)
        if allowed:
            request.caller_id = str(request.user.pk)  # type: ignore[attr-defined]
        return allowed


site = OperatorSite(name="admin")


class BoundedPaginator(Paginator):  # type: ignore[type-arg]
    """Counts, and so leads, no further than `bound`: COUNT(*) and OFFSET over millions of rows take seconds,
    and nobody leafs that far."""

    bound = 10_000
    counted: QuerySet[Any] | None = None
    """As many as the list has, and cheaper to count."""

    @cached_property
    def count(self) -> int:
        listed = cast(QuerySet[Model], self.object_list).order_by() if self.counted is None else self.counted
        return listed[: self.bound].count()


class ReadOnlyAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Pages for looking. `parameters` are the only names that a list's address may filter by: Django's own
    rule would let anybody probe any column, the password hash among them."""

    paginator = BoundedPaginator
    empty_value_display = NOT_SET
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER  # each of them counts everything
    list_per_page = 50
    sortable_by = ()
    parameters: ClassVar[frozenset[str]] = frozenset()

    class Media:
        css: ClassVar = {"all": ["users/admin.css"]}

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        return lookup in self.parameters
