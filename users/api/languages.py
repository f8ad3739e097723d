"""The language in which a new user is written to."""

from django.conf import settings
from django.http import HttpRequest
from django.utils.translation.trans_real import parse_accept_lang_header
from rest_framework.request import Request

from users_domain.value_objects import Locale


def language_of(request: HttpRequest | Request) -> str:
    """The one of ours that the browser likes best; where it names none, the one of the settings."""
    for tag, liking in parse_accept_lang_header(request.META.get("HTTP_ACCEPT_LANGUAGE") or ""):
        language = tag.partition("-")[0]
        if liking > 0 and language in set(Locale):
            return language
    return str(settings.DEFAULT_LOCALE)
