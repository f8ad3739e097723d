"""The admin pages as a browser without JavaScript sees them, and staff who has logged in."""

import html
import re
from typing import Any

import pytest
from django.http import HttpResponse
from django.test import Client

from tests.fixtures import PASSWORD, People

USERS = "/admin/users/userrecord/"


class Browser:
    """Django's test client with CSRF checks on, following redirects, and what a person would read."""

    def __init__(self) -> None:
        self.client = Client(enforce_csrf_checks=True, SERVER_NAME="localhost", raise_request_exception=False)

    def get(self, path: str, **query: Any) -> HttpResponse:
        return self.client.get(path, query, follow=True)

    def send(self, path: str, **fields: Any) -> HttpResponse:
        """Fills in the form that is on the page at this path."""
        shown = self.get(path)
        token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', shown.content.decode())
        assert token, shown.content
        return self.client.post(path, {"csrfmiddlewaretoken": token[1], **fields}, follow=True)

    def choose(self, action: str, *user_ids: str, **fields: Any) -> HttpResponse:
        return self.send(USERS, action=action, index="0", _selected_action=list(user_ids), **fields)

    def log_in(self, name: str, password: str = PASSWORD) -> HttpResponse:
        return self.send("/admin/login/?next=/admin/", username=f"{name}@example.com", password=password)


def text(response: HttpResponse) -> str:
    """What stands on the page, without tags and runs of blanks."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", response.content.decode())).split())


def told(response: HttpResponse) -> list[str]:
    """The messages at the top of the page."""
    return [str(message) for message in response.context["messages"]]


@pytest.fixture
def browser(people: People) -> Browser:
    """With an operator logged in, whose name is Op."""
    people.staff("operator", "Op")
    browser = Browser()
    assert "Op" in text(browser.log_in("op"))
    return browser


@pytest.fixture
def boss(people: People) -> Browser:
    """With an admin logged in, whose name is Boss."""
    people.staff("admin", "Boss")
    browser = Browser()
    browser.log_in("boss")
    return browser
