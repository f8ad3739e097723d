"""What a failure to send means. Servers quote the address in their answers, so of those nothing is kept but
the numbers."""

import re
import smtplib
from dataclasses import dataclass

PERMANENT = range(500, 600)
SHUTTING_DOWN = 421
_ENHANCED = re.compile(r"\b[245]\.\d{1,3}\.\d{1,3}\b")


RECIPIENT_REFUSED = "recipient refused"
"""How a reason begins that is the recipient's own."""
INTERNATIONAL = "international address"
"""Of a recipient. It takes SMTPUTF8; Django would encode the local part as in a header (RFC 2047), and such a
text is the name of another mailbox."""


@dataclass(frozen=True, slots=True)
class Fault:
    """`permanent`: trying again is useless. `line_lost`: nothing more can be sent over this connection."""

    reason: str
    permanent: bool = False
    line_lost: bool = False


def judged(error: Exception) -> Fault:
    """Refusals of the sender are for us to mend, so they are not held against the mail."""
    match error:
        case smtplib.SMTPRecipientsRefused():
            code, text = next(iter(error.recipients.values()), (0, b""))
            return _answered(RECIPIENT_REFUSED, code, text, permanent=code in PERMANENT)
        case smtplib.SMTPSenderRefused():
            return _answered("sender refused", error.smtp_code, error.smtp_error)
        case smtplib.SMTPDataError():
            code = error.smtp_code
            return _answered("content refused", code, error.smtp_error, permanent=code in PERMANENT)
        case smtplib.SMTPNotSupportedError():  # letters in the address that the server cannot take
            return Fault("not supported", permanent=True)
        case smtplib.SMTPServerDisconnected() | OSError():
            return Fault(type(error).__name__, line_lost=True)
    return Fault(type(error).__name__)


def _answered(what: str, code: int, text: bytes | str, *, permanent: bool = False) -> Fault:
    said = text.decode(errors="replace") if isinstance(text, bytes) else str(text)
    enhanced = _ENHANCED.search(said)
    reason = f"{what}: {code}" + (f" {enhanced[0]}" if enhanced else "")
    return Fault(reason, permanent, line_lost=code == SHUTTING_DOWN)
