"""Hashes that accounts bring from elsewhere, and ours of another cost: what is right for them, what they may
cost, and how they become ours (ASVS 5.0 11.4.2, 6.3.8)."""

import hashlib
import itertools
import json
import threading
from pathlib import Path

import pytest
from django.contrib.auth.hashers import (
    Argon2PasswordHasher,
    BCryptPasswordHasher,
    PBKDF2PasswordHasher,
    PBKDF2SHA1PasswordHasher,
    ScryptPasswordHasher,
)
from django.db import connection, connections, transaction
from structlog.testing import capture_logs

from tests.builders import a_user
from tests.fakes import InMemoryPasswordHashes, InMemoryUserRepository
from tests.fixtures import PASSWORD
from tests.system_crypt import needs_system_crypt
from tests.together import PATIENCE
from users.application.credentials import LogIn
from users.application.errors import InvalidCredentials, Unavailable
from users.infrastructure.passwords import blowfish, hashing, renewal, stored
from users.infrastructure.passwords.hashing import BulkheadHasher
from users.infrastructure.passwords.renewal import DatabasePasswordHashes
from users.infrastructure.passwords.stored import Unverifiable
from users.models import OutboxEvent, UserRecord
from users_domain.value_objects import UserId

VECTORS = Path(__file__).parents[1] / "data" / "foreign_hashes.json"

FOREIGN = {name: tuple(pair) for name, pair in json.loads(VECTORS.read_text()).items()}


class CheapArgon2(Argon2PasswordHasher):
    time_cost, memory_cost, parallelism = 1, 64, 2


class CheapBcrypt(BCryptPasswordHasher):
    rounds = 4


def of_django():
    for each in (PBKDF2PasswordHasher(), PBKDF2SHA1PasswordHasher()):
        yield each.algorithm, (PASSWORD, each.encode(PASSWORD, "pepper", 20))
    yield "scrypt", (PASSWORD, ScryptPasswordHasher().encode(PASSWORD, "pepper", n=16, r=2, p=1))
    for each in (CheapArgon2(), CheapBcrypt()):
        yield each.algorithm, (PASSWORD, each.encode(PASSWORD, each.salt()))


FORMS = [*FOREIGN, "pbkdf2_sha256", "pbkdf2_sha1", "scrypt", "argon2", "bcrypt"]


@pytest.fixture
def foreign():
    return FOREIGN | dict(of_django())


@pytest.fixture
def pauses():
    return []


@pytest.fixture
def hasher(pauses):
    return BulkheadHasher(concurrency=2, queue=8, wait_seconds=5, pause=pauses.append)


@pytest.fixture
def computed(monkeypatch):
    """What was computed, and of which function."""
    done = []
    for module, name in [
        (blowfish, "hashpw"), (hashlib, "pbkdf2_hmac"), (hashlib, "scrypt"), (stored, "hash_secret_raw")
    ]:  # fmt: skip
        real = getattr(module, name)

        def counted(*arguments, _real=real, _name=name, **options):
            done.append(_name)
            return _real(*arguments, **options)

        monkeypatch.setattr(module, name, counted)
    return done


@pytest.mark.parametrize("form", FORMS)
def test_a_hash_from_elsewhere_is_right_for_its_password_alone(hasher, foreign, form):
    password, password_hash = foreign[form]

    assert hasher.verify(password, password_hash)
    for wrong in ("", password[:-1], password.swapcase(), "x" + password, password_hash):
        assert not hasher.verify(wrong, password_hash)


@pytest.mark.parametrize("form", FORMS)
def test_a_hash_from_elsewhere_costs_one_hash_of_its_own_form(hasher, foreign, computed, form):
    hasher.verify("wrong", None)  # from now on the process knows how long ours take
    computed.clear()
    hasher.verify("wrong", foreign[form][1])

    assert len(computed) == 1
    assert (computed == ["hashpw"]) == ("bcrypt" in form or form in {"2a", "2b", "2y"})


@pytest.mark.parametrize("form", FORMS)
def test_a_hash_from_elsewhere_is_renewed_in_our_form(hasher, foreign, form):
    password, password_hash = foreign[form]
    renewed = hasher.renewed(password, password_hash)

    assert renewed.startswith("bcrypt_sha256$$2b$04$")
    assert hasher.verify(password, renewed)
    assert hasher.renewed(password, renewed) is None


def test_a_hash_of_a_lower_cost_is_renewed_at_the_one_of_the_settings(hasher, settings):
    at_four = hasher.hash(PASSWORD)
    settings.BCRYPT_COST = 5

    assert hasher.renewed(PASSWORD, at_four).startswith("bcrypt_sha256$$2b$05$")


@pytest.mark.parametrize("cost", [5, 11])
def test_a_hash_of_a_higher_cost_is_not_weakened(hasher, cost):
    dear = hasher.hash(PASSWORD).replace("$04$", f"${cost:02d}$")
    assert hasher.renewed(PASSWORD, dear) is None


# --- What no password is right for ----------------------------------------------------------------------

SALT, DIGEST = "c29tZXNhbHQ", "nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4"
TOO_DEAR = [
    "$2b$15$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW",
    "bcrypt_sha256$$2b$31$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW",
    f"$argon2id$v=19$m=131073,t=1,p=1${SALT}${DIGEST}",
    f"$argon2id$v=19$m=131072,t=9,p=1${SALT}${DIGEST}",
    f"$argon2id$v=19$m=64,t=9999999999,p=1${SALT}${DIGEST}",
    f"argon2$argon2id$v=19$m=131072,t=1,p=17${SALT}${DIGEST}",
    f"$pbkdf2-sha256$2000001${SALT}${DIGEST}",
    f"$pbkdf2-sha512$1000001${SALT}${DIGEST}",
    f"pbkdf2_sha1$1000001$salt${DIGEST}",  # two blocks of 20 bytes each
    f"pbkdf2_sha256$9999999999$salt${DIGEST}",
    f"$scrypt$ln=18,r=8,p=1${SALT}${DIGEST}",
    f"$scrypt$ln=17,r=8,p=3${SALT}${DIGEST}",
    f"$scrypt$ln=99,r=8,p=1${SALT}${DIGEST}",
    f"scrypt$16384$salt$8$999999${DIGEST}",
]
MALFORMED = [
    "plain text",
    "md5$salt$5f4dcc3b5aa765d61d8327deb882cf99",
    "5f4dcc3b5aa765d61d8327deb882cf99",
    "$2x$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW",
    "$2b$03$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW",
    "$2b$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOe",
    "bcrypt_sha256$",
    "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$AAAA",
    f"$argon2id$v=19$m=1,t=2,p=4${SALT}${DIGEST}",
    f"$argon2id$v=19$m=256,t=0,p=1${SALT}${DIGEST}",
    f"$argon2id$v=19$m=256,t=2,p=1$c29t${DIGEST}",
    f"$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQxx${DIGEST}",
    f"$argon2id$v=19$m=256,t=2,p=1${SALT}${DIGEST * 3}",
    f"pbkdf2_sha256$0$salt${DIGEST}",
    f"pbkdf2_sha256$٣$salt${DIGEST}",
    f"pbkdf2_md5$10$salt${DIGEST}",
    f"$scrypt$ln=0,r=8,p=1${SALT}${DIGEST}",
    f"scrypt$1000$salt$8$1${DIGEST}",
    f"scrypt$16$salt$0$1${DIGEST}",
]


@pytest.mark.parametrize("password_hash", TOO_DEAR)
def test_a_hash_that_would_be_too_dear_is_never_computed_and_costs_one_of_ours(
    hasher, computed, password_hash
):
    assert not hasher.verify("password", password_hash)
    assert computed == ["hashpw"]
    assert hasher.renewed("password", password_hash) is None


@pytest.mark.parametrize("password_hash", MALFORMED)
def test_a_hash_that_is_none_matches_nothing_and_costs_one_of_ours(hasher, computed, password_hash):
    hasher.verify("wrong", None)  # from now on the process knows how long ours take
    for password in ("password", "", password_hash):
        computed.clear()
        assert not hasher.verify(password, password_hash)
        assert computed.count("hashpw") == 1


@pytest.mark.parametrize(
    "password_hash",
    [
        "$2x$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW",
        f"$pbkdf2-sha256$10${SALT}${'A' * 20}",
        f"$pbkdf2-sha256$10${SALT}${'A' * 87}",
        f"$pbkdf2-sha256$10${SALT}${'A' * 21}",
    ],
    ids=["the bcrypt that was broken", "15 bytes", "65 bytes", "no bytes"],
)
def test_a_form_that_proves_too_little_is_refused_before_it_is_computed(password_hash):
    with pytest.raises(Unverifiable):
        stored.read(password_hash)
    for size in (22, 86):
        assert stored.read(f"$pbkdf2-sha256$10${SALT}${'A' * size}")


@pytest.mark.parametrize("form", FORMS)
def test_every_byte_of_a_digest_counts(hasher, foreign, form):
    password, password_hash = foreign[form]
    other = "A" if password_hash[-4] != "A" else "B"

    assert not hasher.verify(password, password_hash[:-4] + other + password_hash[-3:])


def test_the_dearest_hashes_that_are_allowed_are_computed():
    for password_hash in (
        "$2b$14$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW",
        f"$argon2id$v=19$m=131072,t=8,p=16${SALT}${DIGEST}",
        f"$pbkdf2-sha256$2000000${SALT}${DIGEST}",
        f"$scrypt$ln=17,r=8,p=2${SALT}${DIGEST}",
    ):
        assert stored.read(password_hash)


def test_our_own_cost_is_never_too_dear(settings):
    settings.BCRYPT_COST = 16
    assert (
        stored.read("bcrypt_sha256$$2b$16$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW").cost == 16
    )


@pytest.mark.parametrize("password_hash", [None, "", "!", "!unusable"])
def test_an_account_without_a_password_lets_nobody_in_at_the_price_of_one_hash(
    hasher, computed, password_hash
):
    with capture_logs() as logs:
        for password in ("", "!", "!unusable", "x"):
            computed.clear()
            assert not hasher.verify(password, password_hash)
            assert computed == ["hashpw"]
    assert logs == []


def test_what_cannot_be_verified_is_told_once_for_each_cause_and_without_the_hash(hasher, monkeypatch):
    with capture_logs() as logs:
        monkeypatch.setattr(hashing, "log", hashing.structlog.get_logger())
        for password_hash in [*TOO_DEAR, *MALFORMED, *TOO_DEAR]:
            hasher.verify("password", password_hash)

    told = [(line["form"], line["because"]) for line in logs]
    assert len(told) == len(set(told))
    assert {("argon2id", "too dear"), ("bcrypt", "too dear"), ("", "unknown form")} <= set(told)
    assert {(line["event"], line["log_level"]) for line in logs} == {
        ("password_hash_unverifiable", "warning")
    }
    assert not any(part in str(logs) for part in ("$", SALT, DIGEST, "5f4dcc"))


# --- Plain bcrypt's 72 bytes ------------------------------------------------------------------------------


def test_plain_bcrypt_looks_at_72_bytes_and_we_do_not_guess_the_rest(hasher):
    """Renewed, whatever was typed behind them would be the password from now on."""
    password, password_hash = FOREIGN["bcrypt, 72 bytes"]
    for rest in ("", " and more", "é" * 100):
        assert hasher.verify(password + rest, password_hash)
        assert (hasher.renewed(password + rest, password_hash) is None) == bool(rest)


def test_a_character_across_the_72nd_byte_is_no_fault(hasher):
    assert not hasher.verify("é" * 40 + "x", FOREIGN["2b"][1])
    assert not hasher.verify("x" * 71 + "é", FOREIGN["2b"][1])
    assert not hasher.verify("a\x00b", FOREIGN["2b"][1])


# --- Time --------------------------------------------------------------------------------------------------


def test_a_wrong_password_for_a_cheap_hash_takes_the_usual_time(hasher, foreign, pauses, settings):
    """Or it would tell that there is an account, and that it came from elsewhere."""
    settings.BCRYPT_COST = 8
    usual = hasher.hash(PASSWORD)
    for _ in range(3):
        hasher.verify("wrong", usual)
        hasher.verify("wrong", None)
    assert pauses == []

    for form in ("pbkdf2_sha256", "argon2id", "bcrypt"):
        hasher.verify("wrong", foreign[form][1])
    hasher.verify("wrong", usual.replace("$08$", "$04$"))
    assert [pause > 0.004 for pause in pauses] == [True] * 4
    assert max(pauses) < 1

    pauses.clear()
    assert hasher.verify(*foreign["pbkdf2_sha256"])
    assert pauses == []


@needs_system_crypt
@pytest.mark.parametrize("name", ["$2a$", "$2y$"])
def test_an_older_name_of_bcrypt_is_not_computed_in_another_way_than_nobodys(
    hasher, foreign, monkeypatch, name
):
    """Or the time would tell that there is an account, and spoil what counts as usual."""
    ours, theirs = hasher.hash(PASSWORD), foreign["bcrypt"][1]
    monkeypatch.setattr(blowfish.bcrypt, "hashpw", lambda *_: pytest.fail("the slower library was asked"))

    for password_hash in (None, ours.replace("$2b$", name), theirs.replace("$2b$", name)):
        assert not hasher.verify("wrong", password_hash)
        assert password_hash is None or hasher.verify(PASSWORD, password_hash)


def test_in_a_fresh_process_too(hasher, foreign, pauses, computed, settings):
    """Which has to learn the usual time first: the first one takes as long as it takes to do so."""
    settings.BCRYPT_COST = 8
    usual, cheap = hasher.hash(PASSWORD), foreign["pbkdf2_sha256"][1]
    computed.clear()
    for _ in range(2):
        hasher.verify("wrong", cheap)
    assert computed == ["pbkdf2_hmac", "hashpw", "pbkdf2_hmac"]
    assert pauses[0] == 0
    assert pauses[1] > 0.004
    hasher.verify("wrong", usual)
    assert len(pauses) == 2


def test_nobody_who_hashes_waits_for_whoever_pauses(foreign):
    resting, rested = threading.Event(), threading.Event()

    def rest(seconds):
        resting.set()
        assert rested.wait(PATIENCE)

    hasher = BulkheadHasher(concurrency=1, queue=1, wait_seconds=0, pause=rest)
    thread = threading.Thread(target=hasher.verify, args=("wrong", foreign["argon2id"][1]))
    thread.start()
    assert resting.wait(PATIENCE)
    try:
        assert hasher.hash("x")
        with hasher._bulkhead.room(), pytest.raises(Unavailable):  # but he counts: he holds a thread
            hasher.hash("y")
    finally:
        rested.set()
        thread.join()


def test_there_is_no_renewal_while_every_place_is_taken(foreign, monkeypatch):
    started, finished = threading.Event(), threading.Event()
    monkeypatch.setattr(hashing, "make_password", lambda password: started.set() or finished.wait(PATIENCE))
    hasher = BulkheadHasher(concurrency=1, queue=8, wait_seconds=60)
    thread = threading.Thread(target=hasher.hash, args=("x",))
    thread.start()
    assert started.wait(PATIENCE)
    try:
        assert hasher.renewed(*foreign["argon2id"]) is None
    finally:
        finished.set()
        thread.join()


# --- Stored ------------------------------------------------------------------------------------------------


@pytest.fixture(params=["fake", "real"])
def kept(request):
    """Both kinds of PasswordHashes, with a user whose hash is `old`, and how to ask for it."""
    if request.param == "fake":
        user = a_user(password_hash="old")
        users = InMemoryUserRepository(user)
        return InMemoryPasswordHashes(users), user.id, lambda: users.stored[user.id].password_hash
    user_id = request.getfixturevalue("people").user("Ann")
    UserRecord.objects.update(password_hash="old")
    hashes = UserRecord.objects.filter(id=user_id).values_list("password_hash", flat=True)
    return DatabasePasswordHashes(), UserId.parse(user_id), hashes.get


def test_a_hash_is_replaced_if_it_is_still_the_old_one(kept):
    hashes, user_id, now = kept

    assert hashes.replace(user_id, "old", "new") is True
    assert now() == "new"
    assert hashes.replace(user_id, "old", "newer") is False
    assert now() == "new"
    assert hashes.replace(UserId.new(), "new", "newer") is False
    assert now() == "new"


def test_whoever_is_changing_the_user_right_now_is_not_waited_for(people, monkeypatch):
    ann = people.user("Ann")
    UserRecord.objects.update(password_hash="old")
    locked, done = threading.Event(), threading.Event()

    def change():
        try:
            with transaction.atomic():
                UserRecord.objects.select_for_update().get(id=ann)
                locked.set()
                done.wait(PATIENCE)
        finally:
            connections.close_all()

    thread = threading.Thread(target=change)
    thread.start()
    assert locked.wait(PATIENCE)
    try:
        with capture_logs() as logs:
            monkeypatch.setattr(renewal, "log", renewal.structlog.get_logger())
            assert DatabasePasswordHashes().replace(UserId.parse(ann), "old", "new") is False
        assert logs == []  # as there are when it has waited for its lock in vain
    finally:
        done.set()
        thread.join()
    assert DatabasePasswordHashes().replace(UserId.parse(ann), "old", "new") is True


def test_a_database_that_fails_makes_no_login_fail_and_no_log_tell_the_hash(people, monkeypatch):
    ann = UserId.parse(people.user("Ann"))
    with connection.cursor() as cursor:
        cursor.execute("SET default_transaction_read_only = on")
    try:
        with capture_logs() as logs:
            monkeypatch.setattr(renewal, "log", renewal.structlog.get_logger())
            assert DatabasePasswordHashes().replace(ann, "old-hash", "new-hash") is False
    finally:
        with connection.cursor() as cursor:
            cursor.execute("SET default_transaction_read_only = off")
    assert [line["event"] for line in logs] == ["password_hash_not_renewed"]
    assert "-hash" not in str(logs)


# --- At login ----------------------------------------------------------------------------------------------

ANN = LogIn(email="ann@example.com", password=PASSWORD)


def row():
    return UserRecord.objects.values().get()


@pytest.mark.parametrize("form", ["pbkdf2_sha256", "argon2", "bcrypt", "scrypt"])
def test_a_migrated_account_logs_in_and_has_our_hash_from_then_on(service, people, foreign, form):
    people.user("Ann")
    UserRecord.objects.update(password_hash=foreign[form][1])
    before, events = row(), OutboxEvent.objects.count()

    with pytest.raises(InvalidCredentials):
        service.sessions.log_in(LogIn(email="ann@example.com", password="wrong"))
    assert row() == before
    service.sessions.log_in(ANN)

    after = row()
    assert after["password_hash"].startswith("bcrypt_sha256$$2b$04$")
    assert after | {"password_hash": ""} == before | {"password_hash": ""}  # nor a version, nor a time
    assert OutboxEvent.objects.count() == events
    service.sessions.log_in(ANN)
    assert row() == after


def test_tokens_and_reads_from_before_the_renewal_stay_good(people, foreign):
    people.user("Ann")
    first = people.log_in("Ann")
    tag = first("GET", "/users/me")["ETag"]
    UserRecord.objects.update(password_hash=foreign["pbkdf2_sha256"][1])

    people.log_in("Ann")
    again = first("GET", "/users/me", if_none_match=tag)
    assert again.status_code == 304
    assert row()["password_hash"].startswith("bcrypt_sha256$")


def test_a_login_to_the_admin_pages_renews_and_stays_logged_in(people, anyone, foreign):
    people.staff("operator")
    UserRecord.objects.update(password_hash=foreign["argon2"][1])

    assert anyone.client.login(username="operator@example.com", password=PASSWORD)
    assert row()["password_hash"].startswith("bcrypt_sha256$")
    assert anyone.client.get("/admin/").status_code == 200


def test_a_login_succeeds_though_its_hash_cannot_be_renewed(service, people, foreign, monkeypatch):
    people.user("Ann")
    UserRecord.objects.update(password_hash=foreign["argon2"][1])
    for name in ("renewed", "replace"):
        before = row()
        with monkeypatch.context() as patched:
            target = service.credentials._hasher if name == "renewed" else DatabasePasswordHashes
            patched.setattr(target, name, lambda *_: None)
            service.sessions.log_in(ANN)
        assert row() == before


def test_a_failed_login_costs_one_hash_whatever_the_account_has(service, people, foreign, computed):
    """ASVS 5.0 6.3.8, as far as it goes: dearer hashes take their time until they are renewed."""
    people.user("Ann")
    for password_hash in itertools.chain(
        ["", "!", TOO_DEAR[0], MALFORMED[0]], (foreign[form][1] for form in FORMS)
    ):
        UserRecord.objects.update(password_hash=password_hash)
        computed.clear()
        with pytest.raises(InvalidCredentials):
            service.sessions.log_in(LogIn(email="ann@example.com", password="wrong"))
        assert len(computed) == 1


def test_a_password_is_changed_with_a_hash_from_elsewhere(people, foreign):
    people.user("Ann")
    own = people.log_in("Ann")
    UserRecord.objects.update(password_hash=foreign["scrypt"][1])
    body = {"current_password": PASSWORD, "new_password": "another battery horse"}

    assert own("PUT", "/users/me/password", body).status_code == 204
    assert row()["password_hash"].startswith("bcrypt_sha256$")
    assert people.log_in("Ann", password="another battery horse")
