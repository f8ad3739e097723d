"""Which settings are refused or warned of, by `check --deploy` and by whoever starts a role."""

import re
import secrets
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from django.core import checks as django_checks

from config import threads
from config.embedded import PROJECT
from tests.e2e.served import PRODUCTION_ENVIRONMENT, clean_environment, write_signing_key
from users import checks

STRONG = "Qd8-fWz3Xk1_rT6yLm9pVb4nHs7jCg2aEuKoRi5tNwMxBvZ0qYh"


def production(**changed: Any) -> Any:
    """Settings that nothing is to be said about, but for what is `changed`."""
    sound = {
        "PRODUCTION": True,
        "DEBUG": False,
        "SECRET_KEY": STRONG,
        "SECRET_KEY_FALLBACKS": [],
        "ALLOWED_HOSTS": ["users.example.com"],
        "CORS_ALLOW_CREDENTIALS": False,
        "CORS_ALLOW_ALL_ORIGINS": False,
        "CORS_ALLOWED_ORIGINS": ["https://app.example.com"],
        "CORS_ALLOWED_ORIGIN_REGEXES": [],
        "CSRF_TRUSTED_ORIGINS": ["https://users.example.com"],
        "TRUSTED_PROXIES": 1,
        "RATE_LIMITS": True,
        "RATE_LIMIT_POLICIES": {"login": "10/15m"},
        "BCRYPT_COST": 12,
        "WEB_WORKERS": 2,
        "WEB_THREADS": 64,
        "FREE_THREADS": 8,
        "FEED_WAITS": 8,
        "HASHING_CONCURRENCY": 2,
        "HASHING_QUEUE": 46,
        "ACCESS_TOKEN_SECONDS": 300,
        "REFRESH_GRACE_SECONDS": 10,
        "WEBHOOK_PRIVATE_ADDRESSES": False,
        "EMAIL_URL": "smtp+tls://mail.example.com:587",
    }
    return SimpleNamespace(**sound | changed)


def said_of(settings: Any) -> list[str]:
    """The ids of all that any of the checks says."""
    return [str(message.id) for check in checks.DANGERS + checks.DEPLOY for message in check(settings)]


def test_sound_settings_are_left_alone() -> None:
    assert said_of(production()) == []


@pytest.mark.parametrize(
    ("changed", "id_"),
    [
        ({"CORS_ALLOW_CREDENTIALS": True, "CORS_ALLOW_ALL_ORIGINS": True}, "users.E001"),
        ({"CORS_ALLOW_CREDENTIALS": True, "CORS_ALLOWED_ORIGINS": ["*"]}, "users.E001"),
        ({"CORS_ALLOW_CREDENTIALS": True, "CORS_ALLOWED_ORIGIN_REGEXES": [r"^https://.*$"]}, "users.E001"),
        ({"TRUSTED_PROXIES": None}, "users.E002"),
        ({"SECRET_KEY": ""}, "users.E003"),
        ({"SECRET_KEY": STRONG[:49]}, "users.E003"),
        ({"SECRET_KEY": "abcdefgh" * 10}, "users.E003"),
        ({"SECRET_KEY": "django-insecure-" + STRONG}, "users.E003"),
        ({"SECRET_KEY": "change-me-" + STRONG}, "users.E003"),
        ({"SECRET_KEY_FALLBACKS": [STRONG[::-1], "short"]}, "users.E004"),
        ({"DEBUG": True}, "users.E005"),
        ({"ALLOWED_HOSTS": ["users.example.com", "*"]}, "users.E006"),
        ({"ALLOWED_HOSTS": [" . "]}, "users.E006"),
        ({"BCRYPT_COST": 9}, "users.E007"),
        ({"WEB_THREADS": 63}, "users.E008"),
        ({"FEED_WAITS": 9}, "users.E008"),
        ({"HASHING_QUEUE": 47}, "users.E008"),
        ({"HASHING_CONCURRENCY": 3}, "users.E008"),
        ({"RATE_LIMITS": False}, "users.W001"),
        ({"RATE_LIMIT_POLICIES": {"login": None, "reset": "5/1h"}}, "users.W001"),
        ({"CORS_ALLOWED_ORIGINS": ["http://app.example.com"]}, "users.W002"),
        ({"CSRF_TRUSTED_ORIGINS": ["HTTP://users.example.com"]}, "users.W002"),
        ({"ACCESS_TOKEN_SECONDS": 901}, "users.W003"),
        ({"REFRESH_GRACE_SECONDS": 61}, "users.W005"),
        ({"WEBHOOK_PRIVATE_ADDRESSES": True}, "users.W004"),
        ({"EMAIL_URL": ""}, "users.I001"),
    ],
    ids=str,
)
def test_each_danger_has_its_message(changed: dict[str, Any], id_: str) -> None:
    assert said_of(production(**changed)) == [id_]


@pytest.mark.parametrize(
    "changed",
    [
        {"CORS_ALLOW_ALL_ORIGINS": True},
        {"CORS_ALLOW_CREDENTIALS": True},
        {"CORS_ALLOW_CREDENTIALS": True, "CORS_ALLOWED_ORIGIN_REGEXES": [r"^https://\w+\.example\.com$"]},
        {"TRUSTED_PROXIES": 0},
        {"SECRET_KEY": secrets.token_hex(32)},
        {"SECRET_KEY": secrets.token_urlsafe(50)},
        {"BCRYPT_COST": 10},
        {"WEB_THREADS": 1, "FREE_THREADS": 0, "FEED_WAITS": 0, "HASHING_CONCURRENCY": 1, "HASHING_QUEUE": 0},
        {"ACCESS_TOKEN_SECONDS": 900},
        {"REFRESH_GRACE_SECONDS": 60},
    ],
    ids=list,
)
def test_what_only_looks_like_one_has_none(changed: dict[str, Any]) -> None:
    assert said_of(production(**changed)) == []


def test_development_may_do_as_it_likes_but_for_credentials_to_anyone() -> None:
    settings = production(
        PRODUCTION=False,
        DEBUG=True,
        SECRET_KEY="short",
        ALLOWED_HOSTS=["*"],
        TRUSTED_PROXIES=None,
        BCRYPT_COST=4,
        RATE_LIMITS=False,
        WEBHOOK_PRIVATE_ADDRESSES=True,
        EMAIL_URL="",
        CSRF_TRUSTED_ORIGINS=["http://localhost:8000"],
    )
    assert said_of(settings) == []
    settings.CORS_ALLOW_CREDENTIALS = settings.CORS_ALLOW_ALL_ORIGINS = True
    assert said_of(settings) == ["users.E001"]


def test_every_message_says_what_to_do_and_none_tells_a_key() -> None:
    settings = production(SECRET_KEY="a secret", SECRET_KEY_FALLBACKS=["another secret"])
    messages = [message for check in checks.DANGERS + checks.DEPLOY for message in check(settings)]
    assert [message.id for message in messages] == ["users.E003", "users.E004"]
    assert all(message.hint for message in messages)
    assert "a secret" not in f"{messages}"
    assert "another" not in f"{messages}"


@pytest.mark.parametrize("feed_waits", [None, 0, 3, 40], ids=str)
@pytest.mark.parametrize("concurrency", [None, 1, 2, 16], ids=str)
@pytest.mark.parametrize("queue", [None, 0, 20, 300], ids=str)
def test_the_threads_that_a_message_asks_for_are_enough(
    monkeypatch: pytest.MonkeyPatch, feed_waits: int | None, concurrency: int | None, queue: int | None
) -> None:
    """Of settings that are left out, None, they bring more."""
    monkeypatch.setattr(threads, "cores", lambda: 8)

    def shared(number: int) -> Any:
        feed = threads.default_feed_waits(number) if feed_waits is None else feed_waits
        hashing = concurrency or threads.default_hashing(number, 2, feed_waits=feed)
        rest = threads.default_queue(number, feed_waits=feed, hashing=hashing) if queue is None else queue
        return production(
            WEB_THREADS=number,
            FREE_THREADS=threads.left_free(number),
            FEED_WAITS=feed,
            HASHING_CONCURRENCY=hashing,
            HASHING_QUEUE=rest,
        )

    for number in (1, 2, 9, 20):
        for message in checks.held_threads(shared(number)):
            assert message.hint
            enough = int(re.search(r"WEB_THREADS=(\d+)", message.hint)[1])  # type: ignore[index]
            assert enough > number
            assert not list(checks.held_threads(shared(enough)))


def test_it_asks_for_no_more_than_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "cores", lambda: 2)
    [message] = checks.held_threads(production(WEB_THREADS=20, FEED_WAITS=9))
    assert message.hint
    assert message.hint.startswith("WEB_THREADS=65,")


def test_django_runs_them_all_for_a_deployment_and_the_dangers_always(settings: Any) -> None:
    settings.CORS_ALLOW_CREDENTIALS = settings.CORS_ALLOW_ALL_ORIGINS = True
    settings.ACCESS_TOKEN_SECONDS = 3600
    always, deployed = (
        {
            message.id
            for message in django_checks.run_checks(tags=["security"], include_deployment_checks=deploy)
            if str(message.id).startswith("users.")
        }
        for deploy in (False, True)
    )
    assert always == {"users.E001"}
    assert deployed == {"users.E001", "users.W003"}


# --- As processes --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("checks")
    return (
        clean_environment()
        | PRODUCTION_ENVIRONMENT
        | {
            "JWT_SIGNING_KEY_FILE": str(write_signing_key(folder)),
            "LOCAL_DIR": str(folder),
            "STATIC_ROOT": str(folder),
            "PORT": "0",
        }
    )


def run(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "ignore", *arguments]
    return subprocess.run(
        command, cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def without_proxies(environment: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name != "TRUSTED_PROXIES"}


def test_a_deployment_is_refused_until_somebody_has_counted_the_proxies(environment: dict[str, str]) -> None:
    check = ("manage.py", "check", "--deploy", "--fail-level", "WARNING")
    refused = run(without_proxies(environment), *check)
    assert refused.returncode == 1
    assert "users.E002" in refused.stderr
    assert refused.stderr.count("users.E") == 1
    accepted = run(environment | {"TRUSTED_PROXIES": "1"}, *check)
    assert accepted.returncode == 0, accepted.stderr


@pytest.mark.parametrize("role", ["web", "worker"])
def test_no_role_starts_until_then_either(environment: dict[str, str], role: str) -> None:
    done = run(without_proxies(environment), "-m", "config.role", role)
    assert done.returncode == 1
    assert done.stderr.startswith("users.E002: TRUSTED_PROXIES must be set when DJANGO_ENV=production")


@pytest.mark.parametrize("role", ["web", "worker", "migrate"])
def test_no_role_starts_with_a_danger(environment: dict[str, str], role: str) -> None:
    weak = "only thirty-one characters long"
    done = run(environment | {"SECRET_KEY": weak}, "-m", "config.role", role)
    assert done.returncode == 1
    assert done.stderr.startswith("users.E003: SECRET_KEY has fewer than 50 characters.")
    assert weak not in done.stderr + done.stdout


def test_another_server_does_not_load_the_application_either(environment: dict[str, str]) -> None:
    done = run(environment | {"ALLOWED_HOSTS": "*"}, "-c", "import config.wsgi")
    assert done.returncode != 0
    assert "users.E006" in done.stderr
