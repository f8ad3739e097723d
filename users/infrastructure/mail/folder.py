"""Where mails go in development: a folder, with a file for each that mail programs and editors open."""

import os
from collections.abc import Sequence
from pathlib import Path

from django.conf import settings
from django.core.mail import EmailMessage
from django.core.mail.backends.base import BaseEmailBackend
from django.utils import timezone


class MailFolder(BaseEmailBackend):
    def send_messages(self, email_messages: Sequence[EmailMessage]) -> int:
        folder = Path(str(settings.EMAIL_FILE_PATH))
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for message in email_messages:
            written = timezone.now().strftime("%Y%m%d-%H%M%S-%f")
            (folder / f"{written}-{os.getpid()}.eml").write_bytes(message.message().as_bytes())
        return len(email_messages)
