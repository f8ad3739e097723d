"""What may happen to a user, what is refused, and which fact each change leaves behind."""

import dataclasses
from uuid import UUID

import pytest

from tests.builders import (
    NOW,
    PASSWORD_HASH,
    a_blocked_user,
    a_newborn,
    a_user,
    an_actor,
    an_admin,
    an_operator,
    later,
)
from users_domain import events
from users_domain.errors import (
    EmailUnchanged,
    InvalidBlock,
    LastAdmin,
    OperatorOverOperator,
    RolesAreForAdmins,
    SelfBlock,
    UserAlreadyBlocked,
    UserBlocked,
    UserNotBlocked,
)
from users_domain.user import MOST_ENDED_SESSIONS, Block, EndedSession, User
from users_domain.value_objects import (
    COMMAND_LINE,
    SYSTEM,
    BlockReason,
    Email,
    EndOfSession,
    Locale,
    Role,
    UserId,
    UserName,
    UserStatus,
)

SPAM = BlockReason("spam")
ADMIN = an_actor(an_admin())
OPERATOR = an_actor(an_operator())


def state(user: User) -> dict[str, object]:
    """All that can be seen of a user, recorded events counted but not pulled."""
    visible = (
        "id email name status roles password_hash email_verified locale current_block token_version"
        " ended_sessions created_at updated_at version stored_version"
    )
    return {name: getattr(user, name) for name in visible.split()}


def the_fact(user: User) -> events.UserEvent:
    [fact] = user.pull_events()
    return fact


def change(user: User, operation: str, by=ADMIN, now=NOW) -> None:
    """One operation by name that succeeds on a_user(), for rules that hold for all of them."""
    match operation:
        case "rename":
            user.rename(UserName("Somebody Else"), by=by, now=now)
        case "change_email":
            user.change_email(Email("somebody.else@example.com"), by=by, now=now)
        case "change_password":
            user.change_password("another-hash", by=by, now=now)
        case "change_roles":
            user.change_roles(frozenset({Role.SERVICE}), last_admin=False, by=by, now=now)
        case "block":
            user.block(SPAM, last_admin=False, by=by, now=now)
        case "unblock":
            user.unblock(by=by, now=now)


CHANGES = ("rename", "change_email", "change_password", "change_roles", "block")


class TestRegistration:
    def test_a_newborn_is_active_without_roles_unproven_and_at_version_1(self):
        user_id = UserId.new()

        user = User.register(
            id=user_id,
            email=Email("Ann@Example.com"),
            name=UserName(" Ann "),
            password_hash=PASSWORD_HASH,
            by=None,
            now=NOW,
        )

        assert state(user) == {
            "id": user_id,
            "email": Email("ann@example.com"),
            "name": UserName("Ann"),
            "status": UserStatus.ACTIVE,
            "roles": frozenset(),
            "password_hash": PASSWORD_HASH,
            "email_verified": False,
            "locale": Locale.ENGLISH,
            "current_block": None,
            "token_version": 1,
            "ended_sessions": (),
            "created_at": NOW,
            "updated_at": NOW,
            "version": 1,
            "stored_version": 0,
        }

    def test_it_records_user_created(self):
        user = a_newborn(email=Email("ann@example.com"), name=UserName("Ann"))

        fact = the_fact(user)

        assert isinstance(fact, events.UserCreated)
        assert fact.event_type == "user.created"
        assert list(fact.data().items()) == [
            ("user_id", str(user.id)),
            ("email", "ann@example.com"),
            ("name", "Ann"),
            ("created_at", NOW),
        ]

    def test_nobody_known_is_the_actor_of_an_open_registration(self):
        assert the_fact(a_newborn(by=None)).actor_id is None

    def test_who_registers_for_somebody_is_the_actor(self):
        assert the_fact(a_newborn(by=COMMAND_LINE)).actor_id == "cli"

    def test_the_password_hash_is_in_no_event_and_not_in_the_repr(self):
        user = a_newborn(password_hash="bcrypt-secret")
        user.change_password("bcrypt-secret-2", by=ADMIN, now=NOW)

        assert "bcrypt-secret" not in repr(user)
        assert "bcrypt-secret" not in repr(user.pull_events())


class TestEveryChange:
    @pytest.mark.parametrize("operation", CHANGES)
    def test_makes_one_version_and_is_dated_by_the_clock_from_outside(self, operation):
        user = a_user(version=7)

        change(user, operation, now=later(minutes=5))

        assert (user.version, user.stored_version) == (8, 7)
        assert user.updated_at == later(minutes=5)
        assert user.created_at == NOW

    @pytest.mark.parametrize("operation", CHANGES)
    def test_leaves_one_fact_with_who_did_it_when_and_the_version_it_made(self, operation):
        user = a_user(version=7)

        change(user, operation, by=ADMIN, now=later(minutes=5))

        fact = the_fact(user)
        assert fact.user_id == user.id
        assert fact.user_version == 8
        assert fact.occurred_at == later(minutes=5)
        assert fact.actor_id == ADMIN.id
        assert fact.event_id.version == 7

    @pytest.mark.parametrize(
        ("operation", "raised_by"),
        [
            ("rename", 0),
            ("change_email", 0),
            ("change_password", 1),
            ("change_roles", 1),
            ("block", 1),
        ],
    )
    def test_raises_the_token_version_only_where_older_tokens_are_dangerous(self, operation, raised_by):
        user = a_user(token_version=3)

        change(user, operation)

        assert user.token_version == 3 + raised_by

    def test_unblocking_leaves_the_token_version_so_that_old_tokens_stay_dead(self):
        user = a_blocked_user(token_version=4)

        user.unblock(by=ADMIN, now=NOW)

        assert user.token_version == 4

    @pytest.mark.parametrize("operation", CHANGES)
    @pytest.mark.parametrize("target", [an_operator, an_admin], ids=["operator", "admin"])
    @pytest.mark.parametrize("by", [OPERATOR, an_actor(a_user())], ids=["by operator", "by plain"])
    def test_of_a_staff_member_is_refused_to_anybody_but_admins(self, operation, target, by):
        user = target()
        before = state(user)

        with pytest.raises(OperatorOverOperator):
            change(user, operation, by=by)

        assert state(user) == before

    @pytest.mark.parametrize("operation", CHANGES)
    @pytest.mark.parametrize("by", [ADMIN, SYSTEM, COMMAND_LINE], ids=lambda actor: actor.id[:6])
    def test_of_a_staff_member_is_open_to_admins_the_system_and_the_command_line(self, operation, by):
        user = an_operator()

        change(user, operation, by=by)

        assert the_fact(user).actor_id == by.id

    @pytest.mark.parametrize("operation", ["rename", "change_email", "change_password"])
    @pytest.mark.parametrize("target", [a_user, an_operator, an_admin])
    def test_of_name_email_and_password_is_open_to_the_user_himself(self, operation, target):
        user = target()

        change(user, operation, by=an_actor(user))

        assert the_fact(user).actor_id == str(user.id)

    def test_an_operator_may_change_a_service_account(self):
        user = a_user(roles=frozenset({Role.SERVICE}))

        user.rename(UserName("Billing"), by=OPERATOR, now=NOW)

        assert user.name == UserName("Billing")


class TestRename:
    def test_gives_the_new_name_and_tells_it(self):
        user = a_user(name=UserName("Ann"))

        user.rename(UserName("Beth"), by=an_actor(user), now=later(hours=1))

        assert user.name == UserName("Beth")
        fact = the_fact(user)
        assert fact.event_type == "user.renamed"
        assert fact.data() == {"user_id": str(user.id), "name": "Beth", "renamed_at": later(hours=1)}

    def test_to_the_same_name_is_no_change(self):
        user = a_user(name=UserName("Ann"))
        before = state(user)

        user.rename(UserName(" Ann "), by=an_actor(user), now=later(hours=1))

        assert state(user) == before
        assert user.pull_events() == []


class TestChangeEmail:
    def test_gives_the_new_address_unproven_and_tells_it(self):
        user = a_user(email=Email("old@example.com"), email_verified=True)

        user.change_email(Email("New@Example.com"), by=an_actor(user), now=later(hours=1))

        assert user.email == Email("new@example.com")
        assert user.email_verified is False
        fact = the_fact(user)
        assert fact.event_type == "user.email_changed"
        assert fact.data() == {
            "user_id": str(user.id),
            "email": "new@example.com",
            "changed_at": later(hours=1),
        }

    def test_to_the_address_he_has_is_refused_in_any_spelling_and_leaves_the_proof(self):
        user = a_user(email=Email("ann@example.com"), email_verified=True)
        before = state(user)

        with pytest.raises(EmailUnchanged):
            user.change_email(Email(" ANN@example.COM "), by=an_actor(user), now=later(hours=1))

        assert state(user) == before


class TestChangePassword:
    def test_replaces_the_hash_and_tells_that_it_changed_but_not_to_what(self):
        user = a_user()

        user.change_password("another-hash", by=an_actor(user), now=later(hours=1))

        assert user.password_hash == "another-hash"
        fact = the_fact(user)
        assert fact.event_type == "user.password_changed"
        assert fact.data() == {"user_id": str(user.id), "changed_at": later(hours=1)}


class TestChangeRoles:
    def test_replaces_the_roles_and_tells_them_in_a_stable_order(self):
        user = a_user(roles=frozenset({Role.SERVICE}))

        user.change_roles(
            frozenset({Role.OPERATOR, Role.ADMIN}), last_admin=False, by=ADMIN, now=later(hours=1)
        )

        assert user.roles == {Role.ADMIN, Role.OPERATOR}
        fact = the_fact(user)
        assert fact.event_type == "user.roles_changed"
        assert fact.data() == {
            "user_id": str(user.id),
            "roles": ["admin", "operator"],
            "changed_at": later(hours=1),
        }

    def test_to_none_at_all_makes_a_plain_user(self):
        user = an_operator()

        user.change_roles(frozenset(), last_admin=False, by=ADMIN, now=NOW)

        assert not user.is_staff
        assert the_fact(user).data()["roles"] == []

    def test_to_the_roles_he_has_is_no_change(self):
        user = an_operator()
        before = state(user)

        user.change_roles(frozenset({Role.OPERATOR}), last_admin=False, by=ADMIN, now=later(hours=1))

        assert state(user) == before
        assert user.pull_events() == []

    @pytest.mark.parametrize("roles", [frozenset(), frozenset({Role.OPERATOR})])
    def test_that_would_depose_the_last_admin_is_refused_to_himself_as_well(self, roles):
        user = an_admin()
        before = state(user)

        for by in (ADMIN, SYSTEM, an_actor(user)):
            with pytest.raises(LastAdmin):
                user.change_roles(roles, last_admin=True, by=by, now=later(hours=1))

        assert state(user) == before

    def test_that_leaves_the_last_admin_an_admin_is_open(self):
        user = an_admin()

        user.change_roles(frozenset({Role.ADMIN, Role.SERVICE}), last_admin=True, by=ADMIN, now=NOW)

        assert user.roles == {Role.ADMIN, Role.SERVICE}

    @pytest.mark.parametrize("giver", [a_user(), an_operator()], ids=["a plain user", "an operator"])
    def test_only_admins_give_and_take_roles(self, giver):
        for user in (a_user(), giver):
            before = state(user)

            with pytest.raises(RolesAreForAdmins):
                user.change_roles(frozenset({Role.ADMIN}), last_admin=False, by=an_actor(giver), now=NOW)

            assert state(user) == before

    def test_one_of_several_admins_may_step_down(self):
        user = an_admin()

        user.change_roles(frozenset(), last_admin=False, by=an_actor(user), now=NOW)

        assert user.roles == frozenset()


class TestBlock:
    def test_shuts_the_user_out_and_keeps_why_when_until_when_and_by_whom(self):
        user = a_user()

        user.block(SPAM, later(days=2), last_admin=False, by=OPERATOR, now=later(hours=1))

        assert user.status is UserStatus.BLOCKED
        assert user.current_block == Block(
            reason=SPAM, at=later(hours=1), until=later(days=2), by=OPERATOR.id
        )

    def test_tells_the_reason_and_the_time(self):
        user = a_user()

        user.block(SPAM, later(days=2), last_admin=False, by=OPERATOR, now=later(hours=1))

        fact = the_fact(user)
        assert fact.event_type == "user.blocked"
        assert list(fact.data().items()) == [
            ("user_id", str(user.id)),
            ("reason", "spam"),
            ("blocked_at", later(hours=1)),
        ]

    def test_nobody_blocks_himself_not_even_an_admin(self):
        for user in (a_user(), an_operator(), an_admin()):
            before = state(user)

            with pytest.raises(SelfBlock):
                user.block(SPAM, last_admin=False, by=an_actor(user), now=later(hours=1))

            assert state(user) == before

    def test_a_blocked_user_is_not_blocked_again_and_keeps_his_block(self):
        user = a_blocked_user(until=later(days=2))
        before = state(user)

        with pytest.raises(UserAlreadyBlocked):
            user.block(BlockReason("again"), last_admin=False, by=ADMIN, now=later(days=1))

        assert state(user) == before

    def test_the_last_admin_is_not_blocked(self):
        user = an_admin()
        before = state(user)

        for by in (ADMIN, SYSTEM):
            with pytest.raises(LastAdmin):
                user.block(SPAM, last_admin=True, by=by, now=later(hours=1))

        assert state(user) == before

    @pytest.mark.parametrize("until", [NOW, later(microseconds=-1), later(days=-1)])
    def test_its_end_must_lie_in_the_future(self, until):
        user = a_user()
        before = state(user)

        with pytest.raises(InvalidBlock) as caught:
            user.block(SPAM, until, last_admin=False, by=ADMIN, now=NOW)

        assert (caught.value.at, caught.value.reason) == ("until", "not_in_future")
        assert state(user) == before

    def test_its_end_may_lie_one_instant_ahead(self):
        user = a_user()

        user.block(SPAM, later(microseconds=1), last_admin=False, by=ADMIN, now=NOW)

        assert user.is_blocked_at(NOW)

    def test_lifts_a_block_whose_time_has_run_out_first_as_a_fact_of_its_own(self):
        user = a_blocked_user(until=later(hours=1), version=2, token_version=2)

        user.block(BlockReason("again"), last_admin=False, by=OPERATOR, now=later(hours=1))

        lifted, blocked = user.pull_events()
        assert (lifted.event_type, lifted.actor_id, lifted.user_version) == ("user.unblocked", "system", 3)
        assert lifted.data() == {"user_id": str(user.id), "unblocked_at": later(hours=1)}
        assert (blocked.event_type, blocked.actor_id, blocked.user_version) == (
            "user.blocked",
            OPERATOR.id,
            4,
        )
        assert (user.version, user.token_version) == (4, 3)
        assert user.status is UserStatus.BLOCKED
        assert user.current_block == Block(
            reason=BlockReason("again"), at=later(hours=1), until=None, by=OPERATOR.id
        )

    def test_is_a_value_that_never_changes(self):
        block = a_blocked_user().current_block

        with pytest.raises(dataclasses.FrozenInstanceError):
            block.until = NOW


class TestBlockUntil:
    def test_holds_up_to_its_end_and_not_from_that_instant_on(self):
        user = a_blocked_user(until=later(hours=1))

        assert user.is_blocked_at(later(hours=1, microseconds=-1))
        assert not user.is_blocked_at(later(hours=1))
        assert not user.is_blocked_at(later(hours=2))

    def test_without_an_end_holds_for_ever(self):
        assert a_blocked_user(until=None).is_blocked_at(later(days=36500))

    def test_who_was_never_blocked_is_not_blocked(self):
        assert not a_user().is_blocked_at(NOW)

    def test_a_log_in_is_refused_while_the_block_holds_and_open_after(self):
        user = a_blocked_user(until=later(hours=1))

        with pytest.raises(UserBlocked):
            user.refuse_blocked(later(minutes=59))

        assert user.refuse_blocked(later(hours=1)) is None
        assert a_user().refuse_blocked(NOW) is None

    def test_the_status_stays_blocked_until_somebody_lifts_it_for_one_version_has_one_shape(self):
        user = a_blocked_user(until=later(hours=1))

        user.refuse_blocked(later(hours=2))

        assert user.status is UserStatus.BLOCKED
        assert user.current_block is not None


class TestEndBlock:
    def test_lifts_a_block_whose_time_has_run_out_in_the_systems_name(self):
        user = a_blocked_user(until=later(hours=1))

        user.end_block(now=later(hours=1))

        assert user.status is UserStatus.ACTIVE
        assert user.current_block is None
        fact = the_fact(user)
        assert (fact.event_type, fact.actor_id) == ("user.unblocked", "system")

    @pytest.mark.parametrize("until", [None, later(hours=1)], ids=["no end", "end ahead"])
    def test_of_a_block_that_still_holds_is_refused(self, until):
        user = a_blocked_user(until=until)
        before = state(user)

        with pytest.raises(UserNotBlocked):
            user.end_block(now=later(minutes=59))

        assert state(user) == before

    def test_of_no_block_is_refused(self):
        user = a_user()
        before = state(user)

        with pytest.raises(UserNotBlocked):
            user.end_block(now=later(hours=1))

        assert state(user) == before

    def test_works_on_staff_as_well(self):
        user = a_blocked_user(until=later(hours=1), roles=frozenset({Role.ADMIN}))

        user.end_block(now=later(hours=1))

        assert user.is_active_admin


class TestUnblock:
    def test_lets_the_user_in_again_and_tells_it(self):
        user = a_blocked_user()

        user.unblock(by=OPERATOR, now=later(hours=1))

        assert user.status is UserStatus.ACTIVE
        assert user.current_block is None
        assert not user.is_blocked_at(later(hours=1))
        fact = the_fact(user)
        assert (fact.event_type, fact.actor_id) == ("user.unblocked", OPERATOR.id)
        assert fact.data() == {"user_id": str(user.id), "unblocked_at": later(hours=1)}

    def test_makes_one_version_dated_now(self):
        user = a_blocked_user(version=2)

        user.unblock(by=OPERATOR, now=later(hours=1))

        assert (user.version, user.stored_version) == (3, 2)
        assert user.updated_at == later(hours=1)

    def test_works_after_the_blocks_time_has_run_out_as_long_as_nobody_lifted_it(self):
        user = a_blocked_user(until=later(hours=1))

        user.unblock(by=OPERATOR, now=later(hours=2))

        assert the_fact(user).actor_id == OPERATOR.id

    def test_of_a_user_who_is_not_blocked_is_refused(self):
        user = a_user()
        before = state(user)

        with pytest.raises(UserNotBlocked):
            user.unblock(by=OPERATOR, now=later(hours=1))

        assert state(user) == before

    def test_of_a_staff_member_is_refused_to_an_operator(self):
        user = a_blocked_user(roles=frozenset({Role.OPERATOR}))
        before = state(user)

        with pytest.raises(OperatorOverOperator):
            user.unblock(by=OPERATOR, now=later(hours=1))

        assert state(user) == before


class TestWhatAUserIs:
    @pytest.mark.parametrize(
        ("roles", "staff"),
        [
            (frozenset(), False),
            (frozenset({Role.SERVICE}), False),
            (frozenset({Role.OPERATOR}), True),
            (frozenset({Role.ADMIN}), True),
            (frozenset({Role.SERVICE, Role.OPERATOR}), True),
        ],
    )
    def test_staff_are_operators_and_admins(self, roles, staff):
        assert a_user(roles=roles).is_staff is staff

    def test_a_blocked_admin_is_no_active_admin(self):
        admin = an_admin()
        assert admin.is_active_admin

        admin.block(SPAM, last_admin=False, by=SYSTEM, now=NOW)

        assert not admin.is_active_admin

    def test_an_operator_is_no_active_admin(self):
        assert not an_operator().is_active_admin


class TestEventsOfAUser:
    def test_are_pulled_once_oldest_first(self):
        user = a_newborn()
        user.block(SPAM, last_admin=False, by=ADMIN, now=NOW)
        user.unblock(by=ADMIN, now=NOW)

        assert [(fact.event_type, fact.user_version) for fact in user.pull_events()] == [
            ("user.created", 1),
            ("user.blocked", 2),
            ("user.unblocked", 3),
        ]
        assert user.pull_events() == []

    def test_have_ids_of_their_own(self):
        user = a_newborn()
        change(user, "block")

        first, second = user.pull_events()
        assert first.event_id != second.event_id

    def test_loading_a_user_records_nothing(self):
        user = a_user(version=5)

        assert user.pull_events() == []
        assert user.stored_version == 5

    def test_the_stored_version_catches_up_when_they_are_pulled(self):
        user = a_user(version=5)
        change(user, "rename")
        assert user.stored_version == 5

        user.pull_events()

        assert (user.version, user.stored_version) == (6, 6)


# --- Proving the address -----------------------------------------------------------------------------------


def test_an_address_is_proven_once():
    user = a_user()
    user.verify_email(by=an_actor(user), now=later(hours=1))

    assert user.email_verified
    fact = the_fact(user)
    assert isinstance(fact, events.UserEmailVerified)
    assert fact.verified_at == later(hours=1)
    user.verify_email(by=an_actor(user), now=later(hours=2))
    assert user.pull_events() == []


# --- Sessions ----------------------------------------------------------------------------------------------


def end_session(user, number, *, at=NOW, forget_before=NOW, cause=EndOfSession.LOG_OUT):
    user.end_session(UUID(int=number), cause, forget_before=forget_before, by=an_actor(user), now=at)


def test_a_session_that_ends_is_remembered_and_no_other_is_touched():
    user = a_user()
    end_session(user, 7, at=later(seconds=1), cause=EndOfSession.REVOKED)

    assert user.ended_sessions == (EndedSession(id=UUID(int=7), at=later(seconds=1)),)
    assert user.token_version == 1
    fact = the_fact(user)
    assert isinstance(fact, events.UserSessionsEnded)
    assert (fact.session_id, fact.cause, fact.ended_at) == (str(UUID(int=7)), "revoked", later(seconds=1))
    assert fact.actor_id == str(user.id)


def test_a_session_ends_once():
    user = a_user()
    end_session(user, 7)
    user.pull_events()
    before = state(user)
    end_session(user, 7, at=later(seconds=5))
    assert state(user) == before


def test_sessions_whose_tokens_have_all_run_out_are_forgotten():
    user = a_user()
    for number in (1, 2, 3):
        end_session(user, number, at=later(seconds=number))
    end_session(user, 4, at=later(minutes=5), forget_before=later(seconds=2))
    assert [ended.id.int for ended in user.ended_sessions] == [2, 3, 4]


def test_more_than_can_be_remembered_end_in_killing_all_tokens():
    user = a_user()
    for number in range(MOST_ENDED_SESSIONS):
        end_session(user, number)
    assert (len(user.ended_sessions), user.token_version) == (MOST_ENDED_SESSIONS, 1)
    user.pull_events()
    end_session(user, 999)
    assert (user.ended_sessions, user.token_version) == ((), 2)
    assert the_fact(user).session_id is None, "all of them have ended"


def test_ending_all_sessions_kills_all_tokens():
    user = a_user()
    end_session(user, 7)
    user.pull_events()
    user.end_all_sessions(by=an_actor(user), now=later(hours=1))

    assert (user.ended_sessions, user.token_version) == ((), 2)
    fact = the_fact(user)
    assert isinstance(fact, events.UserSessionsEnded)
    assert (fact.session_id, fact.cause, fact.ended_at) == (None, "log_out_everywhere", later(hours=1))


# --- Erasing -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [a_user, a_blocked_user, an_operator, an_admin])
def test_of_an_erased_user_nothing_remains_but_that_he_is(make):
    user = make(email_verified=True)
    before = user.token_version
    user.erase(last_admin=False, by=ADMIN, now=later(hours=1))

    assert (user.status, user.current_block, user.roles) == (UserStatus.ERASED, None, frozenset())
    assert (user.email_verified, user.ended_sessions) == (False, ())
    assert user.token_version == before + 1
    assert not user.is_active_admin
    fact = the_fact(user)
    assert isinstance(fact, events.UserErased)
    assert fact.data() == {"user_id": str(user.id), "erased_at": later(hours=1)}
    assert fact.actor_id == ADMIN.id


def test_a_user_may_erase_himself():
    user = an_operator()
    user.erase(last_admin=False, by=an_actor(user), now=NOW)
    assert user.status is UserStatus.ERASED


def test_nobody_erases_the_last_admin_nor_an_operator_another():
    for user, last_admin, by, refusal in [
        (an_admin(), True, ADMIN, LastAdmin),
        (an_operator(), False, OPERATOR, OperatorOverOperator),
    ]:
        before = state(user)
        with pytest.raises(refusal):
            user.erase(last_admin=last_admin, by=by, now=NOW)
        assert state(user) == before


# --- The fingerprint ---------------------------------------------------------------------------------------


CHANGES = {
    "name": lambda user: user.rename(UserName("Other"), by=ADMIN, now=later(hours=1)),
    "email": lambda user: user.change_email(Email("other@example.com"), by=ADMIN, now=later(hours=1)),
    "proof": lambda user: user.verify_email(by=ADMIN, now=later(hours=1)),
    "password": lambda user: user.change_password("other", by=ADMIN, now=later(hours=1)),
    "roles": lambda user: user.change_roles(
        frozenset({Role.SERVICE}), last_admin=False, by=ADMIN, now=later(hours=1)
    ),
    "block": lambda user: user.block(SPAM, last_admin=False, by=ADMIN, now=later(hours=1)),
    "log out everywhere": lambda user: user.end_all_sessions(by=ADMIN, now=later(hours=1)),
    "erasure": lambda user: user.erase(last_admin=False, by=ADMIN, now=later(hours=1)),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_any_change_of_the_account_changes_its_fingerprint(change):
    user = a_user()
    before = user.fingerprint
    change(user)
    assert user.fingerprint != before


@pytest.mark.parametrize(
    "other",
    [
        {"id": UserId.new()},
        {"locale": Locale.RUSSIAN},
        {"current_block": Block(reason=SPAM, at=NOW, until=later(days=1), by="cli")},
        {"current_block": Block(reason=SPAM, at=NOW, until=None, by="cli")},
        {"current_block": Block(reason=SPAM, at=later(days=2), until=None, by="cli")},
        {"current_block": Block(reason=BlockReason("ham"), at=NOW, until=None, by="cli")},
        {"roles": frozenset({Role.ADMIN, Role.SERVICE})},
    ],
    ids=["id", "locale", "end of block", "block", "start of block", "reason", "roles"],
)
def test_no_two_accounts_share_a_fingerprint(other):
    user = a_user(roles=frozenset({Role.ADMIN}))
    assert dataclasses.replace(user, **other).fingerprint != user.fingerprint


def test_a_session_and_the_clock_leave_the_fingerprint_alone():
    user = a_user(roles=frozenset({Role.ADMIN, Role.SERVICE, Role.OPERATOR}))
    before = user.fingerprint
    end_session(user, 7, at=later(hours=1))
    assert user.fingerprint == before
    assert before == dataclasses.replace(user, roles=frozenset(sorted(user.roles, reverse=True))).fingerprint
    assert len(before) == 32
