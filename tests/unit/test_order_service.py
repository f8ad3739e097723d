"""The order service of `examples/` by its parts: what events do to its copy, and which tokens it believes."""

import base64
import json
import threading
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm

from examples.order_service.consumer import Consumer
from examples.order_service.events import Event, MalformedEvent
from examples.order_service.handlers import COMMAND_SECONDS, TOKEN_SECONDS, Handlers
from examples.order_service.store import AlreadyRunning, Store, User
from examples.order_service.tokens import (
    FETCH_PAUSE_SECONDS,
    KEYS_SECONDS,
    SILENCE_SECONDS,
    Keys,
    OfflineTokens,
    TokenRefused,
    TokenUnverifiable,
)
from examples.order_service.users_api import ServiceAway

NOW = 1_800_000_000.0
KEY = ec.generate_private_key(ec.SECP256R1())
OTHER_KEY = ec.generate_private_key(ec.SECP256R1())


class Clock:
    def __init__(self, now: float = NOW) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Service:
    """The user service, as far as it is asked."""

    def __init__(self) -> None:
        self.away = False
        self.accepted = True
        self.asked = 0
        self.key_fetches = 0
        self.published = {"k1": KEY}
        self.now: dict[str, dict[str, Any]] = {}
        self.feed: list[dict[str, Any]] = []

    def keys(self) -> list[dict[str, Any]]:
        self.key_fetches += 1
        self._answer()
        return [
            ECAlgorithm.to_jwk(key.public_key(), as_dict=True) | {"kid": kid, "alg": "ES256"}
            for kid, key in self.published.items()
        ]

    def accepts(self, token: str) -> bool:
        self.asked += 1
        self._answer()
        return self.accepted

    def user(self, user_id: str, *, min_version: int) -> dict[str, Any]:
        self._answer()
        return self.now[user_id]

    def users(self) -> Iterator[dict[str, Any]]:
        self._answer()
        return iter(self.now.values())

    def events(self, after: int) -> tuple[list[Any], bool]:
        self._answer()
        return [envelope for envelope in self.feed if envelope["sequence"] > after], False

    def _answer(self) -> None:
        if self.away:
            raise ServiceAway


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "orders.sqlite3")
    yield store
    store.close()


@pytest.fixture
def handlers(store: Store, service: Service, clock: Clock) -> Handlers:
    return Handlers(store, service, clock=clock)


def an_event(
    sequence: int, type_: str, version: int, *, at: float = NOW, user: str = "ann", **data: Any
) -> Event:
    return Event(
        sequence=sequence,
        type=type_,
        user_id=user,
        user_version=version,
        timestamp=at,
        data={"user_id": user, **data},
    )


def born(sequence: int = 1, user: str = "ann") -> Event:
    return an_event(sequence, "user.created", 1, user=user, email=f"{user}@example.com", name=user.title())


# --- What events do to the copy ---------------------------------------------------------------------------


def test_each_event_changes_what_it_tells_and_moves_the_position(handlers: Handlers, store: Store) -> None:
    handlers.apply(born())
    handlers.apply(an_event(2, "user.renamed", 2, name="Ann Lee"))
    handlers.apply(an_event(3, "user.email_changed", 3, email="lee@example.com"))
    handlers.apply(an_event(4, "user.roles_changed", 4, roles=["service"]))
    handlers.apply(an_event(5, "user.blocked", 5, reason="spam"))
    assert store.user("ann") == User("ann", "lee@example.com", "Ann Lee", "blocked", 5)
    assert store.position() == 5
    handlers.apply(an_event(6, "user.unblocked", 6))
    handlers.apply(an_event(7, "user.erased", 7))
    assert store.user("ann") == User("ann", None, None, "erased", 7)


def test_an_older_version_changes_nothing(handlers: Handlers, store: Store) -> None:
    handlers.apply(born())
    handlers.apply(an_event(2, "user.renamed", 2, name="New"))
    handlers.apply(an_event(3, "user.renamed", 2, name="Old"))
    assert store.user("ann") == User("ann", "ann@example.com", "New", "active", 2)
    assert store.position() == 3


def test_an_unknown_type_is_counted_and_its_version_kept(handlers: Handlers, store: Store) -> None:
    handlers.apply(born())
    handlers.apply(an_event(2, "user.knighted", 2))
    handlers.apply(an_event(3, "user.renamed", 3, name="Sir Ann"))
    assert store.user("ann") == User("ann", "ann@example.com", "Sir Ann", "active", 3)
    assert store.counts()["unknown_events"] == 1


@pytest.mark.parametrize(
    "event", [an_event(2, "user.set_aside", 2), an_event(2, "user.renamed", 4, name="B"), born(2)]
)
def test_where_something_is_missing_the_user_is_read_anew(
    handlers: Handlers, store: Store, service: Service, event: Event
) -> None:
    handlers.apply(born())
    if event.type == "user.created":
        event = an_event(2, "user.renamed", 2, user="bob", name="B")
    now = {"id": event.user_id, "email": "b@x.org", "name": "B", "status": "active", "version": 4}
    service.now[event.user_id] = now
    handlers.apply(event)
    assert store.user(event.user_id) == User(event.user_id, "b@x.org", "B", "active", 4)


def test_a_failing_effect_leaves_nothing_behind(handlers: Handlers, store: Store) -> None:
    handlers.apply(born())
    with pytest.raises(KeyError):
        handlers.apply(an_event(2, "user.renamed", 2))
    assert store.position() == 1
    assert store.user("ann") == User("ann", "ann@example.com", "Ann", "active", 1)


def test_a_late_event_is_made_up_for_whatever_came_after_it(
    handlers: Handlers, store: Store, service: Service
) -> None:
    handlers.apply(born())
    late = an_event(2, "user.renamed", 2)
    handlers.give_up(2, late, "{}", "KeyError")
    assert [letter.sequence for letter in store.all_dead_letters()] == [2]
    service.now["ann"] = {"id": "ann", "email": "a@x.org", "name": "A", "status": "blocked", "version": 3}
    handlers.apply_late(late)
    assert store.user("ann") == User("ann", "a@x.org", "A", "blocked", 3)
    assert store.all_dead_letters() == []
    assert store.position() == 2


def test_dead_letters_wait_longer_each_time_until_somebody_hurries_them(store: Store) -> None:
    store.bury(1, "ann", "{}", "why", now=NOW)
    assert store.dead_letters(due=NOW) == []
    (letter,) = store.dead_letters(due=NOW + 1)
    store.still_dead(letter, "still", now=NOW + 1)
    assert store.dead_letters(due=NOW + 2.9) == []
    assert [each.error for each in store.dead_letters(due=NOW + 3)] == ["still"]
    assert store.hurry_dead_letters() == 1
    assert len(store.dead_letters(due=0)) == 1


def test_an_erased_user_leaves_no_dead_letter_behind(handlers: Handlers, store: Store) -> None:
    handlers.apply(born())
    handlers.give_up(2, an_event(2, "user.renamed", 1), '{"name": "Ann"}', "why")
    handlers.give_up(3, None, '{"garbled": true, "user_id": "ann", "name": "Ann"}', "why")
    handlers.apply(an_event(4, "user.erased", 2))
    assert store.all_dead_letters() == []


def test_an_erased_user_is_not_even_in_the_free_pages_of_the_file(handlers: Handlers, store: Store) -> None:
    handlers.apply(born())
    handlers.give_up(2, an_event(2, "user.renamed", 1), "ann@example.com " * 1000, "why")
    store._run("PRAGMA wal_checkpoint(TRUNCATE)")
    assert b"ann@example.com" in store.path.read_bytes()
    handlers.apply(an_event(3, "user.erased", 2))
    store._run("PRAGMA wal_checkpoint(TRUNCATE)")
    assert b"ann@example.com" not in store.path.read_bytes()


@pytest.mark.parametrize(
    "spoil",
    [
        {"sequence": "1"},
        {"sequence": 0},
        {"user_version": True},
        {"user_id": None},
        {"timestamp": "soon"},
        {"data": 7},
    ],
)
def test_what_is_no_envelope_is_malformed(spoil: dict[str, Any]) -> None:
    good = an_envelope(1)
    Event.parse(good)
    with pytest.raises(MalformedEvent):
        Event.parse(good | spoil)
    with pytest.raises(MalformedEvent):
        Event.parse([])


def test_orders_are_placed_by_active_users_only(handlers: Handlers, store: Store) -> None:
    assert not store.place_order("1", "ann", "kettle", 1, now=NOW)
    handlers.apply(born())
    assert store.place_order("2", "ann", "kettle", 1, now=NOW)
    handlers.apply(an_event(2, "user.blocked", 2))
    assert not store.place_order("3", "ann", "kettle", 1, now=NOW)
    assert store.counts()["orders"] == 1


def test_a_store_has_one_reader(store: Store) -> None:
    with store.only_reader():
        other = Store(store.path)
        with pytest.raises(AlreadyRunning), other.only_reader():
            pass
        other.close()
    with store.only_reader():
        pass


# --- The consumer's own decisions --------------------------------------------------------------------------


def an_envelope(sequence: int, version: int | None = None, type_: str = "user.created") -> dict[str, Any]:
    return {
        "event_type": type_,
        "event_id": f"e{sequence}",
        "timestamp": "2026-01-31T09:30:00.000000Z",
        "data": {"user_id": f"u{sequence}", "email": f"u{sequence}@example.com", "name": "U"},
        "user_id": f"u{sequence}",
        "user_version": version or 1,
        "sequence": sequence,
        "request_id": None,
        "actor_id": None,
    }


def an_entry(sequence: int, envelope: dict[str, Any] | None = None) -> Any:
    content = json.dumps(envelope or an_envelope(sequence)).encode()
    return f"{sequence}-0".encode(), {b"event": content}


class Acknowledging:
    """Redis, as far as it is told what is done; its stream has nothing new and ends at `top`."""

    def __init__(self) -> None:
        self.acked: list[bytes] = []
        self.top = 0

    def xreadgroup(self, *_: Any, **__: Any) -> list[Any]:
        return []

    def xinfo_stream(self, stream: str) -> dict[str, bytes]:
        return {"last-generated-id": f"{self.top}-0".encode()}

    def xack(self, stream: str, group: str, *ids: bytes) -> None:
        self.acked += ids


@pytest.fixture
def consumer(store: Store, service: Service, handlers: Handlers) -> Consumer:
    redis: Any = Acknowledging()
    return Consumer(redis, service, store, handlers, stream="users.events", group="orders", name="me")


def test_a_gap_is_filled_from_the_feed_before_what_lies_behind_it(
    consumer: Consumer, store: Store, service: Service
) -> None:
    service.feed = [an_envelope(number) for number in range(1, 6)]
    consumer._take([an_entry(1), an_entry(4), an_entry(5), an_entry(2)])
    assert store.position() == 5
    assert store.counts()["users"] == 5


def test_nothing_behind_a_gap_is_applied_or_acknowledged_while_the_feed_is_away(
    consumer: Consumer, store: Store, service: Service
) -> None:
    service.away = True
    with pytest.raises(ServiceAway):
        consumer._take([an_entry(1), an_entry(3)])
    assert store.position() == 1
    assert consumer._redis.acked == []  # type: ignore[attr-defined]


def test_an_entry_that_redis_has_trimmed_while_it_was_pending_comes_from_the_feed(
    consumer: Consumer, store: Store, service: Service
) -> None:
    service.feed = [an_envelope(1), an_envelope(2)]
    consumer._take([(b"1-0", {})])
    assert store.position() == 2


def test_a_hole_that_the_feed_has_too_holds_nobody_up(
    consumer: Consumer, store: Store, service: Service
) -> None:
    service.feed = [an_envelope(1)]
    consumer._take([an_entry(1), an_entry(7)])
    assert store.position() == 7


@pytest.mark.parametrize("top", [0, 2])
def test_a_quiet_stream_that_ends_elsewhere_than_we_are_has_lost_something(
    consumer: Consumer, store: Store, service: Service, top: int
) -> None:
    consumer._take([an_entry(1)])
    consumer._redis.top = top  # type: ignore[attr-defined]
    service.feed = [an_envelope(1), an_envelope(2)]
    service.away = True
    with pytest.raises(ServiceAway):
        consumer._read()
    assert consumer.silence() == float("inf")
    service.away = False
    consumer._read()
    assert store.position() == 2
    assert consumer.silence() < 5


def test_a_quiet_stream_that_ends_where_we_are_is_as_good_as_news(
    consumer: Consumer, service: Service
) -> None:
    consumer._take([an_entry(1)])
    consumer._redis.top = 1  # type: ignore[attr-defined]
    service.away = True
    consumer._read()
    assert consumer.silence() < 5


def test_a_newborn_whose_feed_begins_late_reads_all_users(
    consumer: Consumer, store: Store, service: Service
) -> None:
    service.now["old"] = {"id": "old", "email": "o@x.org", "name": "O", "status": "active", "version": 9}
    service.feed = [an_envelope(41), an_envelope(42)]
    consumer._take([an_entry(41)])
    assert store.position() == 42
    assert store.user("old") == User("old", "o@x.org", "O", "active", 9)
    assert store.counts()["users"] == 3


def test_what_fails_is_buried_and_the_next_one_applied(consumer: Consumer, store: Store) -> None:
    lacking = an_envelope(1) | {"data": {}}
    consumer._take([an_entry(1, lacking), an_entry(2, {"sequence": 3}), an_entry(3)])
    assert store.position() == 3
    assert [letter.sequence for letter in store.all_dead_letters()] == [1, 2]
    assert consumer._redis.acked == [b"1-0", b"2-0", b"3-0"]  # type: ignore[attr-defined]


def test_a_consumer_told_to_stop_does_not_begin_to_catch_up(consumer: Consumer, store: Store) -> None:
    stop = threading.Event()
    stop.set()
    consumer.run(stop)
    assert store.position() == 0


# --- Which tokens are believed ------------------------------------------------------------------------------


def a_token(
    key: Any = KEY, kid: str = "k1", algorithm: str = "ES256", headers: Any = None, **claims: Any
) -> str:
    content = {
        "iss": "user-service",
        "aud": "services",
        "sub": "ann",
        "roles": [],
        "tv": 1,
        "sid": "s",
        "jti": "j",
        "iat": int(NOW),
        "exp": int(NOW) + 300,
        "token_type": "access",
    } | claims
    content = {name: value for name, value in content.items() if value is not None}
    return jwt.encode(content, key, algorithm=algorithm, headers={"kid": kid, **(headers or {})})


class Heard:
    def __init__(self) -> None:
        self.seconds_ago = 0.0

    def __call__(self) -> float:
        return self.seconds_ago


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def tokens(
    service: Service, store: Store, clock: Clock, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> OfflineTokens:
    monkeypatch.setattr("jwt.api_jwt.datetime", frozen(clock))
    return OfflineTokens(
        service,
        issuer="user-service",
        audience="services",
        events_of=store.token_events,
        silence=heard,
        clock=clock,
    )


def frozen(clock: Clock) -> type[datetime]:
    """What PyJWT takes the time from."""

    class Frozen(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.fromtimestamp(clock(), tz)

    return Frozen


def test_a_good_token_is_believed_without_asking(tokens: OfflineTokens, service: Service) -> None:
    assert tokens.verify(a_token())["sub"] == "ann"
    assert (service.asked, service.key_fetches) == (0, 1)


@pytest.mark.parametrize(
    "bad",
    [
        a_token(iss="somebody"),
        a_token(aud="others"),
        a_token(exp=int(NOW) - 3),
        a_token(iat=int(NOW) + 60),
        a_token(token_type="refresh"),
        a_token(jti=None),
        a_token(tv=None),
        a_token(exp=int(NOW) + int(TOKEN_SECONDS) + 1),
        a_token(key=OTHER_KEY),
        a_token(kid="k2"),
        a_token(key="a secret of thirty-two characters", algorithm="HS256"),
        a_token(headers={"crit": ["exp"]}),
        a_token() + "x" * 4096,
        a_token().rpartition(".")[0] + ".",
        "",
        "a.b.c",
        "ünlesbar",
    ],
)
def test_a_bad_token_is_refused(tokens: OfflineTokens, bad: str) -> None:
    with pytest.raises(TokenRefused):
        tokens.verify(bad)


def test_an_unsigned_token_is_refused(tokens: OfflineTokens) -> None:
    head = base64.urlsafe_b64encode(b'{"alg":"none","kid":"k1"}').rstrip(b"=").decode()
    with pytest.raises(TokenRefused):
        tokens.verify(f"{head}.{a_token().split('.')[1]}.")


@pytest.mark.parametrize(
    "revoking", ["user.blocked", "user.password_changed", "user.roles_changed", "user.erased"]
)
@pytest.mark.parametrize(
    ("issued", "asked"), [(-3, None), (-2, True), (0, True), (1, True), (2, True), (3, False)]
)
def test_tokens_from_before_an_event_are_refused_those_around_it_asked_about(
    tokens: OfflineTokens,
    handlers: Handlers,
    service: Service,
    clock: Clock,
    revoking: str,
    issued: int,
    asked: bool | None,
) -> None:
    handlers.apply(born())
    handlers.apply(an_event(2, revoking, 2, roles=[]))
    clock.now += 5
    token = a_token(iat=int(NOW) + issued)
    if asked is None:
        with pytest.raises(TokenRefused):
            tokens.verify(token)
        assert service.asked == 0
    else:
        tokens.verify(token)
        assert service.asked == int(asked)


def test_an_event_that_comes_late_leaves_doubt_up_to_its_coming(
    tokens: OfflineTokens, handlers: Handlers, service: Service, clock: Clock
) -> None:
    """A token may have been issued while the command of the event was still waiting to be committed."""
    handlers.apply(born())
    clock.now = NOW + 20
    handlers.apply(an_event(2, "user.blocked", 2))
    service.accepted = False
    with pytest.raises(TokenRefused):
        tokens.verify(a_token(iat=int(NOW) + 19))
    assert service.asked == 1


def test_no_command_takes_so_long_that_old_events_leave_doubt(
    tokens: OfflineTokens, handlers: Handlers, service: Service, clock: Clock
) -> None:
    handlers.apply(born())
    clock.now = NOW + COMMAND_SECONDS + 100
    handlers.apply(an_event(2, "user.blocked", 2))
    tokens.verify(a_token(iat=int(clock.now) - 50, exp=int(clock.now) + 250))
    assert service.asked == 0


@pytest.mark.parametrize("type_", ["user.set_aside", "user.of_the_future", "user.sessions_ended"])
def test_what_might_have_been_a_block_leaves_doubt(
    tokens: OfflineTokens, handlers: Handlers, service: Service, type_: str
) -> None:
    service.now["ann"] = {"id": "ann", "email": "a", "name": "A", "status": "blocked", "version": 2}
    handlers.apply(born())
    handlers.apply(an_event(2, type_, 2))
    tokens.verify(a_token(iat=int(NOW) - 100))
    assert service.asked == 1


def test_harmless_events_leave_none(tokens: OfflineTokens, handlers: Handlers, service: Service) -> None:
    handlers.apply(born())
    handlers.apply(an_event(2, "user.renamed", 2, name="B"))
    handlers.apply(an_event(3, "user.unblocked", 3))
    tokens.verify(a_token())
    assert service.asked == 0


@pytest.mark.parametrize("event", [None, an_event(2, "user.renamed", 2)])
def test_a_dead_letter_leaves_doubt(
    tokens: OfflineTokens, handlers: Handlers, service: Service, event: Event | None
) -> None:
    handlers.give_up(2, event, "?", "why")
    tokens.verify(a_token())
    assert service.asked == 1


def test_a_copy_made_anew_leaves_doubt_about_everybody(
    tokens: OfflineTokens, handlers: Handlers, service: Service, clock: Clock
) -> None:
    handlers.rebuild([], position=40)
    tokens.verify(a_token())
    assert service.asked == 1
    clock.now += 10
    tokens.verify(a_token(iat=int(NOW) + 5, jti="later"))
    assert service.asked == 1


def test_an_answer_holds_until_the_next_event(
    tokens: OfflineTokens, handlers: Handlers, service: Service
) -> None:
    handlers.apply(born())
    handlers.apply(an_event(2, "user.roles_changed", 2, roles=[]))
    tokens.verify(a_token())
    tokens.verify(a_token())
    assert service.asked == 1
    service.accepted = False
    handlers.apply(an_event(3, "user.blocked", 3))
    for _ in range(2):
        with pytest.raises(TokenRefused):
            tokens.verify(a_token())
    assert service.asked == 2


def test_in_silence_every_token_is_asked_about_every_time(
    tokens: OfflineTokens, service: Service, heard: Heard
) -> None:
    heard.seconds_ago = SILENCE_SECONDS + 0.1
    tokens.verify(a_token())
    tokens.verify(a_token())
    assert service.asked == 2
    service.away = True
    with pytest.raises(TokenUnverifiable):
        tokens.verify(a_token())
    service.away, service.accepted = False, False
    with pytest.raises(TokenRefused):
        tokens.verify(a_token())
    heard.seconds_ago = 0
    service.away = True
    tokens.verify(a_token(jti="another"))


def test_a_doubt_that_nobody_can_settle_is_no_yes(
    tokens: OfflineTokens, handlers: Handlers, service: Service
) -> None:
    tokens.verify(a_token())
    handlers.apply(born())
    handlers.apply(an_event(2, "user.blocked", 2))
    service.away = True
    with pytest.raises(TokenUnverifiable):
        tokens.verify(a_token())


def test_what_was_said_about_expired_tokens_is_forgotten(
    handlers: Handlers, store: Store, clock: Clock
) -> None:
    handlers.apply(born())
    handlers.apply(an_event(2, "user.blocked", 2))
    clock.now += TOKEN_SECONDS
    handlers.forget_old()
    assert store.token_events("ann").refused_before > 0
    clock.now += 10
    handlers.forget_old()
    assert store.token_events("ann").refused_before == 0


def test_ancient_events_are_not_kept_at_all(handlers: Handlers, store: Store) -> None:
    handlers.apply(born())
    handlers.apply(an_event(2, "user.blocked", 2, at=NOW - 2 * TOKEN_SECONDS))
    assert store.token_events("ann").refused_before == 0


# --- Keys ---------------------------------------------------------------------------------------------------


def test_an_unknown_key_is_fetched_but_not_for_everybody_who_asks(service: Service) -> None:
    clock = Clock(0)
    keys = Keys(service, clock=clock)
    keys.get("k1")
    service.published["k2"] = OTHER_KEY
    for _ in range(3):
        with pytest.raises(TokenRefused):
            keys.get("k2")
    assert service.key_fetches == 1
    clock.now = FETCH_PAUSE_SECONDS + 0.1
    keys.get("k2")
    assert service.key_fetches == 2


def test_a_withdrawn_key_is_forgotten_and_a_known_one_outlives_an_outage(service: Service) -> None:
    clock = Clock(0)
    keys = Keys(service, clock=clock)
    keys.get("k1")
    service.away = True
    clock.now = KEYS_SECONDS + 1
    keys.get("k1")
    service.away = False
    service.published = {"k2": OTHER_KEY}
    clock.now += FETCH_PAUSE_SECONDS + 1
    with pytest.raises(TokenRefused):
        keys.get("k1")


def test_without_any_keys_nothing_can_be_said(service: Service) -> None:
    service.away = True
    with pytest.raises(TokenUnverifiable):
        Keys(service).get("k1")


def test_keys_that_we_cannot_use_are_left_out(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    good = service.keys()[0]
    weird = [
        {"kty": "EC", "alg": "HS256", "kid": "a"},
        {"kty": "RSA", "alg": "RS256", "kid": "b"},
        {"kid": "c"},
    ]
    monkeypatch.setattr(service, "keys", lambda: [*weird, good])
    keys = Keys(service)
    keys.get("k1")
    for kid in "abc":
        with pytest.raises(TokenRefused):
            keys.get(kid)


def test_other_kinds_of_keys_are_used_with_their_own_algorithm(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    jwk = jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True) | {"kid": "r", "alg": "RS256"}
    monkeypatch.setattr(service, "keys", lambda: [jwk])
    assert Keys(service).get("r").algorithm_name == "RS256"
