"""What the environment decides, and what production does not start without."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from config.embedded import PROJECT
from tests.e2e.served import PRODUCTION_ENVIRONMENT, clean_environment, write_signing_key

TELL = """
import json
from config import settings
wanted = "PRODUCTION DEBUG API_DOCS BROWSABLE_API ALLOWED_HOSTS CORS_ALLOWED_ORIGINS REGISTRATION".split()
print(json.dumps({name: getattr(settings, name) for name in wanted} | {
    "renderers": settings.REST_FRAMEWORK["DEFAULT_RENDERER_CLASSES"],
    "secure": [settings.SESSION_COOKIE_SECURE, settings.CSRF_COOKIE_SECURE],
    "lifetime": settings.ACCESS_TOKEN_SECONDS,
    "credentials": settings.CORS_ALLOW_CREDENTIALS,
}))
"""


@pytest.fixture(scope="module")
def production(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("production")
    return PRODUCTION_ENVIRONMENT | {
        "JWT_SIGNING_KEY_FILE": str(write_signing_key(folder)),
        "LOCAL_DIR": str(folder),
        "STATIC_ROOT": str(folder),
    }


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=PROJECT,
        env=clean_environment() | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def told(**environment: str) -> dict[str, object]:
    done = run("-c", TELL, **environment)
    assert done.returncode == 0, done.stderr
    settings: dict[str, object] = json.loads(done.stdout)
    return settings


@pytest.mark.parametrize("missing", [*list(PRODUCTION_ENVIRONMENT)[1:-1], "JWT_SIGNING_KEY_FILE"])
def test_production_names_the_variable_without_which_it_does_not_start(
    production: dict[str, str], missing: str
) -> None:
    for environment in (
        {name: value for name, value in production.items() if name != missing},
        production | {missing: ""},
    ):
        done = run("-c", "import config.settings", **environment)
        assert done.returncode != 0
        last = done.stderr.strip().splitlines()[-1]
        assert last.endswith(f"ImproperlyConfigured: {missing} must be set when DJANGO_ENV=production.")


def test_production_does_not_start_with_a_key_file_that_is_not_there(production: dict[str, str]) -> None:
    done = run(
        "-c", "import config.settings", **production | {"JWT_SIGNING_KEY_FILE": "/nonexistent/key.pem"}
    )
    assert done.returncode != 0
    assert "JWT_SIGNING_KEY_FILE names /nonexistent/key.pem" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    "content", ["", "nonsense", "-----BEGIN PUBLIC KEY-----\nabc\n-----END PUBLIC KEY-----"]
)
def test_the_application_does_not_load_with_a_key_that_is_none(
    production: dict[str, str], tmp_path: Path, content: str
) -> None:
    (tmp_path / "key.pem").write_text(content)
    done = run("-c", "import config.wsgi", **production | {"JWT_SIGNING_KEY_FILE": str(tmp_path / "key.pem")})
    assert done.returncode != 0
    assert "ValueError" in done.stderr


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("DJANGO_ENV", "prod"),
        ("DJANGO_ENV", "Production"),
        ("REGISTRATION", "maybe"),
        ("REGISTRATION_DISCLOSURE", "silent"),
        ("EMAIL_CHANGE", "later"),
        ("RATE_LIMITS", "false"),
        ("RATE_LIMIT_LOGIN", "10 per minute"),
        ("RATE_LIMIT_CALLER", ""),
        ("TRUSTED_PROXIES", "-1"),
        ("TRUSTED_PROXIES", "10.0.0.1"),
        ("SESSIONS_PER_USER", "-1"),
        ("SESSIONS_PER_USER", "0"),
        ("SESSIONS_PER_USER", "many"),
        ("ACCESS_TOKEN_SECONDS", "0"),
        ("SESSION_SECONDS", "0"),
        ("SESSION_IDLE_SECONDS", "-1"),
        ("REFRESH_GRACE_SECONDS", "-1"),
    ],
)
def test_a_value_that_is_none_of_the_choices_stops_the_start(
    production: dict[str, str], variable: str, value: str
) -> None:
    done = run("-c", "import config.settings", **production | {variable: value})
    assert done.returncode != 0
    assert variable in done.stderr.splitlines()[-1]


def test_there_may_be_no_grace_at_all(production: dict[str, str]) -> None:
    assert told(**production, REFRESH_GRACE_SECONDS="0")["lifetime"] == 300


def test_production_is_closed_by_default(production: dict[str, str]) -> None:
    settings = told(**production)
    assert settings == {
        "PRODUCTION": True,
        "DEBUG": False,
        "API_DOCS": False,
        "BROWSABLE_API": False,
        "ALLOWED_HOSTS": ["localhost", "127.0.0.1"],
        "CORS_ALLOWED_ORIGINS": [],
        "REGISTRATION": "open",
        "renderers": ["users.api.renderers.ReadyJSONRenderer"],
        "secure": [True, True],
        "lifetime": 300,
        "credentials": False,
    }


def test_a_new_address_waits_for_its_proof_where_mail_is_sent(production: dict[str, str]) -> None:
    mail = {
        "EMAIL_URL": "smtp://localhost:25",
        "MAIL_FROM": "users@example.com",
        "PUBLIC_URL": "https://users.example.com",
    }
    without = {name: value for name, value in production.items() if name not in mail}
    tell = ("-c", "from config import settings; print(settings.EMAIL_CHANGE)")

    assert run(*tell, **without | mail).stdout == "verified\n"
    assert run(*tell, **without | mail, EMAIL_CHANGE="immediate").stdout == "immediate\n"
    assert run(*tell, **without).stdout == "immediate\n"
    refused = run(*tell, **without, EMAIL_CHANGE="verified")
    assert "EMAIL_URL must be set where EMAIL_CHANGE is 'verified'" in refused.stderr.splitlines()[-1]


def test_documentation_can_be_switched_on_in_production(production: dict[str, str]) -> None:
    settings = told(**production, API_DOCS="true")
    assert (settings["API_DOCS"], settings["BROWSABLE_API"]) == (True, False)


def test_development_needs_nothing(tmp_path: Path) -> None:
    first, second = told(LOCAL_DIR=str(tmp_path)), told(LOCAL_DIR=str(tmp_path))
    assert first == second
    assert (first["PRODUCTION"], first["DEBUG"], first["API_DOCS"], first["BROWSABLE_API"]) == (
        False,
        False,
        True,
        True,
    )
    secret = tmp_path / "secret_key"
    assert len(secret.read_text()) >= 50
    assert secret.stat().st_mode & 0o077 == 0


def test_lists_are_comma_separated_with_or_without_spaces(production: dict[str, str]) -> None:
    settings = told(
        **production
        | {
            "ALLOWED_HOSTS": "a.example,b.example , ",
            "CORS_ALLOWED_ORIGINS": "https://a.example, https://b.example",
        }
    )
    assert settings["ALLOWED_HOSTS"] == ["a.example", "b.example"]
    assert settings["CORS_ALLOWED_ORIGINS"] == ["https://a.example", "https://b.example"]


def test_djangos_deployment_check_has_nothing_to_say(production: dict[str, str]) -> None:
    check = ("manage.py", "check", "--deploy", "--fail-level", "WARNING")
    done = run(*check, **production)
    assert done.returncode == 0, done.stderr


def test_the_real_server_does_not_start_in_production_without_its_secrets(production: dict[str, str]) -> None:
    environment = {name: value for name, value in production.items() if name != "SECRET_KEY"}
    done = run("-m", "config.server", **environment, PORT="0", WEB_WORKERS="1")
    assert done.returncode != 0
    assert "SECRET_KEY must be set" in done.stdout + done.stderr
