"""A live Sequence as a stream and its large arrays beside it: for the trainer's own local processes, and for workers
elsewhere whose owners trust the trainer (``--allow-pickle``).

cloudpickle, so that classes of a notebook or script come along; pickle protocol 5, so that arrays stay out of the
stream: written to a shared segment once, they are views of it in every worker, writable and each worker's own.

A bundle is the parts ``[worker_init, sequence stream, buffer, …]``. ``worker_init`` is a stream of its own because it
has to run before the Sequence is made. The state on the wire is `live_state` (where the segment is), or, for workers
elsewhere, `carried_state`: the parts themselves, up to `CARRIED_LIMIT_BYTES`.

Unpickling runs what the pickle says: the caller must know that it is its own trainer's.
"""

from __future__ import annotations

import io
import pickle
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import cloudpickle

from enqueuer.errors import ConfigurationError, ProtocolError

_PROTOCOL = 5
_LEAST_PARTS = 2
# Below this a view costs more (a pickle opcode, a table entry, alignment) than its share of a copy in each worker.
_OUT_OF_BAND_BYTES = 4096
_PATH = "path"
_PARTS = "parts"
_PYTHON = "python"
# A control message has 16 MiB at most. What is larger should be in files, or be named by a SequenceSpec.
CARRIED_LIMIT_BYTES = 15 * 1024 * 1024


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
        stream = io.BytesIO()
        _Pickler(stream, keep_in_stream).dump(live)
    except Exception as error:
        raise _cannot_pickle(live, error) from error
    return [stream.getbuffer(), *buffers]


def unpack_object(parts: Sequence[memoryview]) -> Any:
    """What `pack_object` got; its large arrays are views of ``parts``, writable where those are.

    Raises what unpickling raises.
    """
    return pickle.loads(parts[0], buffers=parts[1:])  # noqa: S301 - the caller has checked whose it is


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """cloudpickle's, but that plain CPU tensors of torch go as the arrays that they are.

    torch's own way copies a tensor's whole storage into the stream, and with it into each worker; and cannot bring
    float8 back.
    """

    def __init__(self, stream: io.BytesIO, buffer_callback: Callable[[pickle.PickleBuffer], Any]) -> None:
        super().__init__(stream, protocol=_PROTOCOL, buffer_callback=buffer_callback)
        self._torch = sys.modules.get("torch")

    def reducer_override(self, value: Any) -> Any:
        if type(value) is getattr(self._torch, "Tensor", None):
            reduced = _reduce_tensor(value, self._torch)
            if reduced is not None:
                return reduced
        return super().reducer_override(value)


def _reduce_tensor(tensor: Any, torch: Any) -> tuple[Any, ...] | None:
    plain = tensor.layout == torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized
    if not plain or tensor.requires_grad or tensor.is_conj() or tensor.is_neg() or tensor.__dict__:
        return None
    name = str(tensor.dtype).removeprefix("torch.")
    try:
        return _restore_tensor, (tensor.numpy(), name)
    except TypeError:  # a type that NumPy lacks: its bytes
        return _restore_tensor, (tensor.contiguous().reshape(-1).view(torch.uint8).numpy(), name, tuple(tensor.shape))


def _restore_tensor(array: Any, dtype: str, shape: tuple[int, ...] | None = None) -> Any:
    torch: Any = import_module("torch")
    tensor = torch.from_numpy(array)
    return tensor if shape is None else tensor.view(getattr(torch, dtype)).reshape(shape)


def pack_bundle(sequence: Any, worker_init: Callable[[], Any] | None = None) -> list[memoryview]:
    """The parts for a shared segment. ``sequence`` may be a `SequenceSpec`, where only ``worker_init`` is live."""
    try:
        init = cloudpickle.dumps(worker_init, protocol=_PROTOCOL)
    except Exception as error:
        raise _cannot_pickle(worker_init, error) from error
    return [memoryview(init), *pack_object(sequence)]


def unpack_worker_init(parts: Sequence[memoryview]) -> Callable[[], Any] | None:
    """The bundle's ``worker_init``. Raises as unpickling does."""
    init: Callable[[], Any] | None = pickle.loads(parts[0])  # noqa: S301 - as above
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


def carried_state(parts: Sequence[memoryview]) -> dict[str, Any]:
    """``Epoch.state`` for a bundle that travels inside of it. Raises ConfigurationError for one that is too large."""
    nbytes = sum(part.nbytes for part in parts)
    if nbytes > CARRIED_LIMIT_BYTES:
        raise ConfigurationError(
            f"the trainer's Sequence is a live object of {nbytes / 1e6:.0f} MB, and remote workers get up to "
            f"{CARRIED_LIMIT_BYTES / 1e6:.0f} MB; "
            'pass SequenceSpec("package.module:callable", ...) to SequenceEnqueuer, so that each worker makes its own'
        )
    return {_PARTS: [bytes(part) for part in parts], _PYTHON: _python_version()}


def is_carried(state: Any) -> bool:
    """Whether a state from the wire has a bundle in it."""
    return isinstance(state, dict) and _PARTS in state


def carried_parts(state: Any) -> list[memoryview]:
    """The parts in such a state, writable.

    Raises ProtocolError for what are none, and ConfigurationError for those of another Python: cloudpickle's code is of
    one version.
    """
    parts = state[_PARTS]
    if not isinstance(parts, list) or len(parts) < _LEAST_PARTS or not all(isinstance(part, bytes) for part in parts):
        raise ProtocolError("a live Sequence that is not made of parts")
    if state.get(_PYTHON) != _python_version():
        raise ConfigurationError(
            f"the trainer's live Sequence is of Python {state.get(_PYTHON)!r:.20}, and this worker has "
            f"{_python_version()}: use the same version, or SequenceSpec"
        )
    return [memoryview(bytearray(part)) for part in parts]


def _python_version() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def _cannot_pickle(live: Any, error: Exception) -> ConfigurationError:
    kind = live.__qualname__ if callable(live) and hasattr(live, "__qualname__") else type(live).__qualname__
    return ConfigurationError(
        f"{kind} cannot be sent to worker processes: {type(error).__name__}: {error}. Use threads "
        "(use_multiprocessing=False); or name it with SequenceSpec('package.module:callable', …), so that each worker "
        "makes its own; or leave what cannot be pickled (open files, locks, connections) out in __getstate__"
    )
