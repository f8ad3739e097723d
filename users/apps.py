"""Django's entry for the service."""

from django.apps import AppConfig
from django.core.cache import close_caches
from django.core.signals import request_finished, request_started
from django.db import reset_queries

from users import checks


class UsersConfig(AppConfig):
    name = "users"
    verbose_name = "User service"

    def ready(self) -> None:
        checks.register()
        # What they do for every request, we need not: Redis keeps its connections, and statements
        # are kept with DEBUG alone.
        request_finished.disconnect(close_caches)
        request_started.disconnect(reset_queries)
