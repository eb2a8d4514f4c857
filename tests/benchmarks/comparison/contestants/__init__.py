"""The libraries compared: one file a peer, and here the abilities and needs of each.

Nothing in this file imports a peer: the parent that interleaves the runs must stay small, and a machine without one of
the peers can still run the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Protocol

# Everybody's. Ours may hold ``max_queue_size`` batches and one more a worker: peers that count exactly get both.
WORKERS = 2
TRANSPORT_KINDS = ("img8", "imgf", "mid", "small")
COMPUTE_KINDS = ("sleep20", "jpeg")
ALL_KINDS = (*TRANSPORT_KINDS, *COMPUTE_KINDS)


class Program(Protocol):
    """Starts the contestant's workers and yields its endless stream of batches, each a pair of arrays or tensors.

    ``depth`` batches may be in flight; None: as many as the contestant has by default.
    """

    def __call__(self, kind: str, depth: int | None) -> AbstractContextManager[Iterator[Any]]: ...


@dataclass(frozen=True)
class Contestant:
    """``program`` is "module:function" below this package; ``modules`` must be installed.

    ``default_depth`` is what it has in flight where nobody says, if that is a number that ``depth`` may also have: both
    are then one measurement. ``bounded`` is false for a baseline to which depth means nothing.
    """

    title: str
    program: str
    modules: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ALL_KINDS
    ordered: bool = True
    default_depth: int | None = None
    bounded: bool = True
    variables: Mapping[str, str] = field(default_factory=dict)

    def resolve(self, depth: int | None) -> int | None:
        """The depth under which a measurement at ``depth`` (None: by default) is kept."""
        if not self.bounded:
            return None
        return self.default_depth if depth is None else depth

    def missing(self) -> list[str]:
        return [module for module in self.modules if find_spec(module) is None]

    def load(self) -> Program:
        module, function = self.program.split(":")
        program: Program = getattr(import_module(f"{__name__}.{module}"), function)
        return program


_QUIET_TENSORFLOW = {"TF_CPP_MIN_LOG_LEVEL": "3"}

CONTESTANTS: dict[str, Contestant] = {
    "enqueuer": Contestant("Enqueuer, local processes", "ours:local", default_depth=10),
    "enqueuer-tcp": Contestant("Enqueuer, tcp", "ours:tcp", default_depth=10),
    "enqueuer-keys": Contestant("Enqueuer, tcp with keys", "ours:keys", default_depth=10),
    "memcpy": Contestant("memcpy, 24 warm blocks", "memcpy:memcpy", kinds=TRANSPORT_KINDS, bounded=False),
    "bare": Contestant("two processes, no transport", "bare:bare", kinds=COMPUTE_KINDS, bounded=False, ordered=False),
    "zmq-raw-ipc": Contestant("pyzmq, raw frames, ipc", "plain_zmq:raw_ipc", ordered=False),
    "zmq-raw-tcp": Contestant("pyzmq, raw frames, tcp", "plain_zmq:raw_tcp", ordered=False),
    "zmq-raw-curve": Contestant("pyzmq, raw frames, tcp + CURVE", "plain_zmq:raw_curve", ordered=False),
    "zmq-msgpack-ipc": Contestant("pyzmq, msgpack-numpy, ipc", "plain_zmq:msgpack_ipc", ordered=False),
    "zmq-msgpack-tcp": Contestant("pyzmq, msgpack-numpy, tcp", "plain_zmq:msgpack_tcp", ordered=False),
    "torch": Contestant("PyTorch DataLoader, tensors", "torch_loader:tensors", ("torch",)),
    "torch-numpy": Contestant("PyTorch DataLoader, NumPy", "torch_loader:arrays", ("torch",)),
    "tf-keras": Contestant(
        "tf-keras OrderedEnqueuer",
        "keras_enqueuers:tf_keras",
        ("tf_keras",),
        default_depth=10,
        variables=_QUIET_TENSORFLOW,
    ),
    "keras": Contestant(
        "Keras 3 OrderedEnqueuer",
        "keras_enqueuers:keras_3",
        ("keras", "tensorflow"),
        default_depth=10,
        variables={"KERAS_BACKEND": "tensorflow", **_QUIET_TENSORFLOW},
    ),
    "ray": Contestant("Ray Data", "ray_data:ray_data", ("ray", "pyarrow"), variables={"RAY_USAGE_STATS_ENABLED": "0"}),
    # Python code does not run on its workers, so it cannot sleep.
    "tf-data-service": Contestant(
        "tf.data service",
        "tf_data_service:tf_data_service",
        ("tensorflow",),
        kinds=(*TRANSPORT_KINDS, "jpeg"),
        ordered=False,
        variables=_QUIET_TENSORFLOW,
    ),
}
