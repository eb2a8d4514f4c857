"""Objects whose constructors do not take what pickling keeps of them: they come back, or are refused by name."""

from __future__ import annotations

import collections
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from enqueuer.errors import ConfigurationError
from enqueuer.protocol.classes_by_value import pickle_to_return
from enqueuer.protocol.live_object import pack_bundle, pack_object, unpack_object, unpack_sequence
from tests.support.scripts import run_script


class Keyword(Exception):
    def __init__(self, *, code: int) -> None:
        super().__init__(f"code {code}")
        self.code = code


class File(OSError):
    def __init__(self, number: int) -> None:
        super().__init__(number, "gone", "name")


class Word(str):
    def __new__(cls, text: str, language: str) -> Word:
        self = super().__new__(cls, text)
        self.language = language
        return self

    language: str


class Pair(tuple):  # type: ignore[type-arg]
    def __new__(cls, left: int, right: int) -> Pair:
        return super().__new__(cls, (left, right))


class Items(tuple):  # type: ignore[type-arg]
    def __new__(cls, *items: int) -> Items:
        return super().__new__(cls, items)


class Row(collections.namedtuple("Row", ["a", "b"])):
    def __new__(cls, a: int) -> Row:
        return super().__new__(cls, a, 2 * a)


class Plain:
    def __new__(cls, size: int) -> Plain:
        return super().__new__(cls)

    def __init__(self, size: int) -> None:
        self.size = size


class Slotted:
    __slots__ = ("size",)

    def __new__(cls, size: int) -> Slotted:
        return super().__new__(cls)

    def __init__(self, size: int) -> None:
        self.size = size


@pytest.mark.parametrize("send", [pack_object, lambda value: [pickle_to_return(value)]], ids=["there", "back"])
@pytest.mark.parametrize(
    ("value", "look"),
    [
        (Keyword(code=3), lambda value: (value.args, value.code)),
        (File(2), lambda value: (value.args, value.errno, value.filename)),
        (Word("hund", "de"), lambda value: (str.__str__(value), value.language)),
        (Pair(1, 2), tuple),
        (Items(1, 2, 3), tuple),
        (Row(4), lambda value: (value.a, value.b)),
        (Plain(5), vars),
        (Slotted(6), lambda value: value.size),
    ],
    ids=lambda value: type(value).__name__,
)
def test_it_comes_back_as_it_was(value: Any, look: Callable[[Any], Any], send: Callable[[Any], Any]) -> None:
    back = unpack_object(send({"deep": [value]}))["deep"][0]
    assert type(back) is type(value)
    assert look(back) == look(value)


class Reduced:
    """Its ``__reduce__`` gives the function and arguments of the test."""

    def __init__(self, *reduced: Any) -> None:
        self.reduced = reduced

    def __reduce__(self) -> Any:
        return self.reduced


class Empty:
    pass


def keyword_only(value: int, *, scale: int) -> int:
    return value * scale


@pytest.mark.parametrize(
    ("part", "text"),
    [
        (Reduced(Empty, (1,)), "Reduced.__reduce__ gives 1 arguments for Empty"),
        (Reduced(Plain, ()), "Reduced.__reduce__ gives 0 arguments for Plain"),
        (Reduced(keyword_only, (1,)), "Reduced.__reduce__ gives 1 arguments for keyword_only"),
    ],
    ids=["a class without a constructor", "a constructor", "a function"],
)
def test_what_cannot_be_made_again_is_refused_with_its_place(part: Any, text: str) -> None:
    class Source:
        def __init__(self) -> None:
            self.parts = {"a": [0, part]}

    with pytest.raises(ConfigurationError) as caught:
        pack_bundle(Source())
    for words in (text, "Source.parts['a'][1], a Reduced", "SequenceSpec"):
        assert words in str(caught.value)


class Decides(type):
    def __call__(cls, *args: Any) -> Any:
        return args


class Odd(metaclass=Decides):
    def __init__(self, *, code: int) -> None:
        raise AssertionError("never called")


class Wrapped:
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.args = args

    __init__.__wrapped__ = lambda self: None  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "reduced",
    [
        (Odd, (1, 2)),
        (Wrapped, (1, 2)),
        (functools.partial(keyword_only, scale=2), (3,)),
        (Reduced, (list, ())),
        (collections.deque, ([1], 4)),
    ],
    ids=["a metaclass", "a wrapper", "a partial", "objects inside", "a type of C"],
)
def test_what_may_be_made_again_is_not_refused(reduced: Any) -> None:
    unpack_object(pack_object(Reduced(*reduced)))


def test_a_subclass_of_a_type_of_c_that_cannot_be_made_again_is_refused() -> None:
    class Deque(collections.deque):  # type: ignore[type-arg]
        def __init__(self, *, size: int) -> None:
            super().__init__(range(size))

    with pytest.raises(ConfigurationError, match=r"Deque.__reduce__ gives \d arguments for"):
        pack_object(Deque(size=2))


class Refusing:
    def __setstate__(self, state: Any) -> None:
        raise KeyError("camera")

    def __init__(self) -> None:
        self.state = 1


def test_an_error_of_the_users_own_while_unpickling_names_the_method_and_the_cures() -> None:
    parts = pack_bundle({"a": Refusing()})
    with pytest.raises(ConfigurationError) as caught:
        unpack_sequence(parts)
    for words in ("KeyError: 'camera'", "__setstate__", "test_constructors.py line", "SequenceSpec", "__getstate__"):
        assert words in str(caught.value)
    assert isinstance(caught.value.__cause__, KeyError)


GLOBALS = """
import sys
from enqueuer import ConfigurationError, SequenceEnqueuer

class Missing:
    def __reduce__(self):
        return "MISSING"
    def is_known(self):
        return self is MISSING
MISSING = Missing()

class Named:
    def __init__(self, name, size):
        self.name, self.size = name, size
    def __reduce__(self):
        return self.name
LARGE = Named("LARGE", 9)

class Digits(int):
    def __reduce__(self):
        return "TEN"
TEN = Digits(10)

class Source:
    def __init__(self, part):
        self.part, self.size, self.epoch = part, LARGE, 0
    def __len__(self):
        return 2
    def __getitem__(self, index):
        return self.part is MISSING and MISSING.is_known(), self.size is LARGE, self.size.size, self.epoch, [MISSING]
    def on_epoch_end(self):
        self.epoch += 1

with SequenceEnqueuer(Source(MISSING), True) as enqueuer:
    enqueuer.start(1)
    for epoch in range(2):
        for *seen, (returned,) in enqueuer.epoch():
            assert seen == [True, True, 9, epoch] and returned is MISSING, seen
try:
    SequenceEnqueuer(Source(TEN), True).start(1)
except ConfigurationError as error:
    assert "In the way is Source.part, a Digits" in str(error) and "to a module of their own" in str(error), error
    print("refused")
"""


def test_a_global_of_the_script_that_names_itself_is_that_global_in_workers(tmp_path: Path) -> None:
    assert run_script(GLOBALS, tmp_path).strip() == "refused"
