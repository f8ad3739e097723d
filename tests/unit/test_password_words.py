"""Words that are guessed first (ASVS 5.0 6.1.2, 6.2.11): which they are, and what is made of them alone."""

import time

import pytest

from users.infrastructure.passwords.words import made_of, words_of, words_of_email, words_of_service


@pytest.mark.parametrize(
    ("email", "words"),
    [
        ("ann.smith@example.com", {"ann", "smith", "annsmith", "example"}),
        ("ann-77_lee+shop@mail.acme.co.uk", {"ann", "lee", "shop", "annleeshop", "mail", "acme"}),
        ("a@b.example", set()),
        ("jo@ibm.com", {"jo", "ibm"}),
        ("jo@x.ibm.com", {"jo", "ibm"}),
        ("jo@xn--bcher-kva.example", {"jo", "bucher"}),
        ("jo@xn--" + "0" * 40 + ".example", {"jo", "xn"}),
        ("josé@localhost", {"jose", "localhost"}),
    ],
)
def test_the_words_of_an_address_are_its_parts_without_what_is_everybodys(email, words):
    assert words_of_email(email) == words


@pytest.mark.parametrize(
    ("issuer", "words"),
    [
        ("user-service", {"user", "service", "userservice"}),
        ("https://id.acme.co.uk/accounts", {"id", "acme", "accounts"}),
        ("Acme", {"acme"}),
        ("", set()),
    ],
)
def test_the_words_of_the_service_are_those_of_its_name(issuer, words):
    assert words_of_service(issuer) == words


def test_the_settings_add_words_to_those_of_the_service():
    assert words_of_service("acme", ["Road Runner", "coyote7"]) == {
        "acme", "road", "runner", "roadrunner", "coyote"
    }  # fmt: skip


@pytest.mark.parametrize(
    "password",
    [
        "annsmith",
        "AnnSmith",
        "ann.smith1985",
        "smith smith ann",
        "!!Ann--Smith--2024!!",
        "4nn5m1th",
        "@nn$m!th",
        "ＡＮＮＳＭＩＴＨ",
        "ännsmith",
        "annannannann",
        "sm1thsm1thann",
        "ann 12345678 smith",
    ],
)
def test_words_alone_however_they_are_written_make_no_password(password):
    assert made_of(password, {"ann", "smith"})


@pytest.mark.parametrize(
    "password",
    [
        "ann smith battery staple",
        "annsmithx",
        "xannsmith",
        "ann and smith",
        "smit hann",
        "12345678",
        "!!!!!!!!",
        "",
        "correct horse battery",
    ],
)
def test_a_letter_that_is_in_none_of_the_words_makes_it_somebodys_own(password):
    assert not made_of(password, {"ann", "smith"})


def test_without_words_nothing_is_made_of_them():
    assert not made_of("anything", set())


def test_words_of_other_scripts_count_as_well():
    assert made_of("Анна-Анна-1985", words_of("Анна Каренина"))
    assert made_of("王伟王伟王伟王伟", words_of("王伟"))
    assert made_of("김철수김철수99", words_of("김철수"))
    assert words_of("आशा") == {"आशा"}
    assert not made_of("Анна и каша", words_of("Анна Каренина"))


def test_single_letters_are_no_words():
    assert words_of("J. R. R. Tolkien") == {"tolkien", "jrrtolkien"}


def test_the_worst_name_and_password_take_no_time():
    words = words_of(" ".join(first + second for first in "abcde" for second in "abcdefg")) | words_of(
        "ab" * 50
    )
    before = time.process_time()
    made_of("ab" * 127 + "x", words)
    assert time.process_time() - before < 0.1
