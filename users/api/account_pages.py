"""The pages that links in mails lead to, for whoever has no front end of his own: ACCOUNT_PAGES.

The token is in the fragment, which browsers send to nobody. A page does nothing by being opened, as programs
that search mails for harm open all links; a person presses the button, and a script posts to the API."""

from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import path
from django.utils.cache import patch_vary_headers
from django.views.decorators.http import require_safe

from users.api.languages import language_of
from users_domain.value_objects import Locale

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; form-action 'none'; "
    "base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)


def _page(name: str, posts_to: str) -> Callable[[HttpRequest], HttpResponse]:
    """The view of one page; both languages have a template of its name."""

    @require_safe
    def page(request: HttpRequest) -> HttpResponse:
        language = _language(request)
        context = {"language": language, "posts_to": posts_to, "service": settings.MAIL_SERVICE_NAME}
        response = render(request, f"account/{language}/{name}.html", context)
        response["Content-Language"] = language
        response["Content-Security-Policy"] = POLICY
        response["Cache-Control"] = "no-store"
        response["Referrer-Policy"] = "no-referrer"
        response["X-Robots-Tag"] = "noindex, nofollow"
        patch_vary_headers(response, ["Accept-Language"])
        return response

    return page


def _language(request: HttpRequest) -> str:
    """That of the mail, which the link names, or the browser's."""
    asked = request.GET.get("lang", "")
    return asked if asked in set(Locale) else language_of(request)


urlpatterns = [
    path("reset-password", _page("reset_password", "/auth/password-reset/confirm")),
    path("verify-email", _page("verify_email", "/auth/email-verification/confirm")),
    path("email-change", _page("confirm_email_change", "/auth/email-change/confirm")),
    path("email-change/cancel", _page("cancel_email_change", "/auth/email-change/cancel")),
]
