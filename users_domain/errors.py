"""Every way in which the model says no.

::

    DomainError
     ├── InvalidValue              a value breaks a rule of its own
     │    ├── InvalidUserId
     │    ├── InvalidEmail
     │    ├── InvalidUserName
     │    ├── InvalidRole
     │    ├── InvalidPassword
     │    ├── InvalidLocale
     │    └── InvalidBlock
     ├── NotFound
     │    └── UserNotFound
     ├── Conflict                  the user's state, or another user's, is in the way
     │    ├── UserAlreadyExists
     │    ├── UserAlreadyBlocked
     │    ├── UserNotBlocked
     │    ├── EmailUnchanged
     │    └── ConcurrentUpdate
     ├── VersionMismatch           the caller named another version than the current one
     └── Refused                   this actor may not do this to this user
          ├── SelfBlock
          ├── LastAdmin
          ├── OperatorOverOperator
          ├── RolesAreForAdmins
          ├── WrongPassword
          └── UserBlocked

`code` is stable and public: clients branch on it. The message is for people and names no secret.
"""

from typing import ClassVar


class DomainError(Exception):
    """Root of the tree. `str(error)` is a sentence that may be shown to the caller."""

    code: ClassVar[str]
    message: ClassVar[str]

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or self.message)


class InvalidValue(DomainError):
    """A value breaks a rule of its own. `field` says which one, `reason` how, as a stable code."""

    code = "invalid_request"
    message = "The value is not valid."
    field: ClassVar[str]

    def __init__(
        self, message: str | None = None, *, reason: str = "invalid", field: str | None = None
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.at = field or self.field


class InvalidUserId(InvalidValue):
    message = "A user id is a UUID of version 7 in its 36-character form."
    field = "user_id"


class InvalidEmail(InvalidValue):
    message = "This is not an email address."
    field = "email"


class InvalidUserName(InvalidValue):
    message = "A name has 2 to 100 characters and no control characters."
    field = "name"


class InvalidRole(InvalidValue):
    message = "There is no such role."
    field = "roles"


class InvalidPassword(InvalidValue):
    message = "This password is not acceptable."
    field = "password"


class InvalidLocale(InvalidValue):
    message = "There are no texts in this language."
    field = "locale"


class InvalidBlock(InvalidValue):
    message = "A block needs a reason, and its end lies in the future."
    field = "reason"


class NotFound(DomainError):
    """What the caller named does not exist, or not for him."""


class UserNotFound(NotFound):
    code = "user_not_found"
    message = "There is no such user."


class Conflict(DomainError):
    """The user's state, or another user's, is in the way."""


class UserAlreadyExists(Conflict):
    code = "user_already_exists"
    message = "A user with this email address exists already."


class UserAlreadyBlocked(Conflict):
    code = "user_already_blocked"
    message = "The user is blocked already."


class UserNotBlocked(Conflict):
    code = "user_not_blocked"
    message = "The user is not blocked."


class EmailUnchanged(Conflict):
    code = "email_unchanged"
    message = "This is the user's email address already."


class ConcurrentUpdate(Conflict):
    """Somebody else changed the user between our read and our write."""

    code = "concurrent_update"
    message = "The user is being changed by others at the same time; try again."


class VersionMismatch(DomainError):
    code = "version_mismatch"
    message = "The user has another version than the one you named."


class Refused(DomainError):
    """This actor may not do this to this user."""

    code = "forbidden"
    message = "You may not do this."


class SelfBlock(Refused):
    message = "Nobody blocks himself."


class LastAdmin(Refused):
    message = "The last active admin can be neither blocked nor demoted nor erased."


class OperatorOverOperator(Refused):
    message = "Only an admin may change an operator or an admin."


class RolesAreForAdmins(Refused):
    message = "Only an admin may give or take roles."


class WrongPassword(Refused):
    code = "wrong_password"
    message = "The current password is wrong."


class UserBlocked(Refused):
    code = "user_blocked"
    message = "The account is blocked."
