"""How operators log in to the admin pages: with the same account, password and rules as everywhere."""

from django.http import HttpRequest

from users import wiring
from users.api.client import client_of
from users.application.credentials import LogIn
from users.application.errors import InvalidCredentials, RateLimited
from users.models import UserRecord
from users_domain.errors import UserBlocked


class StaffBackend:
    """An authentication backend in Django's sense."""

    def authenticate(
        self, request: HttpRequest | None, username: str | None = None, password: str | None = None
    ) -> UserRecord | None:
        if username is None or password is None:
            return None
        try:
            address = client_of(request).address if request else ""
            command = LogIn(email=username, password=password, address=address)
            user = wiring.service().credentials.authenticate(command)
        except (InvalidCredentials, UserBlocked):
            return None
        except RateLimited as limited:
            if request is not None:
                request.retry_after = limited.retry_after  # type: ignore[attr-defined] # the page says so
            return None
        return UserRecord.objects.get(id=user.id.value) if user.is_staff else None

    def get_user(self, user_id: str) -> UserRecord | None:
        user = UserRecord.objects.filter(id=user_id).first()
        return user if user and user.is_active else None
