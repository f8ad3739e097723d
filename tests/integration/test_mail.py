"""Mails: queued with what they are about, each sent once as far as SMTP lets, to whom they concern when they
are sent; and nothing is lost while PostgreSQL, the mail server or a worker is away."""

import os
import re
import ssl
import time
from contextlib import suppress
from datetime import timedelta
from email import message_from_bytes
from email.policy import default

import pytest
from django.core import mail as outgoing
from django.core import signing
from django.core.mail.backends.smtp import EmailBackend
from django.db import OperationalError, transaction
from django.utils import timezone
from structlog.testing import capture_logs
from uuid_utils.compat import uuid7

from config import devserver
from tests.events import rows, spoil
from tests.fixtures import PASSWORD, Api, People
from tests.smtp_server import running, use
from tests.together import eventually, in_background, together
from users import wiring
from users.application import links
from users.application.commands import BlockUser, ChangeEmail, ChangePassword, RegisterUser
from users.application.errors import InvalidLink
from users.application.ports import MailKind
from users.infrastructure import metrics, outbox, retention
from users.infrastructure.links import SignedLinks
from users.infrastructure.mail import letters, queue
from users.infrastructure.mail import sender as sending
from users.infrastructure.mail.folder import MailFolder
from users.infrastructure.mail.from_feed import MailsFromFeed, begin_at
from users.infrastructure.mail.mailbox import DatabaseMailbox
from users.infrastructure.mail.sender import Sender
from users.infrastructure.reads import DatabaseReads
from users.infrastructure.repository import DjangoUserRepository
from users.models import Mail, MailPosition, OutboxEvent, RelayPosition, UserRecord
from users_domain.errors import InvalidEmail
from users_domain.value_objects import COMMAND_LINE, Email, UserId

SIGNED = SignedLinks()
TOKEN = re.compile(r"#token=(\S+)")


class Post:
    """The mailbox, the reader of the feed and a sender, and what they have counted."""

    def __init__(self):
        self.outcomes = []
        self.box = DatabaseMailbox(configured=True, outcome=self.count)
        self.feed = MailsFromFeed(DatabaseReads())
        self.sender = self.another_sender()

    def count(self, kind, outcome):
        self.outcomes.append((kind, outcome))

    def another_sender(self, compose=lambda mail: letters.compose(mail, SIGNED), **options):
        return Sender(compose, outcome=self.count, **options)

    def goes_round(self):
        """What the worker does, once."""
        outbox.give_sequences(1000)
        while self.feed.queue_some():
            pass
        while self.sender.send_due():
            pass


@pytest.fixture
def post(database):
    begin_at(0)
    return Post()


def sent():
    """What has gone out through Django's own backend for tests."""
    return outgoing.outbox


def waiting():
    return list(Mail.objects.exclude(next_attempt_at=None).order_by("id"))


def make_due():
    """As if the pause, or a dead worker's lease, were over."""
    Mail.objects.exclude(next_attempt_at=None).update(next_attempt_at=timezone.now() - timedelta(seconds=1))


def link_in(message, purpose):
    token = TOKEN.search(message.body)[1]
    return links.read(SIGNED, purpose, token)


def of_user(user_id):
    return UserRecord.objects.get(id=user_id)


def fingerprint(service, user_id):
    with service.commands._unit_of_work() as users:
        return users.get(UserId.parse(user_id)).fingerprint


def an_event(event_type, user_id, version=2, **data):
    [event] = rows(1, event_type=event_type, user_id=user_id, user_version=version, data=data)
    return event


# --- The mailbox ----------------------------------------------------------------------------------


def test_a_mail_belongs_to_the_unit_of_work_that_is_open(post):
    with suppress(ZeroDivisionError), transaction.atomic():
        post.box.post(MailKind.RESET_PASSWORD, email="ann@example.com")
        raise ZeroDivisionError
    assert not Mail.objects.exists()

    with transaction.atomic():
        post.box.post(MailKind.RESET_PASSWORD, email="ann@example.com")
    post.box.post(MailKind.EMAIL_CHANGED, user_id=str(uuid7()), email="bob@example.com", fingerprint="f")
    assert [mail.kind for mail in waiting()] == ["reset_password", "email_changed"]
    assert waiting()[1].data == {"fingerprint": "f"}


def test_without_a_mail_server_nothing_is_kept_and_the_log_says_so(post):
    box = DatabaseMailbox(configured=False, outcome=post.count)
    with capture_logs() as log:
        box.post(MailKind.RESET_PASSWORD, email="ann@example.com")

    assert not Mail.objects.exists()
    assert post.outcomes == [("reset_password", "not_configured")]
    assert [line["event"] for line in log] == ["mail_not_configured"]
    assert "ann" not in str(log)


# --- From events to mails -------------------------------------------------------------------------


def test_whoever_registers_is_asked_to_prove_the_address_in_his_language(post, service):
    ids = {
        locale: service.commands.register(
            RegisterUser(email=f"{locale}@example.com", name=locale, password=PASSWORD, locale=locale)
        ).id
        for locale in ("en", "ru")
    }
    post.goes_round()

    english, russian = sorted(sent(), key=lambda message: message.to)
    assert (english.to, russian.to) == (["en@example.com"], ["ru@example.com"])
    assert english.subject == "Confirm your email address"
    assert russian.subject == "Подтвердите адрес электронной почты"
    assert "/account/verify-email?lang=ru#token=" in russian.body
    assert link_in(russian, links.VERIFY_EMAIL) == [ids["ru"], links.digest("ru@example.com")]


def test_no_name_that_somebody_has_chosen_stands_in_a_mail(post, service):
    """ASVS 1.2.1, 1.3.x: a name is no way to have our mails carry links for strangers."""
    name = "Win <script>x</script> at https://evil.example"
    service.commands.register(RegisterUser(email="ann@example.com", name=name, password=PASSWORD))
    post.goes_round()

    [message] = sent()
    whole = message.message().as_string()
    assert "evil" not in whole + message.body + message.alternatives[0].content
    assert "script" not in message.body + message.alternatives[0].content


def test_a_new_address_is_to_be_proven_and_the_one_before_not_any_more(post, service, people):
    user_id = people.user("Ann")
    service.commands.change_email(ChangeEmail(user_id=user_id, email="new@example.com", by=COMMAND_LINE))
    post.goes_round()

    assert [(message.to, message.subject) for message in sent() if "Confirm" in message.subject] == [
        (["new@example.com"], "Confirm your email address")
    ]
    assert ("verify_email", "dropped") in post.outcomes


def test_a_new_password_is_told_to_its_owner(post, service, people):
    user_id = people.user("Ann")
    UserRecord.objects.update(email_verified=True)
    service.commands.change_password(
        ChangePassword(
            user_id=user_id, new_password="battery horse staple", current_password=PASSWORD, by=COMMAND_LINE
        )
    )
    changed_at = OutboxEvent.objects.get(event_type="user.password_changed").occurred_at
    OutboxEvent.objects.update(occurred_at=changed_at - timedelta(days=3))
    post.goes_round()

    [message] = sent()
    assert (message.to, message.subject) == (["ann@example.com"], "Your password was changed")
    when = changed_at - timedelta(days=3)  # not when it was sent
    assert f"on {when.day} {when:%B %Y, %H:%M} UTC" in " ".join(message.body.split())


@pytest.mark.parametrize(
    ("cause", "mails"), [("token_reused", 1), ("log_out", 0), ("log_out_everywhere", 0), ("revoked", 0)]
)
def test_of_ended_sessions_only_a_stolen_one_is_told(post, people, cause, mails):
    user_id = people.user("Ann")
    UserRecord.objects.update(email_verified=True)
    an_event("user.sessions_ended", user_id, session_id=str(uuid7()), cause=cause)
    post.goes_round()

    assert [message.subject for message in sent()] == ["One of your devices was logged out"] * mails


def test_programs_and_those_who_have_proven_theirs_are_not_asked_to(post, people):
    people.staff("service")
    people.staff("operator")
    proven = people.user("Ann")
    UserRecord.objects.filter(id=proven).update(email_verified=True)
    post.goes_round()

    assert [message.to for message in sent()] == [["operator@example.com"]]
    assert not waiting()


def test_what_nobody_is_written_about_is_passed_over(post, people):
    people.user("Ann")
    post.goes_round()
    outgoing.outbox.clear()
    rows(5)  # renamed
    post.goes_round()

    assert (sent(), waiting()) == ([], [])
    assert MailPosition.objects.get().position == RelayPosition.objects.get().sequenced == 6


def test_a_new_installation_of_mail_begins_at_the_end_of_the_feed(database, people):
    people.user("Old")
    post = Post()
    post.goes_round()
    people.user("New")
    post.goes_round()

    assert [message.to for message in sent()] == [["new@example.com"]]


def test_events_come_in_batches(post):
    rows(7, event_type="user.password_changed", data={"changed_at": "x"})
    outbox.give_sequences(100)
    reader = MailsFromFeed(DatabaseReads(), batch=3)

    assert [reader.queue_some() for _ in range(4)] == [True, True, False, False]
    assert [mail.kind for mail in waiting()] == ["password_changed"] * 7


def test_several_workers_queue_each_event_once(post):
    rows(40, event_type="user.password_changed", data={})
    outbox.give_sequences(100)

    def queue_all():
        reader = MailsFromFeed(DatabaseReads(), batch=3)
        while MailPosition.objects.get().position < 40:
            reader.queue_some()

    assert together([queue_all] * 3) == [None] * 3
    assert len(waiting()) == len({mail.event_id for mail in waiting()}) == 40


def test_a_crash_while_queueing_leaves_neither_half_nor_double(post, monkeypatch):
    rows(3, event_type="user.password_changed", data={})
    outbox.give_sequences(100)
    moved = MailPosition.objects.update
    monkeypatch.setattr(
        MailPosition.objects, "update", lambda **columns: (_ for _ in ()).throw(OperationalError("gone"))
    )
    with pytest.raises(OperationalError):
        post.feed.queue_some()
    assert (waiting(), MailPosition.objects.get().position) == ([], 0)

    monkeypatch.setattr(MailPosition.objects, "update", moved)
    post.feed.queue_some()
    assert len(waiting()) == 3


def test_an_event_that_is_read_again_makes_no_second_mail(post, people):
    people.user("Ann")
    post.goes_round()
    MailPosition.objects.update(position=0)  # as after a database was restored
    post.goes_round()

    assert len(sent()) == 1


def test_an_event_that_cannot_be_told_stops_no_mail_of_another(post, people):
    [bad] = rows(1, event_type="user.created", data={"email": "x"})
    spoil(bad, "occurred_at", "infinity")
    people.user("Ann")
    post.goes_round()

    assert [message.to for message in sent()] == [["ann@example.com"]]
    bad.refresh_from_db(fields=["set_aside_because"])
    assert bad.set_aside_because


def test_retention_keeps_events_whose_mails_are_not_queued(post):
    rows(10)
    outbox.give_sequences(100)
    outbox.mark_published(10)
    MailPosition.objects.update(position=4)

    bound = retention.boundary(1)
    assert (bound.sequence, bound.because) == (4, "the mails about those behind it are not in the queue yet")
    post.feed.queue_some()
    assert retention.boundary(1).sequence == 9


# --- To whom --------------------------------------------------------------------------------------


def test_a_reset_goes_to_whoever_has_the_address_when_it_is_sent(post, service, people):
    user_id = people.user("Ann")
    post.box.post(MailKind.RESET_PASSWORD, email="ann@example.com")
    post.sender.send_due()

    [message] = sent()
    assert (message.to, message.subject) == (["ann@example.com"], "Choose a new password")
    assert link_in(message, links.RESET_PASSWORD) == [user_id, fingerprint(service, user_id)]


@pytest.mark.parametrize(
    "kind", [MailKind.RESET_PASSWORD, MailKind.VERIFY_EMAIL, MailKind.ALREADY_REGISTERED]
)
@pytest.mark.parametrize("email", ["nobody@example.com", "no address at all"])
def test_a_mail_for_an_address_that_nobody_has_leaves_no_trace(post, kind, email):
    """ASVS 6.3.8: asking was the same for all; what is found out later is told nobody."""
    with capture_logs() as log:
        post.box.post(kind, email=email)
        post.sender.send_due()

    assert (sent(), Mail.objects.count(), log) == ([], 0, [])
    assert post.outcomes == [(kind.value, "dropped")]


def test_asking_writes_the_same_row_whoever_has_the_address(post, people, django_assert_num_queries):
    people.user("Ann")
    for email in ("ann@example.com", "nobody@example.com"):
        with django_assert_num_queries(1):
            post.box.post(MailKind.RESET_PASSWORD, email=email)

    known, unknown = waiting()
    assert (known.user_id, known.data, known.event_id) == (unknown.user_id, unknown.data, unknown.event_id)


def test_who_is_blocked_still_gets_his_mails(post, service, people):
    user_id = people.user("Ann")
    service.commands.block(BlockUser(user_id=user_id, reason="spam", by=COMMAND_LINE))
    for kind in (MailKind.RESET_PASSWORD, MailKind.VERIFY_EMAIL):
        post.box.post(kind, email="ann@example.com")
    post.sender.send_due()

    assert {message.subject for message in sent()} == {"Choose a new password", "Confirm your email address"}


def test_who_was_erased_meanwhile_gets_none(post, people):
    user_id = people.user("Ann")
    post.box.post(MailKind.PASSWORD_CHANGED, user_id=user_id)
    post.box.post(MailKind.EMAIL_CHANGED, user_id=user_id, email="former@example.com")
    UserRecord.objects.update(status="erased", email=None, name=None, locale=None, password_hash="")
    post.sender.send_due()

    assert (sent(), Mail.objects.count()) == ([], 0)


def test_whoever_has_proven_his_address_is_not_asked_again(post, people):
    people.user("Ann")
    UserRecord.objects.update(email_verified=True)
    post.box.post(MailKind.VERIFY_EMAIL, email="ann@example.com")
    post.sender.send_due()

    assert (sent(), Mail.objects.count()) == ([], 0)


def test_a_change_of_address_is_proven_at_the_new_one_and_can_be_cancelled_from_the_present_one(
    post, service, people
):
    user_id = people.user("Ann")
    proposal = {"fingerprint": links.lasting(DjangoUserRepository().get(UserId.parse(user_id)))}
    post.box.post(MailKind.CONFIRM_EMAIL_CHANGE, user_id=user_id, email="new@example.com", **proposal)
    post.box.post(MailKind.EMAIL_CHANGE_ASKED, user_id=user_id, email="ann@example.com", **proposal)
    post.box.post(MailKind.EMAIL_CHANGED, user_id=user_id, email="former@example.com")
    post.sender.send_due()

    confirm, asked, changed = sent()
    assert [message.to[0] for message in sent()] == [
        "new@example.com",
        "ann@example.com",
        "former@example.com",
    ]
    expected = [user_id, proposal["fingerprint"]]
    assert link_in(confirm, links.CONFIRM_EMAIL_CHANGE) == [*expected, links.digest("new@example.com")]
    assert link_in(asked, links.CANCEL_EMAIL_CHANGE) == expected
    assert not TOKEN.search(changed.body)
    assert "/account/email-change?" in confirm.body
    assert "/account/email-change/cancel?" in asked.body


def test_from_asking_for_another_address_to_having_it_by_mail_alone(settings, post):
    settings.EMAIL_CHANGE = "verified"
    people = People(wiring.service())
    people.user("Ann")
    ann, anyone = people.log_in("Ann"), Api()
    asked = ann("PUT", "/users/me/email", {"email": "new@example.com", "password": PASSWORD})
    assert asked.status_code == 202, asked.content
    post.goes_round()
    by_subject = {message.subject: message for message in sent()}
    confirm = by_subject["Confirm your new email address"]
    cancel = by_subject["Somebody wants to change your email address"]
    outgoing.outbox.clear()

    def use(message, what):
        return anyone("POST", f"/auth/email-change/{what}", {"token": TOKEN.search(message.body)[1]})

    assert use(cancel, "confirm").status_code == 400  # each link for its own purpose
    assert use(confirm, "confirm").status_code == 204
    assert use(confirm, "confirm").status_code == 400
    assert use(cancel, "cancel").status_code == 400
    post.goes_round()
    assert UserRecord.objects.values_list("email", "email_verified").get() == ("new@example.com", True)
    assert [(message.to, message.subject) for message in sent()] == [
        (["ann@example.com"], "Your email address was changed")
    ]


def test_from_a_forgotten_password_to_a_new_one_by_mail_alone(post, people):
    people.user("Ann")
    post.goes_round()
    outgoing.outbox.clear()
    anyone = Api()
    assert anyone("POST", "/auth/password-reset", {"email": "Ann@example.com"}).status_code == 202
    post.goes_round()
    [message] = sent()
    body = {"token": TOKEN.search(message.body)[1], "new_password": "twelve grey elephants"}

    assert anyone("POST", "/auth/password-reset/confirm", body).status_code == 204
    assert anyone("POST", "/auth/password-reset/confirm", body).status_code == 400
    people.log_in("Ann", "twelve grey elephants")
    post.goes_round()
    assert [message.subject for message in sent()[1:]] == ["Your password was changed"]


def test_a_link_that_would_be_dead_is_not_sent(post, people):
    user_id = people.user("Ann")
    post.box.post(
        MailKind.CONFIRM_EMAIL_CHANGE,
        user_id=user_id,
        email="new@example.com",
        fingerprint="of before",
    )
    post.sender.send_due()

    assert (sent(), Mail.objects.count()) == ([], 0)


# --- Sending --------------------------------------------------------------------------------------


def test_a_mail_over_smtp_has_text_html_and_headers_that_stop_automatic_answers(post, people, smtp):
    people.user("Ann")
    post.goes_round()

    [message] = smtp.received
    assert smtp.recipients == ["ann@example.com"]
    assert (message["To"], message["From"]) == ("ann@example.com", "User service <no-reply@localhost>")
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["X-Auto-Response-Suppress"] == "All"
    assert message["Content-Language"] == "en"
    assert re.fullmatch(r"<[0-9a-f]{32}@localhost>", message["Message-ID"])
    assert message["Date"]
    assert [part.get_content_type() for part in message.iter_parts()] == ["text/plain", "text/html"]
    token = TOKEN.search(message.get_body(("plain",)).get_content())[1]
    assert token in message.get_body(("html",)).get_content()


def test_what_was_sent_is_emptied_of_address_and_data(post, people):
    """ASVS 14.2.x: nothing personal is kept longer than it is needed."""
    user_id = people.user("Ann")
    post.box.post(
        MailKind.EMAIL_CHANGE_ASKED,
        user_id=user_id,
        email="ann@example.com",
        fingerprint="f",
    )
    with capture_logs() as log:
        post.sender.send_due()

    row = Mail.objects.get()
    assert row.sent_at
    assert (row.email, row.data, row.error, row.lease, row.next_attempt_at) == (None, {}, None, None, None)
    assert [line["event"] for line in log] == ["mail_sent"]
    assert "@" not in str(log)


def test_many_mails_go_out_over_one_connection(post, smtp, people):
    for number in range(8):
        people.user(f"User{number}")
    post.goes_round()

    assert (len(smtp.received), smtp.connections) == (8, 1)
    assert post.sender.send_due() is False
    assert smtp.connections == 1  # an idle worker calls nobody


def test_several_workers_send_each_mail_once(post, smtp, people):
    people.user("Ann")
    for _ in range(30):
        post.box.post(MailKind.RESET_PASSWORD, email="ann@example.com")

    together([post.another_sender().send_due for _ in range(3)])

    ids = [message["Message-ID"] for message in smtp.received]
    assert len(ids) == len(set(ids)) == 30
    assert not waiting()


def test_what_a_worker_had_taken_when_he_died_is_sent_by_another_when_his_time_is_over(post, people):
    people.user("Ann")
    post.box.post(MailKind.RESET_PASSWORD, email="ann@example.com")
    taken = queue.claim(seconds=100)

    assert post.sender.send_due() is False
    assert (sent(), queue.claim(seconds=100)) == ([], None)
    make_due()
    post.sender.send_due()
    assert len(sent()) == 1
    assert queue.mark_sent(taken) is False  # whoever was thought dead spoils nothing
    queue.put_back(taken, seconds=0, error="late")
    assert not waiting()


def test_a_death_between_the_servers_yes_and_our_note_sends_it_twice_under_one_id(
    post, smtp, people, monkeypatch
):
    """The one exception that SMTP leaves."""
    people.user("Ann")
    post.box.post(MailKind.RESET_PASSWORD, email="ann@example.com")
    with monkeypatch.context() as death:
        death.setattr(queue, "mark_sent", lambda mail: (_ for _ in ()).throw(SystemExit))
        with pytest.raises(SystemExit):
            post.sender.send_due()
    make_due()
    post.another_sender().send_due()

    first, second = smtp.received
    assert first["Message-ID"] == second["Message-ID"]


def test_postgresql_away_after_the_servers_yes_makes_no_second_mail(post, people, monkeypatch):
    people.user("Ann")
    post.box.post(MailKind.RESET_PASSWORD, email="ann@example.com")
    with monkeypatch.context() as away:
        away.setattr(queue, "mark_sent", lambda mail: (_ for _ in ()).throw(OperationalError("away")))
        with pytest.raises(OperationalError):
            post.sender.send_due()
    post.sender.send_due()

    assert len(sent()) == 1
    assert not waiting()


def test_while_the_mail_server_is_away_nothing_is_lost_and_no_attempt_is_used_up(post, people, monkeypatch):
    people.user("Ann")
    post.box.post(MailKind.RESET_PASSWORD, email="ann@example.com")
    now = [0.0]
    post.sender = post.another_sender(monotonic=lambda: now[0])
    with running() as server:
        use(monkeypatch, server.port)
        server.answer = lambda command, line: "" if command == "HELLO" else None
        with capture_logs() as log:
            for _ in range(3):
                assert post.sender.send_due() is False
                assert post.sender.send_due() is False  # not tried again before its pause is over
                now[0] += 100
            assert (waiting()[0].attempts, server.connections) == (0, 3)

            server.answer = lambda command, line: None
            post.sender.send_due()
    assert len(server.received) == 1
    assert [line["event"] for line in log] == ["mail_server_away"] * 3 + ["mail_server_back", "mail_sent"]
    assert post.outcomes == [("any", "server_away")] * 3 + [("reset_password", "sent")]


def test_a_worker_without_a_mail_server_does_everything_else(service, people, monkeypatch):
    use(monkeypatch, 1)
    begin_at(0)
    user_id = people.user("Ann")
    with in_background(service.worker().run):
        service.commands.block(BlockUser(user_id=user_id, reason="spam", until=None, by=COMMAND_LINE))
        eventually(lambda: Mail.objects.count() == 1)
        UserRecord.objects.update(blocked_until=timezone.now())
        eventually(lambda: not UserRecord.objects.filter(status="blocked").exists())

    assert waiting()[0].attempts == 0


def refuses(command, reply):
    """Whoever is called bad."""
    return lambda said, line: reply if said == command and "bad" in line else None


@pytest.mark.parametrize(
    ("command", "reply", "noted", "over"),
    [
        ("RCPT", "550 5.1.1 <bad@example.com> unknown", "recipient refused: 550 5.1.1", True),
        ("RCPT", "450 4.2.1 <bad@example.com> is busy", "recipient refused: 450 4.2.1", False),
        (".", "554 spam from bad@example.com", "content refused: 554", True),
        (".", "451 4.3.0 try later", "content refused: 451 4.3.0", False),
    ],
)
def test_a_refusal_of_one_mail_is_noted_without_the_address_and_stops_no_other(
    post,
    people,
    smtp,
    command,
    reply,
    noted,
    over,
):
    for name in ("Bad", "Good"):
        people.user(name)
        post.box.post(MailKind.RESET_PASSWORD, email=f"{name.lower()}@example.com")
    smtp.answer = refuses(command, reply)
    with capture_logs() as log:
        post.sender.send_due()

    assert smtp.recipients == ["good@example.com"]
    row = Mail.objects.get(sent_at=None)
    assert row.error == noted
    assert (row.next_attempt_at is None) == over
    assert (row.email is None) == over
    assert "@" not in str(log)
    assert post.outcomes[0] == ("reset_password", "given_up" if over else "failed")
    smtp.answer = lambda said, line: None
    make_due()
    post.sender.send_due()
    assert len(smtp.received) == (1 if over else 2)


def test_a_refusal_of_our_own_address_is_not_held_against_the_mail(post, people, smtp):
    people.user("Ann")
    post.box.post(MailKind.RESET_PASSWORD, email="ann@example.com")
    smtp.answer = lambda command, line: "553 5.7.1 not your sender" if command == "MAIL" else None
    post.sender.send_due()

    [row] = waiting()
    assert row.error == "sender refused: 553 5.7.1"


@pytest.mark.parametrize("command", ["MAIL", "RCPT", "."])
def test_a_line_that_breaks_costs_one_mail_a_pause(post, people, smtp, command):
    for name in ("Bad", "Good"):
        people.user(name)
        post.box.post(MailKind.RESET_PASSWORD, email=f"{name.lower()}@example.com")
    broken = []
    smtp.answer = lambda said, line: "" if said == command and not broken and not broken.append(1) else None
    post.sender.send_due()
    assert [mail.error for mail in waiting()] == ["SMTPServerDisconnected", None]
    post.sender.send_due()

    assert smtp.recipients == ["good@example.com"]
    assert len(waiting()) == 1


def test_a_mail_that_cannot_be_written_stops_no_other(post, people):
    for name in ("Bad", "Good"):
        people.user(name)
        post.box.post(MailKind.RESET_PASSWORD, email=f"{name.lower()}@example.com")
    UserRecord.objects.filter(email="bad@example.com").update(locale="tlh")
    post.sender.send_due()

    assert [message.to for message in sent()] == [["good@example.com"]]
    assert waiting()[0].error == "ValueError"


@pytest.mark.parametrize(
    "address",
    [
        "ann@example.com\nBcc: evil@example.net",
        "ann@example.com\r\nRCPT TO:<evil@example.net>",
        "ann@example.com, evil@example.net",
        "ann@example.com> <evil@example.net",
    ],
)
def test_an_address_cannot_bring_in_headers_commands_or_more_recipients(post, people, smtp, address):
    """ASVS 1.3.11. No such address gets past `Email`; this is what would happen if one did."""
    with pytest.raises(InvalidEmail):
        Email(address)
    user_id = people.user("Ann")
    post.box.post(MailKind.EMAIL_CHANGED, user_id=user_id, email=address)
    post.sender.send_due()

    assert (smtp.recipients, len(waiting())) == ([], 1)
    assert "@" not in waiting()[0].error


def test_a_mail_for_an_international_local_part_goes_to_no_other_mailbox(post, people, smtp):
    """Django would write it as an encoded word, and `=?utf-8?b?am9zw6k=?=` is a mailbox of its own."""
    for name in ("Bad", "Good"):
        people.user(name)
    UserRecord.objects.filter(email="bad@example.com").update(email="josé@example.com")
    for name in ("josé", "good"):
        post.box.post(MailKind.RESET_PASSWORD, email=f"{name}@example.com")
    said = []
    smtp.answer = lambda command, line: said.append(line) if command == "RCPT" else None
    with capture_logs() as log:
        post.sender.send_due()

    assert [line.upper() for line in said] == ["RCPT TO:<GOOD@EXAMPLE.COM>"]
    row = Mail.objects.get(sent_at=None)
    assert (row.error, row.next_attempt_at, row.email) == ("international address", None, None)
    assert post.outcomes == [("reset_password", "given_up"), ("reset_password", "sent")]
    assert [line["event"] for line in log] == ["mail_given_up", "mail_sent"]


def test_a_mail_server_has_to_prove_who_it_is():
    """ASVS 12.3.2: Django's backend as `smtp+tls://` and `smtp+ssl://` set it up."""
    for way in ({"use_tls": True, "use_ssl": False}, {"use_tls": False, "use_ssl": True}):
        context = EmailBackend(**way).ssl_context
        assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)


def test_pauses_grow_to_an_hour_and_differ():
    assert [sending.delay(n, draw=lambda low, high: high) for n in (1, 2, 3, 8, 100)] == [
        30,
        60,
        120,
        3600,
        3600,
    ]
    assert sending.delay(2, draw=lambda low, high: low) == 45
    assert len({sending.delay(5) for _ in range(20)}) > 1


def test_after_a_day_a_mail_is_given_up(post, people):
    people.user("Ann")
    for hours in (23, 25, 26):
        post.box.post(MailKind.RESET_PASSWORD, email="ann@example.com")
        Mail.objects.filter(id=Mail.objects.latest("id").id).update(
            created_at=timezone.now() - timedelta(hours=hours)
        )
    being_sent = Mail.objects.latest("id").id
    Mail.objects.filter(id=being_sent).update(next_attempt_at=timezone.now() + timedelta(minutes=1))

    assert queue.give_up_old(24) == ["reset_password"]
    given_up = Mail.objects.get(next_attempt_at=None)
    assert (given_up.error, given_up.email, given_up.sent_at) == (queue.TOO_LATE, None, None)
    assert len(waiting()) == 2


def test_what_is_done_with_is_deleted_after_a_week(post, people):
    people.user("Ann")
    for _ in range(2):
        post.box.post(MailKind.RESET_PASSWORD, email="ann@example.com")
    post.sender.send_due()
    post.box.post(MailKind.RESET_PASSWORD, email="ann@example.com")
    for row, days in zip(Mail.objects.order_by("id"), (6, 8, 8), strict=True):
        Mail.objects.filter(id=row.id).update(created_at=timezone.now() - timedelta(days=days))

    assert queue.forget_finished() == 1
    assert Mail.objects.count() == 2


def test_the_running_worker_does_it_all(service, people):
    begin_at(0)
    with in_background(service.worker().run):
        people.user("Ann")
        eventually(lambda: len(sent()) == 1)
        eventually(lambda: Mail.objects.filter(sent_at=None).count() == 0)

    assert sent()[0].to == ["ann@example.com"]
    assert 'user_mails_total{kind="verify_email",outcome="sent"}' in metrics.page().decode()


def test_a_worker_without_mail_neither_queues_nor_keeps_a_place_in_the_feed(service, people, settings):
    settings.MAIL_CONFIGURED = False
    begin_at(0)
    MailPosition.objects.update(touched_at=timezone.now() - timedelta(minutes=61))
    names = {duty.name for duty in service.worker()._duties}
    assert "mails" not in names
    assert "mails from events" not in names
    with in_background(service.worker().run):
        eventually(lambda: not MailPosition.objects.exists())


def test_switched_on_by_one_worker_after_the_other_no_mail_is_lost(service, people, settings):
    """Those without EMAIL_URL leave the place in the feed alone, however quiet it is."""
    with_mail = wiring._tidy_mails
    begin_at(0)
    MailPosition.objects.update(touched_at=timezone.now() - timedelta(hours=2))
    with_mail()
    settings.MAIL_CONFIGURED = False
    without_mail = wiring._tidy_mails
    without_mail()

    people.user("Ann")
    Post().goes_round()
    assert [message.to for message in sent()] == [["ann@example.com"]]


def test_metrics_tell_of_a_reader_that_does_not_get_on(post, monkeypatch, settings):
    rows(3)
    OutboxEvent.objects.update(occurred_at=timezone.now() - timedelta(seconds=400))
    outbox.give_sequences(100)
    monkeypatch.setattr(post.feed._reads, "feed", lambda *about: (_ for _ in ()).throw(OperationalError("x")))
    with pytest.raises(OperationalError):
        post.feed.queue_some()

    assert gauge("user_mails_feed_lag_events") == 3
    assert 400 <= gauge("user_mails_feed_lag_seconds") < 500
    monkeypatch.undo()
    post.goes_round()
    assert gauge("user_mails_feed_lag_events") == gauge("user_mails_feed_lag_seconds") == 0
    settings.MAIL_CONFIGURED = False
    assert "user_mails_feed" not in metrics.page().decode()


@pytest.mark.parametrize("age", ["infinity", "-infinity"])
def test_an_event_without_a_time_hides_no_metric(post, age):
    [event] = rows(1)
    spoil(event, "occurred_at", age)
    OutboxEvent.objects.update(sequence=1)
    RelayPosition.objects.update_or_create(id=1, defaults={"sequenced": 1, "published": 0})

    assert (gauge("user_mails_feed_lag_events"), gauge("user_mails_feed_lag_seconds")) == (1, 0)


@pytest.mark.parametrize(
    ("command", "reply", "late"),
    [("MAIL", "451 4.7.1 not now", True), (".", "451 4.3.0 later", True), ("RCPT", "450 4.2.1 full", False)],
)
def test_a_mail_that_we_cannot_send_is_late_though_it_was_tried(post, people, smtp, command, reply, late):
    people.user("Ann")
    post.box.post(MailKind.RESET_PASSWORD, email="ann@example.com")
    Mail.objects.update(created_at=timezone.now() - timedelta(seconds=1000))
    smtp.answer = lambda said, line: reply if said == command else None
    post.sender.send_due()

    assert waiting()[0].attempts == 1
    assert (gauge("user_mails_lag_seconds") > 900) == late


def gauge(name):
    return float(re.search(rf"^{name} (\S+)$", metrics.page().decode(), re.MULTILINE)[1])


def test_metrics_tell_what_is_waiting_and_since_when(post, people):
    post.box.post(MailKind.RESET_PASSWORD, email="ann@example.com")
    post.box.post(MailKind.RESET_PASSWORD, email="bob@example.com")
    Mail.objects.update(created_at=timezone.now() - timedelta(seconds=90))
    refused = Mail.objects.earliest("id").id
    Mail.objects.filter(id=refused).update(
        created_at=timezone.now() - timedelta(hours=9), attempts=7, error="recipient refused: 450"
    )
    page = metrics.page().decode()

    assert re.search(r"^user_mails_pending 2\.0$", page, re.MULTILINE)
    assert 90 <= float(re.search(r"^user_mails_lag_seconds (\S+)$", page, re.MULTILINE)[1]) < 100


def test_in_development_a_mail_is_a_file_that_only_its_owner_may_read(post, people, settings, tmp_path):
    settings.EMAIL_BACKEND = f"{MailFolder.__module__}.{MailFolder.__qualname__}"
    settings.EMAIL_FILE_PATH = str(tmp_path / "mails")
    for name in ("Ann", "Bob"):
        people.user(name)
    post.goes_round()

    files = sorted((tmp_path / "mails").iterdir())
    assert (tmp_path / "mails").stat().st_mode & 0o777 == 0o700
    assert [file.suffix for file in files] == [".eml", ".eml"]
    message = message_from_bytes(files[0].read_bytes(), policy=default)
    assert message["To"] == "ann@example.com"
    assert "#token=" in files[0].read_text()  # readable without a mail program


def test_a_new_run_in_development_forgets_mails_of_more_than_a_week_ago(tmp_path, monkeypatch):
    (tmp_path / "mails").mkdir()
    for name, days in (("old.eml", 8), ("young.eml", 6), ("old.txt", 8)):
        (tmp_path / "mails" / name).touch()
        then = time.time() - days * 86_400
        os.utime(tmp_path / "mails" / name, (then, then))
    monkeypatch.setattr(os, "environ", {})

    devserver.export(tmp_path, 8000)

    assert {path.name for path in (tmp_path / "mails").iterdir()} == {"young.eml", "old.txt"}


# --- Links ----------------------------------------------------------------------------------------


def test_a_link_is_good_for_its_purpose_and_time_alone(monkeypatch):
    """ASVS 6.5.x: whoever was not sent it cannot make it."""
    token = SIGNED.write("verify_email", "somebody", "digest")
    assert SIGNED.read("verify_email", token, seconds=60) == ["somebody", "digest"]

    forged = signing.dumps(["somebody", "digest"], key="another key", salt="users.link.verify_email")
    swapped = ":".join([signing.dumps(["another"]).partition(":")[0], token.partition(":")[2]])
    for bad in (forged, swapped, token[:-1], token + "A", "", ":", "a:b:c", "\ud83d:1abcde:c", "x" * 10_000):
        with pytest.raises(InvalidLink):
            SIGNED.read("verify_email", bad, seconds=60)
    with pytest.raises(InvalidLink):
        SIGNED.read("reset_password", token, seconds=60)
    later = timezone.now().timestamp() + 61
    monkeypatch.setattr("django.core.signing.time.time", lambda: later)
    with pytest.raises(InvalidLink):
        SIGNED.read("verify_email", token, seconds=60)


def test_a_link_survives_a_new_secret_as_long_as_the_old_one_is_named(settings):
    token = SIGNED.write("verify_email", "somebody")
    settings.SECRET_KEY_FALLBACKS, settings.SECRET_KEY = [settings.SECRET_KEY], "k" * 60
    assert SIGNED.read("verify_email", token, seconds=60) == ["somebody"]

    settings.SECRET_KEY_FALLBACKS = []
    with pytest.raises(InvalidLink):
        SIGNED.read("verify_email", token, seconds=60)
