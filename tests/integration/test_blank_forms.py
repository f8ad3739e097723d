"""Forms are filled in again and again, and nothing of one request is left for the next."""

import gc
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.http import QueryDict
from rest_framework.exceptions import ValidationError
from rest_framework.serializers import Serializer

from users.api import blank_forms, serializers
from users.api.blank_forms import fill_in

SECRET = "kept by nobody 7319"


@pytest.mark.parametrize("data", [{}, [], None, "text", {"email": 1, "password": None}, {"hat": "red"}])
def test_one_that_was_filled_in_badly_complains_as_a_new_one_and_is_blank_again(data: Any) -> None:
    good = {"email": "ann@example.com", "password": SECRET}
    new = serializers.LogInBody(data=data)
    assert not new.is_valid()
    for _ in range(2):
        assert fill_in(serializers.LogInBody, good) == good
        with pytest.raises(ValidationError) as refusal:
            fill_in(serializers.LogInBody, data)
        assert refusal.value.detail == new.errors


def test_what_was_left_out_is_not_what_was_there_before() -> None:
    assert fill_in(serializers.PageQuery, QueryDict("limit=7&cursor=x")) == {"limit": 7, "cursor": "x"}
    assert fill_in(serializers.PageQuery, QueryDict("")) == {"limit": 50}


def test_nothing_written_stays_on_it() -> None:
    fill_in(serializers.LogInBody, {"email": "ann@example.com", "password": SECRET})
    with pytest.raises(ValidationError):
        fill_in(serializers.LogInBody, {"password": SECRET})
    gc.collect()
    for form in blank_forms._blank[serializers.LogInBody]:
        written = [vars(form), *map(vars, form.fields.values())]
        assert SECRET not in repr(written)


def test_at_the_same_time_each_has_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blank_forms, "_blank", type(blank_forms._blank)(list))
    made: list[Serializer[Any]] = []

    class Greeting(serializers.StrictSerializer):
        name = serializers.Text()

        def __init__(self) -> None:
            super().__init__()
            made.append(self)

        def validate(self, attributes: dict[str, Any]) -> dict[str, Any]:
            if attributes["name"] == "outer":
                assert fill_in(Greeting, {"name": "inner"}) == {"name": "inner"}
            return attributes

    assert fill_in(Greeting, {"name": "outer"}) == {"name": "outer"}
    assert len(made) == 2
    with ThreadPoolExecutor(8) as threads:
        names = [{"name": str(number)} for number in range(400)]
        assert list(threads.map(lambda data: fill_in(Greeting, data), names)) == names
    assert len(made) <= 9
