"""Objects with a ``__getattr__`` travel without being asked for what pickling would like to know."""

from __future__ import annotations

import enum
import threading
from typing import Any

import pytest

from enqueuer.errors import ConfigurationError
from enqueuer.protocol.live_object import pack_object, unpack_object
from enqueuer.protocol.plain_reduction import is_plain_with_getattr


def travelled(value: Any) -> Any:
    return unpack_object(pack_object(value))


class Passing:
    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class PassingAll:
    def __init__(self, inner: Any) -> None:
        object.__setattr__(self, "inner", inner)

    def __getattribute__(self, name: str) -> Any:
        return getattr(object.__getattribute__(self, "inner"), name)


class Answering:
    def __init__(self) -> None:
        self.size = 3

    def __getattr__(self, name: str) -> Any:
        return None


class Slotted:
    __slots__ = ("inner", "unset")

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class Rows(list):
    def __getattr__(self, name: str) -> Any:
        return len(self)


class Table(dict):
    def __getattr__(self, name: str) -> Any:
        return self[name]


def test_a_wrapper_that_passes_every_question_on_comes_back() -> None:
    assert travelled(Passing([1, 2])).inner == [1, 2]


def test_a_wrapper_that_is_asked_for_all_attributes_comes_back() -> None:
    back = travelled(PassingAll(Passing([1, 2])))
    assert type(back) is PassingAll
    assert object.__getattribute__(back, "inner").inner == [1, 2]


def test_a_wrapper_of_a_wrapper_comes_back() -> None:
    assert travelled(Passing(Passing(Passing("x")))).inner.inner.inner == "x"


def test_the_wrapped_objects_own_ways_of_pickling_are_not_taken_for_the_wrappers() -> None:
    class Arguments:
        def __getnewargs__(self) -> tuple[int, int]:
            return (1, 2)

        def __new__(cls, *args: int) -> Arguments:
            made = super().__new__(cls)
            made.args = args  # type: ignore[attr-defined]
            return made

        def __setstate__(self, state: Any) -> None:
            self.state = state

    back = travelled(Passing(Arguments(5)))
    assert type(back) is Passing
    assert type(back.inner) is Arguments
    assert back.inner.args == (1, 2)


def test_an_object_that_answers_everything_with_none_comes_back() -> None:
    back = travelled(Answering())
    assert back.size == 3
    assert back.anything is None


def test_slots_come_back_and_those_without_a_value_stay_so() -> None:
    back = travelled(Slotted([4]))
    assert back.inner == [4]
    with pytest.raises(AttributeError):
        object.__getattribute__(back, "unset")


def test_lists_and_dicts_with_a_getattr_come_back_with_items_and_attributes() -> None:
    rows, table = Rows([1, 2, 3]), Table(a=1)
    rows.name, table.kind = "rows", "table"
    back, other = travelled([rows, table])
    assert (type(back), list(back), back.name, back.anything) == (Rows, [1, 2, 3], "rows", 3)
    assert (type(other), dict(other), vars(other)) == (Table, {"a": 1}, {"kind": "table"})


def test_the_classs_own_state_methods_are_used() -> None:
    class Own(Passing):
        def __getstate__(self) -> Any:
            return {"kept": self.inner}

        def __setstate__(self, state: Any) -> None:
            self.inner = ["restored", state["kept"]]

    assert travelled(Own(3)).inner == ["restored", 3]


def test_a_cycle_through_a_wrapper_comes_back() -> None:
    wrapper = Passing(None)
    wrapper.inner = [wrapper]
    back = travelled(wrapper)
    assert back.inner[0] is back


def test_a_wrapper_of_what_cannot_be_pickled_is_refused_by_name() -> None:
    with pytest.raises(ConfigurationError, match=r"Passing cannot be sent.*lock"):
        pack_object(Passing(threading.Lock()))


def test_classes_with_their_own_or_no_plain_state_are_left_to_pickle() -> None:
    class Colour(enum.Enum):
        RED = 1

    class Reduced(Passing):
        def __reduce__(self) -> Any:
            return (list, ())

    class Local(threading.local):
        def __getattr__(self, name: str) -> Any:
            return None

    assert travelled(Colour.RED).name == "RED"
    assert travelled(Reduced(1)) == []
    assert not is_plain_with_getattr(Local)
    assert not is_plain_with_getattr(Colour)
    assert not is_plain_with_getattr(type)
