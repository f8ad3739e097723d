"""One suite for the repository and the unit of work's promise around it, over both that there are: the fake
that the unit tests trust, and the real one."""

from dataclasses import fields
from uuid import UUID

import pytest

from tests.builders import NOW, a_blocked_user, a_newborn, a_user, an_actor, an_admin, later
from tests.fakes import InMemoryUnitOfWork, InMemoryUserRepository
from users.infrastructure.unit_of_work import DjangoUnitOfWork
from users_domain.errors import ConcurrentUpdate, UserAlreadyExists, UserNotFound
from users_domain.user import Block, EndedSession, User
from users_domain.value_objects import SYSTEM, BlockReason, Email, Locale, Role, UserId, UserName, UserStatus

ADMIN = an_actor(an_admin())

EVERYTHING = {
    "id": UserId.new(),
    "email": Email("everything@xn--bcher-kva.example"),
    "name": UserName("Zoë 王 🙂"),
    "status": UserStatus.BLOCKED,
    "roles": frozenset({Role.SERVICE, Role.OPERATOR}),
    "password_hash": "bcrypt_sha256$$2b$04$" + "x" * 53,
    "email_verified": True,
    "current_block": Block(
        reason=BlockReason("two\nlines"), at=later(seconds=1.000001), until=later(days=1), by="cli"
    ),
    "locale": Locale.RUSSIAN,
    "ended_sessions": (
        EndedSession(id=UUID(int=9), at=later(seconds=1)),
        EndedSession(id=UUID(int=7), at=later(seconds=2.000001)),
    ),
    "token_version": 3,
    "created_at": later(microseconds=1),
    "updated_at": later(days=2),
    "version": 17,
}
"""A value for each field, unlike any default and unlike any other field's of its type."""

OTHERWISE = {
    "email": Email("other@example.com"),
    "name": UserName("Other"),
    "status": UserStatus.ACTIVE,
    "roles": frozenset({Role.ADMIN}),
    "password_hash": "other",
    "email_verified": False,
    "current_block": None,
    "locale": Locale.ENGLISH,
    "ended_sessions": (),
    "token_version": 4,
    "created_at": later(days=3),
    "updated_at": later(days=4),
}


@pytest.fixture(params=["in memory", "postgres"])
def unit_of_work(request):
    if request.param == "in memory":
        return InMemoryUnitOfWork(InMemoryUserRepository())
    request.getfixturevalue("database")
    return DjangoUnitOfWork(lambda views: None)


def state(user: User) -> dict[str, object]:
    return {field.name: getattr(user, field.name) for field in fields(User) if field.init}


@pytest.fixture
def keep(unit_of_work):
    def keep(*users: User) -> None:
        with unit_of_work() as repository:
            for user in users:
                repository.add(user)

    return keep


@pytest.fixture
def load(unit_of_work):
    def load(user: User) -> User:
        with unit_of_work() as repository:
            return repository.get(user.id)

    return load


def test_whoever_holds_a_user_gets_him_as_he_is(unit_of_work, keep):
    user = a_newborn()
    keep(user)
    with unit_of_work() as repository:
        assert state(repository.hold(user.id)) == state(repository.get(user.id))
        with pytest.raises(UserNotFound):
            repository.hold(UserId.new())


def test_every_field_comes_back_as_it_was_added(keep, load):
    assert set(EVERYTHING) == {field.name for field in fields(User) if field.init}, "map the new field too"
    user = User(**EVERYTHING)

    keep(user)

    assert state(load(user)) == EVERYTHING
    assert load(user).stored_version == 17


def test_every_field_comes_back_as_it_was_saved(unit_of_work, keep, load):
    assert set(OTHERWISE) == set(EVERYTHING) - {"id", "version"}
    keep(User(**EVERYTHING))
    with unit_of_work() as repository:
        user = repository.get(EVERYTHING["id"])
        user.rename(UserName("Something"), by=ADMIN, now=NOW)
        for name, value in OTHERWISE.items():
            assert value != EVERYTHING[name]
            setattr(user, name, value)
        repository.save(user)

    assert state(load(user)) == OTHERWISE | {"id": EVERYTHING["id"], "version": 18}


@pytest.mark.parametrize("until", [None, later(hours=1)])
def test_a_block_comes_back_with_all_its_parts(keep, load, until):
    user = a_blocked_user(until=until)
    keep(user)

    block = load(user).current_block
    assert block == user.current_block
    assert {field.name for field in fields(Block)} == {"reason", "at", "until", "by"}


def test_a_user_is_found_by_id_and_by_address(unit_of_work, keep):
    ann, bob = a_user(), a_user()
    keep(ann, bob)

    with unit_of_work() as repository:
        assert repository.get(ann.id).id == ann.id
        assert repository.get_by_email(bob.email).id == bob.id


def test_whoever_is_not_there_is_not_found(unit_of_work):
    nobody = a_user()
    with unit_of_work() as repository:
        with pytest.raises(UserNotFound):
            repository.get(nobody.id)
        with pytest.raises(UserNotFound):
            repository.get_by_email(nobody.email)


def test_an_address_is_given_once(unit_of_work, keep, load):
    ann, bob = a_user(), a_user()
    keep(ann, bob)

    with pytest.raises(UserAlreadyExists), unit_of_work() as repository:
        repository.add(a_newborn(email=ann.email))
    changed = load(bob)
    changed.change_email(ann.email, by=ADMIN, now=NOW)
    with pytest.raises(UserAlreadyExists), unit_of_work() as repository:
        repository.save(changed)

    assert load(bob).email == bob.email


def test_an_address_that_was_given_up_may_be_taken(unit_of_work, keep, load):
    ann = a_user()
    keep(ann)
    with unit_of_work() as repository:
        user = repository.get(ann.id)
        user.change_email(Email("new@example.com"), by=ADMIN, now=NOW)
        repository.save(user)
    heir = a_newborn(email=ann.email)
    keep(heir)

    with unit_of_work() as repository:
        assert repository.get_by_email(ann.email).id == heir.id


def test_an_erased_user_is_not_there_any_more_and_his_address_may_be_taken(unit_of_work, keep, load):
    ann = a_newborn(email=Email("ann@example.com"))
    keep(ann)
    with unit_of_work() as users:
        erased = users.get(ann.id)
        erased.erase(last_admin=False, by=ADMIN, now=NOW)
        users.save(erased)

    with unit_of_work() as users:
        with pytest.raises(UserNotFound):
            users.get(ann.id)
        with pytest.raises(UserNotFound):
            users.get_by_email(ann.email)
        users.add(a_newborn(email=ann.email))


def test_of_two_who_loaded_the_same_version_the_second_to_save_is_refused(unit_of_work, keep, load):
    ann = a_user()
    keep(ann)
    first, second = load(ann), load(ann)
    first.rename(UserName("First"), by=ADMIN, now=NOW)
    second.rename(UserName("Second"), by=ADMIN, now=NOW)
    with unit_of_work() as repository:
        repository.save(first)

    with pytest.raises(ConcurrentUpdate), unit_of_work() as repository:
        repository.save(second)

    assert (str(load(ann).name), load(ann).version) == ("First", 2)


def test_saving_a_user_who_is_gone_is_refused(unit_of_work):
    ghost = a_user()
    ghost.rename(UserName("Ghost"), by=ADMIN, now=NOW)
    with pytest.raises(ConcurrentUpdate), unit_of_work() as repository:
        repository.save(ghost)


def test_a_user_without_changes_is_left_alone(unit_of_work, keep, load):
    ann = a_user()
    keep(ann)
    stale = load(ann)
    with unit_of_work() as repository:
        user = repository.get(ann.id)
        user.rename(UserName("Newer"), by=ADMIN, now=NOW)
        repository.save(user)

    with unit_of_work() as repository:
        repository.save(stale)  # no conflict, for there is nothing to write
        assert repository.saved == []

    assert str(load(ann).name) == "Newer"


def test_several_facts_at_once_are_one_save(unit_of_work, keep, load):
    ann = a_user()
    keep(ann)
    with unit_of_work() as repository:
        user = repository.get(ann.id)
        user.rename(UserName("Anna"), by=ADMIN, now=NOW)
        user.change_email(Email("anna@example.com"), by=ADMIN, now=NOW)
        repository.save(user)

    assert (str(load(ann).name), str(load(ann).email), load(ann).version) == ("Anna", "anna@example.com", 3)


def test_the_last_admin_is_the_only_active_one(unit_of_work, keep):
    root, deputy = an_admin(), an_admin()
    blocked = a_blocked_user(roles=frozenset({Role.ADMIN}))
    ann = a_user()
    keep(root, blocked, ann)
    with unit_of_work() as repository:
        assert repository.is_last_admin(root)
        assert not repository.is_last_admin(ann)
        assert not repository.is_last_admin(blocked)
    keep(deputy)
    with unit_of_work() as repository:
        assert not repository.is_last_admin(root)
        assert not repository.is_last_admin(deputy)


def test_what_is_raised_inside_takes_everything_back(unit_of_work, keep, load):
    ann, bob = a_user(), a_newborn()
    keep(ann)

    def fail_half_way():
        with unit_of_work() as repository:
            user = repository.get(ann.id)
            user.rename(UserName("Anna"), by=ADMIN, now=NOW)
            repository.save(user)
            repository.add(bob)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_half_way()
    assert state(load(ann)) == state(ann)
    with pytest.raises(UserNotFound):
        load(bob)


def test_changes_to_a_loaded_user_stay_with_it_until_it_is_saved(unit_of_work, keep, load):
    ann = a_user()
    keep(ann)
    load(ann).rename(UserName("Unsaved"), by=ADMIN, now=NOW)

    assert state(load(ann)) == state(ann)


def test_after_a_commit_nothing_is_left_recorded(unit_of_work):
    bob = a_newborn(by=SYSTEM)
    with unit_of_work() as repository:
        repository.add(bob)

    assert bob.pull_events() == []
    assert bob.stored_version == bob.version == 1
