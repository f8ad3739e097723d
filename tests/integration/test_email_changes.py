"""Proposals of new addresses in PostgreSQL, and who wins where several use one account's links at once."""

from collections import Counter
from contextlib import ExitStack
from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import transaction
from django.utils import timezone

from tests.builders import NOW, later
from tests.fakes import InMemoryEmailProposals, InMemoryUnitOfWork, InMemoryUserRepository
from tests.fixtures import PASSWORD
from tests.other_session import somebody_waits_for_a_lock
from tests.together import eventually, in_background, together
from users import wiring
from users.application import links
from users.application.accounts import ResetPassword
from users.application.commands import ChangeEmail, ChangePassword, RenameUser
from users.application.errors import InvalidLink
from users.application.ports import EmailProposal, MailKind
from users.application.privacy import EraseUser
from users.infrastructure.email_changes import DatabaseEmailProposals, forget_expired_proposals
from users.infrastructure.links import SignedLinks
from users.infrastructure.repository import DjangoUserRepository
from users.models import EmailChange, Mail, OutboxEvent, UserRecord
from users_domain.errors import DomainError, UserAlreadyExists
from users_domain.value_objects import COMMAND_LINE, Actor, UserId

ROUNDS = 3


def a_proposal(user_id=None, **changed):
    fields = {
        "user_id": user_id or str(uuid4()),
        "email": "new@example.com",
        "fingerprint": "f" * 32,
        "expires_at": later(days=1),
    }
    return EmailProposal(**(fields | changed))


# --- What the port promises ----------------------------------------------------------------------------


@pytest.fixture(params=["in memory", "in the database"])
def store(request):
    """The store, and how to open a unit of work for it."""
    if request.param == "in memory":
        users = InMemoryUserRepository()
        return InMemoryEmailProposals(users), InMemoryUnitOfWork(users)
    request.getfixturevalue("database")
    return DatabaseEmailProposals(), transaction.atomic


def test_what_is_put_can_be_taken_once(store):
    proposals, unit_of_work = store
    proposal = a_proposal()
    with unit_of_work():
        proposals.put(proposal, NOW)

    with unit_of_work():
        assert proposals.take(str(uuid4())) is None
        assert proposals.take(proposal.user_id) == proposal
        assert proposals.take(proposal.user_id) is None


def test_a_user_has_one_proposal_the_last(store):
    proposals, unit_of_work = store
    first = a_proposal()
    last = a_proposal(first.user_id, email="last@example.com", fingerprint="e" * 32, expires_at=later(days=2))
    with unit_of_work():
        proposals.put(first, NOW)
    with unit_of_work():
        proposals.put(last, later(hours=1))

    with unit_of_work():
        assert proposals.take(first.user_id) == last


@pytest.mark.parametrize("act", ["put", "take"])
def test_what_is_rolled_back_has_not_happened(store, act):
    proposals, unit_of_work = store
    proposal = a_proposal()
    with unit_of_work():
        proposals.put(proposal, NOW)

    def fail():
        with unit_of_work():
            if act == "take":
                proposals.take(proposal.user_id)
            else:
                proposals.put(a_proposal(proposal.user_id, email="other@example.com"), NOW)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()

    with unit_of_work():
        assert proposals.take(proposal.user_id) == proposal


@pytest.mark.parametrize("commits", [True, False])
def test_who_comes_second_waits_for_the_first_and_finds_what_that_leaves(database, commits):
    proposals, proposal, found = DatabaseEmailProposals(), a_proposal(), []
    proposals.put(proposal, NOW)

    def second(stop):
        with transaction.atomic():
            found.append(proposals.take(proposal.user_id))

    with ExitStack() as after, transaction.atomic():  # the transaction ends first
        assert proposals.take(proposal.user_id) == proposal
        after.enter_context(in_background(second))
        eventually(somebody_waits_for_a_lock)
        assert found == []
        transaction.set_rollback(not commits)

    assert found == [None if commits else proposal]


def test_proposals_that_nobody_can_confirm_any_more_are_forgotten(database):
    proposals = DatabaseEmailProposals()
    for hours in (-1, 0, 1):
        proposals.put(a_proposal(expires_at=later(hours=hours)), NOW)

    assert forget_expired_proposals(NOW) == 2

    assert [row.expires_at for row in EmailChange.objects.all()] == [later(hours=1)]


# --- Who wins --------------------------------------------------------------------------------------------


@pytest.fixture
def verified(settings, service, monkeypatch):
    """The service where changes of address wait for their proof."""
    settings.EMAIL_CHANGE = "verified"
    monkeypatch.setattr(wiring, "_service", None)
    return wiring.service()


class Account:
    """A user, and the links that his mails hold."""

    def __init__(self, service, user_id):
        self.service, self.id = service, user_id
        self.accounts, self.actor = service.accounts, Actor(user_id)

    @property
    def now(self):
        return DjangoUserRepository().get(UserId.parse(self.id))

    @property
    def facts(self):
        of_him = OutboxEvent.objects.filter(user_id=self.id).order_by("user_version")
        return list(of_him.values_list("event_type", flat=True))[1:]

    def ask_for(self, email):
        command = ChangeEmail(user_id=self.id, email=email, password=PASSWORD, by=self.actor)
        return self.service.commands.change_email(command)

    def confirm(self, proposal):
        words = (self.id, proposal.fingerprint, links.digest(proposal.email))
        self.accounts.confirm_email_change(SignedLinks().write(links.CONFIRM_EMAIL_CHANGE, *words))

    def cancel(self, proposal):
        words = (self.id, proposal.fingerprint)
        self.accounts.cancel_email_change(SignedLinks().write(links.CANCEL_EMAIL_CHANGE, *words))

    def reset_link(self):
        return SignedLinks().write(links.RESET_PASSWORD, self.id, self.now.fingerprint)

    def reset(self, link, password):
        self.accounts.reset_password(ResetPassword(token=link, new_password=password))

    def log_in(self, password):
        return self.service.commands._hasher.verify(password, self.now.password_hash)


@pytest.fixture
def account(verified, people):
    numbers = iter(range(100))
    return lambda: Account(verified, people.user(f"Ann{next(numbers)}"))


def kinds(outcomes):
    return Counter(type(outcome).__name__ if outcome else "done" for outcome in outcomes)


def test_of_eight_who_confirm_at_once_one_does(account):
    for _ in range(ROUNDS):
        ann = account()
        proposal = ann.ask_for(f"new.{ann.id}@example.com")
        Mail.objects.all().delete()

        outcomes = together([lambda ann=ann, proposal=proposal: ann.confirm(proposal)] * 8)

        assert kinds(outcomes) == {"done": 1, "InvalidLink": 7}
        assert ann.facts == ["user.email_changed", "user.email_verified"]
        assert [mail.kind for mail in Mail.objects.all()] == [MailKind.EMAIL_CHANGED]


def test_of_confirming_and_cancelling_at_once_one_happens_and_the_other_is_told(account):
    for _ in range(ROUNDS):
        ann = account()
        proposal = ann.ask_for(f"new.{ann.id}@example.com")

        confirmed, cancelled = together(
            [
                lambda ann=ann, proposal=proposal: ann.confirm(proposal),
                lambda ann=ann, proposal=proposal: ann.cancel(proposal),
            ]
        )

        assert kinds([confirmed, cancelled]) == {"done": 1, "InvalidLink": 1}
        moved = str(ann.now.email) == proposal.email
        assert moved == (confirmed is None) == bool(ann.facts)
        assert not EmailChange.objects.filter(user_id=ann.id).exists()


def test_of_confirming_one_address_and_asking_for_another_at_once_both_may_happen_in_either_order(account):
    """What is asked for is never dead at its birth."""
    for _ in range(ROUNDS):
        ann = account()
        first = ann.ask_for(f"first.{ann.id}@example.com")

        confirmed, second = together(
            [
                lambda ann=ann, first=first: ann.confirm(first),
                lambda ann=ann: ann.ask_for(f"second.{ann.id}@example.com"),
            ]
        )

        assert isinstance(second, EmailProposal), second
        assert confirmed is None or isinstance(confirmed, InvalidLink)
        assert str(ann.now.email).startswith("first" if confirmed is None else "ann")
        ann.confirm(second)
        assert str(ann.now.email) == second.email


def test_of_eight_who_ask_at_once_the_last_one_counts(account):
    ann = account()

    outcomes = together([lambda n=n: ann.ask_for(f"new{n}.{ann.id}@example.com") for n in range(8)])

    assert kinds(outcomes) == {"EmailProposal": 8}
    [row] = EmailChange.objects.all()
    assert row.email in {proposal.email for proposal in outcomes}


def test_a_confirmation_and_a_new_name_at_once_leave_a_whole_account(account):
    for _ in range(ROUNDS):
        ann = account()
        proposal = ann.ask_for(f"new.{ann.id}@example.com")

        confirmed, renamed = together(
            [
                lambda ann=ann, proposal=proposal: ann.confirm(proposal),
                lambda ann=ann: ann.service.commands.rename(
                    RenameUser(user_id=ann.id, name="Anna", by=ann.actor)
                ),
            ]
        )

        assert not isinstance(renamed, Exception)
        assert str(ann.now.name) == "Anna"
        assert confirmed is None or isinstance(confirmed, InvalidLink)
        assert (str(ann.now.email) == proposal.email) == (confirmed is None)


def test_a_taken_address_is_refused_at_the_end_and_the_proposal_stays(account, people):
    ann = account()
    proposal = ann.ask_for("new@example.com")
    people.user("New")

    with pytest.raises(UserAlreadyExists):
        ann.confirm(proposal)

    assert ann.facts == []
    assert EmailChange.objects.get(user_id=ann.id).email == "new@example.com"


def test_an_erased_users_address_stays_in_no_other_users_proposal_or_mail(account, people):
    """Whether it was hers when he asked, or became hers after that."""
    ann, bob, bill = account(), account(), account()
    her_first, her_last = str(ann.now.email), f"last.{ann.id}@example.com"
    bill.ask_for(her_last)
    bob.ask_for(her_first)
    assert "example.com" not in str(Mail.objects.values_list("data", flat=True))
    ann.service.commands.change_email(ChangeEmail(user_id=ann.id, email=her_last, by=COMMAND_LINE))
    bob.ask_for(her_last)

    ann.service.privacy.erase(EraseUser(user_id=ann.id, by=COMMAND_LINE))

    assert not EmailChange.objects.filter(email=her_last).exists()
    assert not Mail.objects.filter(email__in=[her_first, her_last]).exists()
    assert UserRecord.objects.filter(id__in=[bob.id, bill.id], email__contains="ann").count() == 2


def test_an_erasure_does_not_wait_for_who_is_confirming_her_address(account):
    """He would be waiting for her to let go of it."""
    ann, bob = account(), account()
    bob.ask_for(str(ann.now.email))
    with ExitStack() as after, transaction.atomic():
        EmailChange.objects.select_for_update().get(user_id=bob.id)
        after.enter_context(
            in_background(lambda stop: ann.service.privacy.erase(EraseUser(user_id=ann.id, by=COMMAND_LINE)))
        )
        eventually(lambda: UserRecord.objects.filter(id=ann.id, status="erased").exists())


def test_of_eight_resets_by_one_link_one_wins(account):
    for _ in range(ROUNDS):
        ann = account()
        link = ann.reset_link()

        outcomes = together(
            [lambda ann=ann, link=link, n=n: ann.reset(link, f"password number {n}") for n in range(8)]
        )

        assert kinds(outcomes) == {"done": 1, "InvalidLink": 7}
        assert ann.log_in(f"password number {outcomes.index(None)}")
        assert ann.facts == ["user.password_changed", "user.email_verified"]


def test_a_reset_and_a_change_of_password_at_once_do_not_both_count(account):
    for _ in range(ROUNDS):
        ann = account()
        link = ann.reset_link()
        change = ChangePassword(
            user_id=ann.id, current_password=PASSWORD, new_password="chosen with the old one", by=ann.actor
        )

        reset, changed = together(
            [
                lambda ann=ann, link=link: ann.reset(link, "chosen by the link"),
                lambda ann=ann, change=change: ann.service.commands.change_password(change),
            ]
        )

        assert (reset is None) != (not isinstance(changed, DomainError)), (reset, changed)
        assert ann.log_in("chosen by the link" if reset is None else "chosen with the old one")
        assert ann.facts.count("user.password_changed") == 1


def test_nothing_of_a_proposal_or_its_mails_stays_when_the_unit_of_work_fails(account, monkeypatch):
    ann = account()
    Mail.objects.all().delete()

    def fail(kind, **more):
        raise ZeroDivisionError(kind)

    real = ann.accounts._mailbox.post
    monkeypatch.setattr(
        ann.accounts._mailbox,
        "post",
        lambda kind, **more: fail(kind) if kind is MailKind.EMAIL_CHANGE_ASKED else real(kind, **more),
    )
    with pytest.raises(ZeroDivisionError):
        ann.ask_for("new@example.com")

    assert not EmailChange.objects.exists()
    assert not Mail.objects.exists()


def test_the_worker_forgets_expired_proposals(account):
    ann = account()
    ann.ask_for("new@example.com")
    EmailChange.objects.update(expires_at=timezone.now() - timedelta(seconds=1))

    [duty] = [each for each in ann.service.worker()._duties if each.name == "tidying"]
    duty.act()

    assert not EmailChange.objects.exists()


def test_the_address_before_is_told_in_the_same_transaction_when_it_changes_at_once(service, people):
    user_id = people.user("Ann")
    people.user("Bob")
    Mail.objects.all().delete()
    change = {"user_id": user_id, "password": PASSWORD, "by": Actor(user_id)}

    with pytest.raises(UserAlreadyExists):
        service.commands.change_email(ChangeEmail(email="bob@example.com", **change))
    assert not Mail.objects.exists()

    service.commands.change_email(ChangeEmail(email="new@example.com", **change))
    [mail] = Mail.objects.all()
    assert (mail.kind, mail.email, str(mail.user_id)) == ("email_changed", "ann@example.com", user_id)
    assert UserRecord.objects.get(id=user_id).email == "new@example.com"
