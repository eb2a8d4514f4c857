import threading

import numpy as np
import pytest

from enqueuer.compute.spec import SequenceSpec
from enqueuer.errors import ConfigurationError
from enqueuer.memory.segment import SharedSegment, map_segment, read_parts
from enqueuer.protocol.live_object import (
    live_path,
    live_state,
    pack_bundle,
    pack_object,
    unpack_object,
    unpack_sequence,
    unpack_worker_init,
)


class Held:
    """A Sequence's worth of attributes."""

    def __init__(self, **attributes):
        self.__dict__.update(attributes)


class Locked:
    def __init__(self):
        self.lock = threading.Lock()


@pytest.fixture
def mapped(tmp_path):
    """Puts parts into a segment and gives a reader's view of them."""
    made = []

    def read(parts):
        made.append(SharedSegment.create(parts, directory=tmp_path))
        return read_parts(map_segment(made[-1].path))

    yield read
    for segment in made:
        segment.close()


def test_large_arrays_stay_out_of_the_stream_and_are_not_copied_to_be_packed():
    data = np.arange(100_000.0)
    stream, buffer = pack_object(Held(data=data, small=np.arange(3)))
    assert len(stream) < 5000
    assert np.shares_memory(np.frombuffer(buffer), data)


def test_arrays_are_views_of_the_segment(mapped):
    parts = mapped(pack_object(Held(data=np.arange(10_000.0).reshape(100, 100), fortran=np.ones((90, 80), order="F"))))
    held = unpack_object(parts)
    assert np.shares_memory(held.data, np.frombuffer(parts[1], np.uint8))
    assert held.data.tolist() == np.arange(10_000.0).reshape(100, 100).tolist()
    assert held.fortran.flags.f_contiguous


def test_arrays_of_the_segment_are_writable_and_each_readers_own(tmp_path):
    segment = SharedSegment.create(pack_object(Held(data=np.zeros(10_000))), directory=tmp_path)
    first, second = (unpack_object(read_parts(map_segment(segment.path))) for _ in range(2))
    first.data[:] = 1
    assert second.data.sum() == 0
    segment.close()


@pytest.mark.parametrize(
    "data",
    [
        np.arange(20_000)[::2],
        np.array([{"a": 1}] * 10_000, dtype=object),
        np.zeros(10_000, dtype=[("a", "i4"), ("b", "M8[s]")]),
        [np.ones(1000) for _ in range(50)],
        bytearray(100_000),
        b"x" * 100_000,
    ],
    ids=["strided", "objects", "structured", "many", "bytearray", "bytes"],
)
def test_data_of_every_kind_comes_back_equal(mapped, data):
    back = unpack_object(mapped(pack_object(data)))
    assert type(back) is type(data)
    assert np.array_equal(np.asarray(back), np.asarray(data))


def test_classes_and_functions_of_a_script_come_along(mapped):
    class Local:
        def __getitem__(self, index):
            return index * 2

    assert unpack_object(mapped(pack_object(Local())))[4] == 8
    assert unpack_object(mapped(pack_object(lambda n: n + 1)))(1) == 2


def test_an_unchanged_object_packs_to_the_same_parts(tmp_path):
    held = Held(data=np.zeros(10_000), name="x")
    segment = SharedSegment.create(pack_object(held), directory=tmp_path)
    assert segment.matches(pack_object(held))
    held.name = "y"
    assert not segment.matches(pack_object(held))
    held.name = "x"
    held.data[9_999] = 1
    assert not segment.matches(pack_object(held))
    segment.close()


def test_the_error_for_an_object_that_cannot_be_pickled_names_it_and_the_remedy():
    with pytest.raises(
        ConfigurationError, match=r"Locked cannot be sent.*use_multiprocessing=False.*SequenceSpec.*__get"
    ) as caught:
        pack_object(Locked())
    assert isinstance(caught.value.__cause__, TypeError)


def test_an_error_in_the_users_own_getstate_is_the_cause():
    class Stubborn:
        def __getstate__(self):
            raise OSError("no state")

    with pytest.raises(ConfigurationError, match="OSError: no state") as caught:
        pack_object(Stubborn())
    assert isinstance(caught.value.__cause__, OSError)


def test_a_bundle_has_worker_init_apart_from_the_sequence(mapped):
    parts = mapped(pack_bundle(Held(data=np.zeros(10_000)), lambda: "ran"))
    assert unpack_worker_init(parts)() == "ran"
    assert unpack_sequence(parts).data.shape == (10_000,)
    assert unpack_worker_init(pack_bundle([1])) is None


def test_a_bundle_may_hold_a_spec():
    spec = SequenceSpec("a.b:c", x=1)
    assert unpack_sequence(pack_bundle(spec, print)) == spec


def test_a_worker_init_that_cannot_be_pickled_is_named():
    lock = threading.Lock()

    def prepare():
        return lock

    with pytest.raises(ConfigurationError, match=r"prepare cannot be sent"):
        pack_bundle([1], prepare)


def test_the_state_on_the_wire_is_the_segments_path():
    assert live_path(live_state("/proc/1/fd/3")) == "/proc/1/fd/3"
    assert live_path({"epoch_ends": []}) is live_path(None) is live_path({"path": 3}) is live_path([1]) is None
