"""Where production has its signing keys from: exactly one of three, and what it says where that fails."""

import json
from pathlib import Path

import pytest

from tests.e2e.served import PRODUCTION_ENVIRONMENT
from tests.e2e.test_settings import run
from users.infrastructure.keyring import SigningKey, new_pem

TELL = """
import django, json, sys
django.setup()
from users import wiring
print(json.dumps([key["kid"] for key in wiring._keyring().jwks()["keys"]]))
"""


@pytest.fixture
def production(tmp_path: Path) -> dict[str, str]:
    """All that it demands but keys."""
    return PRODUCTION_ENVIRONMENT | {
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "LOCAL_DIR": str(tmp_path),
        "STATIC_ROOT": str(tmp_path),
    }


def told(**environment: str) -> list[str]:
    done = run("-c", TELL, **environment)
    assert done.returncode == 0, done.stderr
    kids: list[str] = json.loads(done.stdout.splitlines()[-1])
    return kids


def complaint(**environment: str) -> str:
    done = run("-c", TELL, **environment)
    assert done.returncode != 0
    return done.stderr.splitlines()[-1]


def test_keys_in_the_environment_may_have_written_line_ends(production: dict[str, str]) -> None:
    pems = [new_pem("ES256"), new_pem("EdDSA")]
    text = "".join(pem.decode() for pem in pems)
    kids = [SigningKey.load(pem).kid for pem in pems]
    assert told(**production, JWT_SIGNING_KEYS=text) == kids
    assert told(**production, JWT_SIGNING_KEYS=text.replace("\n", "\\n")) == kids


def test_an_empty_folder_gets_a_key_and_keeps_it(production: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "signing_key.pem").write_bytes(development := new_pem("ES256"))
    first = told(**production, JWT_KEYS_DIR=str(tmp_path / "keys"))
    assert first == told(**production, JWT_KEYS_DIR=str(tmp_path / "keys"))
    assert first != [SigningKey.load(development).kid]


def test_a_folder_that_is_not_there_is_no_place_to_make_keys_in(
    production: dict[str, str], tmp_path: Path
) -> None:
    said = complaint(**production, JWT_KEYS_DIR=str(tmp_path / "keys"))
    assert said.endswith(f"JWT_KEYS_DIR names {tmp_path}/keys, where there is no folder.")


def test_every_file_has_to_be_there(production: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "new.pem").write_bytes(new_pem("ES256"))
    files = f"{tmp_path}/new.pem, {tmp_path}/old.pem"
    assert f"JWT_SIGNING_KEY_FILE names {tmp_path}/old.pem" in complaint(
        **production, JWT_SIGNING_KEY_FILE=files
    )


def test_two_sources_are_one_too_many(production: dict[str, str], tmp_path: Path) -> None:
    both = {"JWT_KEYS_DIR": str(tmp_path), "JWT_SIGNING_KEYS": new_pem("ES256").decode()}
    assert complaint(**production, **both).endswith(
        "Only one of JWT_SIGNING_KEYS, JWT_SIGNING_KEY_FILE and JWT_KEYS_DIR may be set."
    )


def test_a_text_that_is_no_key_is_not_shown(production: dict[str, str]) -> None:
    secret = new_pem("ES256").decode().replace("PRIVATE KEY", "PRIVATE KEE")
    done = run("-c", TELL, **production, JWT_SIGNING_KEYS=secret)
    assert done.returncode != 0
    assert "no PEM of a private key" in done.stderr
    assert secret.splitlines()[1] not in done.stderr + done.stdout
