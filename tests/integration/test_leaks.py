"""That the search of the log (`tests.leaks`), which all tests are held to, finds what may not stand there."""

import json
import logging
from pathlib import Path

import orjson
import pytest
import structlog
from django.core import signing

from tests import leaks
from tests.fixtures import PASSWORD, Api, People
from users.api import request_log
from users.models import UserRecord


def test_what_the_service_logs_of_a_busy_account_is_clean_but_not_empty(
    people: People, anyone: Api, caplog: pytest.LogCaptureFixture
) -> None:
    people.user("Ann")
    people.log_in("Ann")
    anyone("POST", "/auth/token", {"email": "ann@example.com", "password": "not hers"})
    assert [record for record in caplog.records if "request" in record.getMessage()]
    assert leaks.found() == []


def test_each_kind_of_secret_is_found_whoever_logs_it(people: People, anyone: Api) -> None:
    people.user("Ann")
    access = people.log_in("Ann").token or ""
    kinds = {
        "an address": "for ann+news@mail.example.co.uk today",
        "a password": f"tried {PASSWORD!r}",
        "a token": f"with {access}.",
        "a hash": UserRecord.objects.get().password_hash,
        "a foreign hash": "$argon2id$v=19$m=65536,t=3,p=4$c29tZXNhbHQ$aGFzaA",
        "a key": "-----BEGIN EC PRIVATE KEY-----\nMHcCAQ",
        "a webhook's secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLw",
        "a link": signing.dumps({"user": "ann"}, salt="reset"),
        "a timed link": signing.TimestampSigner(salt="verify").sign("ann"),
    }
    for kind, text in kinds.items():
        logging.getLogger("users.anything").warning("said %s", text)
        assert leaks.found() != [], kind
        structlog.get_logger("users.anything").warning("said", what=text)
        assert leaks.found() != [], kind
        request_log.write([request_log.Line(orjson.dumps({"route": text}), "r-1", at=0, seconds=0)])
        assert leaks.found() != [], kind
        try:
            raise RuntimeError(text)
        except RuntimeError:
            structlog.get_logger("users.anything").exception("failed")
        assert leaks.found() != [], kind


def test_what_may_be_logged_is_left_alone() -> None:
    harmless = [
        "01a20477-9871-72a9-8efe-734ec2637c15",
        "postgres@127.0.0.1",
        "GET /users/<str:user_id>",
        "2026-07-01T12:00:00.000000Z",
        "user: ann, at: 12:34:56",
    ]
    assert leaks.findings(json.dumps(harmless)) == []


def test_files_of_servers_are_read_on_line_by_line(tmp_path: Path) -> None:
    file = tmp_path / "log"
    leaks.follow(file)
    assert leaks.found() == []
    file.write_text('{"event": "started"}\nann@exam')
    assert leaks.found() == []
    with file.open("a") as log:
        log.write("ple.com\n")
    assert len(leaks.found()) == 1
    assert leaks.found() == []


def test_of_what_is_meant_for_eyes_only_the_log_is_read(tmp_path: Path) -> None:
    file = tmp_path / "output"
    leaks.follow(file, only="{")
    file.write_text('admin: admin@example.com\n{"event": "admin@example.com"}\n')
    (line,) = leaks.found()
    assert line.startswith("{")
