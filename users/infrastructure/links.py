"""What stands in mails to prove that they were received: words and the time, signed with a key of each
purpose's own. Nothing is stored; what an older key of SECRET_KEY_FALLBACKS has signed stays good."""

from datetime import timedelta

from django.core import signing

from users.application.errors import InvalidLink


class SignedLinks:
    def write(self, purpose: str, *words: str) -> str:
        return signing.dumps(list(words), salt=_salt(purpose))

    def read(self, purpose: str, token: str, *, seconds: float) -> list[str]:
        try:
            words: list[str] = signing.loads(token, salt=_salt(purpose), max_age=timedelta(seconds=seconds))
        # Half a character of an emoji, say, cannot even be compared.
        except (signing.BadSignature, ValueError):
            raise InvalidLink from None
        return words


def _salt(purpose: str) -> str:
    return f"users.link.{purpose}"
