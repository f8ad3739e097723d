"""Whom a mail goes to, found out when it is sent: by then he may have another address, or be gone."""

from dataclasses import dataclass

from users.application import links
from users.application.ports import MailKind
from users.infrastructure.repository import DjangoUserRepository
from users.models import Mail
from users_domain.errors import InvalidValue, UserNotFound
from users_domain.user import User
from users_domain.value_objects import Email, Locale, Role, UserId

LINK_OF = {
    MailKind.RESET_PASSWORD: links.RESET_PASSWORD,
    MailKind.VERIFY_EMAIL: links.VERIFY_EMAIL,
    MailKind.CONFIRM_EMAIL_CHANGE: links.CONFIRM_EMAIL_CHANGE,
    MailKind.EMAIL_CHANGE_ASKED: links.CANCEL_EMAIL_CHANGE,
}
"""The purpose of the link in a mail of this kind; the others have none."""


@dataclass(frozen=True, slots=True)
class Addressee:
    """`words`: of the link, behind the user's id."""

    user_id: str
    address: str
    locale: Locale
    words: tuple[str, ...] = ()


def find(mail: Mail) -> Addressee | None:
    """None when there is nobody to write to, or no reason any more."""
    user = _user(mail)
    if user is None or _is_pointless(mail, user):
        return None
    address = mail.email if mail.user_id and mail.email else str(user.email)
    return Addressee(str(user.id), address, user.locale, _words(mail, user))


def _user(mail: Mail) -> User | None:
    users = DjangoUserRepository()
    try:
        if mail.user_id:
            return users.get(UserId(mail.user_id))
        return users.get_by_email(Email(mail.email or ""))
    except (UserNotFound, InvalidValue):
        return None


def _is_pointless(mail: Mail, user: User) -> bool:
    match mail.kind:
        case MailKind.VERIFY_EMAIL:
            of_another_address = mail.data.get("address", digest := links.digest(str(user.email))) != digest
            # Programs have no inbox. One that has, asks by address.
            unattended = Role.SERVICE in user.roles and not mail.email
            return user.email_verified or of_another_address or unattended
        case MailKind.CONFIRM_EMAIL_CHANGE:
            return bool(mail.data.get("fingerprint") != links.lasting(user))  # its link would be dead
    return False


def _words(mail: Mail, user: User) -> tuple[str, ...]:
    match mail.kind:
        case MailKind.RESET_PASSWORD:
            return (user.fingerprint,)
        case MailKind.VERIFY_EMAIL:
            return (links.digest(str(user.email)),)
        case MailKind.CONFIRM_EMAIL_CHANGE:
            return (mail.data["fingerprint"], links.digest(mail.email or ""))
        case MailKind.EMAIL_CHANGE_ASKED:
            return (mail.data["fingerprint"],)
    return ()
