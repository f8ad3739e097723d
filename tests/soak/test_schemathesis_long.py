"""Schemathesis as in tests/e2e, for longer: other seeds, and many more values for callers of every role."""

import os
from typing import Any

import pytest

from tests.e2e import test_schemathesis as short
from tests.e2e.served import Served
from tests.fixtures import People

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3400)]

EXAMPLES = int(os.environ.get("SOAK_EXAMPLES", "60"))


@pytest.fixture
def long_lives(settings: Any) -> None:
    """Of the callers' tokens, which this process makes, as `target` would."""
    settings.ACCESS_TOKEN_SECONDS = 7200


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("role", ["admin", "operator", "service", None])
def test_the_service_is_what_its_document_says_whatever_the_seed(
    long_lives: None,
    people: People,
    target: Served,
    monkeypatch: pytest.MonkeyPatch,
    role: str | None,
    seed: int,
) -> None:
    monkeypatch.setattr(short, "SEED", seed)
    address = f"http://127.0.0.1:{target.port}"
    short.test_the_service_is_what_its_document_says(people, address, role, EXAMPLES)
