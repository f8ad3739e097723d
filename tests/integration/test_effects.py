"""What makes tokens worthless does so at the very next request: with Redis up, stopped before it, or emptied
around it."""

import time

import pytest

from tests.builders import an_actor, an_admin
from tests.fixtures import PASSWORD, Api
from users.application.commands import BlockUser, ChangePassword, ChangeRoles
from users.application.credentials import LogIn
from users.application.errors import InvalidToken
from users.application.privacy import EraseUser
from users.models import RefreshToken
from users_domain.value_objects import Actor

ADMIN = an_actor(an_admin())
ANN = LogIn(email="ann@example.com", password=PASSWORD)


def block(service, user_id, tokens):
    service.commands.block(BlockUser(user_id=user_id, reason="spam", by=ADMIN))


def erase(service, user_id, tokens):
    service.privacy.erase(EraseUser(user_id=user_id, by=ADMIN))


def new_password(service, user_id, tokens):
    command = ChangePassword(
        user_id=user_id, current_password=PASSWORD, new_password="another battery horse", by=Actor(user_id)
    )
    service.commands.change_password(command)


def new_roles(service, user_id, tokens):
    service.commands.change_roles(ChangeRoles(user_id=user_id, roles=("service",), by=ADMIN))


def log_out_everywhere(service, user_id, tokens):
    service.sessions.log_out_everywhere(user_id, by=Actor(user_id))


def log_out(service, user_id, tokens):
    service.sessions.log_out(tokens.refresh)


def end_the_session(service, user_id, tokens):
    [session] = [each for each in service.sessions.of(user_id) if each.user_agent == "this one"]
    service.sessions.end(user_id, str(session.id), by=Actor(user_id))


def copy_the_refresh_token(service, user_id, tokens):
    service.sessions.refresh(tokens.refresh)
    RefreshToken.objects.update(issued_at="2020-01-01T00:00:00Z")
    RefreshToken.objects.exclude(consumed_at=None).update(consumed_at="2020-01-01T00:00:00Z")
    with pytest.raises(InvalidToken):
        service.sessions.refresh(tokens.refresh)


OF_ALL_SESSIONS = [block, erase, new_password, new_roles, log_out_everywhere]
OF_ONE_SESSION = [log_out, end_the_session, copy_the_refresh_token]


@pytest.mark.parametrize("redis_is", ["up", "stopped", "emptied before", "emptied after"])
@pytest.mark.parametrize("act", [*OF_ALL_SESSIONS, *OF_ONE_SESSION], ids=lambda act: act.__name__)
def test_the_very_next_request_is_refused(service, people, fragile_redis, redis_client, act, redis_is):
    user_id = people.user("Ann")
    tokens = service.sessions.log_in(LogIn(email=ANN.email, password=PASSWORD, user_agent="this one"))
    elsewhere = service.sessions.log_in(ANN)
    here, there = Api(tokens.access), Api(elsewhere.access)
    for api in (here, there, here, there):
        assert api("GET", "/users/me").status_code == 200  # in the cache now

    if redis_is == "stopped":
        fragile_redis.stop()
    elif redis_is == "emptied before":
        redis_client.flushall()
    act(service, user_id, tokens)
    if redis_is == "emptied after":
        redis_client.flushall()

    for _ in range(2):
        assert refusal(here("GET", "/users/me")) == "invalid_token"
    with pytest.raises(InvalidToken):
        service.sessions.refresh(tokens.refresh)
    if act in OF_ALL_SESSIONS:
        assert refusal(there("GET", "/users/me")) == "invalid_token"
        with pytest.raises(InvalidToken):
            service.sessions.refresh(elsewhere.refresh)
    else:
        assert there("GET", "/users/me").status_code == 200
        assert service.sessions.refresh(elsewhere.refresh)


def refusal(answer):
    return answer.json().get("error", answer.status_code)


@pytest.mark.parametrize("act", [block, log_out], ids=lambda act: act.__name__)
def test_a_token_stays_refused_when_redis_comes_back_with_what_it_had(
    service, people, fragile_redis, redis_client, act
):
    """This process alone could not reach it: the old entry is still there, and believed by nobody."""
    user_id = people.user("Ann")
    tokens = service.sessions.log_in(ANN)
    here = Api(tokens.access)
    assert [here("GET", "/users/me").status_code for _ in range(2)] == [200, 200]
    service.redis._failed, service.redis._try_at = service.redis._limit, time.monotonic() + 0.2

    act(service, user_id, tokens)

    until = time.monotonic() + 0.4
    while time.monotonic() < until:
        assert refusal(here("GET", "/users/me")) == "invalid_token"
        time.sleep(0.01)
