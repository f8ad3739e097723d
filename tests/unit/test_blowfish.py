"""The system's bcrypt says what the library's says, or is not asked."""

import random
import string
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import bcrypt
import pytest

from tests.system_crypt import needs_system_crypt
from users.infrastructure.passwords import blowfish
from users.infrastructure.passwords.blowfish import hashpw, system_hash

SALT = b"$2b$04$abcdefghijklmnopqrstuu"


def passwords(number: int) -> list[bytes]:
    """With every byte and length that is taken."""
    chance = random.Random(7)
    return [chance.randbytes(length % 73).replace(b"\0", b"\xff") for length in range(number)]


@needs_system_crypt
def test_both_say_the_same() -> None:
    system = system_hash()
    assert system
    for password in passwords(146):
        salt = bcrypt.gensalt(4)
        assert system(password, salt) == bcrypt.hashpw(password, salt) == hashpw(password, salt)


@needs_system_crypt
@pytest.mark.parametrize("name", [b"2a", b"2y"])
def test_they_do_of_its_older_names_too_and_each_takes_the_faster_way(
    monkeypatch: pytest.MonkeyPatch, name: bytes
) -> None:
    salts = [bcrypt.gensalt(4).replace(b"2b", name) for _ in range(146)]
    words = [*passwords(145), b"\xff\xff\xa3"]  # of the last one libxcrypt computes another 2a
    expected = list(map(bcrypt.hashpw, words, salts))
    monkeypatch.setattr(bcrypt, "hashpw", lambda *_: pytest.fail("was asked"))
    assert list(map(hashpw, words, salts)) == expected
    assert list(map(hashpw, words, expected)) == expected


@needs_system_crypt
def test_a_hash_is_as_good_as_a_salt() -> None:
    kept = bcrypt.hashpw(b"correct horse", SALT)
    assert hashpw(b"correct horse", kept) == kept
    assert hashpw(b"correct horsf", kept) != kept


@needs_system_crypt
def test_many_at_once_do_not_meet() -> None:
    words = passwords(300)
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda word: hashpw(word, SALT), words))
    assert found == [bcrypt.hashpw(word, SALT) for word in words]


@needs_system_crypt
def test_others_go_on_meanwhile() -> None:
    """It does not hold the interpreter's lock: nobody else stands still for as long as it takes."""
    assert any(longest_stop() < 0.2 for _ in range(10))


def longest_stop() -> float:
    """Of this thread, as a part of the time that a hash takes in another."""
    computing = threading.Thread(target=hashpw, args=(b"correct horse", SALT.replace(b"04", b"12")))
    moments = [time.perf_counter()]  # before: with the lock held, start returns when the hash is done
    computing.start()
    while computing.is_alive():
        moments.append(time.perf_counter())
    return max(b - a for a, b in pairwise(moments)) / (moments[-1] - moments[0])


@pytest.mark.parametrize(
    ("password", "salt"),
    [
        (b"with a \0 inside", SALT),
        (b"\xff\xa3345", SALT.replace(b"2b", b"2x")),
    ],
)
def test_what_they_might_see_differently_is_for_the_library(
    monkeypatch: pytest.MonkeyPatch, password: bytes, salt: bytes
) -> None:
    monkeypatch.setattr(blowfish, "_system", lambda *_: pytest.fail("was asked"))
    assert outcome(hashpw, password, salt) == outcome(bcrypt.hashpw, password, salt)


CHARACTERS = (string.ascii_letters + string.digits + "./").encode()


def outcome(hash_: blowfish.Hash, password: bytes, salt: bytes) -> bytes | str:
    try:
        return hash_(password, salt)
    except ValueError as error:
        return str(error)


@pytest.mark.parametrize("rest", [b"", b"$", b"x", b"x" * 30, b"x" * 31, b"x" * 32, b"$" + b"x" * 30, b"\n"])
def test_of_every_salt_they_say_the_same(rest: bytes) -> None:
    """The system would take bits that do not count for others, and what stands behind for its own."""
    for last in (*CHARACTERS, *b"$\n"):
        salt = SALT[:-1] + bytes([last]) + rest
        assert outcome(hashpw, b"correct horse", salt) == outcome(bcrypt.hashpw, b"correct horse", salt)


@pytest.mark.parametrize(
    ("password", "salt"),
    [
        (b"x", b"$2b$03$abcdefghijklmnopqrstuu"),
        (b"x", b"$2b$04$short"),
        (b"x", b"nonsense"),
        (b"x" * 73, SALT),
    ],
)
def test_nonsense_is_an_error_as_ever(password: bytes, salt: bytes) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        hashpw(password, salt)


def test_a_library_that_is_not_there_or_says_something_else_is_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert system_hash("libnowhere.so.1") is None
    assert system_hash("libm.so.6") is None
    monkeypatch.setattr(blowfish, "KNOWN", (b"correct horse battery", SALT + b"x" * 31))
    assert system_hash() is None
    monkeypatch.setattr(blowfish, "_system", None)
    assert hashpw(b"correct horse", SALT) == bcrypt.hashpw(b"correct horse", SALT)
