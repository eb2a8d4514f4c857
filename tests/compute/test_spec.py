import copy
import pickle
import random
from pathlib import Path

import numpy as np
import pytest

from enqueuer.compute.spec import SequenceSpec, import_target, split_target
from enqueuer.errors import ConfigurationError

SOURCE = """
import random
import numpy as np

class Shuffled:
    def __init__(self, count, **options):
        self.order = np.random.permutation(count)
        self.draw = random.random()
        self.options = options
    def __len__(self):
        return len(self.order)
    def __getitem__(self, index):
        return self.order[index]

def failing():
    raise OSError(2, "no data")

def not_a_sequence():
    return 3

number = 3
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "spec_example.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    return "spec_example"


@pytest.mark.parametrize("target", ["data:Train", "my_project.data.train:Train", "a.b:größe"])
def test_a_target_is_a_dotted_module_and_one_name(target):
    assert SequenceSpec(target).target == target


@pytest.mark.parametrize(
    "target",
    [
        "data",
        "data:",
        ":Train",
        "data.Train",
        "data:a.b",
        "a:b:c",
        "a..b:c",
        ".a:b",
        "a b:c",
        "a:b()",
        "a.class:b",
        3,
        None,
    ],
)
def test_a_malformed_target_is_refused_with_the_expected_form(target):
    with pytest.raises(ConfigurationError, match=r"package\.module:callable"):
        SequenceSpec(target)


def test_the_scripts_own_module_is_refused_because_workers_have_another():
    with pytest.raises(ConfigurationError, match="move Train into a module"):
        SequenceSpec("__main__:Train")


def test_arguments_are_plain_values_and_tuples_become_lists_at_once():
    spec = SequenceSpec("a:b", size=(2, (3,)), names={"x": (1.5, None, True, b"z")}, target="t", self=1)
    assert spec.kwargs == {"size": [2, [3]], "names": {"x": [1.5, None, True, b"z"]}, "target": "t", "self": 1}


@pytest.mark.parametrize(
    ("value", "where"),
    [
        (np.zeros(2), "value: a ndarray"),
        ([1, np.int64(3)], r"value\[1\]: an int64"),
        ({"k": {"deep": object()}}, r"value\['k'\]\['deep'\]"),
        (Path("x"), "for a path give its str"),
        ({1: 2}, "str-keyed"),
        (2**64, "64-bit"),
        ("\ud800", "value: a str"),
        ({1, 2}, "value: a set"),
    ],
)
def test_arguments_that_are_not_plain_are_refused_and_named(value, where):
    with pytest.raises(ConfigurationError, match=where):
        SequenceSpec("a:b", value=value)


def test_an_argument_that_holds_itself_is_refused():
    value = []
    value.append(value)
    with pytest.raises(ConfigurationError, match="levels deep"):
        SequenceSpec("a:b", value=value)


def test_specs_are_equal_by_value_and_survive_copying():
    spec = SequenceSpec("a:b", x=[1], y={"k": 2})
    assert spec == SequenceSpec("a:b", y={"k": 2}, x=(1,)) == copy.deepcopy(spec) == pickle.loads(pickle.dumps(spec))
    assert hash(spec) == hash(copy.copy(spec))
    assert spec not in (SequenceSpec("a:b", x=[1]), SequenceSpec("a:c", x=[1], y={"k": 2}), "a:b")
    assert repr(spec) == "SequenceSpec('a:b', x=[1], y={'k': 2})"


def test_a_spec_cannot_be_changed():
    data = [1]
    spec = SequenceSpec("a:b", x=data)
    data.append(2)
    spec.kwargs["x"].append(3)
    with pytest.raises(AttributeError):
        spec.target = "c:d"
    with pytest.raises(AttributeError):
        del spec._target
    assert spec == SequenceSpec("a:b", x=[1])


def test_building_imports_the_module_and_calls_the_target(module):
    sequence = SequenceSpec(f"{module}:Shuffled", count=5, size=(1, 2)).build()
    assert len(sequence) == 5
    assert sequence.options == {"size": [1, 2]}


def test_instances_that_shuffle_in_their_constructor_shuffle_alike_and_leave_the_callers_numbers_alone(module):
    state, numpy_state = random.getstate(), np.random.get_state()[1].tolist()
    spec = SequenceSpec(f"{module}:Shuffled", count=50)
    first, second = spec.build(), spec.build()
    assert first.order.tolist() == second.order.tolist() != list(range(50))
    assert first.draw == second.draw
    assert random.getstate() == state
    assert np.random.get_state()[1].tolist() == numpy_state


def test_an_exception_of_the_callable_is_passed_on_unchanged(module):
    with pytest.raises(FileNotFoundError):
        SequenceSpec(f"{module}:failing").build()


def test_a_callable_that_gives_no_sequence_is_named(module):
    with pytest.raises(TypeError, match="not_a_sequence' gave no Sequence: an int cannot"):
        SequenceSpec(f"{module}:not_a_sequence").build()


@pytest.mark.parametrize(
    ("name", "problem"), [("missing", "has nothing"), ("number", "an int, which cannot be called")]
)
def test_a_name_that_leads_to_no_callable_is_refused(module, name, problem):
    with pytest.raises(ConfigurationError, match=problem):
        import_target(f"{module}:{name}")


def test_a_module_that_is_not_there_is_an_import_error():
    with pytest.raises(ModuleNotFoundError):
        import_target("no_such_module_anywhere:x")


def test_a_target_splits_into_module_and_name():
    assert split_target("a.b:c") == ("a.b", "c")


def test_an_importable_class_is_named_by_module_and_name(module):
    found = import_target(f"{module}:Shuffled")
    assert SequenceSpec(found, count=3) == SequenceSpec(f"{module}:Shuffled", count=3)


def test_a_class_of_the_script_itself_is_refused_with_what_to_do():
    script = type("Batches", (), {"__module__": "__main__"})
    with pytest.raises(ConfigurationError, match="move Batches into a module that workers can import"):
        SequenceSpec(script)


def test_a_class_that_cannot_be_imported_by_its_name_is_refused_with_what_to_do():
    class Local:
        pass

    with pytest.raises(ConfigurationError, match="move it to the top level of a module"):
        SequenceSpec(Local)


def test_a_lambda_and_a_method_are_called_by_these_names():
    with pytest.raises(ConfigurationError, match=r"a lambda has no name .* define a function with def"):
        SequenceSpec(lambda: None)
    with pytest.raises(ConfigurationError, match=r"not of the method Path\.iterdir: write a function"):
        SequenceSpec(Path().iterdir)


@pytest.mark.parametrize("target", ["data.Train", "data.py:Train", "./data.py:Train", "data:Train"])
def test_a_malformed_target_comes_with_what_it_most_likely_means(target):
    try:
        build = SequenceSpec(target).build
    except ConfigurationError as error:
        assert "such as 'data:Train'" in str(error)
    else:
        with pytest.raises(ModuleNotFoundError, match="'data:Train'"):
            build()


def test_an_object_in_place_of_a_class_is_refused_with_what_to_do():
    with pytest.raises(ConfigurationError, match="goes to SequenceEnqueuer as it is"):
        SequenceSpec([1, 2])  # type: ignore[arg-type]


def test_positional_arguments_are_refused_with_the_keyword_to_use(module):
    with pytest.raises(TypeError, match="by keyword, such as count=100"):
        SequenceSpec("other.data:Batches", 100, 32)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="by keyword, such as count=3"):
        SequenceSpec(import_target(f"{module}:Shuffled"), 3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="by keyword, such as count=100, size=32, not"):
        SequenceSpec("other.data:Batches", {"count": 100, "size": 32})  # type: ignore[arg-type]
