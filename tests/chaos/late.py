"""A registration by the service's own code that commits late: when the naive relay has gone past its event.

`python -m tests.chaos.late POSITION EMAIL`: POSITION is the file in which that relay keeps the last id."""

import os
import sys
import time
from pathlib import Path

import django

os.environ["DJANGO_SETTINGS_MODULE"] = "tests.patient_settings"
django.setup()

from django.db import transaction  # noqa: E402

from tests.chaos.writers import PASSWORD  # noqa: E402
from users import wiring  # noqa: E402
from users.application.commands import RegisterUser  # noqa: E402
from users.models import OutboxEvent  # noqa: E402


def register_late(position: Path, email: str) -> None:
    command = RegisterUser(email=email, name="Late", password=PASSWORD)
    with transaction.atomic():
        user = wiring.service().commands.register(command)
        own = OutboxEvent.objects.get(user_id=user.id).id
        while int(position.read_text()) < own:
            time.sleep(0.01)


if __name__ == "__main__":
    register_late(Path(sys.argv[1]), sys.argv[2])
