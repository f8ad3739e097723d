"""The pages that links in mails lead to: closed to scripts of others, silent about the token, and complete in
both languages. What their own script does was tried in a browser; here is what it relies on."""

import importlib
import re

import pytest
from django.conf import settings
from django.template import engines
from django.test import Client
from django.urls import clear_url_caches, resolve

from config import urls
from config.embedded import PROJECT
from tests.fixtures import PASSWORD, Api, People
from users.api import account_pages
from users.application import links
from users.infrastructure.links import SignedLinks
from users.models import UserRecord

PAGES = {
    "/account/reset-password": "/auth/password-reset/confirm",
    "/account/verify-email": "/auth/email-verification/confirm",
    "/account/email-change": "/auth/email-change/confirm",
    "/account/email-change/cancel": "/auth/email-change/cancel",
}
LANGUAGES = ("en", "ru")
SCRIPT = (PROJECT / "users/static/users/account.js").read_text()

each_page = pytest.mark.parametrize("path", PAGES)
each_text = pytest.mark.parametrize(
    ("path", "language"), [(path, language) for path in PAGES for language in LANGUAGES]
)


def shown(anyone: Api, path: str, language: str = "en") -> str:
    answer = anyone("GET", f"{path}?lang={language}")
    assert answer.status_code == 200, answer.content
    return answer.content.decode()


def sentences(page: str) -> dict[str, str]:
    """What the script may say, by the code of the problem."""
    found = re.findall(r'<li data-problem="(\w+)">(.*?)</li>', page, re.DOTALL)
    assert len(found) == len(dict(found))
    return dict(found)


@each_page
def test_a_page_is_locked_against_everything_that_is_not_its_own(anyone: Api, path: str) -> None:
    """ASVS 3.4.3, 3.4.6, 3.2.1: neither scripts of others nor frames."""
    answer = anyone("GET", path)

    policy = dict(part.split(" ", 1) for part in answer["Content-Security-Policy"].split("; "))
    assert policy == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "connect-src": "'self'",
        "form-action": "'none'",
        "base-uri": "'none'",
        "frame-ancestors": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }
    assert answer["X-Frame-Options"] == "DENY"
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert not answer.cookies


@each_page
def test_a_page_is_kept_told_and_found_by_nobody(anyone: Api, path: str) -> None:
    """ASVS 14.3.2, 14.2.1, 3.4.5."""
    answer = anyone("GET", path)

    assert answer["Cache-Control"] == "no-store"
    assert answer["Referrer-Policy"] == "no-referrer"
    assert "noindex" in answer["X-Robots-Tag"]
    assert "Accept-Language" in answer["Vary"]


@each_text
def test_a_page_needs_nothing_inline_and_nothing_from_elsewhere(
    anyone: Api, path: str, language: str
) -> None:
    page = shown(anyone, path, language)

    assert not re.search(r"\bon\w+=|\bstyle=|<style|javascript:|//", page)
    assert re.findall(r"<script\b[^>]*>(.*?)</script>", page) == [""]
    addresses = re.findall(r'\b(?:src|href)="([^"]+)"', page)
    assert addresses == ["/static/users/account.css", "/static/users/account.js"]
    for address in addresses:
        static = anyone("GET", address)
        assert static.status_code == 200
        static.close()


@each_text
def test_without_its_script_a_page_sends_nothing(anyone: Api, path: str, language: str) -> None:
    """Least of all a password as a part of an address."""
    page = shown(anyone, path, language)

    assert '<form id="form" method="post"' in page
    assert not re.search(r"<(?:input|button)[^>]*\bname=", page)
    assert re.findall(r"<button[^>]*>", page) == ['<button type="submit" disabled>']
    assert "<noscript>" in page


@each_page
def test_nothing_happens_by_opening_a_page(anyone: Api, people: People, path: str) -> None:
    """Programs that search mails for harm open every link in them."""
    user_id = people.user("Ann")
    token = SignedLinks().write(links.VERIFY_EMAIL, user_id, links.digest("ann@example.com"))
    before = UserRecord.objects.values().get()
    for address in (path, f"{path}?token={token}"):
        for method in ("GET", "HEAD"):
            assert anyone(method, address).status_code == 200

    assert UserRecord.objects.values().get() == before
    assert anyone("POST", path).status_code == 405
    assert 'addEventListener("submit", send)' in SCRIPT
    assert SCRIPT.count("send") == 2  # where it is written, and where the button calls it


@pytest.mark.parametrize(("path", "posts_to"), PAGES.items())
def test_a_page_posts_where_the_api_takes_its_link(anyone: Api, path: str, posts_to: str) -> None:
    assert f'data-posts-to="{posts_to}"' in shown(anyone, path)
    assert resolve(posts_to)
    answer = anyone(
        "POST", posts_to, {"token": "x"} | ({"new_password": PASSWORD} if "reset" in path else {})
    )
    assert answer.json()["details"][0]["code"] == "invalid_link"


def test_what_the_script_of_a_page_sends_does_what_the_page_says(anyone: Api, people: People) -> None:
    user_id = people.user("Ann")
    token = SignedLinks().write(links.VERIFY_EMAIL, user_id, links.digest("ann@example.com"))

    assert anyone("POST", PAGES["/account/verify-email"], {"token": token}).status_code == 204
    assert UserRecord.objects.get().email_verified


@each_text
def test_a_page_is_in_one_language_and_has_a_sentence_for_each_problem(
    anyone: Api, path: str, language: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines["django"].engine, "string_if_invalid", "UNKNOWN")
    page = shown(anyone, path, language)
    assert "UNKNOWN" not in page
    said = sentences(page)

    assert f'<html lang="{language}">' in page
    every = {"no_token", "invalid_link", "rate_limited", "unavailable", "network", "other"}
    assert every <= said.keys()
    if "reset" in path:
        policy = (PROJECT / "users/infrastructure/passwords/policy.py").read_text()
        faults = set(re.findall(r'return "(\w+)", f?"', policy))
        assert len(faults) >= 6
        assert faults | {"empty", "different"} <= said.keys()
        assert all(f'"{fault}"' in SCRIPT for fault in faults)
    if path == "/account/email-change":
        assert "user_already_exists" in said
    other = r"[А-Яа-яЁё]" if language == "en" else r"[A-Za-z]"
    words = " ".join(said.values()).replace(settings.MAIL_SERVICE_NAME, "")
    assert not re.search(other, words)
    assert all(said[code].strip() for code in said)


@each_page
def test_both_languages_of_a_page_know_the_same_problems(anyone: Api, path: str) -> None:
    english, russian = (sentences(shown(anyone, path, language)) for language in LANGUAGES)
    assert english.keys() == russian.keys()


@each_text
def test_whoever_does_not_see_a_page_can_use_it(anyone: Api, path: str, language: str) -> None:
    """Every field has a label, problems and the outcome are read out, the title says what the page is for."""
    page = shown(anyone, path, language)

    fields = re.findall(r'<input id="(\w+)"', page)
    assert fields == (["password", "again", "show"] if "reset" in path else [])
    assert re.findall(r'<label for="(\w+)"', page) == fields
    assert re.search(r'id="problem"[^>]* role="alert" tabindex="-1" hidden', page)
    assert re.search(r'id="done" role="status" tabindex="-1" hidden', page)
    assert len(re.findall(r"<h1\b", page)) == 1
    title = re.search(r"<title>(.+) · (.+)</title>", page)
    assert title
    assert title[2] == settings.MAIL_SERVICE_NAME
    assert page.count('autocomplete="new-password"') == (2 if "reset" in path else 0)


def test_titles_tell_the_pages_apart(anyone: Api) -> None:
    pages = [shown(anyone, path, language) for path in PAGES for language in LANGUAGES]
    titles = {re.search(r"<title>(.+)</title>", page)[1] for page in pages}  # type: ignore[index]
    assert len(titles) == len(pages)


@pytest.mark.parametrize(
    ("query", "header", "language"),
    [
        ("", "", "en"),
        ("", "ru-RU,ru;q=0.9,en;q=0.8", "ru"),
        ("", "de, en;q=0.1", "en"),
        ("?lang=ru", "en", "ru"),
        ("?lang=xx", "ru", "ru"),
        ("?lang=../../admin", "", "en"),
    ],
)
def test_the_language_is_that_of_the_mail_else_the_browsers(
    anyone: Api, query: str, header: str, language: str
) -> None:
    answer = anyone("GET", f"/account/verify-email{query}", accept_language=header)
    assert answer["Content-Language"] == language
    assert f'<html lang="{language}">' in answer.content.decode()


def test_the_script_lets_the_token_go_nowhere_but_into_the_body() -> None:
    """ASVS 14.2.1: out of the address at once, into no storage, no cookie, no console and no markup."""
    assert 'history.replaceState(null, "", location.pathname + location.search)' in SCRIPT
    for place in ("localStorage", "sessionStorage", "document.cookie", "console.", "innerHTML", "eval("):
        assert place not in SCRIPT
    assert SCRIPT.count("fetch(") == 1
    assert "JSON.stringify(password ? { token, new_password: password.value } : { token })" in SCRIPT
    assert 'credentials: "omit"' in SCRIPT


@each_page
def test_the_script_finds_in_a_page_what_it_looks_for(anyone: Api, path: str) -> None:
    page = shown(anyone, path)
    ids = set(re.findall(r'\bid="(\w+)"', page))
    needed = set(re.findall(r'part\("(\w+)"\)', SCRIPT)) - {"password", "again", "show"}
    assert needed == {"form", "problem", "problems", "done"}
    assert needed <= ids


def test_the_name_of_the_service_cannot_become_markup(anyone: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "MAIL_SERVICE_NAME", "<script>alert(1)</script>")
    page = shown(anyone, "/account/email-change/cancel")
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page


def test_where_pages_are_off_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        with monkeypatch.context() as off:
            off.setattr(settings, "ACCOUNT_PAGES", False)
            importlib.reload(urls)
            clear_url_caches()
            client = Client(SERVER_NAME="localhost")
            assert [client.get(path).status_code for path in PAGES] == [404] * 4
    finally:
        importlib.reload(urls)
        clear_url_caches()


def test_the_pages_are_those_that_links_lead_to() -> None:
    served = {f"/account/{pattern.pattern}" for pattern in account_pages.urlpatterns}
    linked = {re.sub(r"^https?://[^/]+|\?.*", "", link) for link in settings.MAIL_LINKS.values()}
    assert served == linked == set(PAGES)
    assert all("?lang={locale}#token={token}" in link for link in settings.MAIL_LINKS.values())
