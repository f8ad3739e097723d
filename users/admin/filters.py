"""What the list of users can be narrowed down to; words that are none of the choices narrow nothing."""

from datetime import datetime, timedelta
from typing import Any, ClassVar

from django.contrib import admin
from django.contrib.admin.views.main import SEARCH_VAR
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.utils import timezone

from users.models import UserStanding
from users_domain.value_objects import Role, UserStatus


def order(request: HttpRequest) -> str:
    """Where the list's order is known: of those of one status with their standings, else with the users."""
    return "standing__" if request.GET.get(StatusFilter.parameter_name) in list(UserStatus) else ""


def standings(request: HttpRequest) -> QuerySet[UserStanding] | None:
    """Of all whom a list shows that is narrowed by status alone, or by status and age; else None."""
    if not order(request) or request.GET.get(SEARCH_VAR) or request.GET.get(RoleFilter.parameter_name):
        return None
    found = UserStanding.objects.filter(status=request.GET[StatusFilter.parameter_name])
    since = CreatedFilter.since(request.GET.get(CreatedFilter.parameter_name))
    return found.filter(created_at__gte=since) if since else found


class StatusFilter(admin.SimpleListFilter):
    title = "status"
    parameter_name = "status"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(status.value, status.value.title()) for status in UserStatus]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Model]) -> QuerySet[Model]:
        known = self.value() in list(UserStatus)
        return queryset.filter(standing__status=self.value()) if known else queryset


class RoleFilter(admin.SimpleListFilter):
    title = "role"
    parameter_name = "role"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(role.value, role.value.title()) for role in Role]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Model]) -> QuerySet[Model]:
        known = self.value() in list(Role)
        return queryset.filter(roles__contains=[self.value()]) if known else queryset


class CreatedFilter(admin.SimpleListFilter):
    title = "created"
    parameter_name = "created"
    _spans: ClassVar = {"1": "Past 24 hours", "7": "Past 7 days", "30": "Past 30 days", "365": "Past year"}

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return list(self._spans.items())

    def queryset(self, request: HttpRequest, queryset: QuerySet[Model]) -> QuerySet[Model]:
        since = self.since(self.value())
        return queryset.filter(**{f"{order(request)}created_at__gte": since}) if since else queryset

    @classmethod
    def since(cls, chosen: str | None) -> datetime | None:
        return timezone.now() - timedelta(days=int(chosen)) if chosen and chosen in cls._spans else None
