"""The order of lists by status: it follows the users whatever changes them, also while it is made."""

import importlib
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.utils import timezone

from tests.builders import a_user
from tests.other_session import other_session, somebody_waits_for_a_lock
from tests.together import PATIENCE, eventually, in_background
from users.application.commands import BlockUser, EndBlock, UnblockUser
from users.application.ports import UserCriteria
from users.application.privacy import EraseUser
from users.infrastructure.reads import DatabaseReads
from users.infrastructure.repository import DjangoUserRepository
from users.models import UserRecord, UserStanding
from users_domain.value_objects import COMMAND_LINE

filling = importlib.import_module("users.migrations.0009_status_in_standings")

BLOCKED = "status = 'blocked', block_reason = 'spam', blocked_at = now()"
TO_YEAR_2000 = "UPDATE users SET created_at = '2000-01-01Z'"


def run(statement, *values):
    with connection.cursor() as cursor:
        cursor.execute(statement, values)


def of_users():
    return set(UserRecord.objects.values_list("id", "status", "created_at"))


def standings():
    return set(UserStanding.objects.values_list("user_id", "status", "created_at"))


def listed(status):
    return [each.position.id for each in DatabaseReads().users(UserCriteria(status=status), None, 51)]


# --- Who follows whom -----------------------------------------------------------------------------------


def block(service, user_id, **until):
    service.commands.block(BlockUser(user_id=user_id, reason="spam", by=COMMAND_LINE, **until))


def unblock(service, user_id):
    block(service, user_id)
    service.commands.unblock(UnblockUser(user_id=user_id, by=COMMAND_LINE))


def have_the_block_end(service, user_id):
    block(service, user_id, until=timezone.now() + timedelta(hours=1))
    run("UPDATE users SET blocked_until = now() WHERE id = %s", user_id)
    service.commands.end_block(EndBlock(user_id=user_id))


def erase(service, user_id):
    service.privacy.erase(EraseUser(user_id=user_id, by=COMMAND_LINE))


WAYS = {
    "registered": (lambda *_: None, "active"),
    "blocked": (block, "blocked"),
    "unblocked": (unblock, "active"),
    "unblocked by the date": (have_the_block_end, "active"),
    "erased": (erase, "erased"),
    "blocked in SQL": (lambda *_: run(f"UPDATE users SET {BLOCKED}"), "blocked"),
    "born at another time in SQL": (lambda *_: run(TO_YEAR_2000), "active"),
    "written in SQL, without a standing": (
        lambda *_: run(f"DELETE FROM user_standings; UPDATE users SET {BLOCKED}"),
        "blocked",
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_whoever_was_changed_stands_as_he_is(service, people, way):
    act, status = WAYS[way]
    user_id = people.user("Ann")

    act(service, user_id)

    assert standings() == of_users()
    assert {each: listed(each) for each in ("active", "blocked", "erased")} == {
        "active": [],
        "blocked": [],
        "erased": [],
        status: [user_id],
    }


@pytest.mark.parametrize(
    "gone",
    [
        "DELETE FROM users",
        "TRUNCATE users CASCADE",
        "TRUNCATE users, user_standings CASCADE",
    ],  # as flush does
)
def test_whoever_is_gone_stands_nowhere(people, gone):
    people.user("Ann")

    run(gone)

    assert standings() == set()


def test_what_is_rolled_back_has_never_stood(service, people):
    user_id = people.user("Ann")

    with transaction.atomic():
        run(f"UPDATE users SET {BLOCKED}")
        assert listed("blocked") == [user_id]
        transaction.set_rollback(True)

    assert (listed("blocked"), listed("active")) == ([], [user_id])


def test_who_writes_with_another_search_path_is_followed_too(service, people):
    """As a dump does when it is restored."""
    user_id = people.user("Ann")

    with transaction.atomic():
        run("SET LOCAL search_path = ''")
        run(f"UPDATE public.users SET {BLOCKED}")

    assert (listed("blocked"), listed("active")) == ([user_id], [])


# --- What it is for -------------------------------------------------------------------------------------


def written_into_no_index():
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_get_xact_tuples_hot_updated('users'::regclass)")
        return cursor.fetchone()[0]


@pytest.mark.parametrize("act", [block, unblock])
def test_a_block_is_written_into_no_index_of_users(service, people, act):
    """Whoever adds an index on what a block changes makes every block write into all of them."""
    user_id = people.user("Ann")

    with transaction.atomic():
        before = written_into_no_index()
        act(service, user_id)
        written = written_into_no_index() - before

    assert written == UserRecord.objects.get(id=user_id).version - 1


# --- While those who are here already are copied ----------------------------------------------------------


@pytest.fixture
def not_copied(database):
    """A user of before the triggers."""
    user = a_user()
    DjangoUserRepository().add(user)
    run("DELETE FROM user_standings")
    return user.id.value


def copy():
    with connection.schema_editor(atomic=False) as editor:
        filling.copy(None, editor)


@pytest.mark.parametrize("change", [f"UPDATE users SET {BLOCKED}", TO_YEAR_2000, "DELETE FROM users"])
@pytest.mark.parametrize("ends", ["COMMIT", "ROLLBACK"])
def test_the_copy_waits_for_a_change_that_came_first(not_copied, change, ends):
    with other_session(autocommit=False) as other:
        other.execute(change)
        with in_background(lambda stop: copy()):
            eventually(somebody_waits_for_a_lock)
            other.execute(ends)

    assert standings() == of_users()
    assert len(standings()) == (0 if (change, ends) == ("DELETE FROM users", "COMMIT") else 1)


@pytest.mark.parametrize("change", [f"UPDATE users SET {BLOCKED}", TO_YEAR_2000, "DELETE FROM users"])
@pytest.mark.parametrize("ends", ["COMMIT", "ROLLBACK"])
def test_a_change_that_comes_later_goes_over_the_copy(not_copied, change, ends):
    with other_session(autocommit=False) as other:
        other.execute(filling.BATCH, ["00000000-0000-0000-0000-000000000000"])
        with in_background(lambda stop: run(change)):
            eventually(somebody_waits_for_a_lock)
            other.execute(ends)
    copy()

    assert standings() == of_users()


def test_who_holds_a_user_for_long_holds_up_nobody_else_of_his_batch(not_copied, monkeypatch):
    monkeypatch.setattr(filling, "PATIENCE_MILLISECONDS", 20)
    other_user = a_user()
    DjangoUserRepository().add(other_user)
    run(f"DELETE FROM user_standings WHERE id = '{other_user.id}'")
    with other_session(autocommit=False) as holder:
        holder.execute(f"UPDATE users SET {BLOCKED} WHERE id = '{max(not_copied, other_user.id.value)}'")
        with in_background(lambda stop: copy()):
            eventually(somebody_waits_for_a_lock)
            with transaction.atomic():
                run(f"SET LOCAL lock_timeout = '{PATIENCE}s'")
                run(f"UPDATE users SET {BLOCKED} WHERE id = '{min(not_copied, other_user.id.value)}'")
            holder.execute("COMMIT")

    assert standings() == of_users()
    assert len(listed("blocked")) == 2


def test_it_is_copied_in_batches(database):
    run(
        "INSERT INTO users (id, email, name, status, roles, password_hash, email_verified, token_version, "
        "created_at, updated_at, version) "
        "SELECT gen_random_uuid(), n || '@example.com', 'Ann', 'active', '{}', '', false, 1, now(), now(), 1 "
        "FROM generate_series(1, 25) AS n"
    )
    run("DELETE FROM user_standings")
    batch, filling.BATCH = filling.BATCH, filling.BATCH.replace("10000", "10")
    try:
        copy()
    finally:
        filling.BATCH = batch

    assert standings() == of_users()
