"""Creates accounts with a role: operators, admins, and services that call the API."""

import os
import secrets
import sys
from getpass import getpass
from typing import Any

from django.core.management.base import CommandError, CommandParser

from users import wiring
from users.application.commands import RegisterStaff
from users.management.command import USAGE_ERROR, OperatorCommand
from users.models import UserRecord
from users_domain.errors import InvalidPassword, UserAlreadyExists
from users_domain.value_objects import COMMAND_LINE, Email, Role, UserName, UserStatus


class Command(OperatorCommand):
    help = (
        "Creates an account with a role, and asks for its password twice. A password is never an argument: "
        "arguments are seen by everybody on the machine."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--email", required=True, help="the account's address, to log in with")
        parser.add_argument("--name", help="what people call the account; without it, made from the address")
        parser.add_argument(
            "--role",
            choices=[role.value for role in (Role.OPERATOR, Role.ADMIN, Role.SERVICE)],
            help="operator (the default): looks up, blocks and unblocks users; admin: also changes addresses "
            "and roles, and acts on operators; service: another program that reads users and events",
        )
        source = parser.add_mutually_exclusive_group()
        source.add_argument(
            "--password-stdin", action="store_true", help="reads the password from the first line of stdin"
        )
        source.add_argument(
            "--generate-password", action="store_true", help="makes a password and prints it, this once"
        )
        source.add_argument(
            "--first-admin",
            action="store_true",
            help="for the start of an installation: does nothing when there is an active admin; else "
            "creates one with the password in ADMIN_PASSWORD, or a generated one, which is printed this once",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        role = Role(options["role"] or (Role.ADMIN if options["first_admin"] else Role.OPERATOR))
        if options["first_admin"] and role is not Role.ADMIN:
            raise CommandError("--first-admin creates an admin, nothing else", returncode=USAGE_ERROR)
        if options["first_admin"] and _there_is_an_admin():
            return
        email = Email(options["email"])
        password, generated = _password(options)
        self._create(email, options["name"] or name_from(email), role, password)
        self.stdout.write(f"Created the {role} {email}")
        if generated:
            self.stdout.write(f"Password, shown this once: {password}")

    def _create(self, email: Email, name: str, role: Role, password: str) -> None:
        command = RegisterStaff(
            email=str(email), name=name, password=password, roles=(role.value,), by=COMMAND_LINE
        )
        try:
            wiring.service().commands.register_staff(command)
        except UserAlreadyExists as error:
            raise CommandError(_way_out(email, role)) from error
        except InvalidPassword as error:
            raise CommandError(f"password: {error}") from error


def name_from(email: Email) -> str:
    """`ann.lee+ops@example.com` is called Ann Lee Ops; where too little is left, by the whole address."""
    local = str(email).rpartition("@")[0]
    words = "".join(character if character.isalnum() else " " for character in local).split()
    name = " ".join(word.capitalize() for word in words)[:100].strip()
    return str(UserName(name if len(name) > 1 else str(email)[:100]))


def _there_is_an_admin() -> bool:
    return UserRecord.objects.filter(roles__contains=[Role.ADMIN], status=UserStatus.ACTIVE).exists()


def _password(options: dict[str, Any]) -> tuple[str, bool]:
    """The password, and whether it was made here and so has to be shown."""
    given = os.environ.get("ADMIN_PASSWORD") if options["first_admin"] else None
    if given:
        return given, False
    if options["first_admin"] or options["generate_password"]:
        return secrets.token_urlsafe(18), True
    if options["password_stdin"]:
        return _first_line_of_stdin(), False
    return _asked_for(), False


def _first_line_of_stdin() -> str:
    try:
        return sys.stdin.buffer.readline().decode().rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise CommandError("the password on stdin is not UTF-8") from error


def _asked_for() -> str:
    if not sys.stdin.isatty():
        raise CommandError(
            "there is no terminal to ask on: use --password-stdin or --generate-password",
            returncode=USAGE_ERROR,
        )
    try:
        password = getpass("Password: ")
        if getpass("Password again: ") != password:
            raise CommandError("the two passwords differ")
    except EOFError as error:
        raise CommandError("no password was given") from error
    return password


def _way_out(email: Email, role: Role) -> str:
    """The account is somebody's, with a password that he knows: taking it over silently would be wrong."""
    return (
        f"{email} is the address of an existing user; choose another, or let an admin give that user the "
        f'role: PUT /users/<id>/roles {{"roles": ["{role}"]}}'
    )
