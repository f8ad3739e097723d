"""Django's entry for the service."""

from django.apps import AppConfig

from users import checks


class UsersConfig(AppConfig):
    name = "users"
    verbose_name = "User service"

    def ready(self) -> None:
        checks.register()
