"""The example of docs/webhooks.md works, and its table of errors is complete."""

import re
import time
from pathlib import Path

import pytest

from users.infrastructure.webhooks import signing
from users.infrastructure.webhooks.sender import WORDS, _refusal

DOCUMENT = (Path(__file__).parents[2] / "docs" / "webhooks.md").read_text()
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_" + "A" * 32
BODY = '{"name":"Zoë"}'.encode()


@pytest.fixture
def verified():
    (code,) = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)
    namespace = {}
    exec(code, namespace)
    return namespace["verified"]


def headers(*secrets, age=0):
    return signing.headers(secrets, message_id="id", timestamp=int(time.time()) - age, body=BODY)


def test_the_example_takes_what_we_sign_also_while_two_secrets_are_valid(verified):
    assert verified(SECRET, headers(SECRET), BODY) == BODY
    assert verified(SECRET, headers(OTHER, SECRET), BODY) == BODY


@pytest.mark.parametrize(
    ("sent", "body"),
    [
        (lambda: headers(OTHER), BODY),
        (lambda: headers(SECRET), BODY + b" "),
        (lambda: headers(SECRET, age=301), BODY),
        (dict, BODY),
        (lambda: {"webhook-timestamp": str(int(time.time()))}, BODY),
        (lambda: headers(SECRET) | {"webhook-id": "another"}, BODY),
        (lambda: headers(SECRET) | {"webhook-signature": "v0,x v1a,y"}, BODY),
    ],
)
def test_the_example_refuses_everything_else(verified, sent, body):
    with pytest.raises(ValueError):
        verified(SECRET, sent(), body)


def test_the_table_lists_every_error():
    documented = set(re.findall(r"^\| `(\w+)` \|", DOCUMENT, re.MULTILINE))

    assert documented == {*WORDS.values(), "tls_failed", _refusal(500), _refusal(302)}
