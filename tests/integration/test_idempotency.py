"""Idempotency-Key over HTTP and PostgreSQL: the same key means the same answer, and one user."""

from datetime import timedelta

import pytest
from django.db.models import F

from tests.fixtures import Api
from tests.together import together
from users.models import IdempotencyRecord, OutboxEvent, UserRecord

ANN = {"email": "ann@example.com", "name": "Ann", "password": "correct horse"}


def register(caller=None, key="k1", **changed):
    return (caller or Api())("POST", "/users", ANN | changed, idempotency_key=key)


def counted():
    return UserRecord.objects.count(), OutboxEvent.objects.count(), IdempotencyRecord.objects.count()


def test_a_repeat_gets_the_very_same_answer(database):
    first, again = register(), register()

    assert first.status_code == again.status_code == 201
    assert again.content == first.content
    for header in ("Location", "ETag"):
        assert again[header] == first[header]
    assert counted() == (1, 1, 1)


def test_a_repeat_is_answered_as_it_was_then(service, people, admin):
    first = register()
    admin("PATCH", f"/users/{first.json()['id']}", {"name": "Anna"})

    assert register().content == first.content


@pytest.mark.parametrize(
    "changed", [{"email": "bob@example.com"}, {"name": "Bob"}, {"password": "another horse"}]
)
def test_the_key_of_another_request_is_refused(database, changed):
    register()
    answer = register(**changed)

    assert (answer.status_code, answer.json()["error"]) == (422, "idempotency_key_reused")
    assert counted() == (1, 1, 1)


def test_sixteen_at_once_make_one_user_and_all_hear_the_same(database):
    for round_ in range(3):
        answers = together([lambda n=round_: register(key=f"k{n}", email=f"ann{n}@example.com")] * 16)

        assert {answer.status_code for answer in answers} == {201}, [a.content for a in answers]
        assert len({answer.content for answer in answers}) == 1
    assert counted() == (3, 3, 3)


def test_of_different_requests_at_once_with_one_key_one_wins(database):
    answers = together([lambda n=n: register(email=f"ann{n}@example.com") for n in range(8)])

    assert sorted(answer.status_code for answer in answers) == [201] + [422] * 7
    assert counted() == (1, 1, 1)


def test_a_key_is_good_for_a_day(database):
    register()
    IdempotencyRecord.objects.update(created_at=F("created_at") - timedelta(hours=23, minutes=59))
    assert register().status_code == 201

    IdempotencyRecord.objects.update(created_at=F("created_at") - timedelta(minutes=2))
    assert register().status_code == 409  # a new request, and the address is taken
    assert register(email="bob@example.com").status_code == 201
    assert counted() == (2, 2, 1)


def test_an_expired_key_is_taken_by_one_of_many_at_once(database):
    register()
    IdempotencyRecord.objects.update(created_at=F("created_at") - timedelta(days=2))

    answers = together([lambda: register(email="bob@example.com")] * 8)

    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    assert counted() == (2, 2, 1)


def test_a_key_belongs_to_its_caller(people):
    for name in ("Cid", "Dan"):
        people.user(name)
    callers = [None, people.log_in("Cid"), people.log_in("Dan")]

    answers = [register(caller, email=f"u{n}@example.com") for n, caller in enumerate(callers)]

    assert [answer.status_code for answer in answers] == [201] * 3
    assert [register(caller, email=f"u{n}@example.com").content for n, caller in enumerate(callers)] == [
        answer.content for answer in answers
    ]


def test_a_refused_request_leaves_its_key_free(people):
    people.user("Ann")

    assert register().status_code == 409
    assert register(name="A").status_code == 400
    assert IdempotencyRecord.objects.count() == 0
    assert register(email="bob@example.com").status_code == 201


@pytest.mark.parametrize("key", ["", "x" * 256, "ключ", "a\tb"])
def test_what_is_no_key_is_refused(database, key):
    answer = register(key=key)

    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")
    assert counted() == (0, 0, 0)


def test_nothing_of_the_password_is_kept(database):
    register()

    record = IdempotencyRecord.objects.values().get()
    assert "correct horse" not in str(record)
    assert record["fingerprint"] != ""
