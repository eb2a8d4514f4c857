import sys
import traceback
from types import ModuleType

import msgpack
import pytest

from enqueuer.compute import error_records
from enqueuer.compute.error_records import in_place_error, rebuild_error, record_error
from enqueuer.errors import SequenceError
from enqueuer.protocol.messages import ErrorRecord

WHERE = {"index": 3, "epoch": 2, "worker": "w1", "host": "far"}


class AppError(Exception):
    """A user's exception class, which the trainer has loaded too."""

    class Inner(Exception):
        """One inside another."""


def raised(error, cause=None):
    """Raise and catch the error, so that it has a traceback."""
    try:
        raise error from cause
    except BaseException as caught:
        return caught


def over_the_wire(record):
    """The record after a trip through msgpack: tuples become lists, and a value that is not plain raises."""

    def pack(record):
        return record and [
            *(getattr(record, name) for name in ErrorRecord.__slots__[:6]),
            pack(record.cause),
            record.pickled_type,
        ]

    def unpack(fields):
        if fields is None:
            return None
        args = None if fields[4] is None else tuple(fields[4])
        return ErrorRecord(*fields[:4], args, fields[5], unpack(fields[6]), fields[7])

    return unpack(msgpack.unpackb(msgpack.packb(pack(record))))


def round_trip(error, trust_local=False):
    record = over_the_wire(record_error(error, trust_local=trust_local))
    return rebuild_error(record, **WHERE, trust_local=trust_local)


# ---------------------------------------------------------------- rebuilt


@pytest.mark.parametrize(
    "error", [ValueError("x", 1), AppError("y"), AppError.Inner(("t", 2)), FileNotFoundError(2, "gone", "f")], ids=repr
)
def test_the_original_comes_out_with_its_type_and_arguments(error):
    copy = round_trip(raised(error))
    assert type(copy) is type(error)
    assert copy.args == error.args
    assert str(copy) == str(error)


def test_the_cause_of_the_original_says_where_and_shows_the_remote_traceback():
    explanation = round_trip(raised(ValueError("x"))).__cause__
    assert type(explanation) is SequenceError
    assert (explanation.index, explanation.epoch, explanation.worker, explanation.host) == (3, 2, "w1", "far")
    assert "sequence[3] raised ValueError in epoch 2 on worker w1 at far" in str(explanation)
    assert "in raised\n    raise error from cause" in explanation.remote_traceback
    assert "in raised" in str(explanation)


def test_the_users_own_chain_of_causes_is_kept_below_the_sequence_error():
    first, second = raised(KeyError("k")), AppError("a")
    second.__context__ = first
    copy = round_trip(raised(ValueError("x"), cause=second))
    second_copy = copy.__cause__.__cause__
    assert (type(second_copy), second_copy.args) == (AppError, ("a",))
    assert (type(second_copy.__cause__), second_copy.__cause__.args) == (KeyError, ("k",))
    assert second_copy.__cause__.__cause__ is None


def test_a_hidden_context_stays_hidden():
    error = ValueError("x")
    error.__context__ = KeyError("k")
    error.__suppress_context__ = True
    assert round_trip(error).__cause__.__cause__ is None


def test_a_cause_that_cannot_be_rebuilt_becomes_a_sequence_error():
    copy = round_trip(raised(ValueError("x"), cause=AppError(object())))
    cause = copy.__cause__.__cause__
    assert type(cause) is SequenceError
    assert str(cause).startswith(f"{__name__}.AppError: <object object")


def test_a_circular_chain_of_causes_is_recorded_once():
    first, second = ValueError("1"), KeyError("2")
    first.__cause__, second.__cause__ = second, first
    assert record_error(first, trust_local=False).cause.cause is None


def test_a_long_chain_is_cut():
    error = last = ValueError(0)
    for number in range(1, 50):
        last.__cause__ = ValueError(number)
        last = last.__cause__
    depth, record = 0, record_error(error, trust_local=False)
    while record.cause is not None:
        depth, record = depth + 1, record.cause
    assert depth == error_records.CAUSES_LIMIT


# ---------------------------------------------------------------- not rebuilt


@pytest.mark.parametrize(
    "error", [SystemExit(3), KeyboardInterrupt("stop"), GeneratorExit(), BaseException("b")], ids=repr
)
def test_a_base_exception_arrives_as_a_sequence_error(error):
    copy = round_trip(raised(error))
    assert type(copy) is SequenceError
    assert str(copy).startswith(f"sequence[3] raised {type(error).__qualname__}: {error}")
    assert copy.index == 3
    assert "in raised" in copy.remote_traceback


def test_an_exception_with_arguments_that_are_not_plain_becomes_a_sequence_error_with_its_chain():
    copy = round_trip(raised(ValueError(object()), cause=KeyError("k")))
    assert type(copy) is SequenceError
    assert "ValueError: <object object" in str(copy)
    assert copy.__cause__.args == ("k",)


def test_an_exception_group_becomes_a_sequence_error():
    if sys.version_info < (3, 11):
        pytest.skip("Python 3.11 brings exception groups")
    group = ExceptionGroup("several", [ValueError("one"), KeyError("two")])  # noqa: F821
    copy = round_trip(raised(group))
    assert type(copy) is SequenceError
    assert "ExceptionGroup: several (2 sub-exceptions)" in str(copy)
    assert "ValueError: one" in copy.remote_traceback


def record_of(module, qualname, **changes):
    return ErrorRecord(module, qualname, "text", "trace", **{"args": (), **changes})


def test_a_module_that_is_not_loaded_is_not_imported():
    name = "antigravity"
    assert name not in sys.modules
    assert type(rebuild_error(record_of(name, "X"), **WHERE, trust_local=True)) is SequenceError
    assert name not in sys.modules


def test_a_modules_getattr_is_not_called(monkeypatch):
    module = ModuleType("lazy_example")
    module.__getattr__ = lambda name: pytest.fail("asked")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    assert type(rebuild_error(record_of(module.__name__, "X"), **WHERE, trust_local=True)) is SequenceError


@pytest.mark.parametrize(
    ("module", "qualname"),
    [
        ("builtins", "print"),
        ("builtins", "int"),
        ("builtins", "SystemExit"),
        ("builtins", "object.__class__"),
        ("os", "system"),
        ("os", "error"),
        ("", ""),
        ("sys", "modules"),
    ],
)
def test_a_name_of_anything_but_an_exception_class_of_that_name_is_not_resolved(module, qualname):
    assert type(rebuild_error(record_of(module, qualname), **WHERE, trust_local=False)) is SequenceError


@pytest.mark.parametrize(
    "changes",
    [
        {"args": ({"os.system": "true"},)},
        {"attributes": {"x": {"tuple": 3}}},
        {"attributes": {"errno": {}}},
        {"args": None},
    ],
)
def test_a_record_that_no_worker_makes_becomes_a_sequence_error(changes):
    copy = rebuild_error(record_of("builtins", "OSError", **changes), **WHERE, trust_local=False)
    assert type(copy) is SequenceError
    assert "OSError: text" in str(copy)


def test_an_error_without_an_index_names_the_sequence():
    copy = rebuild_error(record_of("nowhere", "X"), index=None, epoch=0, worker=None, host=None, trust_local=False)
    assert str(copy).startswith("the Sequence raised nowhere.X: text (in epoch 0)")


# ---------------------------------------------------------------- classes without a name to find them by


def make_local_class():
    class LocalError(Exception):
        def describe(self):
            return f"local {self.args[0]}"

    return LocalError


def test_a_local_class_travels_between_processes_that_trust_each_other():
    cls = make_local_class()
    copy = round_trip(raised(cls("x")), trust_local=True)
    assert copy.describe() == "local x"
    # cloudpickle knows a class again that this process has sent out, so that `except LocalError` works.
    assert type(copy) is cls


def test_a_pickled_class_from_a_remote_peer_is_not_unpickled():
    record = record_error(raised(make_local_class()("x")), trust_local=True)
    assert type(rebuild_error(record, **WHERE, trust_local=False)) is SequenceError
    assert record_error(make_local_class()("x"), trust_local=False).pickled_type is None


def test_a_class_with_a_name_never_travels_as_a_pickle():
    assert record_error(AppError("x"), trust_local=True).pickled_type is None


def test_a_class_that_cannot_be_unpickled_becomes_a_sequence_error():
    record = record_of("m", "f.<locals>.X", pickled_type=b"no pickle")
    assert type(rebuild_error(record, **WHERE, trust_local=True)) is SequenceError


def test_a_local_class_that_cannot_be_pickled_becomes_a_sequence_error():
    class Held(Exception):
        generator = (n for n in range(3))

    assert type(round_trip(raised(Held("x")), trust_local=True)) is SequenceError


def test_a_local_class_that_is_too_large_to_travel_becomes_a_sequence_error(monkeypatch):
    monkeypatch.setattr(error_records, "PICKLED_TYPE_LIMIT_BYTES", 10)
    assert type(round_trip(raised(make_local_class()("x")), trust_local=True)) is SequenceError


# ---------------------------------------------------------------- hostile and clumsy exceptions


class Unprintable(Exception):
    def __str__(self):
        raise RuntimeError("no text")

    __repr__ = __str__


def test_an_exception_whose_str_raises_is_recorded():
    record = record_error(raised(Unprintable("x")), trust_local=False)
    assert record.text == "(its __str__ raised RuntimeError)"
    assert "Unprintable" in record.traceback
    assert "in raised" in record.traceback
    assert type(rebuild_error(record, **WHERE, trust_local=False)) is Unprintable


class Quitting(Exception):
    def __str__(self):
        raise SystemExit(3)


class Ownstr(str):
    def __len__(self):
        raise RuntimeError("no length")

    encode = __len__


class Oddly(Exception):
    def __str__(self):
        return Ownstr("odd")


def test_a_str_that_ends_the_program_ends_no_worker():
    record = record_error(raised(ValueError("x"), cause=Quitting("y")), trust_local=False)
    assert record.cause.text == "(its __str__ raised SystemExit)"
    assert type(rebuild_error(record, **WHERE, trust_local=False).__cause__.__cause__) is Quitting


def test_a_text_of_a_class_of_its_own_is_recorded_as_a_str():
    record = record_error(raised(Oddly("x")), trust_local=False)
    assert record.text == "odd"
    assert type(record.text) is str


def test_a_traceback_that_cannot_be_formatted_still_shows_its_frames(monkeypatch):
    monkeypatch.setattr(traceback, "format_exception", lambda *_: 1 / 0)
    text = record_error(raised(ValueError("x")), trust_local=False).traceback
    assert "in raised" in text
    assert text.endswith("ValueError (formatting it raised ZeroDivisionError)\n")


def test_the_end_of_a_long_traceback_is_kept():
    text = record_error(raised(ValueError("x" * 200_000 + "the end")), trust_local=False).traceback
    assert len(text) <= 64 * 1024
    assert text.endswith("the end\n")
    assert text.startswith("… ")


def test_a_long_message_is_cut_and_its_arguments_are_left_behind():
    record = record_error(ValueError("x" * 200_000), trust_local=False)
    assert len(record.text) < 10_000
    assert record.args is None


def test_text_that_is_no_utf8_is_escaped():
    record = over_the_wire(record_error(raised(ValueError("file \udcff")), trust_local=False))
    assert record.text == "file \\udcff"


def test_an_exception_in_deep_recursion_is_recorded():
    def recurse():
        recurse()

    with pytest.raises(RecursionError) as caught:
        recurse()
    copy = round_trip(caught.value)
    assert type(copy) is RecursionError


# ---------------------------------------------------------------- in place


def test_an_error_in_place_is_the_same_object_with_its_traceback_and_an_explanation():
    cause = KeyError("k")
    error = raised(ValueError("x"), cause=cause)
    trace = error.__traceback__
    assert in_place_error(error, **WHERE) is error
    assert error.__traceback__ is trace
    assert type(error.__cause__) is SequenceError
    assert str(error.__cause__) == "sequence[3] raised ValueError in epoch 2 on worker w1 at far"
    assert error.__cause__.__cause__ is cause


def test_a_base_exception_in_place_becomes_the_cause_of_a_sequence_error():
    error = raised(SystemExit(3))
    stand_in = in_place_error(error, **WHERE)
    assert type(stand_in) is SequenceError
    assert stand_in.__cause__ is error
    assert str(stand_in) == "sequence[3] raised SystemExit: 3 (in epoch 2 on worker w1 at far)"


def test_an_exception_object_that_is_raised_again_does_not_pile_up_explanations():
    error = raised(ValueError("x"), cause=KeyError("k"))
    in_place_error(error, **WHERE)
    in_place_error(error, index=4, epoch=2, worker="w1", host="far")
    assert error.__cause__.index == 4
    assert type(error.__cause__.__cause__) is KeyError


def test_an_exception_that_is_its_own_cause_gets_no_circle():
    error = ValueError("x")
    error.__cause__ = error
    assert in_place_error(error, **WHERE).__cause__.__cause__ is None


def test_looking_for_a_class_runs_no_code_of_other_objects_in_its_module(monkeypatch: pytest.MonkeyPatch) -> None:
    class Proxy:
        @property
        def __dict__(self) -> dict[str, object]:  # type: ignore[override]
            raise RuntimeError("working outside of a context")

    module = ModuleType("a_module_with_a_proxy")
    monkeypatch.setattr(module, "proxy", Proxy(), raising=False)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    record = ErrorRecord(module.__name__, "proxy.Error", "text", "", args=())
    error = rebuild_error(record, index=1, epoch=0, worker=None, host=None, trust_local=False)
    assert type(error) is SequenceError
