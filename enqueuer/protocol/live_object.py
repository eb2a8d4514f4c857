"""Packs a live Sequence for workers: a pickle stream, and its large arrays as separate buffers.

cloudpickle includes the classes of a notebook or script. Pickle protocol 5 keeps arrays out of the stream.

    bundle            [worker_init stream, sequence stream, buffer, …]; worker_init runs before the rest is unpickled
    local processes   the bundle lies in a shared segment, and `live_state` names it; arrays are views of the segment,
                      writable, and each worker's own (copy on write)
    remote workers    `carried_state` holds the bundle itself, up to `CARRIED_LIMIT_BYTES`; only for workers that trust
                      the trainer (``--allow-pickle``)

Unpickling runs code of the pickle's author, so the caller must make sure that the bundle is from its own trainer.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable, Sequence
from typing import Any

from enqueuer.errors import ConfigurationError, EnqueuerError, ProtocolError, safe_text
from enqueuer.protocol.object_pickler import ObjectPickler, pickle_alone, pickle_whole
from enqueuer.protocol.unpicklable import GLOBAL, find_unpicklable

# The two streams come before the buffers.
BUNDLE_HEAD = 2
_PATH = "path"
_PARTS = "parts"
_PYTHON = "python"
# A control message has 16 MiB at most. Larger data belongs into files, or behind a SequenceSpec.
CARRIED_LIMIT_BYTES = 15 * 1024 * 1024


class Bundle(list[memoryview]):
    """The parts of a bundle for local processes, which map files again; `copied` makes them for other hosts.

    ``shares_memory``: the trainer and its workers see one memory, whose changes no later bundle shows.
    """

    def __init__(
        self, parts: list[memoryview], copied: Callable[[], list[memoryview]], *, shares_memory: bool = False
    ) -> None:
        super().__init__(parts)
        self.copied = copied
        self.shares_memory = shares_memory


def pack_object(live: Any, *, maps_files: bool = True) -> list[memoryview]:
    """Pickle any object as ``[stream, buffer, …]``; the buffers are views of its arrays, not copies.

    Arrays in mapped files travel as the file's name; without ``maps_files``, like other arrays.

    Raises ConfigurationError if the object cannot be pickled, with the reason as its cause, or if a file that it maps
    is gone.
    """
    return _pack(live, maps_files=maps_files)[0]


def _pack(live: Any, *, maps_files: bool) -> tuple[list[memoryview], bool]:
    """The parts of `pack_object`, and whether a part of the object lives outside of it."""
    picklers = []

    def make(*parts: Any) -> ObjectPickler:
        picklers.append(ObjectPickler(*parts, maps_files=maps_files))
        return picklers[-1]

    try:
        stream, buffers = pickle_whole(live, make)
    except ConfigurationError:
        raise
    except Exception as error:
        raise _cannot_pickle(live, error) from error
    return [stream.getbuffer(), *buffers], any(pickler.shares_memory for pickler in picklers)


def unpack_object(parts: Sequence[memoryview]) -> Any:
    """Unpickle the parts of `pack_object`; large arrays are views of ``parts``, and writable if those are.

    Exceptions of the unpickling are passed on.
    """
    return pickle.loads(parts[0], buffers=parts[1:])  # noqa: S301 - from the caller's own trainer


def pack_bundle(sequence: Any, worker_init: Callable[[], Any] | None = None) -> Bundle:
    """Pack the bundle of a Sequence. It may be a `SequenceSpec`, if only ``worker_init`` is live."""
    try:
        init = pickle_alone(worker_init)
    except Exception as error:
        cure = "Name it as worker_init='package.module:callable', or have it make what cannot be pickled"
        raise _cannot_pickle(worker_init, error, f"{cure} (open files, locks, connections) itself") from error

    parts, shares_memory = _pack(sequence, maps_files=True)
    head = memoryview(init)
    return Bundle([head, *parts], lambda: [head, *pack_object(sequence, maps_files=False)], shares_memory=shares_memory)


def unpack_worker_init(parts: Sequence[memoryview]) -> Callable[[], Any] | None:
    """Unpickle the bundle's ``worker_init``. Exceptions of the unpickling are passed on."""
    init: Callable[[], Any] | None = pickle.loads(parts[0])  # noqa: S301 - from the caller's own trainer
    return init


def unpack_sequence(parts: Sequence[memoryview]) -> Any:
    """Unpickle a new copy of the bundle's Sequence or `SequenceSpec`.

    Raises ConfigurationError, with the reason as its cause, if the user's own code fails in that. Errors of imports and
    of this library are passed on.
    """
    try:
        return unpack_object(parts[1:])
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{safe_text(error)}; {_CURE_MODULE}", name=error.name) from error
    except (EnqueuerError, ImportError):
        raise
    except Exception as error:
        raise ConfigurationError(
            f"the Sequence cannot be unpickled in a worker process: {type(error).__name__}: {safe_text(error)}"
            f"{_describe_place(error)}. Mend it there; or {_CURE_SPEC}; or leave it out in __getstate__"
        ) from error


def live_state(path: str) -> dict[str, Any]:
    """The ``Epoch.state`` for a bundle in the shared segment at ``path``."""
    return {_PATH: path}


def live_path(state: Any) -> str | None:
    """The path of the segment that an ``Epoch.state`` names, or None if it names none."""
    path = state.get(_PATH) if isinstance(state, dict) else None
    return path if isinstance(path, str) else None


def carried_state(parts: Sequence[memoryview]) -> dict[str, Any]:
    """The ``Epoch.state`` that holds a bundle itself. Raises ConfigurationError if the bundle is too large.

    Another host has other files, so the content of mapped files travels with the bundle.
    """
    if isinstance(parts, Bundle):
        parts = parts.copied()
    nbytes = sum(part.nbytes for part in parts)
    if nbytes > CARRIED_LIMIT_BYTES:
        raise ConfigurationError(
            f"the trainer's Sequence is a live object of {nbytes / 1e6:.0f} MB, and remote workers get up to "
            f"{CARRIED_LIMIT_BYTES / 1e6:.0f} MB; "
            'pass SequenceSpec("package.module:callable", ...) to SequenceEnqueuer, so that each worker makes its own'
        )
    return {_PARTS: [bytes(part) for part in parts], _PYTHON: _python_version()}


def is_carried(state: Any) -> bool:
    """Whether an ``Epoch.state`` holds a bundle."""
    return isinstance(state, dict) and _PARTS in state


def carried_parts(state: Any) -> list[memoryview]:
    """The bundle in a state for which `is_carried` is true; its parts are writable.

    Raises ProtocolError if it is no bundle, and ConfigurationError if it is from another version of Python: cloudpickle
    cannot load the code of that.
    """
    parts = state[_PARTS]
    if not isinstance(parts, list) or len(parts) < BUNDLE_HEAD or not all(isinstance(part, bytes) for part in parts):
        raise ProtocolError("the state of a live Sequence has no valid parts")
    if state.get(_PYTHON) != _python_version():
        raise ConfigurationError(
            f"the trainer's live Sequence is of Python {state.get(_PYTHON)!r:.20}, and this worker has "
            f"{_python_version()}: use the same version, or SequenceSpec"
        )
    return [memoryview(bytearray(part)) for part in parts]


def _python_version() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def _describe_place(error: Exception) -> str:
    """The user's method that was called, since the error's own text need not name it."""
    step = error.__traceback__
    while step is not None and str(step.tb_frame.f_globals.get("__name__")).startswith("enqueuer."):
        step = step.tb_next
    if step is None:
        return ""
    code = step.tb_frame.f_code
    name = getattr(code, "co_qualname", code.co_name)  # without the class before Python 3.11
    return f" (in {name}, {code.co_filename} line {step.tb_lineno})"


_CURE_SPEC = "name it with SequenceSpec('package.module:callable', …), so that each worker makes its own"
_CURE_MODULE = (
    "a worker process imports modules afresh: install it, put its folder on sys.path before start(), or, if the "
    "trainer's program has made it, make it in worker_init=, too"
)
_CURE_GLOBAL = (
    "Move what uses it, and it, to a module that the script imports, so that each process makes its own; or make it in "
    "__getitem__ when it is first needed"
)
_CURE_DEEP = (
    "It is nested too deep for pickle: keep the parts in one list, and links as numbers in that list. Or use threads "
    f"(use_multiprocessing=False); or {_CURE_SPEC}"
)
_CURES = (
    f"Use threads (use_multiprocessing=False); or {_CURE_SPEC}; or leave what cannot be pickled (open files, locks, "
    "connections) out in __getstate__"
)


_CURES_SHARED = (
    "It is shared between processes, and copies in workers would not be. Use threads (use_multiprocessing=False); or "
    "the like of multiprocessing.Manager(); or, for numbers, np.frombuffer() of a multiprocessing.Array; or leave it "
    "out in __getstate__, if each worker may have its own"
)


def _cannot_pickle(live: Any, error: Exception, cures: str = _CURES) -> ConfigurationError:
    kind = live.__qualname__ if callable(live) and hasattr(live, "__qualname__") else type(live).__qualname__
    found = find_unpicklable(live)
    place = "" if found is None else f" In the way is {kind}{found[0]}, a {type(found[1]).__qualname__}."
    if found is not None and GLOBAL in found[0]:
        cures = f"{_CURE_GLOBAL}; or {_CURE_SPEC}"
    if "recursion" in str(error):
        cures = _CURE_DEEP
    if "through inheritance" in str(error) or (found is not None and hasattr(found[1], "_wrapper")):
        cures = _CURES_SHARED  # the text and the attribute are those of multiprocessing
    return ConfigurationError(
        f"{kind} cannot be sent to worker processes: {type(error).__name__}: {safe_text(error)}.{place} {cures}"
    )
