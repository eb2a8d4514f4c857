import pytest

import enqueuer.compute.spec
from enqueuer.sequence import Sequence, SequenceSpec


class Squares(Sequence):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        return index * index


def test_length_and_items_have_to_be_written():
    with pytest.raises(TypeError, match="abstract"):
        Sequence()


def test_iterating_is_one_epoch():
    squares = Squares()
    assert list(squares) == [0, 1, 4, 9]
    assert list(squares) == [0, 1, 4, 9]


def test_on_epoch_end_may_be_left_out():
    assert Squares().on_epoch_end() is None


def test_the_spec_is_at_home_here_too():
    assert SequenceSpec is enqueuer.compute.spec.SequenceSpec
