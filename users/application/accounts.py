"""What whoever receives the mails of an account may do: choose a new password, prove an address, change it.

Asking for a mail never looks anybody up, so that nothing is learnt by it. What a link proves is compared once
more within the unit of work, with the account as it is then, so of two who use one link at once one wins."""

from dataclasses import dataclass, field
from datetime import timedelta

from users.application import links
from users.application.errors import InvalidLink
from users.application.ports import (
    Clock,
    EmailProposal,
    EmailProposals,
    Links,
    LoginGuard,
    Mailbox,
    MailKind,
    Measure,
    PasswordHasher,
    PasswordPolicy,
    UnitOfWork,
)
from users.application.reruns import Reruns
from users_domain.errors import ConcurrentUpdate, EmailUnchanged, UserNotFound
from users_domain.repository import UserRepository
from users_domain.user import User
from users_domain.value_objects import Actor, Email, UserId

PROPOSAL_LIFE = timedelta(seconds=links.SECONDS[links.CONFIRM_EMAIL_CHANGE])


@dataclass(frozen=True, slots=True, kw_only=True)
class ResetPassword:
    """`address`: from where, if that is known."""

    token: str = field(repr=False)
    new_password: str = field(repr=False)
    address: str = ""


class Accounts:
    """All that takes a `token` raises InvalidLink, also for users who are erased by now."""

    def __init__(
        self,
        *,
        users: UserRepository,
        unit_of_work: UnitOfWork,
        hasher: PasswordHasher,
        policy: PasswordPolicy,
        proposals: EmailProposals,
        mailbox: Mailbox,
        links: Links,
        guard: LoginGuard,
        clock: Clock,
        measure: Measure,
        reruns: Reruns,
    ) -> None:
        """`users` reads outside any transaction; whatever changes goes through `unit_of_work`."""
        self._users = users
        self._unit_of_work = unit_of_work
        self._hasher = hasher
        self._policy = policy
        self._proposals = proposals
        self._mailbox = mailbox
        self._links = links
        self._guard = guard
        self._clock = clock
        self._measure = measure
        self._reruns = reruns

    # --- A forgotten password --------------------------------------------------------------------

    def request_password_reset(self, email: str) -> None:
        """Raises InvalidEmail; nothing else tells one address from another."""
        with self._measure("request_password_reset"):
            self._mailbox.post(MailKind.RESET_PASSWORD, email=str(Email(email)))

    def reset_password(self, command: ResetPassword) -> None:
        """The link has proven the address too. Who is blocked stays blocked. Raises InvalidPassword."""
        with self._measure("reset_password"):
            user_id, fingerprint = links.read(self._links, links.RESET_PASSWORD, command.token)
            user = _as_linked(self._users, user_id, fingerprint)
            self._policy.check(
                command.new_password,
                email=str(user.email),
                name=str(user.name),
                staff=user.is_staff,
                field="new_password",
            )
            new_hash = self._hasher.hash(command.new_password)
            self._reruns(lambda _: self._reset(user_id, fingerprint, new_hash))
            self._guard.note_success(str(user.email), user_id, command.address, by_link=True)

    def _reset(self, user_id: str, fingerprint: str, new_hash: str) -> None:
        with self._unit_of_work.alone() as users:
            user, now = _as_linked(users, user_id, fingerprint), self._clock()
            user.change_password(new_hash, by=_himself(user), now=now)
            user.verify_email(by=_himself(user), now=now)
            users.save(user)

    # --- Proving an address ----------------------------------------------------------------------

    def request_email_verification(self, email: str) -> None:
        """Raises InvalidEmail; nothing else tells one address from another."""
        with self._measure("request_email_verification"):
            self._mailbox.post(MailKind.VERIFY_EMAIL, email=str(Email(email)))

    def verify_email(self, token: str) -> None:
        """Done already, it is done again, as long as the user has the address."""
        with self._measure("verify_email"):
            user_id, address = links.read(self._links, links.VERIFY_EMAIL, token)
            self._reruns(lambda _: self._verify(user_id, address))

    def _verify(self, user_id: str, address: str) -> None:
        with self._unit_of_work.alone() as users:
            user = _linked(users, user_id)
            if links.digest(str(user.email)) != address:
                raise InvalidLink
            user.verify_email(by=_himself(user), now=self._clock())
            users.save(user)

    # --- Changing an address ---------------------------------------------------------------------

    def propose_email(self, proof: User, email: Email) -> EmailProposal:
        """Once the owner of either address has had his mail. `proof`: the user as he was when his password
        was found right. Whether the address is another's, only its owner is told.

        Raises EmailUnchanged; ConcurrentUpdate when the user has changed since."""
        if email == proof.email:
            raise EmailUnchanged
        now = self._clock()
        proposal = EmailProposal(
            user_id=str(proof.id),
            email=str(email),
            fingerprint=links.lasting(proof),
            expires_at=now + PROPOSAL_LIFE,
        )
        with self._unit_of_work() as users:
            self._proposals.put(proposal, now)  # first: whoever confirms another one has then finished
            user = users.get(proof.id)
            if (user.version, user.fingerprint) != (proof.version, proof.fingerprint):
                raise ConcurrentUpdate
            self._tell_both(proposal, str(user.email), taken=_is_taken(users, email))
        return proposal

    def _tell_both(self, proposal: EmailProposal, present: str, *, taken: bool) -> None:
        about = {"user_id": proposal.user_id, "fingerprint": proposal.fingerprint}
        if taken:
            self._mailbox.post(MailKind.ALREADY_REGISTERED, email=proposal.email)
        else:
            self._mailbox.post(MailKind.CONFIRM_EMAIL_CHANGE, email=proposal.email, **about)
        self._mailbox.post(MailKind.EMAIL_CHANGE_ASKED, email=present, **about)

    def confirm_email_change(self, token: str) -> None:
        """The new address is proven by this. Raises UserAlreadyExists when it was taken meanwhile."""
        with self._measure("confirm_email_change"):
            user_id, fingerprint, address = links.read(self._links, links.CONFIRM_EMAIL_CHANGE, token)
            self._reruns(lambda _: self._confirm(user_id, fingerprint, address))

    def _confirm(self, user_id: str, fingerprint: str, address: str) -> None:
        with self._unit_of_work() as users:
            now, proposal = self._clock(), self._proposals.take(user_id)
            if proposal is None or proposal.expires_at <= now or links.digest(proposal.email) != address:
                raise InvalidLink
            user = _as_proposed(users, user_id, fingerprint)
            former = str(user.email)
            user.change_email(Email(proposal.email), by=_himself(user), now=now)
            user.verify_email(by=_himself(user), now=now)
            users.save(user)
            self._mailbox.post(MailKind.EMAIL_CHANGED, user_id=user_id, email=former)

    def cancel_email_change(self, token: str) -> None:
        """Whichever address is proposed: who says that it was not him means all of it. Done already, it is
        done again, as long as the account has not changed."""
        with self._measure("cancel_email_change"):
            user_id, fingerprint = links.read(self._links, links.CANCEL_EMAIL_CHANGE, token)
            self._reruns(lambda _: self._cancel(user_id, fingerprint))

    def _cancel(self, user_id: str, fingerprint: str) -> None:
        with self._unit_of_work() as users:
            self._proposals.take(user_id)
            _as_proposed(users, user_id, fingerprint)


def _linked(users: UserRepository, user_id: str) -> User:
    try:
        return users.get(UserId.parse(user_id))
    except UserNotFound:
        raise InvalidLink from None


def _as_linked(users: UserRepository, user_id: str, fingerprint: str) -> User:
    """The user, if he is still as he was when the link was written."""
    user = _linked(users, user_id)
    if user.fingerprint != fingerprint:
        raise InvalidLink
    return user


def _as_proposed(users: UserRepository, user_id: str, fingerprint: str) -> User:
    """The user, if nothing has changed that a proposal depends on."""
    user = _linked(users, user_id)
    if links.lasting(user) != fingerprint:
        raise InvalidLink
    return user


def _is_taken(users: UserRepository, email: Email) -> bool:
    try:
        users.get_by_email(email)
    except UserNotFound:
        return False
    return True


def _himself(user: User) -> Actor:
    return Actor(str(user.id), user.roles)
