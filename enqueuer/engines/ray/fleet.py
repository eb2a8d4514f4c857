"""`RayFleet`: the workers of one enqueuer on a Ray cluster."""

from __future__ import annotations

import atexit
import itertools
import os
import threading
import weakref
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from enqueuer.argument_values import as_float, read_count, read_number_of_seconds
from enqueuer.compute.spec import SequenceSpec
from enqueuer.engines.ray.actors import Actors, actor_deadline, import_ray
from enqueuer.engines.ray.loop import FleetLoop
from enqueuer.engines.ray.program import ProgramSettings
from enqueuer.engines.ray.reach import address_for_workers, check_reachable
from enqueuer.engines.ray.size import Demand, FleetSize
from enqueuer.errors import ConfigurationError
from enqueuer.security.curve import find_token
from enqueuer.security.keys import TOKEN_FILE
from enqueuer.sequence_enqueuer import SequenceEnqueuer

_POLL_SECONDS = 0.2
# Options that the fleet sets itself: those of the actors, and those of their worker programs.
_OWN_ACTOR_OPTIONS = frozenset({"num_cpus", "max_restarts", "max_task_retries", "max_concurrency", "lifetime", "name"})
_OWN_WORKER_OPTIONS = frozenset(
    {"connect", "processes", "sequence", "allow", "allow_pickle", "token_file", "insecure", "name", "once"}
)
_fleets = itertools.count(1)


class RayFleet:
    """Workers on the Ray cluster of `ray.init`, as many as keep up with the training, until ``close()``.

    Each worker is an actor that Ray places. Workers are added as ``enq.stats().desired_slots`` says, and drained when
    it has been lower for five minutes; other workers of the enqueuer, such as local ones, count. Before the number is
    known, 30 s and 20 batches after ``start()``, there are ``min_workers``, or one.

    The fleet outlasts ``stop()`` and ``start()`` of the enqueuer, and ends with its ``close()`` and with the Python
    process. As a context manager it closes itself.
    """

    def __init__(
        self,
        enq: SequenceEnqueuer,
        *,
        max_workers: int,
        min_workers: int = 1,
        cpus_per_worker: float = 1,
        allow: str | Iterable[str] = (),
        allow_pickle: bool = False,
        token_file: str | os.PathLike[str] | None = None,
        address: str | None = None,
        idle_timeout: float = 60.0,
        actor_options: Mapping[str, Any] | None = None,
        worker_options: Mapping[str, Any] | None = None,
    ) -> None:
        """Check the arguments and begin to start workers; returns before the first one is there.

        Args:
            enq: the enqueuer, with ``bind=``; started or not.
            max_workers: the most workers that run or wait for a place.
            min_workers: the fewest; 0 leaves the cluster alone while nothing is trained.
            cpus_per_worker: the CPUs that Ray sets aside for each worker, and its threads.
            allow: packages from which workers may import, as with ``enqueuer worker --allow``. The callable of the
                enqueuer's `SequenceSpec` is allowed anyway.
            allow_pickle: workers take a live object as the Sequence. Needs keys.
            token_file: the workers' token; None: the ``worker.token`` beside the enqueuer's key file. Ray carries it to
                the actors, so anyone able to run code on the cluster can read it.
            address: where the cluster reaches the trainer, ``'tcp://host:port'``; None: at this node's address in Ray,
                and the port of ``bind``.
            idle_timeout: after this many seconds without ``start()`` the fleet is ``min_workers``.
            actor_options: further options of the actors, such as ``{"resources": {"loader": 1}}`` or a ``runtime_env``.
            worker_options: further arguments of `enqueuer_worker.run_worker`, such as ``{"max_memory": "4G"}``.

        Raises:
            ModuleNotFoundError: Ray is not installed.
            RuntimeError: `ray.init` was not called.
            ConfigurationError: an argument that cannot be, or an enqueuer that workers elsewhere cannot reach.
        """
        self._ray = import_ray()
        if not self._ray.is_initialized():
            raise RuntimeError("Ray is not initialised: call ray.init(), on a cluster's node ray.init(address='auto')")
        self._enq = weakref.ref(enq)
        self._address = address
        self._name = f"ray-{os.getpid()}-{next(_fleets)}"
        size = _read_size(min_workers, max_workers, idle_timeout)
        options = _read_actor_options(cpus_per_worker, actor_options)
        self._here = self._ray.util.get_node_ip_address()
        nodes = [node["NodeManagerAddress"] for node in self._ray.nodes() if node["Alive"]]
        check_reachable(enq._options.bind, address, self._here, nodes)
        self._arguments, self._token = _read_arguments(
            enq, cpus_per_worker, allow, allow_pickle, token_file, dict(worker_options or {})
        )
        self._actors = Actors(self._settings, options, actor_deadline(self._arguments))
        self._loop = FleetLoop(self._ask, size, self._actors)
        self._pid = os.getpid()
        self._thread = threading.Thread(target=self._loop.run, name="enqueuer-ray-fleet", daemon=True)
        self._thread.start()
        enq._companions.callback(self.close)
        # Before Ray's own, which was registered earlier: it would kill the actors.
        atexit.register(self.close)

    def _settings(self, number: int, address: str) -> ProgramSettings:
        return ProgramSettings({**self._arguments, "connect": address, "name": f"{self._name}-{number}"}, self._token)

    def _ask(self) -> Demand | None:
        """The enqueuer's demand; None if the enqueuer or Ray is gone. The fleet's thread calls this."""
        enq = self._enq()
        if enq is None or not self._ray.is_initialized():
            return None
        address = self._address or address_for_workers(enq.endpoint or enq._options.bind, self._here)
        if not enq.is_running():
            return Demand(address)
        stats = enq.stats()
        own_slots = sum(worker.slots for worker in stats.workers if worker.worker_id.startswith(f"{self._name}-"))
        return Demand(address, True, stats.desired_slots, stats.slots_count - own_slots)

    @property
    def workers_count(self) -> int:
        """Workers that have a place on the cluster."""
        return self._actors.placed_count

    @property
    def waiting_count(self) -> int:
        """Workers that wait for a place: what the cluster's autoscaler acts on."""
        return self._actors.count - self._actors.placed_count

    def close(self) -> None:
        """Drain all workers and release their actors; idempotent. The enqueuer goes on with its other workers.

        Takes as long as the batches that the workers hold, at most ``drain_timeout`` (30 s) and 15 s. Ctrl-C meanwhile
        ends the workers at once.
        """
        if os.getpid() != self._pid:
            return  # in a forked child
        atexit.unregister(self.close)
        self._loop.close()
        if threading.current_thread() is self._thread:
            return  # the enqueuer was collected as garbage here
        try:
            while self._thread.is_alive():
                self._thread.join(_POLL_SECONDS)
        except BaseException:
            self._loop.kill()
            self._thread.join()
            raise

    def __enter__(self) -> RayFleet:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = f"{self.workers_count} workers, {self.waiting_count} waiting" if self._thread.is_alive() else "closed"
        return f"<RayFleet {self._name}, {state}>"


def _read_size(min_workers: int, max_workers: int, idle_timeout: float) -> FleetSize:
    least, most = read_count("min_workers", min_workers), read_count("max_workers", max_workers)
    if not least <= most or most < 1:
        raise ConfigurationError(f"max_workers={most} must be 1 or more, and at least min_workers={least}")
    return FleetSize(least, most, read_number_of_seconds("idle_timeout", idle_timeout))


def _read_actor_options(cpus_per_worker: float, actor_options: Mapping[str, Any] | None) -> dict[str, Any]:
    cpus = as_float(cpus_per_worker)
    if cpus is None or not 0 < cpus < float("inf"):
        raise ConfigurationError(f"cpus_per_worker must be a number above 0, not {cpus_per_worker!r}")
    options = dict(actor_options or {})
    for name in _OWN_ACTOR_OPTIONS & options.keys():
        cure = ": give cpus_per_worker=…" if name == "num_cpus" else ""
        raise ConfigurationError(f"actor_options: the fleet sets {name} itself{cure}")
    return {"num_cpus": cpus, **options}


def _read_arguments(
    enq: SequenceEnqueuer,
    cpus_per_worker: float,
    allow: str | Iterable[str],
    allow_pickle: bool,
    token_file: str | os.PathLike[str] | None,
    worker_options: dict[str, Any],
) -> tuple[dict[str, Any], str]:
    """The arguments of the worker programs, and the text of their token."""
    for name in _OWN_WORKER_OPTIONS & worker_options.keys():
        raise ConfigurationError(f"worker_options: {name} is an argument of RayFleet, or set by it")
    packages = [allow] if isinstance(allow, str) else list(allow)
    spec = enq.sequence if isinstance(enq.sequence, SequenceSpec) else None
    if spec is None and not allow_pickle:
        raise ConfigurationError(
            "workers on other nodes build the Sequence themselves: make the enqueuer of a SequenceSpec, or give "
            "allow_pickle=True (which needs keys) to send the object"
        )
    token = "" if enq.key_file is None else _find_token(token_file, enq.key_file)
    if allow_pickle and not token:
        raise ConfigurationError("allow_pickle=True needs keys: `enqueuer keygen DIR`, and key_file=… of the enqueuer")
    arguments = {
        "sequence": [spec.target] if spec is not None else [],
        "allow": packages,
        "allow_pickle": allow_pickle,
        "insecure": not token,
        "worker_threads": max(1, int(cpus_per_worker)),
        **worker_options,
    }
    return arguments, token


def _find_token(token_file: str | os.PathLike[str] | None, key_file: str) -> str:
    beside = Path(key_file).with_name(TOKEN_FILE)
    if token_file is None and not beside.exists():
        raise ConfigurationError(f"the workers need a token: give token_file=…; there is no {beside}")
    token = find_token(beside if token_file is None else token_file)
    assert token is not None
    return token.to_text()
