"""Signatures by the Standard Webhooks specification, and the secrets they are made with."""

import base64
import hmac
import secrets
from collections.abc import Sequence

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

PREFIX = "whsec_"
KEY_BYTES = 32
PURPOSE = b"users.webhooks.secret"


class SecretUnreadable(Exception):
    """It was sealed with a SECRET_KEY that is neither the present one nor among the fallbacks."""


class SealedSecrets:
    """`keys`: SECRET_KEY, which seals, then older ones, which only open."""

    def __init__(self, keys: Sequence[str | bytes]) -> None:
        boxes = [Fernet(_derived(key)) for key in keys]
        self._present, self._box = boxes[0], MultiFernet(boxes)

    def new(self) -> tuple[str, str]:
        """A fresh secret (`whsec_...`), plain and sealed."""
        plain = PREFIX + base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()
        return plain, self._box.encrypt(plain.encode()).decode()

    def open(self, sealed: str) -> str:
        """Raises SecretUnreadable."""
        try:
            return self._box.decrypt(sealed).decode()
        except InvalidToken as error:
            raise SecretUnreadable from error

    def renewed(self, sealed: str) -> str:
        """The same secret sealed with the present key; as it is where that is so already, or no key opens
        it."""
        try:
            self._present.decrypt(sealed)
        except InvalidToken:
            try:
                return self._box.rotate(sealed).decode()
            except InvalidToken:
                return sealed
        return sealed


def _derived(key: str | bytes) -> bytes:
    material = key.encode() if isinstance(key, str) else key
    return base64.urlsafe_b64encode(HKDF(SHA256(), KEY_BYTES, salt=None, info=PURPOSE).derive(material))


def signature(secret: str, *, message_id: str, timestamp: int, body: bytes) -> str:
    """`v1,` and the HMAC-SHA256 of id, timestamp (unix seconds) and body, as base64."""
    key = base64.b64decode(secret.removeprefix(PREFIX))
    signed = hmac.digest(key, b"%s.%d.%s" % (message_id.encode(), timestamp, body), "sha256")
    return f"v1,{base64.b64encode(signed).decode()}"


def headers(secrets: Sequence[str], *, message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The three headers; one signature for each secret."""
    signatures = [signature(each, message_id=message_id, timestamp=timestamp, body=body) for each in secrets]
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(signatures),
    }
