"""The public vocabulary: error codes, and the names of events. Clients and consumers branch on both."""

import dataclasses
import inspect
import re
from types import ModuleType

import pytest

from tests.builders import NOW
from users_domain import errors, events
from users_domain.errors import DomainError, InvalidValue
from users_domain.value_objects import UserId

BRANCHES = (errors.DomainError, errors.InvalidValue, errors.NotFound, errors.Conflict)
"""They group; only what is below them is raised."""

CODES = {
    "invalid_request",
    "user_not_found",
    "user_already_exists",
    "user_already_blocked",
    "user_not_blocked",
    "email_unchanged",
    "concurrent_update",
    "version_mismatch",
    "forbidden",
    "wrong_password",
    "user_blocked",
}
"""DESIGN section 2, as far as the domain speaks them."""


def declared_in(module: ModuleType, root: type) -> list[type]:
    """All below `root`; other modules may add their own. (`__subclasses__` would show each dataclass with
    slots twice.)"""
    classes = [thing for _, thing in inspect.getmembers(module, inspect.isclass)]
    return [thing for thing in classes if issubclass(thing, root) and thing is not root]


def drawn_tree(drawing: str) -> dict[str, str]:
    """Child to parent, read from the box drawing of a docstring."""
    parents, open_branches = {}, []
    for line in drawing.splitlines():
        match = re.match(r"^(?P<rails>[ │├└─]*)(?P<name>[A-Z]\w+)(\s{2,}.*)?$", line)
        if match and (open_branches or match["name"] == "DomainError"):
            column = len(match["rails"])
            while open_branches and open_branches[-1][0] >= column:
                open_branches.pop()
            if open_branches:
                parents[match["name"]] = open_branches[-1][1]
            open_branches.append((column, match["name"]))
    return parents


ALL_ERRORS = declared_in(errors, DomainError)
RAISED = [error for error in ALL_ERRORS if error not in BRANCHES]


def named(thing: type) -> str:
    return thing.__name__


class TestErrors:
    def test_the_tree_drawn_in_the_modules_docstring_is_the_tree_of_the_classes(self):
        real = {error.__name__: error.__base__.__name__ for error in ALL_ERRORS}

        assert drawn_tree(inspect.getdoc(errors)) == real

    def test_a_drawing_that_is_wrong_is_told_apart(self):
        """The reader of the drawing sees a moved and a missing class."""
        drawing = inspect.getdoc(errors)
        moved = drawing.replace("     │    ├── EmailUnchanged", "     ├── EmailUnchanged")
        missing = drawing.replace("     │    ├── EmailUnchanged\n", "")
        assert moved != drawing != missing

        assert drawn_tree(moved)["EmailUnchanged"] == "DomainError"
        assert "EmailUnchanged" not in drawn_tree(missing)

    @pytest.mark.parametrize("error", RAISED, ids=named)
    def test_each_says_something_and_has_a_public_code(self, error):
        raised = error()

        assert raised.code in CODES
        assert re.fullmatch(r"[A-Z].{9,}\.", str(raised))

    def test_every_code_of_the_contract_is_used(self):
        assert {error.code for error in RAISED} == CODES

    @pytest.mark.parametrize("error", BRANCHES, ids=named)
    def test_a_branch_is_never_raised_itself(self, error):
        with pytest.raises(AttributeError):
            error()

    @pytest.mark.parametrize("error", RAISED, ids=named)
    def test_each_takes_a_sentence_of_its_own(self, error):
        assert str(error("Something more exact.")) == "Something more exact."

    @pytest.mark.parametrize("error", declared_in(errors, InvalidValue), ids=named)
    def test_an_invalid_value_tells_its_field_and_what_is_wrong(self, error):
        plain, exact = error(), error(reason="too_long", field="elsewhere")

        assert (plain.at, plain.reason) == (error.field, "invalid")
        assert (exact.at, exact.reason) == ("elsewhere", "too_long")

    def test_only_codes_that_mean_the_same_are_shared(self):
        """Two errors with one code must be of one kind: the status follows from it."""
        for code in CODES - {"invalid_request", "forbidden"}:
            assert len([error for error in RAISED if error.code == code]) == 1
        assert {error.__base__ for error in RAISED if error.code == "forbidden"} == {
            errors.DomainError,
            errors.Refused,
        }


class TestEvents:
    def test_the_tuple_of_events_is_complete_and_has_no_doubles(self):
        assert len(events.USER_EVENTS) == len(set(events.USER_EVENTS))
        assert set(events.USER_EVENTS) == set(declared_in(events, events.UserEvent))

    def test_names_are_unique_dotted_and_about_users(self):
        names = [event.event_type for event in events.USER_EVENTS]

        assert len(set(names)) == len(names)
        assert all(re.fullmatch(r"user\.[a-z]+(_[a-z]+)*", name) for name in names)

    @pytest.mark.parametrize("event", events.USER_EVENTS, ids=named)
    def test_each_is_named_after_its_class(self, event):
        words = re.findall("[A-Z][a-z]+", event.__name__.removeprefix("User"))

        assert event.event_type == "user." + "_".join(words).lower()

    @pytest.mark.parametrize("event", events.USER_EVENTS, ids=named)
    def test_a_fact_never_changes(self, event):
        fact = a_fact(event)

        for field in dataclasses.fields(fact):
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(fact, field.name, None)

    @pytest.mark.parametrize("event", events.USER_EVENTS, ids=named)
    def test_its_data_is_the_users_id_and_its_own_fields_and_nothing_of_the_envelope(self, event):
        fact = a_fact(event)
        data = fact.data()

        assert next(iter(data)) == "user_id"
        assert data["user_id"] == str(fact.user_id)
        assert not data.keys() & {"event_id", "user_version", "occurred_at", "actor_id"}
        assert len(data) >= 2


def a_fact(event: type[events.UserEvent]) -> events.UserEvent:
    """Any one of this kind: what its fields hold is no matter here."""
    user_id = UserId.new()
    values = {field.name: NOW for field in dataclasses.fields(event)}
    return event(**(values | {"user_id": user_id, "event_id": user_id.value, "user_version": 1}))
