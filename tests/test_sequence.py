import pytest

import enqueuer.compute.spec
from enqueuer.sequence import Sequence, SequenceSpec


class Squares(Sequence):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        return index * index


def test_a_sequence_without_length_or_items_cannot_be_made():
    with pytest.raises(TypeError, match="abstract"):
        Sequence()


def test_iterating_over_a_sequence_is_one_epoch():
    squares = Squares()
    assert list(squares) == [0, 1, 4, 9]
    assert list(squares) == [0, 1, 4, 9]


def test_on_epoch_end_may_be_left_out():
    assert Squares().on_epoch_end() is None


def test_the_spec_can_be_imported_from_the_same_module():
    assert SequenceSpec is enqueuer.compute.spec.SequenceSpec
