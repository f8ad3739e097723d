"""Sessions in PostgreSQL: what eight who come at once get, what is kept and what is not, and who may give
tokens out at all."""

import ast
import contextlib
import itertools
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest
from django.db import connection
from django.utils import timezone
from uuid_utils.compat import uuid7

from config.embedded import PROJECT
from tests.fixtures import PASSWORD
from tests.together import in_background, together
from users.application.commands import BlockUser, RenameUser, UnblockUser
from users.application.credentials import LogIn
from users.application.errors import InvalidToken
from users.infrastructure.sessions import forget_old_sessions
from users.models import OutboxEvent, RefreshToken, Session, UserRecord
from users_domain.errors import ConcurrentUpdate
from users_domain.user import MOST_ENDED_SESSIONS
from users_domain.value_objects import SYSTEM, Actor

ANN = LogIn(email="ann@example.com", password=PASSWORD, address="2001:db8:1:2::7", user_agent="Toaster/1.0")


@pytest.fixture
def ann(people):
    return people.user("Ann")


def test_of_eight_who_refresh_at_once_all_get_the_one_successor(service, ann):
    for _ in range(5):
        tokens = service.sessions.log_in(ANN)
        outcomes = together([lambda token=tokens.refresh: service.sessions.refresh(token)] * 8)

        [successor] = {outcome.refresh for outcome in outcomes}
        assert successor != tokens.refresh
        assert service.sessions.refresh(successor)
    assert not OutboxEvent.objects.filter(event_type="user.sessions_ended").exists()


def test_of_eight_who_come_with_a_copied_token_none_gets_anything_and_it_is_told_once(service, ann):
    tokens = service.sessions.log_in(ANN)
    successor = service.sessions.refresh(tokens.refresh)
    RefreshToken.objects.exclude(consumed_at=None).update(consumed_at=timezone.now() - timedelta(seconds=61))

    outcomes = together([lambda: service.sessions.refresh(tokens.refresh)] * 8)

    assert [type(outcome) for outcome in outcomes] == [InvalidToken] * 8
    with pytest.raises(InvalidToken):
        service.sessions.refresh(successor.refresh)
    assert OutboxEvent.objects.filter(event_type="user.sessions_ended").count() == 1


def test_a_refresh_and_a_log_out_at_once_leave_no_session_alive(service, ann):
    for _ in range(5):
        tokens = service.sessions.log_in(ANN)
        refreshed, logged_out = together(
            [
                lambda token=tokens.refresh: service.sessions.refresh(token),
                lambda token=tokens.refresh: service.sessions.log_out(token),
            ]
        )
        assert logged_out is None
        if not isinstance(refreshed, InvalidToken):
            with pytest.raises(InvalidToken):
                service.sessions.refresh(refreshed.refresh)
        assert service.sessions.of(ann) == []


def test_of_twelve_who_log_out_at_once_each_is_logged_out(service, ann):
    tokens = [service.sessions.log_in(ANN) for _ in range(12)]
    outcomes = together([lambda token=each.refresh: service.sessions.log_out(token) for each in tokens])

    assert outcomes == [None] * 12
    assert service.sessions.of(ann) == []
    assert OutboxEvent.objects.filter(event_type="user.sessions_ended").count() == 12


def test_a_thief_who_changes_the_user_all_the_time_keeps_no_session_alive(service, ann):
    """Nor does he keep the account from being blocked."""
    tokens = service.sessions.log_in(ANN)
    service.sessions.refresh(tokens.refresh)
    RefreshToken.objects.exclude(consumed_at=None).update(consumed_at=timezone.now() - timedelta(seconds=61))
    himself = Actor(ann)

    def rename(stop):
        for number in itertools.count():
            if stop.is_set():
                return
            with contextlib.suppress(ConcurrentUpdate):
                service.commands.rename(RenameUser(user_id=ann, name=f"Ann {number}", by=himself))

    with ExitStack() as noise:
        for _ in range(6):
            noise.enter_context(in_background(rename))
        with pytest.raises(InvalidToken):
            service.sessions.refresh(tokens.refresh)
        assert service.sessions.of(ann) == []
        service.sessions.log_out_everywhere(ann, by=himself)
        for _ in range(5):
            service.commands.block(BlockUser(user_id=ann, reason="spam", by=SYSTEM))
            service.commands.unblock(UnblockUser(user_id=ann, by=SYSTEM))


def test_no_token_and_no_part_of_one_is_kept(service, ann):
    tokens = service.sessions.log_in(ANN)
    later = service.sessions.refresh(tokens.refresh)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT refresh_tokens::text FROM refresh_tokens UNION SELECT sessions::text FROM sessions"
        )
        kept = "\n".join(row for (row,) in cursor.fetchall())
    for token in (tokens.refresh, later.refresh, tokens.access, later.access):
        _, payload, signature = token.split(".")
        assert signature not in kept
        assert payload not in kept


def test_of_the_address_only_its_network_is_kept(service, ann):
    service.sessions.log_in(ANN)
    [session] = Session.objects.all()
    assert (session.address, session.user_agent) == ("2001:db8:1::/48", "Toaster/1.0")


def test_what_leads_nowhere_is_forgotten(service, ann):
    tokens = service.sessions.log_in(ANN)
    service.sessions.refresh(tokens.refresh)
    for over in ({"expires_at": days_ago(2)}, {"ended_at": days_ago(2)}):
        service.sessions.log_in(ANN)
        Session.objects.filter(id=newest()).update(**over)
    service.sessions.log_in(ANN)
    Session.objects.filter(id=newest()).update(ended_at=timezone.now())
    RefreshToken.objects.exclude(consumed_at=None).update(consumed_at=days_ago(2))

    forget_old_sessions(timedelta(days=14))

    assert Session.objects.count() == 2
    assert RefreshToken.objects.count() == 2
    with pytest.raises(InvalidToken):
        service.sessions.refresh(tokens.refresh)  # used, and no longer remembered: copied
    assert service.sessions.of(ann) == []


@pytest.fixture
def three_at_most(settings):
    settings.SESSIONS_PER_USER = 3


def test_beyond_the_most_sessions_the_oldest_go_of_this_user_alone(three_at_most, service, people, ann):
    people.user("Bob")
    service.sessions.log_in(LogIn(email="bob@example.com", password=PASSWORD))
    oldest, *others = [service.sessions.log_in(ANN) for _ in range(4)]

    assert len(service.sessions.of(ann)) == 3
    assert Session.objects.filter(ended_at=None).count() == 4
    with pytest.raises(InvalidToken):
        service.sessions.refresh(oldest.refresh)
    for tokens in others:
        assert service.sessions.refresh(tokens.refresh)


def test_more_ended_sessions_than_are_remembered_kill_all_tokens_instead(service, ann):
    first = service.sessions.log_in(ANN)
    UserRecord.objects.filter(id=ann).update(
        ended_sessions={str(uuid7()): timezone.now().isoformat() for _ in range(MOST_ENDED_SESSIONS)}
    )
    service.sessions.log_out(service.sessions.log_in(ANN).refresh)
    record = UserRecord.objects.get(id=ann)
    assert (record.ended_sessions, record.token_version) == ({}, 2)
    assert not Session.objects.filter(ended_at=None).exists()
    with pytest.raises(InvalidToken):
        service.sessions.refresh(first.refresh)


def test_sessions_that_ended_long_ago_are_not_remembered_with_the_user(service, ann):
    service.sessions.log_out(service.sessions.log_in(ANN).refresh)
    [ended] = UserRecord.objects.get(id=ann).ended_sessions
    UserRecord.objects.filter(id=ann).update(ended_sessions={ended: days_ago(1).isoformat()})
    service.sessions.log_out(service.sessions.log_in(ANN).refresh)
    [remembered] = UserRecord.objects.get(id=ann).ended_sessions
    assert remembered != ended
    assert UserRecord.objects.get(id=ann).token_version == 1


def test_a_session_that_has_idled_too_long_is_none_any_more(service, ann):
    tokens = service.sessions.log_in(ANN)
    Session.objects.update(last_used_at=days_ago(14))
    assert service.sessions.of(ann) == []
    with pytest.raises(InvalidToken):
        service.sessions.refresh(tokens.refresh)
    forget_old_sessions(timedelta(days=14))
    assert Session.objects.count() == 1  # kept a day longer
    Session.objects.update(last_used_at=days_ago(16))
    forget_old_sessions(timedelta(days=14))
    assert Session.objects.count() == 0


def test_log_out_everywhere_marks_each_session(service, ann):
    for _ in range(3):
        service.sessions.log_in(ANN)
    service.sessions.log_out_everywhere(ann, by=Actor(ann))
    assert not Session.objects.filter(ended_at=None).exists()


# --- Every path to a token ------------------------------------------------------------------------------


def calls_of(method, receivers):
    """Where a method of this name is called on one of these, in the service's code: file and function."""
    for folder in ("users", "config"):
        for file in sorted((PROJECT / folder).rglob("*.py")):
            tree = ast.parse(file.read_text())
            for function in ast.walk(tree):
                if isinstance(function, ast.FunctionDef):
                    for node in ast.walk(function):
                        if (
                            isinstance(node, ast.Call)
                            and isinstance(node.func, ast.Attribute)
                            and node.func.attr == method
                            and ast.unparse(node.func.value) in receivers
                        ):
                            yield f"{Path(file).relative_to(PROJECT)}:{function.name}"


def test_there_is_one_way_to_tokens_and_it_checks_the_account():
    assert set(
        calls_of("issue", {"self._access_tokens", "self._refresh_tokens", "tokens", "service.tokens"})
    ) == {"users/application/sessions.py:_tokens"}
    assert set(calls_of("_tokens", {"self"})) == {
        "users/application/sessions.py:log_in",
        "users/application/sessions.py:refresh",
    }


def test_there_is_one_way_into_the_admin_pages_and_it_checks_the_account():
    assert set(calls_of("authenticate", {"self._credentials", "wiring.service().credentials"})) == {
        "users/application/sessions.py:log_in",
        "users/api/staff_login.py:authenticate",
    }
    assert set(calls_of("refuse_blocked", {"user"})) == {
        "users/application/sessions.py:_tokens",
        "users/application/credentials.py:_proven",
    }


def days_ago(days):
    return timezone.now() - timedelta(days=days)


def newest() -> UUID:
    return Session.objects.order_by("-created_at").values_list("id", flat=True)[0]
