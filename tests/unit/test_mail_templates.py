"""The mails themselves: complete in both languages, saying how long a link lasts and what to do if it was
somebody else; and nothing that a stranger can choose becomes a part of them."""

import tests.environment  # noqa: F401  # isort: skip - before anything of Django's

import html
import re
from datetime import UTC, datetime

import pytest
from django.conf import settings
from django.template import engines

from users.application.ports import MailKind
from users.infrastructure.mail import letters
from users.infrastructure.mail.addressee import LINK_OF
from users_domain.value_objects import Locale

AT = datetime(2026, 11, 22, 23, 45, tzinfo=UTC)
LINK = "https://users.example.com/account/page?lang=en#token=WyJh:1abcde:signature-and_more"
WITH_LINK = {
    MailKind.VERIFY_EMAIL,
    MailKind.RESET_PASSWORD,
    MailKind.CONFIRM_EMAIL_CHANGE,
    MailKind.EMAIL_CHANGE_ASKED,
}
NOTICES = {
    MailKind.PASSWORD_CHANGED,
    MailKind.EMAIL_CHANGED,
    MailKind.EMAIL_CHANGE_ASKED,
    MailKind.ALREADY_REGISTERED,
    MailKind.TOKEN_REUSED,
}
"""About what has happened, and so with the time."""

ALL = [(kind, locale) for kind in MailKind for locale in Locale]
every_letter = pytest.mark.parametrize(("kind", "locale"), ALL, ids=lambda word: word.value)


def a_letter(kind: MailKind, locale: Locale = Locale.ENGLISH) -> letters.Letter:
    return letters.write(kind, locale, at=AT, link=LINK if kind in WITH_LINK else "")


def read_aloud(page: str) -> str:
    """What a person sees of HTML."""
    body = re.sub(r"<(style|title)[^>]*>.*?</\1>", " ", page, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).split())


@every_letter
def test_a_mail_is_complete_in_subject_text_and_html(
    kind: MailKind, locale: Locale, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines["django"].engine, "string_if_invalid", "UNKNOWN")
    letter = a_letter(kind, locale)

    assert 10 < len(letter.subject) < 60
    assert "\n" not in letter.subject
    for part in (letter.subject, letter.text, letter.html):
        assert not re.search(r"[{}]{2}|\{%|%\}|None|UNKNOWN", part)
    assert settings.MAIL_SERVICE_NAME in letter.text
    assert len(letter.paragraphs) >= 3
    assert all(len(line) <= letters.WIDTH or line == LINK for line in letter.text.splitlines())


@every_letter
def test_text_and_html_say_the_same(kind: MailKind, locale: Locale) -> None:
    letter = a_letter(kind, locale)

    words = f"{letter.subject} {letter.text}".replace(f":\n{LINK}", f"\n{LINK}")
    assert read_aloud(letter.html) == " ".join(words.split())
    assert f'<html lang="{locale.value}">' in letter.html


@pytest.mark.parametrize("kind", MailKind, ids=lambda kind: kind.value)
def test_each_language_has_words_of_its_own(kind: MailKind) -> None:
    english, russian = a_letter(kind, Locale.ENGLISH), a_letter(kind, Locale.RUSSIAN)

    without_link = english.text.replace(LINK, "").replace("UTC", "")
    assert not re.search(r"[А-Яа-яЁё]", english.subject + without_link)
    assert re.fullmatch(r"[А-Яа-яЁё ]+", russian.subject)
    rest = " ".join(russian.text.replace(LINK, "").split())
    russian_only = rest.replace(settings.MAIL_SERVICE_NAME, "").replace("UTC", "")
    assert not re.search(r"[A-Za-z]", russian_only), "English words in a Russian mail"


def test_no_two_mails_have_one_subject() -> None:
    assert len({a_letter(kind, locale).subject for kind, locale in ALL}) == len(ALL)


@every_letter
def test_a_link_stands_where_one_is_needed_and_nowhere_else(kind: MailKind, locale: Locale) -> None:
    letter = a_letter(kind, locale)

    expected = 1 if kind in WITH_LINK else 0
    assert letter.text.count(LINK) == len(re.findall(r"https?://", letter.text)) == expected
    assert re.findall(r'href="([^"]*)"', letter.html) == [LINK] * expected
    assert (kind in LINK_OF) == (kind in WITH_LINK)
    if expected:
        assert f"\n{LINK}\n" in letter.text  # on a line of its own, so that no full stop sticks to it


@pytest.mark.parametrize(
    ("kind", "english", "russian"),
    [
        (MailKind.RESET_PASSWORD, "30 minutes", "30 минут"),
        (MailKind.VERIFY_EMAIL, "24 hours", "24 часа"),
        (MailKind.CONFIRM_EMAIL_CHANGE, "24 hours", "24 часа"),
        (MailKind.EMAIL_CHANGE_ASKED, "7 days", "7 дней"),
    ],
)
def test_a_mail_with_a_link_says_how_long_it_lasts(kind: MailKind, english: str, russian: str) -> None:
    assert english in a_letter(kind).text
    assert russian in a_letter(kind, Locale.RUSSIAN).text


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(60, "1 minute"), (3600, "60 minutes"), (7200, "2 hours"), (86400, "24 hours"), (172800, "2 days")],
)
def test_a_duration_is_said_in_the_unit_that_people_use(seconds: int, said: str) -> None:
    assert letters._duration(seconds).replace("\xa0", " ") == said


@every_letter
def test_a_notice_says_when_it_happened_by_one_clock_for_all(kind: MailKind, locale: Locale) -> None:
    when = {Locale.ENGLISH: "22 November 2026, 23:45 UTC", Locale.RUSSIAN: "22 ноября 2026, 23:45 UTC"}
    text = " ".join(a_letter(kind, locale).text.split())

    assert (when[locale] in text) == (kind in NOTICES)


@every_letter
def test_a_mail_says_what_to_do_if_it_was_somebody_else(kind: MailKind, locale: Locale) -> None:
    doubts = {
        Locale.ENGLISH: r"If this was not you|If you know nothing|If you think that somebody else",
        Locale.RUSSIAN: r"Если это были не вы|Если вы ничего не знаете|Если вы думаете, что у кого-то",
    }
    assert re.search(doubts[locale], " ".join(a_letter(kind, locale).text.split()))


@every_letter
def test_a_mail_loads_nothing_and_tells_nobody_that_it_was_read(kind: MailKind, locale: Locale) -> None:
    page = a_letter(kind, locale).html

    assert not re.search(
        r"<(img|script|iframe|link|form|object|svg|video|base)\b|url\(|@import|\bon\w+=", page
    )
    assert not re.search(r"\b(src|srcset|background|action)=", page)


def test_what_is_no_markup_does_not_become_any(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "MAIL_SERVICE_NAME", 'A & B <script>alert("1")</script>')
    letter = a_letter(MailKind.PASSWORD_CHANGED)

    assert 'A & B <script>alert("1")</script>' in " ".join(letter.text.split())
    assert "<script" not in letter.html
    assert "A &amp; B &lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;" in letter.html


def test_a_link_cannot_leave_its_attribute() -> None:
    letter = letters.write(
        MailKind.VERIFY_EMAIL, Locale.ENGLISH, at=AT, link='https://example.com/"><b>a&b</b>'
    )
    assert 'href="https://example.com/&quot;&gt;&lt;b&gt;a&amp;b&lt;/b&gt;"' in letter.html
