"""What decorators of `functools` and `dataclasses` make of a script's code travels by value."""

from __future__ import annotations

import dataclasses
import functools
import threading
from typing import Any

import pytest

from enqueuer.protocol.live_object import pack_object, unpack_object
from tests.support.scripts import run_script


def travelled(value: Any) -> Any:
    return unpack_object(pack_object(value))


@functools.lru_cache(maxsize=8)
def importable(value: int) -> int:
    return value + 1


def test_a_cached_property_comes_back_and_caches() -> None:
    class Local:
        calls = 0

        @functools.cached_property
        def lookup(self) -> list[int]:
            """Where it is."""
            type(self).calls += 1
            return [7, 8, 9]

    back = travelled(Local())
    assert (back.lookup, back.lookup, type(back).calls) == ([7, 8, 9], [7, 8, 9], 1)
    assert vars(type(back))["lookup"].__doc__ == "Where it is."


def test_a_cached_property_has_a_lock_where_pythons_has_one() -> None:
    class Local:
        @functools.cached_property
        def lookup(self) -> int:
            return 1

    here, there = vars(Local)["lookup"], vars(type(travelled(Local())))["lookup"]
    assert hasattr(here, "lock") == hasattr(there, "lock")
    assert getattr(there, "lock", None) is not getattr(here, "lock", 0)


def test_a_subclass_of_cached_property_comes_back() -> None:
    class Loud(functools.cached_property):  # type: ignore[type-arg]
        def __init__(self, function: Any) -> None:
            super().__init__(function)
            self.volume = 11

    class Local:
        @Loud
        def lookup(self) -> int:
            return 1

    back = travelled(Local())
    assert back.lookup == 1
    assert vars(type(back))["lookup"].volume == 11


def test_a_value_that_is_cached_already_comes_along() -> None:
    class Local:
        @functools.cached_property
        def lookup(self) -> list[int]:
            return []

    local = Local()
    local.lookup.append(3)
    assert travelled(local).lookup == [3]


def test_a_memoised_local_function_comes_back_with_its_limits_and_an_empty_cache() -> None:
    @functools.lru_cache(maxsize=16, typed=True)
    def square(value: int) -> int:
        """Its square."""
        return value * value

    square(3)
    back = travelled(square)
    assert back.cache_parameters() == {"maxsize": 16, "typed": True}
    assert (back.cache_info().currsize, back(4), back.cache_info().currsize) == (0, 16, 1)
    assert (back.__name__, back.__doc__, back.__wrapped__(5)) == ("square", "Its square.", 25)


def test_a_memoised_method_comes_back() -> None:
    class Local:
        @functools.cache  # noqa: B019
        def square(self, value: int) -> int:
            return value * value

        @staticmethod
        @functools.cache
        def cube(value: int) -> int:
            return value**3

    back = travelled(Local())
    assert (back.square(3), back.cube(2), type(back).square.cache_info().currsize) == (9, 8, 1)


def test_a_memoised_function_that_calls_itself_has_one_cache() -> None:
    @functools.cache
    def fibonacci(n: int) -> int:
        return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)

    back = travelled(fibonacci)
    assert back(80) == 23416728348467685
    assert back.cache_info().currsize == 81


def test_an_importable_memoised_function_is_the_same_object() -> None:
    assert travelled(importable) is importable


def test_a_memoised_builtin_comes_back() -> None:
    assert travelled(functools.lru_cache(4)(len))("abc") == 3


def test_a_dataclass_comes_back_with_its_fields() -> None:
    @dataclasses.dataclass
    class Item:
        index: int = 3
        tags: list[str] = dataclasses.field(default_factory=list)

    back = travelled(Item(5, ["x"]))
    index, tags = dataclasses.fields(back)
    assert dataclasses.asdict(back) == {"index": 5, "tags": ["x"]}
    assert index.default_factory is tags.default is dataclasses.MISSING


@pytest.mark.parametrize("use_processes", [False, True])
def test_decorated_code_of_a_script_works_in_workers(tmp_path: Any, use_processes: bool) -> None:
    source = f"""
from dataclasses import dataclass
from functools import cached_property, lru_cache
from enqueuer import SequenceEnqueuer

@lru_cache(maxsize=16)
def square(value):
    return value * value

@dataclass
class Squares:
    count: int
    @cached_property
    def lookup(self):
        return [square(index) for index in range(self.count)]
    def __len__(self):
        return self.count
    def __getitem__(self, index):
        return self.lookup[index]

with SequenceEnqueuer(Squares(4), {use_processes}) as enq:
    enq.start(1)
    stream = enq.get()
    print([next(stream) for _ in range(4)])
"""
    assert run_script(source, tmp_path) == "[0, 1, 4, 9]\n"


def test_a_lock_in_the_script_is_still_refused_by_name() -> None:
    from enqueuer.errors import ConfigurationError

    lock = threading.Lock()
    with pytest.raises(ConfigurationError, match="lock"):
        pack_object(lambda: lock)


def test_a_dispatcher_comes_back_with_its_implementations_which_may_call_it() -> None:
    @functools.singledispatch
    def total(value: Any) -> int:
        """Sums up."""
        return -1

    @total.register
    def _(value: int) -> int:
        return value

    @total.register(list)
    def _(value: Any) -> int:
        return sum(map(total, value))

    total.unit = "m"  # type: ignore[attr-defined]
    back = travelled([total, total])
    assert back[0] is back[1] is not total
    assert (back[0](3), back[0]([1, [2, 3]]), back[0]("x")) == (3, 6, -1)
    assert (back[0].__name__, back[0].__doc__, back[0].unit) == ("total", "Sums up.", "m")
    back[0].register(str, lambda value: len(value))
    assert (back[0]("four"), total("four")) == (4, -1), "the copy has a registry of its own"


def test_a_method_that_dispatches_comes_back() -> None:
    class Local:
        @functools.singledispatchmethod
        def kind(self, value: object) -> str:
            return "any"

        @kind.register
        def _(self, value: int) -> str:
            return "int"

    back = travelled(Local())
    assert (back.kind(1), back.kind("x")) == ("int", "any")


@functools.singledispatch
def importable_dispatcher(value: object) -> None:
    """Found by its name."""


def test_a_dispatcher_of_a_module_stays_the_modules() -> None:
    assert travelled(importable_dispatcher) is importable_dispatcher
