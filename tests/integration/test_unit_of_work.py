"""One transaction for the row and its events: both or neither, also when the connection breaks at the worst
moment, and what follows a commit cannot undo it."""

import contextlib
import socket
import threading
from dataclasses import replace
from unittest.mock import patch

import pytest
from django.db import OperationalError, close_old_connections, connection, transaction

from tests.builders import NOW, a_newborn, an_actor, an_admin
from tests.other_session import cut_own_connection, other_session
from tests.together import PATIENCE, together
from users.application.commands import BlockUser, RegisterUser, RenameUser
from users.infrastructure import outbox
from users.infrastructure.repository import DjangoUserRepository
from users.infrastructure.unit_of_work import DjangoUnitOfWork
from users.models import OutboxEvent, UserRecord
from users_domain.errors import ConcurrentUpdate, LastAdmin, UserAlreadyExists
from users_domain.value_objects import SYSTEM, UserId, UserName

ADMIN = an_actor(an_admin())


class Heard:
    """An after-commit hook that notes what it was given, and what the database showed to others then."""

    def __init__(self):
        self.views = []
        self.visible = []

    def __call__(self, views):
        self.views += views
        with other_session() as session:
            self.visible += session.execute("SELECT count(*) FROM outbox").fetchone()


@pytest.fixture
def heard():
    return Heard()


@pytest.fixture
def unit_of_work(database, heard):
    return DjangoUnitOfWork(heard)


def kept():
    """Users and events in the database."""
    return UserRecord.objects.count(), OutboxEvent.objects.count()


def test_a_commit_keeps_the_row_with_its_event_and_then_calls_the_hook(unit_of_work, heard):
    user = a_newborn(by=SYSTEM)
    [event] = list(user._recorded)

    with unit_of_work() as users:
        users.add(user)
        assert heard.views == []

    assert kept() == (1, 1)
    row = OutboxEvent.objects.get()
    assert (row.event_id, row.user_id, row.user_version) == (event.event_id, user.id.value, 1)
    assert (row.event_type, row.actor_id, row.sequence) == ("user.created", "system", None)
    assert [(view.id, view.version) for view in heard.views] == [(str(user.id), 1)]
    assert heard.visible == [1]  # others saw it committed before the hook was called


def test_an_error_inside_leaves_neither_row_nor_event_nor_hook(unit_of_work, heard):
    def fail():
        with unit_of_work() as users:
            users.add(a_newborn())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert kept() == (0, 0)
    assert heard.views == []


def test_an_event_that_cannot_be_written_takes_the_row_back(unit_of_work, heard):
    user = a_newborn()
    user._recorded.append(replace(user._recorded[0]))  # the same event id once more

    with pytest.raises(Exception, match="outbox"), unit_of_work() as users:
        users.add(user)

    assert kept() == (0, 0)
    assert heard.views == []


def test_a_backend_that_dies_between_the_writes_leaves_neither(unit_of_work, heard):
    def die_half_way():
        with unit_of_work() as users:
            users.add(a_newborn())
            cut_own_connection()

    with pytest.raises(OperationalError):
        die_half_way()
    connection.close()
    assert kept() == (0, 0)
    assert heard.views == []


def test_what_the_hook_raises_does_not_fail_the_command(database):
    def broken(views):
        raise ZeroDivisionError

    with DjangoUnitOfWork(broken)() as users:
        users.add(a_newborn())

    assert kept() == (1, 1)


def test_without_changes_there_is_no_hook(unit_of_work, heard):
    user = a_newborn()
    with unit_of_work() as users:
        users.add(user)
    heard.views.clear()

    with unit_of_work() as users:
        loaded = users.get(user.id)
        loaded.rename(loaded.name, by=ADMIN, now=NOW)
        users.save(loaded)

    assert heard.views == []


# --- An error during COMMIT --------------------------------------------------------------------------


COMMIT, SAVED, BLOCKED = b"COMMIT", b"user.created", b"user.blocked"
"""What commits: the end of a transaction, or the one statement of a unit of work alone, with its event."""


class CuttingProxy:
    """Stands between a client and PostgreSQL, and cuts the line at the first `commit`: before it reaches the
    server, or after the server has carried it out but before the client hears of it."""

    def __init__(self, host, port, *, commit, after_commit):
        self._server = (host, int(port))
        self._commit = commit
        self._after_commit = after_commit
        self.cuts = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(PATIENCE)

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._server)
                held = threading.Event()
                for act in (self._to_server, self._to_client):
                    thread = threading.Thread(target=act, args=(client, server, held), daemon=True)
                    self._threads.append(thread)
                    thread.start()

    def _to_server(self, client, server, held):
        with contextlib.suppress(OSError), client, server:
            while data := client.recv(65536):
                if self._commit in data and not self.cuts:
                    self.cuts += 1
                    if not self._after_commit:
                        break
                    held.set()
                server.sendall(data)
            for end in (client, server):
                end.shutdown(socket.SHUT_RDWR)

    def _to_client(self, client, server, held):
        with contextlib.suppress(OSError):
            while data := server.recv(65536):
                if held.is_set():
                    break
                client.sendall(data)
            client.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def through_proxy(database):
    """Leads this thread's connection through a CuttingProxy."""
    address = {name: connection.settings_dict[name] for name in ("HOST", "PORT")}

    @contextlib.contextmanager
    def through(*, commit=COMMIT, after_commit):
        proxy = CuttingProxy(address["HOST"], address["PORT"], commit=commit, after_commit=after_commit)
        with proxy:
            connection.close()
            connection.settings_dict.update(HOST="127.0.0.1", PORT=str(proxy.port))
            try:
                yield proxy
            finally:
                connection.close()
                connection.settings_dict.update(address)

    return through


@pytest.fixture(params=["in a transaction", "alone"])
def way(request, unit_of_work):
    """A unit of work, and what commits it."""
    return (unit_of_work.alone, SAVED) if request.param == "alone" else (unit_of_work, COMMIT)


def test_a_commit_whose_answer_was_lost_is_found_out_and_counts(through_proxy, way, heard):
    user, (open_one, commit) = a_newborn(), way

    with through_proxy(commit=commit, after_commit=True) as proxy:
        with open_one() as users:
            users.add(user)
        assert proxy.cuts == 1

    assert kept() == (1, 1)
    assert [view.id for view in heard.views] == [str(user.id)]


def test_a_commit_that_never_arrived_is_an_error_and_leaves_nothing(through_proxy, way, heard):
    open_one, commit = way
    with through_proxy(commit=commit, after_commit=False) as proxy:
        with pytest.raises(OperationalError), open_one() as users:
            users.add(a_newborn())
        assert proxy.cuts == 1

    assert kept() == (0, 0)
    assert heard.views == []


def test_a_change_whose_answer_was_lost_is_not_made_again(through_proxy, service, people, redis):
    """Made again, it would find another version, and the command be refused though it was carried out."""
    user_id = people.user("Ann")
    with through_proxy(commit=BLOCKED, after_commit=True) as proxy:
        view = service.commands.block(BlockUser(user_id=user_id, reason="spam", by=ADMIN))
        assert proxy.cuts == 1

    assert view.version == UserRecord.objects.get(id=user_id).version == 2
    assert redis.xlen("users.events") == kept()[1] == 2


def test_a_command_survives_the_loss_of_its_commits_answer(through_proxy, service, redis):
    register = RegisterUser(
        email="ann@example.com",
        name="Ann",
        password="correct horse",
        scope="ann",
        idempotency_key="k",
        fingerprint="f",
    )
    with through_proxy(after_commit=True) as proxy:
        view = service.commands.register(register)
        assert proxy.cuts == 1

    assert kept() == (1, 1)
    assert view.version == UserRecord.objects.get(id=view.id).version
    assert redis.xlen("users.events") == 1


def test_while_postgresql_cannot_be_asked_the_outcome_is_an_error(through_proxy, way, heard):
    """Unknown is not success: the caller hears 503 and asks again."""
    open_one, commit = way
    with (
        through_proxy(commit=commit, after_commit=True),
        patch.object(outbox, "holds", side_effect=OperationalError("still down")),
        pytest.raises(OperationalError, match="still down"),
        open_one() as users,
    ):
        users.add(a_newborn())

    assert kept() == (1, 1)
    assert heard.views == []


# --- Alone: the save is the transaction ---------------------------------------------------------------


def test_alone_a_save_is_committed_at_once_and_an_error_behind_it_takes_nothing_back(unit_of_work, heard):
    def fail():
        with unit_of_work.alone() as users:
            users.add(a_newborn())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert kept() == (1, 1)
    assert heard.views == []  # its event goes out with the next one, or the worker's


def test_alone_no_transaction_is_open_until_a_row_is_locked(unit_of_work):
    ada, eve = an_admin(), an_admin()
    with unit_of_work() as users:
        users.add(ada)
        users.add(eve)

    with unit_of_work.alone() as users:
        loaded = users.get(ada.id)
        assert not connection.in_atomic_block
        assert users.is_last_admin(loaded) is False
        assert connection.in_atomic_block
        loaded.change_roles(frozenset(), last_admin=False, by=an_actor(eve), now=NOW)
        users.save(loaded)
        assert other_version(ada) == 1
    assert other_version(ada) == 2

    with unit_of_work.alone() as users:
        users.hold(eve.id)
        assert connection.in_atomic_block


def other_version(user):
    """As others see it."""
    with other_session() as session:
        return session.execute("SELECT version FROM users WHERE id = %s", [user.id.value]).fetchone()[0]


def test_alone_whoever_was_overtaken_since_he_read_loses_the_race_and_writes_no_event(unit_of_work, heard):
    user = a_newborn()
    with unit_of_work() as users:
        users.add(user)

    def be_overtaken():
        with unit_of_work.alone() as users:
            mine, rivals = users.get(user.id), users.get(user.id)
            with unit_of_work() as others:
                rivals.rename(UserName("Rival"), by=ADMIN, now=NOW)
                others.save(rivals)
            mine.rename(UserName("Mine"), by=ADMIN, now=NOW)
            users.save(mine)

    with pytest.raises(ConcurrentUpdate):
        be_overtaken()
    assert kept() == (1, 2)
    assert [view.version for view in heard.views] == [1, 2]


def test_alone_within_somebody_elses_transaction_is_part_of_it(unit_of_work, heard):
    with contextlib.suppress(ZeroDivisionError), transaction.atomic():
        with unit_of_work.alone() as users:
            users.add(a_newborn())
        assert heard.views == []
        raise ZeroDivisionError

    assert kept() == (0, 0)
    assert heard.views == []


# --- Races that PostgreSQL ends ----------------------------------------------------------------------


def crossing(service_uow, first, second, meet):
    """Writes two users in this order, having met the other who does it the other way round."""

    def act():
        with service_uow() as users:
            for user_id in (first, second):
                user = users.get(user_id)
                user.rename(UserName(f"By {first}"[:30]), by=ADMIN, now=NOW)
                users.save(user)
                if user_id == first:
                    meet.wait(PATIENCE)

    return act


def test_of_two_who_wait_for_each_other_one_is_told_that_he_lost_the_race(unit_of_work):
    ann, bob = a_newborn(), a_newborn()
    with unit_of_work() as users:
        users.add(ann)
        users.add(bob)
    meet = threading.Barrier(2)

    outcomes = together(
        [crossing(unit_of_work, ann.id, bob.id, meet), crossing(unit_of_work, bob.id, ann.id, meet)]
    )

    assert sorted(map(repr, outcomes)) == ["ConcurrentUpdate('" + ConcurrentUpdate.message + "')", "None"]
    assert set(UserRecord.objects.values_list("version", flat=True)) == {2}


@pytest.mark.parametrize("alone", [False, True])
def test_whether_somebody_is_the_last_admin_stays_true_until_the_unit_of_work_ends(unit_of_work, alone):
    """Two who depose each other both ask before either has written, if they can."""
    ada, eve = an_admin(), an_admin()
    with unit_of_work() as users:
        users.add(ada)
        users.add(eve)
    both_asked = threading.Barrier(2)

    def depose(victim, by):
        with unit_of_work.alone() if alone else unit_of_work() as users:
            user = users.get(victim.id)
            last = users.is_last_admin(user)
            with contextlib.suppress(threading.BrokenBarrierError):
                both_asked.wait(0.3)
            user.change_roles(frozenset(), last_admin=last, by=an_actor(by), now=NOW)
            users.save(user)

    outcomes = together([lambda: depose(ada, by=eve), lambda: depose(eve, by=ada)])

    assert sorted(type(outcome) for outcome in outcomes if outcome) == [LastAdmin]
    assert UserRecord.objects.filter(roles__contains=["admin"]).count() == 1


@pytest.mark.parametrize("state", ["40001", "40P01"])
def test_a_command_that_postgresql_gave_up_is_run_again(service, people, state):
    user_id = people.user("Ann")
    real, runs = DjangoUserRepository.save, []

    def given_up_once(users, user):
        runs.append(1)
        if len(runs) == 1:
            with connection.cursor() as cursor:
                cursor.execute(f"DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '{state}'; END $$")
        real(users, user)

    with patch.object(DjangoUserRepository, "save", given_up_once):
        view = service.commands.rename(RenameUser(user_id=user_id, name="Anna", by=ADMIN))

    assert len(runs) == 2
    assert view.version == 2
    assert OutboxEvent.objects.filter(user_id=user_id).count() == 2


def test_another_constraint_than_the_address_is_not_taken_for_it(unit_of_work):
    user = a_newborn()
    with unit_of_work() as users:
        users.add(user)
    twin = a_newborn(id=UserId(user.id.value))

    with pytest.raises(Exception, match="users_pkey") as refusal, unit_of_work() as users:
        users.add(twin)
    assert not isinstance(refusal.value, UserAlreadyExists)


def test_a_connection_that_was_lost_before_a_write_that_stands_alone_is_replaced(service, database):
    connection.ensure_connection()
    cut_own_connection()
    close_old_connections()  # as each request begins
    service.commands.register_quietly(
        RegisterUser(email="ann@example.com", name="Ann", password="twelve grey elephants")
    )
    assert kept()[0] == 1


def test_who_saves_two_opens_a_transaction(unit_of_work):
    with unit_of_work.alone() as users:
        users.add(a_newborn())
        with pytest.raises(RuntimeError, match="together"):
            users.add(a_newborn())
