"""Races through the whole HTTP stack, in real threads on real servers: the losers are told so, and the world
stays whole."""

import threading
from collections import Counter
from functools import partial

import pytest

from tests.fixtures import PASSWORD, Api
from tests.together import PATIENCE, together
from users.models import OutboxEvent, UserRecord

CROWD = 64
ROUNDS = 10


def outcomes(answers):
    """How many of each status and code; any exception or 5xx shows up as it is."""
    return Counter(
        answer
        if isinstance(answer, Exception)
        else (answer.status_code, answer.json()["error"])
        if answer.status_code >= 400
        else answer.status_code
        for answer in answers
    )


def in_rounds(call):
    """What comes of CROWD callers at the same moment, ROUNDS times; each does `call(round, n)`. They keep
    their threads and so their connections, which take longer to make than all they ask for."""
    gate = threading.Barrier(CROWD)

    def caller(n):
        answers = []
        for round_ in range(ROUNDS):
            gate.wait(PATIENCE)
            answers.append(call(round_, n))
        return answers

    told = together([partial(caller, n) for n in range(CROWD)])
    return outcomes(answer for answers in told for answer in answers)


def events_of(user_id):
    return list(
        OutboxEvent.objects.filter(user_id=user_id).order_by("id").values_list("user_version", flat=True)
    )


def test_of_64_simultaneous_registrations_of_one_address_one_succeeds_ten_times(database):
    def register(round_, n):
        email = (f"ann{round_}@example.com", f"ANN{round_}@Example.COM")[n % 2]
        return Api()("POST", "/users", {"email": email, "name": f"Ann {n}", "password": "correct horse"})

    assert in_rounds(register) == {201: ROUNDS, (409, "user_already_exists"): ROUNDS * (CROWD - 1)}
    assert UserRecord.objects.count() == OutboxEvent.objects.count() == ROUNDS


def test_of_64_simultaneous_updates_from_one_version_one_succeeds_ten_times(people):
    user_id = people.user("Ann")
    token = people.log_in("Ann").token

    def rename(round_, n):
        body = {"name": f"Ann {round_} {n}"}
        return Api(token)("PATCH", f"/users/{user_id}", body, if_match=f'"{round_ + 1}"')

    assert in_rounds(rename) == {200: ROUNDS, (412, "version_mismatch"): ROUNDS * (CROWD - 1)}
    assert UserRecord.objects.get(id=user_id).version == ROUNDS + 1
    assert events_of(user_id) == list(range(1, ROUNDS + 2))


def test_without_a_version_each_success_counts_and_the_rest_is_told_to_try_again(people):
    user_id = people.user("Ann")
    token = people.log_in("Ann").token

    total = outcomes(
        together(
            [
                lambda n=n: Api(token)("PATCH", f"/users/{user_id}", {"name": f"Name {n}"})
                for n in range(CROWD // 2)
            ]
        )
    )

    assert set(total) <= {200, (409, "concurrent_update")}
    assert total[200] >= 4
    assert UserRecord.objects.get(id=user_id).version == 1 + total[200]
    assert events_of(user_id) == list(range(1, total[200] + 2))


@pytest.mark.parametrize("round_", range(5))
def test_two_admins_who_demote_each_other_at_once_leave_one(people, round_):
    ids = [people.staff("admin", name) for name in ("Ada", "Eve")]
    ada, eve = (people.log_in(name) for name in ("Ada", "Eve"))

    answers = together(
        [
            lambda: ada("PUT", f"/users/{ids[1]}/roles", {"roles": []}),
            lambda: eve("PUT", f"/users/{ids[0]}/roles", {"roles": []}),
        ]
    )

    assert UserRecord.objects.filter(roles__contains=["admin"], status="active").count() == 1
    assert sorted(answer.status_code for answer in answers)[0] == 200
    assert sorted(answer.status_code for answer in answers)[1] in {401, 403}


def test_three_admins_who_block_each_other_in_a_circle_leave_one(people):
    names = ("Ada", "Eve", "Ida")
    ids = [people.staff("admin", name) for name in names]
    callers = [people.log_in(name) for name in names]

    together(
        [
            lambda n=n: callers[n]("POST", f"/users/{ids[(n + 1) % 3]}/block", {"reason": "coup"})
            for n in range(3)
        ]
    )

    assert UserRecord.objects.filter(roles__contains=["admin"], status="active").count() >= 1


def test_of_many_who_block_one_user_at_once_one_does(people, operator):
    user_id = people.user("Ann")

    total = outcomes(
        together(
            [
                lambda n=n: Api(operator.token)("POST", f"/users/{user_id}/block", {"reason": f"spam {n}"})
                for n in range(16)
            ]
        )
    )

    assert total == {200: 1, (409, "user_already_blocked"): 15}
    assert events_of(user_id) == [1, 2]


def test_a_block_and_an_unblock_at_once_are_one_after_the_other(people, operator):
    user_id = people.user("Ann")
    for _ in range(5):
        answers = together(
            [lambda: Api(operator.token)("POST", f"/users/{user_id}/block", {"reason": "spam"})]
            + [lambda: Api(operator.token)("POST", f"/users/{user_id}/unblock")] * 2
        )
        assert {answer.status_code for answer in answers} <= {200, 409}
    record = UserRecord.objects.get(id=user_id)
    assert events_of(user_id) == list(range(1, record.version + 1))
    assert (record.status == "blocked") == (record.block_reason is not None)


def test_an_address_wanted_by_two_existing_users_goes_to_one(people):
    tokens = []
    for name in ("Ann", "Bob"):
        people.user(name)
        tokens.append(people.log_in(name).token)

    answers = together(
        [
            lambda token=token: Api(token)(
                "PUT", "/users/me/email", {"email": "new@example.com", "password": PASSWORD}
            )
            for token in tokens
        ]
    )

    assert outcomes(answers) == {200: 1, (409, "user_already_exists"): 1}
