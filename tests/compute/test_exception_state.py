import builtins
import dataclasses
import pickle
from typing import Any

import pytest

from enqueuer.compute.exception_state import get_cause, make_exception, set_cause, take_args, take_attributes
from enqueuer.compute.plain_values import NotPlainError


def copy_of(error):
    """The exception as it arrives: its state taken and a new instance made of it."""
    args = take_args(error, max_bytes=10_000)
    return make_exception(type(error), args, take_attributes(error, max_bytes=10_000))


class Demanding(Exception):
    """Its constructor needs arguments that ``args`` does not hold."""

    def __init__(self, path, *, line):
        super().__init__(f"{path}:{line}")
        self.path = path
        self.line = line


class Slotted(ValueError):
    __slots__ = ("code", "unset")

    def __init__(self, code):
        self.code = code


class Guarded(Exception):
    def __new__(cls, *args):
        raise AssertionError("its own __new__ was called")

    def __init__(self):
        raise AssertionError("its own __init__ was called")

    def __setattr__(self, name, value):
        raise AssertionError("its own __setattr__ was called")

    args = property(lambda self: 1 / 0)


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    code: int


class OwnOSError(OSError):
    def __init__(self, path, reason):
        super().__init__(5, reason, path)
        self.extra = reason


def test_a_constructor_with_other_arguments_is_not_called():
    copy = copy_of(Demanding("a.txt", line=3))
    assert copy.args == ("a.txt:3",)
    assert (copy.path, copy.line) == ("a.txt", 3)


def test_slots_are_carried_and_unset_ones_stay_unset():
    copy = copy_of(Slotted(7))
    assert copy.code == 7
    assert not hasattr(copy, "unset")


def test_no_method_of_the_class_is_run():
    error = Exception.__new__(Guarded)
    vars(error)["detail"] = 3
    assert vars(copy_of(error)) == {"detail": 3}


def test_a_frozen_dataclass_is_carried_and_takes_a_cause():
    copy = copy_of(Frozen(3))
    set_cause(copy, KeyError("x"))
    assert copy == Frozen(3)
    assert isinstance(copy.__cause__, KeyError)


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(2, "No such file", "a.txt"),
        OSError(5, "io", "a", None, "b"),
        OSError("only text"),
        OSError(),
        OwnOSError("a.txt", "broken"),
        BlockingIOError(11, "again", 3),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
        KeyError("name"),
        KeyError(("a", 1)),
        IndexError(),
        ValueError("a", 1, None, b"x", (1, [2.5])),
        SyntaxError("bad", ("f.py", 3, 1, "text", 3, 2)),
        ImportError("no", name="m", path="p"),
        StopAsyncIteration("x"),
        pickle.PicklingError("x"),
    ],
    ids=repr,
)
def test_built_in_exceptions_and_their_fields_come_back(error):
    copy = copy_of(error)
    assert type(copy) is type(error)
    assert copy.args == error.args
    assert str(copy) == str(error)
    for name in ("errno", "strerror", "filename", "filename2", "start", "reason", "object", "lineno", "name"):
        assert getattr(copy, name, None) == getattr(error, name, None)


def test_an_os_error_whose_number_names_another_class_keeps_its_own():
    error = OSError("text")
    error.errno = 2
    assert type(copy_of(error)) is OSError


def test_notes_are_carried():
    error = ValueError("x")
    error.__notes__ = ["while reading a.txt"]
    assert copy_of(error).__notes__ == ["while reading a.txt"]


def test_args_that_are_not_plain_are_not_taken():
    assert take_args(ValueError(object()), max_bytes=1000) is None
    assert take_args(ValueError("x" * 2000), max_bytes=1000) is None


def test_attributes_are_taken_one_by_one_as_far_as_they_are_plain_and_there_is_room():
    error = ValueError()
    error.lock, error.large, error.small = object(), "x" * 2000, 3
    assert take_attributes(error, max_bytes=1000) == {"small": 3}
    assert take_attributes(ValueError(), max_bytes=1000) is None


def test_a_class_that_only_its_constructor_can_fill_is_refused():
    group = vars(builtins).get("ExceptionGroup")
    if group is None:
        pytest.skip("Python 3.11 brings exception groups")
    with pytest.raises(TypeError):
        make_exception(group, ("x",), None)


def test_a_field_of_the_wrong_type_is_an_error():
    with pytest.raises(TypeError):
        make_exception(UnicodeDecodeError, (), {"start": "no number"})


def test_the_cause_is_the_exception_that_python_prints():
    first, second = KeyError("first"), ValueError("second")
    assert get_cause(second) is None
    second.__context__ = first
    assert get_cause(second) is first
    second.__suppress_context__ = True
    assert get_cause(second) is None
    second.__cause__ = first
    assert get_cause(second) is first


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        (UnicodeDecodeError, {"start": -(2**40), "end": -(2**40) + 1}),
        (UnicodeDecodeError, {"object": {"set": [1]}}),
        (UnicodeDecodeError, {"object": "text"}),
        (UnicodeDecodeError, {"end": 2}),
        (UnicodeEncodeError, {"object": b"bytes"}),
        (UnicodeTranslateError, {"object": "x", "start": 1, "end": 0}),
    ],
)
def test_fields_that_would_have_the_interpreter_read_foreign_memory_are_refused(
    kind: type[Exception], changes: dict[str, Any]
) -> None:
    content: Any = b"\xff" if kind is UnicodeDecodeError else "\xff"
    whole = {"encoding": "u", "object": content, "start": 0, "end": 1, "reason": "r"}
    if kind is UnicodeTranslateError:
        del whole["encoding"]
    assert str(make_exception(kind, (), whole))
    with pytest.raises(NotPlainError):
        make_exception(kind, (), {**whole, **changes})
