"""Cursors: positions as signed words, so that a page's end can be handed out and nothing else comes back."""

from django.core import signing

from users.application.errors import InvalidQuery


class SignedCursors:
    def write(self, kind: str, position: list[str | int]) -> str:
        return signing.Signer(salt=f"cursor.{kind}").sign_object(position)

    def read(self, kind: str, cursor: str) -> list[str | int]:
        try:
            position: list[str | int] = signing.Signer(salt=f"cursor.{kind}").unsign_object(cursor)
        except signing.BadSignature:
            raise InvalidQuery("cursor", "This cursor is not one of ours; begin again without it.") from None
        return position
