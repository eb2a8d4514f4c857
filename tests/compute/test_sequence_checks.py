import pytest

from enqueuer.compute.sequence_checks import check_sequence, own_on_epoch_end
from enqueuer.sequence import Sequence


class Bare:
    def __len__(self):
        return 1

    def __getitem__(self, index):
        return index


class Derived(Sequence):
    __len__ = Bare.__len__
    __getitem__ = Bare.__getitem__


def keras_like(root, name="Sequence"):
    """A class like Keras' base class: with an empty on_epoch_end, and recognized by its module."""
    return type(name, (Bare,), {"__module__": f"{root}.src.utils", "on_epoch_end": lambda self: None})


@pytest.mark.parametrize("candidate", [Bare(), Derived(), [1, 2], {}])
def test_length_and_items_are_all_that_is_needed(candidate):
    check_sequence(candidate)


@pytest.mark.parametrize(
    ("candidate", "missing"),
    [
        (object(), "__len__ .* and __getitem__"),
        ((n for n in range(3)), "a generator cannot .* __len__"),
        ({1}, "a set cannot .* it lacks __getitem__"),
        (Bare, r"a class: pass Bare\("),
        (None, "NoneType"),
    ],
)
def test_an_object_that_is_no_sequence_is_a_type_error_that_names_the_missing_methods(candidate, missing):
    with pytest.raises(TypeError, match=missing):
        check_sequence(candidate)


def test_none_has_no_epoch_end_hook():
    assert own_on_epoch_end(Bare()) is None


def test_our_base_classs_empty_hook_does_not_count():
    assert own_on_epoch_end(Derived()) is None


@pytest.mark.parametrize("root", ["keras", "tf_keras", "tensorflow"])
@pytest.mark.parametrize("name", ["Sequence", "PyDataset"])
def test_the_base_classes_of_keras_do_not_count(root, name):
    base = keras_like(root, name)
    assert own_on_epoch_end(type("Mine", (base,), {})()) is None


def test_another_class_of_keras_with_a_hook_counts():
    """Such as the iterators of ImageDataGenerator, which reshuffle there."""
    iterator = keras_like("keras", "Iterator")
    assert own_on_epoch_end(iterator()) is not None


def test_a_users_class_that_is_called_sequence_counts():
    assert own_on_epoch_end(keras_like("myproject")()) is not None
    assert own_on_epoch_end(keras_like("kerasish")()) is not None


def test_a_hook_of_the_users_class_counts():
    class Mine(Derived):
        def on_epoch_end(self):
            return "called"

    assert own_on_epoch_end(Mine())() == "called"


def test_a_hook_put_on_the_instance_counts():
    sequence = Derived()
    sequence.on_epoch_end = lambda: "called"
    assert own_on_epoch_end(sequence)() == "called"


def test_a_hook_that_a_wrapper_forwards_counts():
    class Wrapper(Bare):
        def __getattr__(self, name):
            return lambda: name

    assert own_on_epoch_end(Wrapper())() == "on_epoch_end"


def test_an_attribute_that_cannot_be_called_is_no_hook():
    class Mine(Bare):
        on_epoch_end = None

    assert own_on_epoch_end(Mine()) is None
