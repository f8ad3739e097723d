"""Random lives of a user, lived twice: by the aggregate, and by a model of a few lines.

The model is written from the contract, not from the code: it says which refusal an operation must meet, or
which facts it must leave, and what then is true of the user."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.builders import NOW
from users_domain.errors import DomainError
from users_domain.user import User
from users_domain.value_objects import (
    SYSTEM,
    Actor,
    BlockReason,
    Email,
    EndOfSession,
    Role,
    UserId,
    UserName,
    UserStatus,
)

FOREVER = datetime.max.replace(tzinfo=NOW.tzinfo)
DEADLY_TO_TOKENS = {"user.blocked", "user.password_changed", "user.roles_changed"}

STRANGERS = {
    "plain": Actor("a-plain-user"),
    "operator": Actor("an-operator", frozenset({Role.OPERATOR})),
    "admin": Actor("an-admin", frozenset({Role.ADMIN})),
    "system": SYSTEM,
}

# Admins come oftener: most of what the others try is refused, and little would ever happen.
strangers = st.sampled_from([*STRANGERS, "admin", "admin"])
actors = strangers | st.just("himself")
names = st.sampled_from(["Ann", "Beth"])
emails = st.sampled_from(["ann@example.com", "beth@example.com"])
hashes = st.sampled_from(["hash-1", "hash-2"])
role_sets = st.sampled_from([set(), {"service"}, {"operator"}, {"admin"}, {"admin", "service"}]).map(
    frozenset
)
block_minutes = st.sampled_from([5, 1, None, 0, -1])
passing_minutes = st.sampled_from([0, 1, 2, 10])


@dataclass(frozen=True)
class Life:
    """What must be true of the user. `blocked_until` is None when there is no block."""

    name: str
    email: str
    password_hash: str
    roles: frozenset[str] = frozenset()
    blocked_until: datetime | None = None
    verified: bool = False
    ended: tuple[int, ...] = ()
    killed: int = 0
    facts: tuple[tuple[str, str | None, datetime], ...] = ()

    def after(self, fact: str, by: str | None, now: datetime, **changes) -> "Life":
        if fact in DEADLY_TO_TOKENS or "killed" in changes:
            changes["ended"] = ()
        return replace(self, facts=(*self.facts, (fact, by, now)), **changes)

    def blocked_at(self, now: datetime) -> bool:
        return self.blocked_until is not None and now < self.blocked_until

    def beyond(self, who: str) -> bool:
        """Whether the user is too high for `who`."""
        return who in {"plain", "operator"} and bool(self.roles & {"admin", "operator"})


class LifeOfAUser(RuleBasedStateMachine):
    @initialize(
        by=st.sampled_from([None, SYSTEM]),
        verified=st.booleans(),
        roles=role_sets,
        blocked_minutes=st.sampled_from([None, 1]),
    )
    def register(self, by, verified, roles, blocked_minutes):
        """Most lives start with some roles or a block, for they are short."""
        self.now = NOW
        self.user = User.register(
            id=UserId.new(),
            email=Email("ann@example.com"),
            name=UserName("Ann"),
            password_hash="hash-1",
            by=by,
            now=self.now,
        )
        self.user.email_verified = verified
        newborn = Life(name="Ann", email="ann@example.com", password_hash="hash-1", verified=verified)
        self.life = newborn.after("user.created", by.id if by else None, self.now)
        self.saved = []
        self.change_roles(roles, False, "system")
        if blocked_minutes:
            self.block(blocked_minutes, False, "system")

    def id_of(self, who):
        return str(self.user.id) if who == "himself" else STRANGERS[who].id

    def actor(self, who):
        return Actor(str(self.user.id), self.user.roles) if who == "himself" else STRANGERS[who]

    def expect(self, outcome, operation):
        """`outcome` is the name of a refusal, or the life that follows."""
        before = self.seen()
        refusal = None
        try:
            operation()
        except DomainError as error:
            refusal = type(error).__name__

        if isinstance(outcome, Life):
            assert refusal is None
            self.life = outcome
        else:
            assert refusal == outcome
            assert self.seen() == before

    def seen(self):
        user = self.user
        block = user.current_block
        return (
            user.id,
            (user.email, user.email_verified, user.name, user.password_hash, user.roles),
            (user.status, block, user.token_version, user.version, user.stored_version),
            (user.created_at, user.updated_at),
        )

    @rule(minutes=passing_minutes)
    def time_passes(self, minutes):
        self.now += timedelta(minutes=minutes)

    @precondition(lambda self: self.life.blocked_until not in {None, FOREVER})
    @rule(microseconds=st.sampled_from([-1, 0, 1]))
    def the_block_nears_its_end(self, microseconds):
        end = self.life.blocked_until + timedelta(microseconds=microseconds)
        self.now = max(self.now, end)

    @rule(name=names, who=actors)
    def rename(self, name, who):
        outcome = self.life
        if self.life.beyond(who):
            outcome = "OperatorOverOperator"
        elif name != self.life.name:
            outcome = self.life.after("user.renamed", self.id_of(who), self.now, name=name)

        self.expect(outcome, lambda: self.user.rename(UserName(name), by=self.actor(who), now=self.now))

    @rule(email=emails, who=actors)
    def change_email(self, email, who):
        if self.life.beyond(who):
            outcome = "OperatorOverOperator"
        elif email == self.life.email:
            outcome = "EmailUnchanged"
        else:
            outcome = self.life.after(
                "user.email_changed", self.id_of(who), self.now, email=email, verified=False
            )

        self.expect(outcome, lambda: self.user.change_email(Email(email), by=self.actor(who), now=self.now))

    @rule(new_hash=hashes, who=actors)
    def change_password(self, new_hash, who):
        if self.life.beyond(who):
            outcome = "OperatorOverOperator"
        else:
            outcome = self.life.after(
                "user.password_changed", self.id_of(who), self.now, password_hash=new_hash
            )

        self.expect(outcome, lambda: self.user.change_password(new_hash, by=self.actor(who), now=self.now))

    @rule(who=actors)
    def verify_email(self, who):
        outcome = self.life
        if not self.life.verified:
            outcome = self.life.after("user.email_verified", self.id_of(who), self.now, verified=True)
        self.expect(outcome, lambda: self.user.verify_email(by=self.actor(who), now=self.now))

    @rule(session=st.integers(1, 3))
    def end_session(self, session):
        outcome = self.life
        if session not in self.life.ended:
            ended = (*self.life.ended, session)
            outcome = self.life.after("user.sessions_ended", self.id_of("himself"), self.now, ended=ended)
        self.expect(
            outcome,
            lambda: self.user.end_session(
                UUID(int=session),
                EndOfSession.LOG_OUT,
                forget_before=NOW,
                by=self.actor("himself"),
                now=self.now,
            ),
        )

    @rule(who=actors)
    def end_all_sessions(self, who):
        killed = self.life.killed + 1
        outcome = self.life.after("user.sessions_ended", self.id_of(who), self.now, killed=killed)
        self.expect(outcome, lambda: self.user.end_all_sessions(by=self.actor(who), now=self.now))

    @rule(roles=role_sets, only_admin=st.booleans(), who=strangers)
    def change_roles(self, roles, only_admin, who):
        last_admin = only_admin and self.is_active_admin()
        if self.life.beyond(who):
            outcome = "OperatorOverOperator"
        elif who in {"plain", "operator"}:
            outcome = "RolesAreForAdmins"
        elif last_admin and "admin" not in roles:
            outcome = "LastAdmin"
        elif roles == self.life.roles:
            outcome = self.life
        else:
            outcome = self.life.after("user.roles_changed", self.id_of(who), self.now, roles=roles)

        self.expect(
            outcome,
            lambda: self.user.change_roles(
                frozenset(map(Role, roles)), last_admin=last_admin, by=self.actor(who), now=self.now
            ),
        )

    @rule(minutes=block_minutes, only_admin=st.booleans(), who=actors, after_the_last_one=st.booleans())
    def block(self, minutes, only_admin, who, after_the_last_one=False):
        if after_the_last_one and self.life.blocked_until not in {None, FOREVER}:
            self.now = max(self.now, self.life.blocked_until)
        last_admin = only_admin and self.is_active_admin()
        until = None if minutes is None else self.now + timedelta(minutes=minutes)
        if who == "himself":
            outcome = "SelfBlock"
        elif self.life.beyond(who):
            outcome = "OperatorOverOperator"
        elif until is not None and until <= self.now:
            outcome = "InvalidBlock"
        elif self.life.blocked_at(self.now):
            outcome = "UserAlreadyBlocked"
        elif last_admin:
            outcome = "LastAdmin"
        else:
            outcome = self.life
            if self.life.blocked_until is not None:
                outcome = outcome.after("user.unblocked", "system", self.now)
            outcome = outcome.after("user.blocked", self.id_of(who), self.now, blocked_until=until or FOREVER)

        self.expect(
            outcome,
            lambda: self.user.block(
                BlockReason("spam"), until, last_admin=last_admin, by=self.actor(who), now=self.now
            ),
        )

    @rule(who=strangers)
    def unblock(self, who):
        if self.life.beyond(who):
            outcome = "OperatorOverOperator"
        elif self.life.blocked_until is None:
            outcome = "UserNotBlocked"
        else:
            outcome = self.life.after("user.unblocked", self.id_of(who), self.now, blocked_until=None)

        self.expect(outcome, lambda: self.user.unblock(by=self.actor(who), now=self.now))

    @rule()
    def the_worker_ends_the_block(self):
        if self.life.blocked_until is None or self.life.blocked_at(self.now):
            outcome = "UserNotBlocked"
        else:
            outcome = self.life.after("user.unblocked", "system", self.now, blocked_until=None)

        self.expect(outcome, lambda: self.user.end_block(now=self.now))

    @rule()
    def save(self):
        self.saved += self.user.pull_events()

    def is_active_admin(self):
        return "admin" in self.life.roles and self.life.blocked_until is None

    @invariant()
    def the_user_is_as_the_model_says(self):
        user, life = self.user, self.life
        assert str(user.name) == life.name
        assert str(user.email) == life.email
        assert user.email_verified == life.verified
        assert user.password_hash == life.password_hash
        assert user.roles == life.roles
        assert user.is_active_admin == self.is_active_admin()
        assert user.is_blocked_at(self.now) == life.blocked_at(self.now)
        assert user.updated_at == life.facts[-1][2]
        assert user.created_at == NOW

    @invariant()
    def status_and_block_agree(self):
        blocked = self.life.blocked_until is not None
        assert self.user.status is (UserStatus.BLOCKED if blocked else UserStatus.ACTIVE)
        assert (self.user.current_block is not None) == blocked
        if blocked:
            assert (self.user.current_block.until or FOREVER) == self.life.blocked_until

    @invariant()
    def the_version_counts_the_facts(self):
        assert self.user.version == len(self.life.facts)
        assert self.user.stored_version == len(self.saved)

    @invariant()
    def the_token_version_counts_what_makes_tokens_worthless(self):
        deadly = [fact for fact, _, _ in self.life.facts if fact in DEADLY_TO_TOKENS]
        assert self.user.token_version == 1 + len(deadly) + self.life.killed

    @invariant()
    def what_kills_all_tokens_makes_ended_sessions_needless(self):
        assert tuple(ended.id.int for ended in self.user.ended_sessions) == self.life.ended

    def teardown(self):
        """What was ever recorded is what the model says has happened, each once, without a gap."""
        if not hasattr(self, "user"):
            return
        self.save()
        assert [(e.event_type, e.actor_id, e.occurred_at) for e in self.saved] == list(self.life.facts)
        assert [e.user_version for e in self.saved] == list(range(1, self.user.version + 1))
        assert {e.user_id for e in self.saved} == {self.user.id}
        assert len({e.event_id for e in self.saved}) == len(self.saved)


TestLifeOfAUser = LifeOfAUser.TestCase
TestLifeOfAUser.settings = settings(max_examples=40, stateful_step_count=50, deadline=None)
