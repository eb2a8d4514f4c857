"""A live Sequence as a stream and its large arrays beside it, for the trainer's own local processes only.

cloudpickle, so that classes of a notebook or script come along; pickle protocol 5, so that arrays stay out of the
stream: written to a shared segment once, they are views of it in every worker, writable and each worker's own.

A bundle is the parts ``[worker_init, sequence stream, buffer, …]``. ``worker_init`` is a stream of its own because it
has to run before the Sequence is made. The state on the wire is `live_state`: where the segment is.

Unpickling runs what the pickle says: the caller must know that the segment is its own trainer's.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from typing import Any

import cloudpickle

from enqueuer.errors import ConfigurationError

_PROTOCOL = 5
# Below this a view costs more (a pickle opcode, a table entry, alignment) than its share of a copy in each worker.
_OUT_OF_BAND_BYTES = 4096
_PATH = "path"


def pack_object(live: Any) -> list[memoryview]:
    """``[stream, buffer, …]`` of any object; the buffers are views of its arrays, not copies.

    Raises ConfigurationError, with the reason as its cause, when the object cannot be pickled.
    """
    buffers: list[memoryview] = []

    def keep_in_stream(buffer: pickle.PickleBuffer) -> bool:
        raw = buffer.raw()
        if raw.nbytes < _OUT_OF_BAND_BYTES:
            return True
        buffers.append(raw)
        return False

    try:
        stream = cloudpickle.dumps(live, protocol=_PROTOCOL, buffer_callback=keep_in_stream)
    except Exception as error:
        raise _cannot_pickle(live, error) from error
    return [memoryview(stream), *buffers]


def unpack_object(parts: Sequence[memoryview]) -> Any:
    """What `pack_object` got; its large arrays are views of ``parts``, writable where those are.

    Raises what unpickling raises.
    """
    return pickle.loads(parts[0], buffers=parts[1:])


def pack_bundle(sequence: Any, worker_init: Callable[[], Any] | None = None) -> list[memoryview]:
    """The parts for a shared segment. ``sequence`` may be a `SequenceSpec`, where only ``worker_init`` is live."""
    try:
        init = cloudpickle.dumps(worker_init, protocol=_PROTOCOL)
    except Exception as error:
        raise _cannot_pickle(worker_init, error) from error
    return [memoryview(init), *pack_object(sequence)]


def unpack_worker_init(parts: Sequence[memoryview]) -> Callable[[], Any] | None:
    """The bundle's ``worker_init``. Raises as unpickling does."""
    init: Callable[[], Any] | None = pickle.loads(parts[0])
    return init


def unpack_sequence(parts: Sequence[memoryview]) -> Any:
    """A fresh copy of the bundle's Sequence (or its `SequenceSpec`). Raises as unpickling does."""
    return unpack_object(parts[1:])


def live_state(path: str) -> dict[str, Any]:
    """What the coordinator puts into ``Epoch.state`` for a bundle in the segment at ``path``."""
    return {_PATH: path}


def live_path(state: Any) -> str | None:
    """The segment's path in a state from the wire, or None if that is no bundle's."""
    path = state.get(_PATH) if isinstance(state, dict) else None
    return path if isinstance(path, str) else None


def _cannot_pickle(live: Any, error: Exception) -> ConfigurationError:
    kind = live.__qualname__ if callable(live) and hasattr(live, "__qualname__") else type(live).__qualname__
    return ConfigurationError(
        f"{kind} cannot be sent to worker processes: {type(error).__name__}: {error}. Use threads "
        "(use_multiprocessing=False); or name it with SequenceSpec('package.module:callable', …), so that each worker "
        "makes its own; or leave what cannot be pickled (open files, locks, connections) out in __getstate__"
    )
