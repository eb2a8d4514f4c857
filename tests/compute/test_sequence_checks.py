import pytest

from enqueuer.compute.sequence_checks import (
    batch_count,
    check_sequence,
    fills_buffers,
    optional_method,
    own_on_epoch_end,
)
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
        ("mydata:Batches", r"a str cannot .* pass SequenceSpec\('mydata:Batches'\)"),
        ("abc", "a str cannot .* its items are characters; pass a Sequence"),
        (b"abc", "a bytes cannot .* its items are characters"),
        ({"x": 1, "y": 2}, r"a dict cannot .* its keys are not 0, 1, …; pass an object whose __getitem__"),
    ],
)
def test_an_object_that_is_no_sequence_is_a_type_error_that_names_the_missing_methods(candidate, missing):
    with pytest.raises(TypeError, match=missing):
        check_sequence(candidate)


def test_a_dict_of_batches_and_a_dict_with_items_of_its_own_are_sequences():
    class Computed(dict):
        __getitem__ = Bare.__getitem__

    check_sequence({0: "a", 1: "b"})
    check_sequence(Computed(x=1))


@pytest.mark.parametrize(
    ("length", "error", "text"),
    [
        (2.5, TypeError, r"divide with // or math\.ceil\): 'float'"),
        ("3", TypeError, "'str' object"),
        (None, TypeError, "'NoneType' object"),
        (-1, ValueError, ">= 0"),
        (2**70, OverflowError, "index-sized"),
    ],
)
def test_a_wrong_length_names_the_class_and_what_it_must_return(length, error, text):
    sized = type("Sized", (Bare,), {"__len__": lambda self: length})
    with pytest.raises(error, match=rf"Sized\.__len__ must return the number of batches in an epoch.*{text}"):
        batch_count(sized())


def test_an_error_inside_of_a_length_stays_as_it_is():
    def raise_one(self):
        raise ValueError("no such split")

    with pytest.raises(ValueError, match=r"^no such split$"):
        batch_count(type("Sized", (Bare,), {"__len__": raise_one})())


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


class Answering(Bare):
    """Answers every question for an attribute with the same."""

    def __init__(self, answer):
        self.answer = answer

    def __getattr__(self, name):
        return self.answer


class Passing(Bare):
    """Passes questions for attributes on to another object."""

    def __init__(self, inner):
        self.inner = inner

    def __getattr__(self, name):
        return getattr(self.inner, name)


class Full(Bare):
    def on_epoch_end(self):
        return "ended"

    def set_epoch(self, epoch):
        return epoch

    def getitem_into(self, index, out):
        return None


@pytest.mark.parametrize("wrapped", [Passing(Full()), Passing(Passing(Full()))])
def test_methods_that_a_wrapper_passes_on_count(wrapped):
    assert own_on_epoch_end(wrapped)() == "ended"
    assert optional_method(wrapped, "set_epoch")(3) == 3
    assert optional_method(wrapped, "close") is None


def test_an_empty_hook_behind_a_wrapper_does_not_count():
    assert own_on_epoch_end(Passing(Passing(Derived()))) is None
    assert own_on_epoch_end(Passing(type("Mine", (keras_like("keras"),), {})())) is None


def test_an_answer_that_cannot_be_called_is_no_method():
    for answer in (None, 3, "on_epoch_end"):
        assert own_on_epoch_end(Answering(answer)) is None
        assert optional_method(Answering(answer), "state_dict") is None


def test_a_getattr_that_answers_everything_with_a_function_has_no_optional_methods():
    assert optional_method(Answering(print), "state_dict") is None
    assert optional_method(Answering(print), "close") is None


def test_what_getattr_raises_counts_as_no():
    class Strict(Bare):
        def __getattr__(self, name):
            return {}[name]

    class Endless(Bare):
        def __getattr__(self, name):
            return getattr(self, name)

    for sequence in (Strict(), Endless()):
        assert own_on_epoch_end(sequence) is None
        assert optional_method(sequence, "close") is None


def test_an_error_of_a_property_of_the_class_is_passed_on():
    class Mine(Bare):
        @property
        def close(self):
            raise LookupError("no such file")

    with pytest.raises(LookupError):
        optional_method(Mine(), "close")


def test_a_class_with_slots_and_a_getattr_is_asked_for_no_dict():
    class Slotted(Bare):
        __slots__ = ()

        def __getattr__(self, name):
            return None

    assert own_on_epoch_end(Slotted()) is None


def test_getitem_into_counts_only_beside_or_below_getitem():
    class Doubled(Full):
        def __getitem__(self, index):
            return 2 * super().__getitem__(index)

    class Below(Bare):
        def getitem_into(self, index, out):
            return None

    assert fills_buffers(Full())
    assert fills_buffers(Below())
    assert not fills_buffers(Doubled()), "it would give batches that are not doubled"
    assert not fills_buffers(Passing(Full()))
    assert not fills_buffers(Answering(print))
    assert not fills_buffers(Bare())


def test_an_attribute_that_cannot_be_called_is_no_hook():
    class Mine(Bare):
        on_epoch_end = None

    assert own_on_epoch_end(Mine()) is None
