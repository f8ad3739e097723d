"""The words of a mail: one template for each kind and language, from which text and HTML are made, so that
both say the same. Nothing that strangers can choose stands in them, no name and no other address: whoever
registers with a name like "Win at https://..." has our mail carry nothing for him."""

import hashlib
import textwrap
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parseaddr
from typing import Any

from django.conf import settings
from django.core.mail import EmailMultiAlternatives
from django.template import Context
from django.template.loader import get_template, render_to_string
from django.utils import dateformat, translation
from django.utils.timesince import TIME_STRINGS

from users.application import links
from users.application.ports import Links, MailKind
from users.infrastructure.mail import addressee
from users.infrastructure.mail.addressee import LINK_OF
from users.models import Mail
from users_domain.value_objects import Locale

WIDTH = 76
DAY, HOUR, MINUTE = 24 * 3600, 3600, 60


@dataclass(frozen=True, slots=True)
class Paragraph:
    """`link`: where the text leads, if it does."""

    text: str
    link: str = ""

    def __str__(self) -> str:
        if self.link:
            return f"{self.text}:\n{self.link}"
        return textwrap.fill(self.text, WIDTH, break_long_words=False, break_on_hyphens=False)


@dataclass(frozen=True, slots=True)
class Letter:
    subject: str
    paragraphs: list[Paragraph]
    locale: Locale

    @property
    def text(self) -> str:
        return "\n\n".join(map(str, self.paragraphs)) + "\n"

    @property
    def html(self) -> str:
        return render_to_string("mail/letter.html", {"letter": self})


def write(kind: MailKind, locale: Locale, *, at: datetime, link: str = "") -> Letter:
    """A template's first line is the subject; a paragraph that ends in the link is what leads there."""
    with translation.override(locale.value):
        context = {
            "service": settings.MAIL_SERVICE_NAME,
            "at": dateformat.format(at.astimezone(UTC), "j E Y, H:i") + " UTC",
            "validity": _duration(links.SECONDS[LINK_OF[kind]]) if link else "",
            "link": link,
        }
        # Plain text: escaping is for the HTML that is made of it.
        found: Any = get_template(f"mail/{locale.value}/{kind.value}.txt")
        rendered: str = found.template.render(Context(context, autoescape=False))
    subject, *rest = (" ".join(each.split()) for each in rendered.strip().split("\n\n"))
    return Letter(subject, [_paragraph(text, link) for text in rest], locale)


def compose(mail: Mail, signed: Links) -> EmailMultiAlternatives | None:
    """What goes out, with a new link in it; None when there is nobody to write to."""
    to = addressee.find(mail)
    if to is None:
        return None
    kind = MailKind(mail.kind)
    at = datetime.fromisoformat(mail.data["at"]) if "at" in mail.data else mail.created_at
    link = ""
    if purpose := LINK_OF.get(kind):
        token = signed.write(purpose, to.user_id, *to.words)
        link = settings.MAIL_LINKS[purpose].replace("{locale}", to.locale.value).replace("{token}", token)
    letter = write(kind, to.locale, at=at, link=link)
    message = EmailMultiAlternatives(
        letter.subject,
        letter.text,
        settings.MAIL_FROM,
        [to.address],
        headers={
            "Message-ID": message_id(mail),
            "Auto-Submitted": "auto-generated",
            "X-Auto-Response-Suppress": "All",
            "Content-Language": to.locale.value,
        },
    )
    message.attach_alternative(letter.html, "text/html")
    return message


def message_id(mail: Mail) -> str:
    """The same at every try, so that whoever gets a mail twice can tell."""
    name = hashlib.sha256(f"{mail.id} {mail.created_at.isoformat()}".encode()).hexdigest()[:32]
    return f"<{name}@{parseaddr(settings.MAIL_FROM)[1].rpartition('@')[2]}>"


def _paragraph(text: str, link: str) -> Paragraph:
    if link and text.endswith(link):
        return Paragraph(text.removesuffix(link).rstrip(" :"), link)
    return Paragraph(text)


def _duration(seconds: int) -> str:
    unit, size = ("minute", MINUTE) if seconds < 2 * HOUR else ("hour", HOUR)
    if seconds >= 2 * DAY:
        unit, size = "day", DAY
    return str(TIME_STRINGS[unit] % {"num": seconds // size})
