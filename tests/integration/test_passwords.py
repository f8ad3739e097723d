"""Real hashes, at a low cost: what they are (ASVS 5.0 11.4.2, 6.2.8), what an unknown account costs, and the
bulkhead before them."""

import threading
from collections import Counter

import pytest

from tests.together import PATIENCE, eventually, in_background, together
from users.application.credentials import LogIn
from users.application.errors import InvalidCredentials, Unavailable
from users.infrastructure.passwords import blowfish, hashing
from users.infrastructure.passwords.hashing import BulkheadHasher


@pytest.fixture
def hasher():
    return BulkheadHasher(concurrency=2, queue=8, wait_seconds=PATIENCE)


@pytest.fixture
def computed(monkeypatch):
    """The salts of the bcrypt hashes that were computed: algorithm and cost are in them."""
    salts = []
    real = blowfish.hashpw
    monkeypatch.setattr(blowfish, "hashpw", lambda word, salt: salts.append(salt) or real(word, salt))
    return salts


class Slow:
    """Stands for the hash itself: waits to be let go, and notes how many are under way."""

    def __init__(self, monkeypatch):
        self.go = threading.Event()
        self.running = 0
        self.most = 0
        self._lock = threading.Lock()
        monkeypatch.setattr(hashing, "make_password", self)

    def __call__(self, password):
        with self._lock:
            self.running += 1
            self.most = max(self.most, self.running)
        self.go.wait(PATIENCE)
        with self._lock:
            self.running -= 1
        return password


def test_a_hash_is_bcrypt_over_sha256_at_the_cost_of_the_settings(hasher):
    password_hash = hasher.hash("correct horse")

    assert password_hash.startswith("bcrypt_sha256$$2b$04$")
    assert hasher.verify("correct horse", password_hash)
    assert not hasher.verify("correct horsf", password_hash)
    assert hasher.hash("correct horse") != password_hash


def test_every_character_of_a_long_password_counts(hasher):
    """Plain bcrypt looks at 72 bytes, and bcrypt 5 refuses more."""
    password_hash = hasher.hash("x" * 255 + "é")

    assert hasher.verify("x" * 255 + "é", password_hash)
    assert not hasher.verify("x" * 255 + "e", password_hash)


def test_a_password_is_hashed_as_it_was_typed(hasher):
    """ASVS 5.0 6.2.8: the same letters in another encoding, case or width are another password."""
    composed, decomposed = "caf\u00e9 society", "cafe\u0301 society"
    password_hash = hasher.hash(composed)

    assert hasher.verify(composed, password_hash)
    for other in (decomposed, composed.upper(), composed + " ", "ｃafé society"):
        assert not hasher.verify(other, password_hash)


def test_nobodys_password_is_never_right_and_costs_one_hash_of_the_same_cost(hasher, computed):
    assert hasher.verify("x", hasher.hash("x"))
    computed.clear()
    for password in ("", "x", "abcdefghijklmnopqrstuu"):
        assert hasher.verify(password, None) is False

    assert [salt[:7] for salt in computed] == [b"$2b$04$"] * 3


def test_login_costs_one_real_hash_whatever_comes_of_it(service, people, computed):
    people.user("Ann")
    outcomes = {}
    for email, password in [
        ("ann@example.com", "correct horse battery"),
        ("ann@example.com", "wrong"),
        ("nobody@example.com", "wrong"),
        ("not an address", "wrong"),
    ]:
        computed.clear()
        try:
            service.sessions.log_in(LogIn(email=email, password=password))
            outcome = "in"
        except InvalidCredentials as error:
            outcome = type(error).__name__
        outcomes[email, password] = (outcome, len(computed))

    assert list(outcomes.values()) == [("in", 1)] + [("InvalidCredentials", 1)] * 3


def test_no_more_hashes_run_at_once_than_allowed(monkeypatch):
    slow = Slow(monkeypatch)
    hasher = BulkheadHasher(concurrency=2, queue=8, wait_seconds=PATIENCE)

    def let_go(stop):
        eventually(lambda: slow.running == 2)
        slow.go.set()

    with in_background(let_go):
        assert together([lambda: hasher.hash("x")] * 10) == ["x"] * 10
    assert slow.most == 2


def test_whoever_finds_the_queue_full_is_told_at_once(monkeypatch):
    slow = Slow(monkeypatch)
    hasher = BulkheadHasher(concurrency=2, queue=3, wait_seconds=PATIENCE)

    def call():
        try:
            return hasher.hash("x")
        except Unavailable as refusal:
            refused.append(refusal)
            if len(refused) == 7:
                slow.go.set()
            return "refused"

    refused = []
    outcomes = Counter(together([call] * 12))

    assert outcomes == {"x": 5, "refused": 7}
    assert all(refusal.retry_after >= 1 for refusal in refused)
    assert hasher.hash("x") == "x"  # the places are free again


def test_whoever_waits_too_long_is_told(monkeypatch):
    slow = Slow(monkeypatch)
    hasher = BulkheadHasher(concurrency=1, queue=5, wait_seconds=0.05)

    with in_background(lambda stop: hasher.hash("x")):
        eventually(lambda: slow.running == 1)
        with pytest.raises(Unavailable):
            hasher.hash("y")
        slow.go.set()
    assert hasher.hash("z") == "z"


def test_a_failed_hash_gives_its_place_back(monkeypatch):
    monkeypatch.setattr(hashing, "make_password", lambda password: 1 / 0)
    hasher = BulkheadHasher(concurrency=1, queue=0, wait_seconds=0.05)

    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            hasher.hash("x")
