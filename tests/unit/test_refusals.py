"""What the model says to people when it refuses, and times that only a test would notice."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from tests.builders import NOW, a_newborn, a_user, an_actor, an_admin
from users_domain.errors import InvalidValue
from users_domain.value_objects import BlockReason, Email, Locale

REFUSALS: list[tuple[Callable[[], object], str]] = [
    (lambda: Email("a" * 250 + "@example.com"), "An email address has at most 254 characters."),
    (
        lambda: Email("ａnn@example.com"),
        "The part before the @ has characters that look like others; write it in plain ones.",
    ),
    (lambda: BlockReason(" "), "A block needs a reason."),
    (lambda: BlockReason("x" * 501), "A reason has at most 500 characters."),
    (lambda: BlockReason("a\x00b"), "A reason has no control characters."),
    (lambda: Locale.parse("tlh"), f"The languages are {', '.join(Locale)}."),
    (
        lambda: a_user().block(
            BlockReason("spam"), NOW - timedelta(1), last_admin=False, by=an_actor(an_admin()), now=NOW
        ),
        "The end of a block lies in the future.",
    ),
]


@pytest.mark.parametrize(("refused", "sentence"), REFUSALS, ids=[sentence for _, sentence in REFUSALS])
def test_a_refusal_says_what_would_do(refused: Callable[[], object], sentence: str) -> None:
    with pytest.raises(InvalidValue) as refusal:
        refused()
    assert str(refusal.value) == sentence


def test_a_newborn_was_changed_when_he_was_born() -> None:
    user = a_newborn(now=NOW)
    assert (user.created_at, user.updated_at) == (NOW, NOW)


def test_an_erasure_is_dated_like_every_fact() -> None:
    user = a_user()
    user.erase(last_admin=False, by=an_actor(user), now=NOW)
    (event,) = user.pull_events()
    assert (event.occurred_at, user.updated_at) == (NOW, NOW)
