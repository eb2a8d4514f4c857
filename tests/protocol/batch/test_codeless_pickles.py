"""A pickle can be looked into without its code."""

from __future__ import annotations

import collections
import pickle
import threading
from typing import Any

import cloudpickle
import pytest

from enqueuer.protocol.batch import Opaque, StandIn, code_left_out
from enqueuer.protocol.batch.codeless_pickles import load_pickle

Point = collections.namedtuple("Point", "x y")
made: list[str] = []


class Maker:
    def __init__(self, name: str) -> None:
        self.name = name

    def __setstate__(self, state: dict[str, Any]) -> None:
        made.append(state["name"])
        self.__dict__.update(state)


class Runner:
    def __reduce__(self) -> Any:
        return made.append, ("ran",)


def codeless(value: Any) -> Any:
    with code_left_out():
        return load_pickle(cloudpickle.dumps(value))


@pytest.mark.parametrize(
    "value",
    [
        [1, 2.5, None, True, "text", b"bytes", (3,)],
        {"a": {1, 2}, "b": frozenset({3})},
        collections.OrderedDict(a=1),
        collections.deque([1, 2]),
        bytearray(b"x"),
        1 + 2j,
    ],
)
def test_plain_values_are_as_they_were(value: Any) -> None:
    assert codeless(value) == value
    assert load_pickle(pickle.dumps(value)) == value


def test_an_object_is_replaced_by_its_parts_and_none_of_its_code_runs() -> None:
    made.clear()
    for value in (Maker("one"), [Maker("two")], Runner(), {"deep": Runner()}):
        codeless(value)
    assert made == []
    point = codeless(Point(1, 2))
    assert type(point) is StandIn
    assert point.parts[0] == (1, 2)
    stand_in = codeless(Maker("three"))
    assert stand_in.parts[-1] == {"name": "three"}


def test_code_by_value_is_opaque() -> None:
    assert type(codeless(lambda: 1)) is Opaque
    assert type(codeless([1, lambda: 1])) is Opaque


def test_another_thread_is_not_concerned() -> None:
    found = []
    with code_left_out():
        thread = threading.Thread(target=lambda: found.append(load_pickle(pickle.dumps(Point(1, 2)))))
        thread.start()
        thread.join()
    assert found == [Point(1, 2)]
    assert load_pickle(pickle.dumps(Point(1, 2))) == Point(1, 2)


def test_a_pickle_that_cannot_be_read_is_opaque() -> None:
    with code_left_out():
        assert type(load_pickle(b"no pickle")) is Opaque
