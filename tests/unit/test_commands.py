"""What each command does and refuses, over fakes: no database, no servers, no waiting."""

import subprocess
import sys
from dataclasses import fields
from datetime import UTC, datetime, timedelta, timezone

import pytest

from tests.builders import NOW, a_blocked_user, a_user, an_actor, an_admin, an_operator, later
from tests.fakes import (
    InMemoryIdempotencyKeys,
    InMemoryMailbox,
    InMemoryUnitOfWork,
    InMemoryUserRepository,
    PlainHasher,
    Posted,
    StoppedClock,
    Stopwatch,
    WeakIsRefused,
)
from users.application import commands as commands_module
from users.application.commands import (
    BlockUser,
    ChangeEmail,
    ChangePassword,
    ChangeRoles,
    EndBlock,
    RegisterStaff,
    RegisterUser,
    RenameUser,
    UnblockUser,
    UserCommands,
)
from users.application.errors import IdempotencyKeyReused
from users.application.ports import Answered, MailKind
from users.application.representation import view_of
from users.application.reruns import RERUNS
from users_domain.errors import (
    ConcurrentUpdate,
    DomainError,
    EmailUnchanged,
    InvalidBlock,
    InvalidEmail,
    InvalidPassword,
    InvalidRole,
    InvalidUserId,
    InvalidUserName,
    LastAdmin,
    OperatorOverOperator,
    SelfBlock,
    UserAlreadyBlocked,
    UserAlreadyExists,
    UserNotBlocked,
    UserNotFound,
    VersionMismatch,
    WrongPassword,
)
from users_domain.value_objects import COMMAND_LINE, BlockReason, Email, Role, UserId, UserName, UserStatus

SECRET = "my old password"
ADMIN = an_actor(an_admin())


class House:
    """The write side over fakes, with one user in it."""

    def __init__(self) -> None:
        self.ann = a_user(
            email=Email("ann@example.com"), name=UserName("Ann"), password_hash=f"hash of {SECRET}"
        )
        self.users = InMemoryUserRepository(self.ann)
        self.unit_of_work = InMemoryUnitOfWork(self.users)
        self.hasher = PlainHasher(self.unit_of_work)
        self.policy = WeakIsRefused()
        self.keys = InMemoryIdempotencyKeys(self.users)
        self.mailbox = InMemoryMailbox(self.users)
        self.clock = StoppedClock()
        self.stopwatch = Stopwatch()
        self.pauses: list[float] = []
        self.commands = UserCommands(
            users=self.users,
            unit_of_work=self.unit_of_work,
            hasher=self.hasher,
            policy=self.policy,
            idempotency=self.keys,
            mailbox=self.mailbox,
            clock=self.clock,
            measure=self.stopwatch,
            pause=self.pauses.append,
        )

    def put(self, user):
        self.users.stored[user.id] = user
        return user

    def now(self, user):
        return self.users.get(user.id)

    @property
    def facts(self):
        return [event.event_type for event in self.unit_of_work.events]

    def renamed_by_another(self):
        """Somebody else gives Ann a name, and so a version."""
        number = self.now(self.ann).version
        self.users.change(
            self.ann.id, lambda user: user.rename(UserName(f"Rival {number}"), by=ADMIN, now=NOW)
        )


@pytest.fixture
def house() -> House:
    return House()


def register(**changed):
    return RegisterUser(**{"email": "Bob@Example.com", "name": " Bob ", "password": "long enough"} | changed)


def commands_on(user, by=ADMIN, **more):
    """One of each command on a user who exists, as somebody else who may; none fails on an active user."""
    whom = {"user_id": str(user.id), "by": by} | more
    return {
        "rename": RenameUser(name="Anna", **whom),
        "change_email": ChangeEmail(email="anna@example.com", **whom),
        "change_password": ChangePassword(current_password=SECRET, new_password="another long one", **whom),
        "change_roles": ChangeRoles(roles=("operator",), **whom),
        "block": BlockUser(reason="spam", **whom),
    }


ON_ACTIVE = ["rename", "change_email", "change_password", "change_roles", "block"]


# --- Registering -------------------------------------------------------------------------------------


def test_registering_answers_the_new_user_in_canonical_form(house):
    view = house.commands.register(register())

    bob = house.users.get(UserId.parse(view.id))
    assert view == view_of(bob)
    assert (str(bob.email), str(bob.name), bob.version) == ("bob@example.com", "Bob", 1)
    assert (bob.status, bob.roles, bob.created_at) == (UserStatus.ACTIVE, frozenset(), NOW)
    assert bob.password_hash == "hash of long enough"
    assert house.facts == ["user.created"]
    assert house.policy.asked == [{"email": "bob@example.com", "name": "Bob", "staff": False}]


@pytest.mark.parametrize(
    ("changed", "refusal"),
    [
        ({"email": "no address"}, InvalidEmail),
        ({"name": "B"}, InvalidUserName),
        ({"password": "weak"}, InvalidPassword),
        ({"email": "ANN@example.com"}, UserAlreadyExists),
    ],
)
def test_a_refused_registration_leaves_nothing_behind(house, changed, refusal):
    with pytest.raises(refusal):
        house.commands.register(register(**changed))

    assert list(house.users.stored) == [house.ann.id]
    assert house.facts == []
    assert house.stopwatch.measured == [("register", False)]


def test_bad_input_costs_no_hash(house):
    for changed in ({"email": "x"}, {"name": ""}, {"password": "weak"}):
        with pytest.raises(DomainError):
            house.commands.register(register(**changed))

    assert house.hasher.calls == 0


def test_a_taken_address_costs_no_hash(house):
    with pytest.raises(UserAlreadyExists):
        house.commands.register(register(email="ann@example.com"))

    assert house.hasher.calls == 0


def test_staff_are_registered_with_their_roles_by_the_strict_rules(house):
    view = house.commands.register_staff(
        RegisterStaff(
            email="op@example.com", name="Op", password="x" * 15, roles=("operator",), by=COMMAND_LINE
        )
    )

    operator = house.users.get(UserId.parse(view.id))
    assert operator.roles == {Role.OPERATOR}
    assert view.version == operator.version == 2
    assert house.facts == ["user.created", "user.roles_changed"]
    assert [event.actor_id for event in house.unit_of_work.events] == ["cli", "cli"]
    assert house.policy.asked[0]["staff"] is True


@pytest.mark.parametrize(
    ("changed", "refusal"),
    [
        ({"roles": ("emperor",)}, InvalidRole),
        ({"email": "ann@example.com"}, UserAlreadyExists),
        ({"password": "weak"}, InvalidPassword),
    ],
)
def test_a_refused_staff_registration_leaves_nothing_behind(house, changed, refusal):
    fields_ = {"email": "op@example.com", "name": "Op", "password": "x" * 15, "roles": ("admin",)}

    with pytest.raises(refusal):
        house.commands.register_staff(RegisterStaff(**fields_ | changed, by=COMMAND_LINE))

    assert list(house.users.stored) == [house.ann.id]
    assert house.facts == []


# --- Idempotency -------------------------------------------------------------------------------------


def keyed(**changed):
    return register(**{"scope": "anonymous", "idempotency_key": "k1", "fingerprint": "f1"} | changed)


def test_a_repeated_key_gets_the_same_answer_without_work(house):
    first = house.commands.register(keyed())
    house.users.change(UserId.parse(first.id), lambda user: user.rename(UserName("New"), by=ADMIN, now=NOW))

    again = house.commands.register(keyed())

    assert again == first
    assert house.facts == ["user.created"]
    assert house.hasher.calls == 1
    assert house.stopwatch.measured == [("register", True)]


def test_a_key_with_another_request_is_refused(house):
    house.commands.register(keyed())

    with pytest.raises(IdempotencyKeyReused):
        house.commands.register(keyed(fingerprint="f2", email="other@example.com"))

    assert house.facts == ["user.created"]


def test_a_key_belongs_to_its_caller(house):
    first = house.commands.register(keyed())
    second = house.commands.register(keyed(scope="another", email="other@example.com"))

    assert first.id != second.id


def test_a_failed_request_releases_its_key(house):
    with pytest.raises(UserAlreadyExists):
        house.commands.register(keyed(email="ann@example.com"))
    assert house.keys.answers == {}

    view = house.commands.register(keyed(fingerprint="f2"))
    assert house.users.get(UserId.parse(view.id))


def test_whoever_loses_the_race_for_a_key_gets_the_winners_answer(house):
    winner = view_of(a_user())
    house.keys.rival = Answered("f1", winner)

    assert house.commands.register(keyed()) == winner
    assert house.facts == []
    assert list(house.users.stored) == [house.ann.id]


def test_whoever_loses_the_race_for_a_key_to_another_request_is_refused(house):
    house.keys.rival = Answered("f2", view_of(a_user()))

    with pytest.raises(IdempotencyKeyReused):
        house.commands.register(keyed())


def test_a_taken_key_whose_answer_is_gone_asks_for_another_try(house, monkeypatch):
    house.keys.rival = Answered("f1", view_of(a_user()))
    monkeypatch.setattr(house.keys, "find", lambda *_: None)

    with pytest.raises(ConcurrentUpdate):
        house.commands.register(keyed())


# --- Registering without telling who is registered ----------------------------------------------------


def test_quietly_a_new_user_is_registered_all_the_same(house):
    assert house.commands.register_quietly(register()) is None
    assert house.facts == ["user.created"]
    assert house.users.get_by_email(Email("bob@example.com"))
    assert house.mailbox.posted == []


def test_quietly_nobody_but_the_owner_of_a_taken_address_is_told(house):
    assert house.commands.register_quietly(register(email="Ann@Example.com")) is None
    assert house.facts == []
    assert house.mailbox.posted == [Posted(MailKind.ALREADY_REGISTERED, "ann@example.com", None, {})]
    assert list(house.users.stored) == [house.ann.id]


@pytest.mark.parametrize("email", ["ann@example.com", "bob@example.com"])
def test_quietly_a_taken_address_costs_a_hash_as_a_new_one_does(house, email):
    house.commands.register_quietly(register(email=email))
    assert house.hasher.calls == 1


@pytest.mark.parametrize("email", ["ann@example.com", "bob@example.com"])
def test_quietly_a_repeated_key_does_nothing_whether_the_address_was_taken_or_not(house, email):
    house.commands.register_quietly(keyed(email=email))
    before = (list(house.facts), list(house.mailbox.posted), house.hasher.calls)
    house.commands.register_quietly(keyed(email=email))
    assert (house.facts, house.mailbox.posted, house.hasher.calls) == before
    (kept,) = house.keys.answers.values()
    assert kept.view.json == b'{"version":1}'


@pytest.mark.parametrize("email", ["ann@example.com", "bob@example.com"])
def test_quietly_a_key_with_another_request_is_refused_whether_the_address_was_taken_or_not(house, email):
    house.commands.register_quietly(keyed(email=email))
    with pytest.raises(IdempotencyKeyReused):
        house.commands.register_quietly(keyed(email="other@example.com", fingerprint="f2"))


def test_quietly_whoever_loses_the_race_for_a_key_gets_the_same_answer(house):
    house.keys.rival = Answered("f1", view_of(a_user()))
    assert house.commands.register_quietly(keyed()) is None
    assert house.facts == []


def test_quietly_a_taken_address_counts_as_no_creation(house):
    house.commands.register_quietly(register(email="ann@example.com"))
    assert house.stopwatch.measured == [("register", False)]


# --- Changing a user ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operation", "field", "value", "fact"),
    [
        ("rename", "name", UserName("Anna"), "user.renamed"),
        ("change_email", "email", Email("anna@example.com"), "user.email_changed"),
        ("change_password", "password_hash", "hash of another long one", "user.password_changed"),
        ("change_roles", "roles", frozenset({Role.OPERATOR}), "user.roles_changed"),
        ("block", "status", UserStatus.BLOCKED, "user.blocked"),
    ],
)
def test_a_command_changes_the_user_records_the_fact_and_answers_what_was_saved(
    house, operation, field, value, fact
):
    house.clock.advance(minutes=5)

    view = getattr(house.commands, operation)(commands_on(house.ann)[operation])

    ann = house.now(house.ann)
    assert getattr(ann, field) == value
    assert view == view_of(ann)
    assert (ann.version, ann.updated_at) == (2, later(minutes=5))
    assert house.facts == [fact]
    assert house.unit_of_work.events[0].actor_id == ADMIN.id
    assert house.stopwatch.measured == [(operation, True)]


def test_every_command_of_the_module_is_tried_here():
    """Whoever adds a command adds it to these tests."""
    known = {type(command).__name__ for command in commands_on(a_user()).values()}
    known |= {each.__name__ for each in (RegisterUser, RegisterStaff, UnblockUser, EndBlock)}
    defined = {
        name
        for name, value in vars(commands_module).items()
        if isinstance(value, type) and value.__module__ == commands_module.__name__ and name != "UserCommands"
    }
    assert defined == known


def test_no_command_shows_a_secret_when_it_is_printed():
    shown = repr([register(), keyed(), *commands_on(a_user()).values()])
    for secret in ("long enough", SECRET, "another long one"):
        assert secret not in shown
    for command in (RegisterUser, RegisterStaff, ChangeEmail, ChangePassword):
        assert not [field.name for field in fields(command) if "password" in field.name and field.repr]


@pytest.mark.parametrize("operation", [*ON_ACTIVE, "unblock", "end_block"])
def test_nobody_by_that_id_is_not_found(house, operation):
    nobody = a_user()
    command = {
        **commands_on(nobody),
        "unblock": UnblockUser(user_id=str(nobody.id), by=ADMIN),
        "end_block": EndBlock(user_id=str(nobody.id)),
    }[operation]

    with pytest.raises(UserNotFound):
        getattr(house.commands, operation)(command)


@pytest.mark.parametrize("operation", ON_ACTIVE)
def test_what_is_no_id_is_refused(house, operation):
    command = commands_on(house.ann, user_id="17")[operation]

    with pytest.raises(InvalidUserId):
        getattr(house.commands, operation)(command)


def test_values_are_checked_before_anything_is_read(house):
    whom = {"user_id": str(house.ann.id), "by": ADMIN}
    for operation, command, refusal in [
        ("rename", RenameUser(name="\x00\x00", **whom), InvalidUserName),
        ("change_email", ChangeEmail(email="@", **whom), InvalidEmail),
        ("change_roles", ChangeRoles(roles=("god",), **whom), InvalidRole),
        ("block", BlockUser(reason=" ", **whom), InvalidBlock),
        ("block", BlockUser(reason="x", until=datetime(2027, 1, 1), **whom), InvalidBlock),
        (
            "block",
            BlockUser(reason="x", until=datetime.max.replace(tzinfo=timezone(-timedelta(hours=1))), **whom),
            InvalidBlock,
        ),
    ]:
        with pytest.raises(refusal):
            getattr(house.commands, operation)(command)
    assert house.unit_of_work.opened == 0


@pytest.mark.parametrize(("operation", "version"), [("rename", 1), ("change_roles", 1)])
def test_nothing_new_makes_no_version_and_no_event(house, operation, version):
    unchanged = {
        "rename": RenameUser(user_id=str(house.ann.id), name=" Ann ", by=ADMIN),
        "change_roles": ChangeRoles(user_id=str(house.ann.id), roles=(), by=ADMIN),
    }[operation]

    view = getattr(house.commands, operation)(unchanged)

    assert view == view_of(house.ann)
    assert view.version == version
    assert house.facts == []


def test_the_same_address_is_refused_and_so_is_anothers(house):
    house.put(a_user(email=Email("bob@example.com")))
    for email, refusal in [("ann@example.com", EmailUnchanged), ("bob@example.com", UserAlreadyExists)]:
        with pytest.raises(refusal):
            house.commands.change_email(ChangeEmail(user_id=str(house.ann.id), email=email, by=ADMIN))
    assert house.now(house.ann).version == 1


def test_an_operator_cannot_touch_staff(house):
    operator, other = house.put(an_operator()), house.put(an_operator(password_hash=f"hash of {SECRET}"))
    house.put(an_admin())
    for operation, command in commands_on(other, by=an_actor(operator)).items():
        with pytest.raises(OperatorOverOperator):
            getattr(house.commands, operation)(command)
    blocked = house.put(a_blocked_user(roles=frozenset({Role.OPERATOR})))
    with pytest.raises(OperatorOverOperator):
        house.commands.unblock(UnblockUser(user_id=str(blocked.id), by=an_actor(operator)))
    assert house.facts == []


def test_the_last_admin_can_be_neither_demoted_nor_blocked(house):
    admin = house.put(an_admin())
    for operation, command in {
        "change_roles": ChangeRoles(user_id=str(admin.id), roles=(), by=ADMIN),
        "block": BlockUser(user_id=str(admin.id), reason="coup", by=ADMIN),
    }.items():
        with pytest.raises(LastAdmin):
            getattr(house.commands, operation)(command)

    house.put(an_admin())
    house.commands.block(BlockUser(user_id=str(admin.id), reason="coup", by=ADMIN))
    assert house.now(admin).status is UserStatus.BLOCKED


def test_nobody_blocks_himself(house):
    with pytest.raises(SelfBlock):
        house.commands.block(BlockUser(user_id=str(house.ann.id), reason="x", by=an_actor(house.ann)))


def test_a_blocked_user_is_not_blocked_again_and_can_be_unblocked_once(house):
    house.commands.block(BlockUser(user_id=str(house.ann.id), reason="spam", by=ADMIN))
    with pytest.raises(UserAlreadyBlocked):
        house.commands.block(BlockUser(user_id=str(house.ann.id), reason="spam", by=ADMIN))

    unblock = UnblockUser(user_id=str(house.ann.id), by=ADMIN)
    view = house.commands.unblock(unblock)
    assert view == view_of(house.now(house.ann))
    with pytest.raises(UserNotBlocked):
        house.commands.unblock(unblock)
    assert house.facts == ["user.blocked", "user.unblocked"]


def test_the_end_of_a_block_is_kept_in_utc(house):
    east = timezone(timedelta(hours=5))
    until = datetime(2026, 7, 2, 5, tzinfo=east)

    house.commands.block(BlockUser(user_id=str(house.ann.id), reason="spam", until=until, by=ADMIN))

    assert house.now(house.ann).current_block.until == datetime(2026, 7, 2, tzinfo=UTC)
    assert house.now(house.ann).current_block.until.tzinfo is UTC


def test_a_block_that_has_run_out_is_lifted_in_the_systems_name(house):
    blocked = house.put(a_blocked_user(until=later(hours=1)))
    with pytest.raises(UserNotBlocked):
        house.commands.end_block(EndBlock(user_id=str(blocked.id)))

    house.clock.advance(hours=1)
    view = house.commands.end_block(EndBlock(user_id=str(blocked.id)))

    assert view.version == 3
    assert house.now(blocked).status is UserStatus.ACTIVE
    assert [(event.event_type, event.actor_id) for event in house.unit_of_work.events] == [
        ("user.unblocked", "system")
    ]


def test_a_block_that_was_renewed_meanwhile_is_not_lifted(house):
    blocked = house.put(a_blocked_user(until=later(hours=1)))
    house.clock.advance(hours=2)

    def reblock():
        house.users.change(
            blocked.id,
            lambda user: user.block(BlockReason("again"), last_admin=False, by=ADMIN, now=house.clock()),
        )

    house.users.rivals.append(reblock)

    with pytest.raises(UserNotBlocked):
        house.commands.end_block(EndBlock(user_id=str(blocked.id)))
    assert str(house.now(blocked).current_block.reason) == "again"


# --- Passwords as proof ------------------------------------------------------------------------------


def own_change(house, operation, password=SECRET):
    by = an_actor(house.ann)
    return {
        "change_email": ChangeEmail(
            user_id=str(house.ann.id).upper(), email="anna@example.com", password=password, by=by
        ),
        "change_password": ChangePassword(
            user_id=str(house.ann.id), current_password=password, new_password="another long one", by=by
        ),
    }[operation]


@pytest.mark.parametrize("operation", ["change_email", "change_password"])
def test_changing_ones_own_account_takes_the_current_password(house, operation):
    with pytest.raises(WrongPassword):
        getattr(house.commands, operation)(own_change(house, operation, "wrong"))
    assert house.now(house.ann).version == 1

    getattr(house.commands, operation)(own_change(house, operation))
    assert house.now(house.ann).version == 2


def test_changing_ones_own_address_without_a_password_is_refused(house):
    with pytest.raises(InvalidPassword):
        house.commands.change_email(own_change(house, "change_email", None))


def test_an_admin_needs_no_password_for_anothers_address(house):
    house.commands.change_email(commands_on(house.ann)["change_email"])

    assert house.hasher.calls == 0


def test_a_new_password_is_held_to_the_rules_of_the_user(house):
    operator = house.put(an_operator(password_hash=f"hash of {SECRET}"))
    command = ChangePassword(
        user_id=str(operator.id), current_password=SECRET, new_password="weak", by=an_actor(operator)
    )

    with pytest.raises(InvalidPassword) as refusal:
        house.commands.change_password(command)

    assert refusal.value.at == "new_password"
    assert house.policy.asked == [{"email": str(operator.email), "name": str(operator.name), "staff": True}]


@pytest.mark.parametrize("operation", ["change_email", "change_password"])
def test_a_proof_that_was_overtaken_by_a_new_password_is_asked_for_again(house, operation):
    """The password was right when it was checked, and no longer is when the change is made."""

    def stolen_moment(_delay=None):
        house.users.change(
            house.ann.id, lambda user: user.change_password("hash of a new one", by=ADMIN, now=NOW)
        )

    hasher, verify = house.hasher, house.hasher.verify

    def verify_then_lose(password, password_hash):
        answer = verify(password, password_hash)
        hasher.verify = verify
        stolen_moment()
        return answer

    hasher.verify = verify_then_lose

    with pytest.raises(WrongPassword):
        getattr(house.commands, operation)(own_change(house, operation))

    assert house.facts == []
    assert house.now(house.ann).password_hash == "hash of a new one"


def test_a_proof_stands_when_only_something_else_changed(house):
    house.users.rivals.append(house.renamed_by_another)

    house.commands.change_email(own_change(house, "change_email"))

    ann = house.now(house.ann)
    assert (str(ann.email), str(ann.name), ann.version) == ("anna@example.com", "Rival 1", 3)


def test_a_hash_inside_a_unit_of_work_would_be_noticed(house):
    """The commands above all ran over this hasher: none of them hashes inside a transaction."""
    with house.unit_of_work(), pytest.raises(AssertionError):
        house.hasher.hash("x")


# --- Races -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", ON_ACTIVE)
@pytest.mark.parametrize("lost", range(1, RERUNS + 1))
def test_a_lost_race_is_run_again(house, operation, lost):
    house.users.rivals.extend([house.renamed_by_another] * lost)

    view = getattr(house.commands, operation)(commands_on(house.ann)[operation])

    assert view.version == 2 + lost
    assert view == view_of(house.now(house.ann))
    assert len(house.facts) == 1
    assert len(house.pauses) == lost
    assert all(0 <= pause < 0.1 for pause in house.pauses)


@pytest.mark.parametrize("operation", ON_ACTIVE)
def test_the_third_rerun_holds_the_user_and_loses_to_nobody(house, operation):
    house.users.rivals.extend([house.renamed_by_another] * (RERUNS + 5))

    getattr(house.commands, operation)(commands_on(house.ann)[operation])

    assert RERUNS == 3
    assert house.unit_of_work.opened == 1 + RERUNS
    assert len(house.users.rivals) == 4
    assert len(house.facts) == 1


@pytest.mark.parametrize("operation", ON_ACTIVE)
def test_after_three_reruns_the_caller_is_told(house, operation):
    """Of two who wait for each other, say, PostgreSQL ends one."""
    house.users.rivals.extend([house.renamed_by_another] * RERUNS)
    house.users.hold = raising(ConcurrentUpdate)

    with pytest.raises(ConcurrentUpdate):
        getattr(house.commands, operation)(commands_on(house.ann)[operation])

    assert house.unit_of_work.opened == 1 + RERUNS
    assert house.facts == []
    assert house.stopwatch.measured == [(operation, False)]


@pytest.mark.parametrize("operation", ON_ACTIVE)
def test_who_named_a_version_is_told_at_once(house, operation):
    house.users.rivals.append(house.renamed_by_another)

    with pytest.raises(VersionMismatch):
        getattr(house.commands, operation)(commands_on(house.ann, expected=frozenset({1}))[operation])

    assert house.unit_of_work.opened == 1
    assert house.pauses == []
    assert house.facts == []


@pytest.mark.parametrize("operation", ON_ACTIVE)
def test_another_version_than_the_named_ones_is_refused(house, operation):
    with pytest.raises(VersionMismatch):
        getattr(house.commands, operation)(commands_on(house.ann, expected=frozenset({0, 2}))[operation])

    assert house.now(house.ann).version == 1


@pytest.mark.parametrize("operation", ON_ACTIVE)
def test_one_of_the_named_versions_is_enough(house, operation):
    view = getattr(house.commands, operation)(commands_on(house.ann, expected=frozenset({1, 7}))[operation])

    assert view.version == 2


def test_what_a_rival_did_is_seen_by_the_rerun(house):
    house.users.rivals.append(
        lambda: house.users.change(
            house.ann.id, lambda user: user.block(BlockReason("first"), last_admin=False, by=ADMIN, now=NOW)
        )
    )

    with pytest.raises(UserAlreadyBlocked):
        house.commands.block(BlockUser(user_id=str(house.ann.id), reason="second", by=ADMIN))
    assert str(house.now(house.ann).current_block.reason) == "first"


# --- What it needs -----------------------------------------------------------------------------------


def test_the_application_runs_without_django_redis_or_a_driver():
    script = """
import sys
import users.application.commands, users.application.queries, users.application.sessions
print(sorted({"django", "rest_framework", "redis", "psycopg", "structlog"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def raising(error):
    def act(*_):
        raise error

    return act
