"""How mail is set up by the environment, and with what it is not taken up."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from config.embedded import PROJECT
from tests.e2e.served import PRODUCTION_ENVIRONMENT, clean_environment, write_signing_key

READ_EACH = """
import importlib, json, os, sys
from django.core.exceptions import ImproperlyConfigured
base, answers, names = dict(os.environ), [], json.loads(sys.argv[1])
for environment in json.loads(sys.argv[2]):
    os.environ.clear()
    os.environ.update(base | environment)
    sys.modules.pop("config.settings", None)
    try:
        settings = importlib.import_module("config.settings")
        answers.append({name: getattr(settings, name) for name in names})
    except ImproperlyConfigured as error:
        answers.append(str(error))
print(json.dumps(answers))
"""
"""All in one process: importing Django is what takes the time."""

NAMES = [
    "MAIL_CONFIGURED",
    "EMAIL_BACKEND",
    "EMAIL_FILE_PATH",
    "EMAIL_HOST",
    "EMAIL_PORT",
    "EMAIL_USE_TLS",
    "EMAIL_USE_SSL",
    "EMAIL_HOST_USER",
    "EMAIL_HOST_PASSWORD",
    "EMAIL_TIMEOUT",
    "MAIL_FROM",
    "MAIL_LINKS",
]
MAIL = {
    "EMAIL_URL": "smtp+tls://mailer:p%40ss%2Bword@mail.example.com",
    "MAIL_FROM": "Example <no-reply@example.com>",
    "PUBLIC_URL": "https://users.example.com/",
}


def read(tmp_path: Path, environments: list[dict[str, str]]) -> list[Any]:
    production = PRODUCTION_ENVIRONMENT | {
        "JWT_SIGNING_KEY_FILE": str(write_signing_key(tmp_path)),
        "LOCAL_DIR": str(tmp_path),
    }
    done = subprocess.run(
        [sys.executable, "-c", READ_EACH, json.dumps(NAMES), json.dumps(environments)],
        cwd=PROJECT,
        env=clean_environment() | production,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    answers: list[Any] = json.loads(done.stdout)
    return answers


def test_mail_is_set_up_by_one_address_and_sent_over_tls(tmp_path: Path) -> None:
    """ASVS 12.3.1: TLS is verified, as Django's backend does with its default context."""
    tls, ssl, port, plain, none, development = read(
        tmp_path,
        [
            MAIL,
            MAIL | {"EMAIL_URL": "smtp+ssl://mail.example.com"},
            MAIL | {"EMAIL_URL": "smtp+tls://mail.example.com:2525"},
            MAIL | {"EMAIL_URL": "smtp://localhost"},
            {},
            {"DJANGO_ENV": "development", "PORT": "8123"},
        ],
    )

    assert (tls["EMAIL_USE_TLS"], tls["EMAIL_USE_SSL"], tls["EMAIL_PORT"]) == (True, False, 587)
    assert (tls["EMAIL_HOST"], tls["EMAIL_TIMEOUT"]) == ("mail.example.com", 10)
    assert (tls["EMAIL_HOST_USER"], tls["EMAIL_HOST_PASSWORD"]) == ("mailer", "p@ss+word")
    assert tls["EMAIL_BACKEND"] == "django.core.mail.backends.smtp.EmailBackend"
    assert tls["MAIL_LINKS"]["reset_password"] == (
        "https://users.example.com/account/reset-password?lang={locale}#token={token}"
    )
    assert (ssl["EMAIL_USE_TLS"], ssl["EMAIL_USE_SSL"], ssl["EMAIL_PORT"]) == (False, True, 465)
    assert (port["EMAIL_PORT"], plain["EMAIL_PORT"]) == (2525, 25)
    assert none["MAIL_CONFIGURED"] is False
    assert development["MAIL_CONFIGURED"] is True
    assert development["EMAIL_FILE_PATH"] == str(tmp_path / "mails")
    assert development["MAIL_LINKS"]["verify_email"].startswith("http://127.0.0.1:8123/account/")


def test_own_pages_of_a_front_end_may_take_the_links(tmp_path: Path) -> None:
    own = {
        "ACCOUNT_PAGES": "false",
        "MAIL_LINK_RESET": "https://app.example.com/reset#{token}",
        "MAIL_LINK_VERIFY": "https://app.example.com/verify?t={token}",
        "MAIL_LINK_EMAIL_CHANGE": "https://app.example.com/change#{token}",
        "MAIL_LINK_CANCEL_EMAIL_CHANGE": "https://app.example.com/cancel#{token}",
    }
    [answer] = read(tmp_path, [MAIL | own])
    assert set(answer["MAIL_LINKS"].values()) == set(own.values()) - {"false"}


@pytest.fixture(scope="module")
def refusals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    said = [reason for reason, _ in REFUSED]
    answers = read(tmp_path_factory.mktemp("refused"), [MAIL | changed for _, changed in REFUSED])
    return dict(zip(said, answers, strict=True))


REFUSED = [
    ("MAIL_FROM must be set", {"MAIL_FROM": ""}),
    ("PUBLIC_URL must be set", {"PUBLIC_URL": ""}),
    ("MAIL_FROM is an address", {"MAIL_FROM": "nobody"}),
    ("PUBLIC_URL is like https://users.example.com", {"PUBLIC_URL": "users.example.com"}),
    ("not 'https://users.example.com/path'", {"PUBLIC_URL": "https://users.example.com/path"}),
    ("MAIL_LINK_RESET is an address with {token}", {"MAIL_LINK_RESET": "https://app.example.com/"}),
    ("MAIL_LINK_VERIFY is an address", {"MAIL_LINK_VERIFY": "javascript:{token}"}),
    ("MAIL_LINK_RESET must be set", {"ACCOUNT_PAGES": "false"}),
    ("DEFAULT_LOCALE is 'en' or 'ru', not 'fr'", {"DEFAULT_LOCALE": "fr"}),
    ("would write addresses and links into the log", {"EMAIL_URL": "consolemail:"}),
    ("Invalid email schema", {"EMAIL_URL": "carrier-pigeon://x"}),
]


@pytest.mark.parametrize("reason", [reason for reason, _ in REFUSED])
def test_production_does_not_start_with_half_a_mail_setting(refusals: dict[str, Any], reason: str) -> None:
    assert isinstance(refusals[reason], str), "was taken"
    assert reason in refusals[reason]
