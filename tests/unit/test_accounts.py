"""What a link in a mail lets its receiver do, and when it no longer does, over fakes."""

from datetime import timedelta

import pytest

from tests.builders import NOW, a_blocked_user, a_user, an_actor, an_admin, later
from tests.fakes import (
    InMemoryEmailProposals,
    InMemoryIdempotencyKeys,
    InMemoryMailbox,
    InMemoryUnitOfWork,
    InMemoryUserRepository,
    PlainHasher,
    Posted,
    ReadableLinks,
    StoppedClock,
    Stopwatch,
    WeakIsRefused,
    WritingGuard,
)
from users.application import links
from users.application.accounts import PROPOSAL_LIFE, Accounts, ResetPassword
from users.application.commands import ChangeEmail, UserCommands
from users.application.errors import InvalidLink
from users.application.ports import EmailProposal, MailKind
from users.application.reruns import Reruns
from users_domain.errors import (
    ConcurrentUpdate,
    EmailUnchanged,
    InvalidEmail,
    InvalidPassword,
    UserAlreadyExists,
    VersionMismatch,
    WrongPassword,
)
from users_domain.value_objects import BlockReason, Email, UserName

SECRET = "my old password"
NEW_SECRET = "a brand new password"
ADMIN = an_actor(an_admin())


class House:
    """Ann's account, and all that mails about it need."""

    def __init__(self) -> None:
        self.ann = a_user(
            email=Email("ann@example.com"), name=UserName("Ann"), password_hash=f"hash of {SECRET}"
        )
        self.id = str(self.ann.id)
        self.users = InMemoryUserRepository(self.ann)
        self.unit_of_work = InMemoryUnitOfWork(self.users)
        self.hasher = PlainHasher(self.unit_of_work)
        self.policy = WeakIsRefused()
        self.proposals = InMemoryEmailProposals(self.users)
        self.mailbox = InMemoryMailbox(self.users)
        self.clock = StoppedClock()
        self.links = ReadableLinks(self.clock)
        self.guard = WritingGuard()
        self.stopwatch = Stopwatch()
        self.accounts = Accounts(
            users=self.users,
            unit_of_work=self.unit_of_work,
            hasher=self.hasher,
            policy=self.policy,
            proposals=self.proposals,
            mailbox=self.mailbox,
            links=self.links,
            guard=self.guard,
            clock=self.clock,
            measure=self.stopwatch,
            reruns=Reruns(pause=lambda _: None),
        )
        self.verified = self.commands(self.accounts.propose_email)
        self.immediate = self.commands(None)

    def commands(self, propose_email):
        return UserCommands(
            users=self.users,
            unit_of_work=self.unit_of_work,
            hasher=self.hasher,
            policy=self.policy,
            idempotency=InMemoryIdempotencyKeys(self.users),
            mailbox=self.mailbox,
            clock=self.clock,
            measure=self.stopwatch,
            propose_email=propose_email,
            pause=lambda _: None,
        )

    @property
    def now(self):
        """Ann as she is stored."""
        return self.users.get(self.ann.id)

    @property
    def facts(self):
        return [event.event_type for event in self.unit_of_work.events]

    def put(self, user):
        self.users.stored[user.id] = user
        return user

    def rename(self, name="Anna"):
        self.users.change(self.ann.id, lambda user: user.rename(UserName(name), by=ADMIN, now=NOW))

    # --- Links as they stand in mails

    def reset_link(self, user=None):
        user = user or self.now
        return self.links.write(links.RESET_PASSWORD, str(user.id), user.fingerprint)

    def verification_link(self):
        return self.links.write(links.VERIFY_EMAIL, self.id, links.digest(str(self.now.email)))

    def confirmation_link(self, proposal):
        return self.links.write(
            links.CONFIRM_EMAIL_CHANGE, self.id, proposal.fingerprint, links.digest(proposal.email)
        )

    def cancel_link(self, proposal):
        return self.links.write(links.CANCEL_EMAIL_CHANGE, self.id, proposal.fingerprint)

    # --- What people do

    def reset(self, link, password=NEW_SECRET):
        self.accounts.reset_password(ResetPassword(token=link, new_password=password, address="192.0.2.7"))

    def ask_for(self, email, **changed):
        command = {"user_id": self.id, "email": email, "password": SECRET, "by": an_actor(self.ann)} | changed
        return self.verified.change_email(ChangeEmail(**command))


@pytest.fixture
def house() -> House:
    return House()


def change_of(house, purpose):
    """A good link for each purpose, with what it does."""
    if purpose == links.RESET_PASSWORD:
        return house.reset_link(), house.reset
    if purpose == links.VERIFY_EMAIL:
        return house.verification_link(), house.accounts.verify_email
    proposal = house.ask_for("new@example.com")
    if purpose == links.CONFIRM_EMAIL_CHANGE:
        return house.confirmation_link(proposal), house.accounts.confirm_email_change
    return house.cancel_link(proposal), house.accounts.cancel_email_change


LIFE = {
    "reset_password": timedelta(minutes=30),
    "verify_email": timedelta(days=1),
    "confirm_email_change": timedelta(days=1),
    "cancel_email_change": timedelta(days=7),
}
PURPOSES = list(LIFE)


# --- Asking for a mail ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ask", "kind"),
    [
        ("request_password_reset", MailKind.RESET_PASSWORD),
        ("request_email_verification", MailKind.VERIFY_EMAIL),
    ],
)
class TestAsking:
    def test_queues_a_mail_to_the_address_in_its_canonical_form(self, house, ask, kind):
        getattr(house.accounts, ask)(" Ann@Example.COM ")

        assert house.mailbox.posted == [Posted(kind, "ann@example.com")]

    def test_looks_nobody_up(self, house, ask, kind):
        """Whoever is unknown, known or blocked is treated alike, for nothing is asked about him."""
        house.users.get = house.users.get_by_email = None

        for address in ("ann@example.com", "nobody@example.com"):
            getattr(house.accounts, ask)(address)

        assert [mail.kind for mail in house.mailbox.posted] == [kind, kind]
        assert house.unit_of_work.opened == house.hasher.calls == 0

    def test_refuses_what_is_no_address(self, house, ask, kind):
        with pytest.raises(InvalidEmail):
            getattr(house.accounts, ask)("ann@")

        assert house.mailbox.posted == []


# --- All links -----------------------------------------------------------------------------------


@pytest.mark.parametrize("purpose", PURPOSES)
class TestAnyLink:
    def test_works_until_its_time_is_over(self, house, purpose):
        link, act = change_of(house, purpose)
        alive = min(LIFE[purpose], PROPOSAL_LIFE - timedelta(seconds=1))
        house.clock.advance(seconds=alive.total_seconds())

        act(link)

    def test_is_dead_when_its_time_is_over(self, house, purpose):
        link, act = change_of(house, purpose)
        house.clock.advance(seconds=LIFE[purpose].total_seconds() + 1)

        with pytest.raises(InvalidLink):
            act(link)

    def test_is_good_for_nothing_else(self, house, purpose):
        link, _ = change_of(house, purpose)

        for other in set(PURPOSES) - {purpose}:
            _, act = change_of(house, other)
            with pytest.raises(InvalidLink):
                act(link)

    def test_is_dead_once_the_user_is_erased(self, house, purpose):
        link, act = change_of(house, purpose)
        del house.users.stored[house.ann.id]

        with pytest.raises(InvalidLink):
            act(link)

    def test_changes_nothing_and_tells_nobody_when_it_is_none_of_ours(self, house, purpose):
        _, act = change_of(house, purpose)
        before, mails = house.now, len(house.mailbox.posted)

        for link in ("", "nonsense", "[]"):
            with pytest.raises(InvalidLink):
                act(link)

        assert (house.now.version, house.now.fingerprint) == (before.version, before.fingerprint)
        assert len(house.mailbox.posted) == mails
        assert house.hasher.calls <= 1  # that of whoever asked for the change

    def test_is_measured(self, house, purpose):
        link, act = change_of(house, purpose)
        act(link)
        with pytest.raises(InvalidLink):
            act("nonsense")

        assert house.stopwatch.measured[-2:] == [(purpose, True), (purpose, False)]


@pytest.mark.parametrize("purpose", [each for each in PURPOSES if each != links.VERIFY_EMAIL])
@pytest.mark.parametrize(
    "change",
    [
        lambda user: user.rename(UserName("Anna"), by=ADMIN, now=NOW),
        lambda user: user.change_email(Email("else@example.com"), by=ADMIN, now=NOW),
        lambda user: user.change_password("another", by=ADMIN, now=NOW),
        lambda user: user.end_all_sessions(by=ADMIN, now=NOW),
        lambda user: user.block(BlockReason("spam"), last_admin=False, by=ADMIN, now=NOW),
    ],
    ids=["renamed", "moved", "new password", "logged out", "blocked"],
)
def test_a_link_dies_with_any_change_of_the_account(house, purpose, change):
    link, act = change_of(house, purpose)
    house.users.change(house.ann.id, change)
    before = house.now

    with pytest.raises(InvalidLink):
        act(link)

    assert house.now.version == before.version


def test_a_reset_link_dies_when_the_address_is_proven(house):
    link = house.reset_link()
    house.users.change(house.ann.id, lambda user: user.verify_email(by=ADMIN, now=NOW))

    with pytest.raises(InvalidLink):
        house.reset(link)


@pytest.mark.parametrize("purpose", [links.CONFIRM_EMAIL_CHANGE, links.CANCEL_EMAIL_CHANGE])
@pytest.mark.parametrize(
    "change",
    [
        lambda user: user.verify_email(by=ADMIN, now=NOW),
        lambda user: setattr(user, "password_hash", "the same password, at another cost"),
    ],
    ids=["verified", "hash renewed"],
)
def test_a_proposal_outlives_what_has_nothing_to_do_with_it(house, purpose, change):
    link, act = change_of(house, purpose)
    house.users.change(house.ann.id, change)

    act(link)

    assert (str(house.now.email) == "new@example.com") == (purpose == links.CONFIRM_EMAIL_CHANGE)
    assert house.proposals.stored == {}


# --- Choosing a new password ---------------------------------------------------------------------


def test_a_reset_sets_the_password_kills_all_tokens_and_proves_the_address(house):
    house.reset(house.reset_link())

    ann = house.now
    assert ann.password_hash == f"hash of {NEW_SECRET}"
    assert ann.token_version == house.ann.token_version + 1
    assert ann.email_verified
    assert house.facts == ["user.password_changed", "user.email_verified"]
    assert {event.actor_id for event in house.unit_of_work.events} == {house.id}


def test_a_reset_of_a_proven_address_records_the_password_alone(house):
    house.put(a_user(id=house.ann.id, email=house.ann.email, email_verified=True))

    house.reset(house.reset_link())

    assert house.facts == ["user.password_changed"]


def test_a_reset_link_works_once(house):
    link = house.reset_link()
    house.reset(link)

    with pytest.raises(InvalidLink):
        house.reset(link, "yet another password")

    assert house.now.password_hash == f"hash of {NEW_SECRET}"


def test_a_dead_link_costs_no_hash_and_learns_nothing_of_the_account(house):
    """What the policy says of a password tells the name and the address of whose it is to be."""
    link = house.reset_link()
    house.rename()

    for password in (NEW_SECRET, "weak"):
        with pytest.raises(InvalidLink):
            house.reset(link, password)

    assert house.hasher.calls == 0
    assert house.policy.asked == []


def test_of_two_reset_links_the_first_used_kills_the_other(house):
    first = house.reset_link()
    house.clock.advance(minutes=1)
    second = house.reset_link()
    house.reset(second)

    with pytest.raises(InvalidLink):
        house.reset(first)


def test_a_password_that_is_refused_uses_nothing_up_and_costs_no_hash(house):
    link = house.reset_link()

    with pytest.raises(InvalidPassword) as refused:
        house.reset(link, "weak")

    assert refused.value.at == "new_password"
    assert house.hasher.calls == house.unit_of_work.opened == 0
    house.reset(link)


@pytest.mark.parametrize(("who", "staff"), [(a_user, False), (an_admin, True)])
def test_the_policy_is_asked_about_the_account_as_it_is(house, who, staff):
    user = house.put(who())

    house.reset(house.reset_link(user))

    assert house.policy.asked == [{"email": str(user.email), "name": str(user.name), "staff": staff}]


def test_who_is_blocked_may_choose_a_password_and_stays_blocked(house):
    blocked = house.put(a_blocked_user(until=later(days=1)))

    house.reset(house.reset_link(blocked))

    after = house.users.get(blocked.id)
    assert after.is_blocked_at(NOW)
    assert after.password_hash == f"hash of {NEW_SECRET}"


def test_who_was_faster_with_the_same_link_wins_and_the_other_is_told(house):
    """While our password is hashed."""
    link, real = house.reset_link(), house.hasher.hash

    def hash_when_the_rival_is_done(password):
        house.hasher.hash = real
        house.reset(link, "the rival's password")
        return real(password)

    house.hasher.hash = hash_when_the_rival_is_done

    with pytest.raises(InvalidLink):
        house.reset(link)

    assert house.now.password_hash == "hash of the rival's password"
    assert house.facts == ["user.password_changed", "user.email_verified"]


def test_a_race_that_leaves_the_account_as_it_was_is_run_again_with_the_hash_that_is_there(house):
    """A session that ends makes a version, and no other account."""

    def a_session_ends():
        def end(user):
            user.version += 1

        house.users.change(house.ann.id, end)

    house.users.rivals.append(a_session_ends)

    house.reset(house.reset_link())

    assert house.now.password_hash == f"hash of {NEW_SECRET}"
    assert house.hasher.calls == 1


def test_the_guard_learns_where_the_owner_is(house):
    link = house.reset_link()
    with pytest.raises(InvalidPassword):
        house.reset(link, "weak")
    assert house.guard.noted == []

    house.reset(link)

    assert house.guard.noted == [("success", "ann@example.com", house.id, "192.0.2.7")]


def test_neither_token_nor_password_show_when_the_command_is_printed():
    shown = repr(ResetPassword(token="the token", new_password="the password", address="192.0.2.7"))

    assert "the " not in shown


# --- Proving an address --------------------------------------------------------------------------


def test_a_verification_records_that_the_address_is_proven(house):
    house.accounts.verify_email(house.verification_link())

    assert house.now.email_verified
    assert house.facts == ["user.email_verified"]
    assert house.unit_of_work.events[0].actor_id == house.id


def test_a_second_time_it_is_no_error_and_no_change(house):
    link = house.verification_link()
    house.accounts.verify_email(link)
    version = house.now.version

    house.accounts.verify_email(link)

    assert house.now.version == version


def test_a_verification_survives_changes_that_leave_the_address(house):
    link = house.verification_link()
    house.rename()

    house.accounts.verify_email(link)

    assert house.now.email_verified


def test_a_verification_of_the_address_before_proves_nothing(house):
    link = house.verification_link()
    house.users.change(
        house.ann.id, lambda user: user.change_email(Email("else@example.com"), by=ADMIN, now=NOW)
    )

    with pytest.raises(InvalidLink):
        house.accounts.verify_email(link)

    assert not house.now.email_verified


def test_a_verification_that_loses_a_race_is_run_again(house):
    house.users.rivals.append(house.rename)

    house.accounts.verify_email(house.verification_link())

    assert house.now.email_verified


# --- Changing an address at once -------------------------------------------------------------------


@pytest.mark.parametrize("by", ["herself", "an admin"])
def test_a_change_at_once_tells_the_address_before(house, by):
    actor, password = (an_actor(house.ann), SECRET) if by == "herself" else (ADMIN, None)
    house.immediate.change_email(
        ChangeEmail(user_id=house.id, email="new@example.com", password=password, by=actor)
    )

    assert str(house.now.email) == "new@example.com"
    assert house.mailbox.posted == [Posted(MailKind.EMAIL_CHANGED, "ann@example.com", house.id)]


def test_a_change_that_fails_tells_nobody(house):
    house.put(a_user(email=Email("taken@example.com")))

    with pytest.raises(UserAlreadyExists):
        house.immediate.change_email(ChangeEmail(user_id=house.id, email="taken@example.com", by=ADMIN))

    assert house.mailbox.posted == []


def test_a_change_that_is_run_again_tells_once(house):
    house.users.rivals.append(house.rename)

    house.immediate.change_email(ChangeEmail(user_id=house.id, email="new@example.com", by=ADMIN))

    assert len(house.mailbox.posted) == 1


# --- Proposing an address --------------------------------------------------------------------------


def test_a_proposal_changes_nothing_yet_and_writes_to_both_addresses(house):
    proposal = house.ask_for(" New@Example.com")

    assert proposal == EmailProposal(
        user_id=house.id,
        email="new@example.com",
        fingerprint=links.lasting(house.ann),
        expires_at=NOW + timedelta(days=1),
    )
    assert house.proposals.stored == {house.id: proposal}
    assert (house.now.email, house.now.version) == (house.ann.email, 1)
    assert house.facts == []
    about = {"fingerprint": links.lasting(house.ann)}  # the one who is asked hears nothing of the new address
    assert house.mailbox.posted == [
        Posted(MailKind.CONFIRM_EMAIL_CHANGE, "new@example.com", house.id, about),
        Posted(MailKind.EMAIL_CHANGE_ASKED, "ann@example.com", house.id, about),
    ]


def test_whether_the_address_is_taken_learns_only_who_has_it(house):
    house.put(a_user(email=Email("bob@example.com")))

    taken, free = house.ask_for("bob@example.com"), house.ask_for("bill@example.com")

    assert (taken.fingerprint, taken.expires_at) == (free.fingerprint, free.expires_at)
    assert [(mail.kind, mail.to, mail.user_id) for mail in house.mailbox.posted] == [
        (MailKind.ALREADY_REGISTERED, "bob@example.com", None),
        (MailKind.EMAIL_CHANGE_ASKED, "ann@example.com", house.id),
        (MailKind.CONFIRM_EMAIL_CHANGE, "bill@example.com", house.id),
        (MailKind.EMAIL_CHANGE_ASKED, "ann@example.com", house.id),
    ]


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"password": "wrong"}, WrongPassword),
        ({"password": None}, InvalidPassword),
        ({"email": "ANN@example.com"}, EmailUnchanged),
        ({"email": "ann"}, InvalidEmail),
        ({"expected": frozenset({7})}, VersionMismatch),
    ],
)
def test_what_is_refused_proposes_nothing(house, changed, error):
    with pytest.raises(error):
        house.ask_for(**({"email": "new@example.com"} | changed))

    assert house.proposals.stored == {}
    assert house.mailbox.posted == []


def test_an_admin_changes_the_address_of_others_at_once(house):
    house.ask_for("new@example.com", by=ADMIN, password=None)

    assert str(house.now.email) == "new@example.com"
    assert house.proposals.stored == {}
    assert [mail.kind for mail in house.mailbox.posted] == [MailKind.EMAIL_CHANGED]


def test_an_admin_proves_his_own_new_address_as_everybody_does(house):
    admin = house.put(an_admin(password_hash=f"hash of {SECRET}"))

    proposal = house.ask_for("new@example.com", user_id=str(admin.id), by=an_actor(admin))

    assert isinstance(proposal, EmailProposal)
    assert house.users.get(admin.id).email == admin.email


def renamed_between_proof_and_proposal(house):
    """As by somebody who commits while we wait for our turn."""
    put = house.proposals.put

    def put_after_the_rival(proposal, now):
        house.proposals.put = put
        house.rename()
        put(proposal, now)

    house.proposals.put = put_after_the_rival


def test_a_proposal_is_made_for_the_account_as_it_is(house):
    renamed_between_proof_and_proposal(house)

    proposal = house.ask_for("new@example.com")

    assert proposal.fingerprint == links.lasting(house.now) != links.lasting(house.ann)
    house.accounts.confirm_email_change(house.confirmation_link(proposal))


def test_a_proposal_for_a_version_that_is_overtaken_is_refused(house):
    renamed_between_proof_and_proposal(house)

    with pytest.raises(VersionMismatch):
        house.ask_for("new@example.com", expected=frozenset({1}))

    assert house.proposals.stored == {}
    assert house.mailbox.posted == []


def test_a_proposal_that_is_always_overtaken_gives_up(house):
    real = house.proposals.put

    def put(proposal, now):
        house.rename(f"Rival {house.now.version}")
        real(proposal, now)

    house.proposals.put = put
    with pytest.raises(ConcurrentUpdate):
        house.ask_for("new@example.com")


# --- Confirming it -----------------------------------------------------------------------------------


def test_a_confirmation_changes_the_address_proves_it_and_tells_the_one_before(house):
    proposal = house.ask_for("new@example.com")
    house.mailbox.posted.clear()

    house.accounts.confirm_email_change(house.confirmation_link(proposal))

    assert (str(house.now.email), house.now.email_verified) == ("new@example.com", True)
    assert house.facts == ["user.email_changed", "user.email_verified"]
    assert {event.actor_id for event in house.unit_of_work.events} == {house.id}
    assert house.proposals.stored == {}
    assert house.mailbox.posted == [Posted(MailKind.EMAIL_CHANGED, "ann@example.com", house.id)]


def test_a_confirmation_leaves_the_sessions(house):
    """The password, without which nobody asks for a change, is the same; `logout-all` is there."""
    house.accounts.confirm_email_change(house.confirmation_link(house.ask_for("new@example.com")))

    assert house.now.token_version == house.ann.token_version


def test_a_confirmation_works_once(house):
    link = house.confirmation_link(house.ask_for("new@example.com"))
    house.accounts.confirm_email_change(link)

    with pytest.raises(InvalidLink):
        house.accounts.confirm_email_change(link)

    assert house.now.version == 3


def test_a_signed_link_without_its_proposal_is_worth_nothing(house):
    proposal = house.ask_for("new@example.com")
    house.proposals.stored.clear()

    with pytest.raises(InvalidLink):
        house.accounts.confirm_email_change(house.confirmation_link(proposal))


def test_a_proposal_has_an_end_of_its_own_whenever_the_mail_was_sent(house):
    proposal = house.ask_for("new@example.com")
    house.clock.advance(hours=12)
    link = house.confirmation_link(proposal)
    house.clock.advance(hours=12)

    with pytest.raises(InvalidLink):
        house.accounts.confirm_email_change(link)


def test_a_second_proposal_replaces_the_first(house):
    first = house.ask_for("first@example.com")
    second = house.ask_for("second@example.com")

    with pytest.raises(InvalidLink):
        house.accounts.confirm_email_change(house.confirmation_link(first))

    assert house.proposals.stored == {house.id: second}
    house.accounts.confirm_email_change(house.confirmation_link(second))
    assert str(house.now.email) == "second@example.com"


def test_an_address_that_was_taken_meanwhile_is_refused_and_may_be_free_again(house):
    link = house.confirmation_link(house.ask_for("new@example.com"))
    house.mailbox.posted.clear()
    rival = house.put(a_user(email=Email("new@example.com")))

    with pytest.raises(UserAlreadyExists):
        house.accounts.confirm_email_change(link)
    assert house.now.email == house.ann.email
    assert house.mailbox.posted == []

    del house.users.stored[rival.id]
    house.accounts.confirm_email_change(link)
    assert str(house.now.email) == "new@example.com"


def test_a_confirmation_that_loses_a_race_to_a_change_is_refused_and_keeps_the_proposal(house):
    proposal = house.ask_for("new@example.com")
    house.users.rivals.append(house.rename)

    with pytest.raises(InvalidLink):
        house.accounts.confirm_email_change(house.confirmation_link(proposal))

    assert house.now.email == house.ann.email
    assert house.proposals.stored == {house.id: proposal}


# --- Cancelling it -----------------------------------------------------------------------------------


def test_a_cancelled_proposal_cannot_be_confirmed(house):
    proposal = house.ask_for("new@example.com")

    house.accounts.cancel_email_change(house.cancel_link(proposal))

    assert house.proposals.stored == {}
    with pytest.raises(InvalidLink):
        house.accounts.confirm_email_change(house.confirmation_link(proposal))
    assert house.now.version == 1


def test_the_first_mail_cancels_what_was_proposed_after_it_too(house):
    """Whoever says that it was not him means all of it."""
    first = house.ask_for("first@example.com")
    house.ask_for("second@example.com")

    house.accounts.cancel_email_change(house.cancel_link(first))

    assert house.proposals.stored == {}


def test_cancelled_again_it_is_no_error(house):
    proposal = house.ask_for("new@example.com")

    for _ in range(2):
        house.accounts.cancel_email_change(house.cancel_link(proposal))


def test_nobody_is_told_that_a_change_was_cancelled_which_has_happened(house):
    proposal = house.ask_for("new@example.com")
    house.accounts.confirm_email_change(house.confirmation_link(proposal))

    with pytest.raises(InvalidLink):
        house.accounts.cancel_email_change(house.cancel_link(proposal))

    assert str(house.now.email) == "new@example.com"


def test_a_link_of_an_account_that_has_changed_cancels_nothing_of_it_now(house):
    old = house.ask_for("first@example.com")
    house.rename()
    present = house.ask_for("second@example.com")

    with pytest.raises(InvalidLink):
        house.accounts.cancel_email_change(house.cancel_link(old))

    assert house.proposals.stored == {house.id: present}
