"""Fleets on a real Ray cluster of this machine: raylets and programs are killed, and no batch is lost.

`python -m tests.engines.ray_cluster` runs all parts, `… --smoke` what a merge has to pass, `… PART …` some of them.
Each part compares every batch with a local run, bit by bit, prints what it measured, and counts what it left: actors,
and processes of ours. As root, all of it runs in process and network namespaces of its own. The part ``autoscaled``
needs them: Ray's cluster for it begins with `ray stop`, which ends every process with Ray's name that it sees.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from enqueuer import SequenceEnqueuer, SequenceSpec
from enqueuer.engines.ray import RayFleet
from enqueuer.security.key_directory import KeyDirectory
from tests.engines.ray.sequences import Noise
from tests.support.journal import Journal
from tests.support.leaks import alive, descendants
from tests.support.remote import REPOSITORY, environment
from tests.support.waiting import wait_until

_ISOLATED = "ENQUEUER_RAY_ISOLATED"
# An address that is not loopback's, and a route, from which Ray takes its node's address; and Ray's files, of which one
# names the cluster that programs on this machine find.
_NAMESPACES = """\
ip link set lo up && ip addr add 192.0.2.2/32 dev lo && ip route add default dev lo src 192.0.2.2 || exit 1
mkdir -p /tmp/ray && mount -t tmpfs tmpfs /tmp/ray && export TMPDIR=/tmp/ray || exit 1
"$@"
exit $?
"""
_STORE_BYTES = 80 * 1024 * 1024
_BAR_SECONDS = 10.0
_LONG = 120.0
TRAINER = """
import sys, ray
from enqueuer import SequenceEnqueuer, SequenceSpec
from enqueuer.engines.ray import RayFleet
ray.init(address=sys.argv[1], log_to_driver=False)
spec = SequenceSpec("tests.engines.ray.sequences:Noise", length=100000, seconds=0.05)
with SequenceEnqueuer(spec, bind="tcp://0.0.0.0:*", insecure=True) as enq, RayFleet(enq, min_workers=2, max_workers=2):
    enq.start(workers=0)
    for number, _ in enumerate(enq.epoch()):
        if number == 20:
            print("training", *(worker.pid for worker in enq.stats().workers), flush=True)
"""


# ---------------------------------------------------------------- the cluster


@contextlib.contextmanager
def cluster(nodes_count: int, cpus: int) -> Iterator[Any]:
    """A head without CPUs and this many nodes; this process is their driver."""
    import ray
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": _STORE_BYTES}
    made = Cluster(initialize_head=True, head_node_args=head)
    try:
        for _ in range(nodes_count):
            made.add_node(num_cpus=cpus, object_store_memory=_STORE_BYTES)
        ray.init(address=made.address, log_to_driver=False, logging_level="ERROR")
        yield made
    finally:
        ray.shutdown()
        made.shutdown()


def kill_raylet(node: Any) -> None:
    """Waits for it, too: while it is a zombie, Ray's processes on the node believe that it lives."""
    process = node.all_processes["raylet"][0].process
    process.kill()
    process.wait()


@contextlib.contextmanager
def trainer(spec: SequenceSpec, **options: Any) -> Iterator[SequenceEnqueuer]:
    """An enqueuer with keys, which the cluster's nodes can reach."""
    with tempfile.TemporaryDirectory() as directory:
        KeyDirectory(directory).create()
        options = {"bind": "tcp://0.0.0.0:*", "key_file": f"{directory}/coordinator.key", **options}
        with SequenceEnqueuer(spec, **options) as enq:
            yield enq


def noise(length: int, seconds: float, journal: str = "") -> SequenceSpec:
    return SequenceSpec("tests.engines.ray.sequences:Noise", length=length, seconds=seconds, journal=journal)


class Epoch:
    """Takes the batches of an epoch; each must be the next one of a local run. Times since it was made."""

    def __init__(self, enq: SequenceEnqueuer, length: int) -> None:
        self._local = Noise(length)
        self._batches = enq.epoch()
        self._begun = time.monotonic()
        self.times: list[float] = []

    def take(self, count: int | None = None) -> None:
        """Take this many; None: all that are left."""
        while count is None or count > 0:
            batch = next(self._batches, None)
            if batch is None:
                assert count is None, "the epoch is too short"
                assert len(self.times) == len(self._local), f"{len(self.times)} of {len(self._local)} batches"
                return
            assert np.array_equal(batch, self._local[len(self.times)]), f"batch {len(self.times)} differs"
            self.times.append(time.monotonic() - self._begun)
            count = None if count is None else count - 1

    def longest_gap(self) -> float:
        return float(np.diff(self.times).max())


# ---------------------------------------------------------------- what is left


def own_processes() -> set[int]:
    """The processes of fleets: actors and worker programs, which have the workers as children."""
    found = set()
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            command = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
            if b"ray::EnqueuerWorker" in command or b"enqueuer_worker.owned" in command:
                found.add(int(entry.name))
    return found.union(*map(descendants, found)) if found else found


@contextlib.contextmanager
def nothing_left(expected: Callable[[], bool] = lambda: True) -> Iterator[set[int]]:
    """Fails if an actor or a process of ours is left; yields a set to which known processes may be added."""
    seen: set[int] = set()
    yield seen
    seen |= own_processes()
    wait_until(lambda: not living_actors(), _LONG, "the end of all actors")
    wait_until(lambda: not alive(seen | own_processes()), _LONG, "the end of all processes")
    print("  left: 0 actors, 0 processes", flush=True)


def living_actors() -> list[str]:
    from ray._private import state

    return [found["State"] for found in state.actors().values() if found["State"] != "DEAD"]


# ---------------------------------------------------------------- the parts


def placed(made: Any) -> None:
    """The first remote batch comes soon; the token shows nowhere; a drained fleet loses and repeats nothing."""
    with tempfile.TemporaryDirectory() as directory:
        journal = f"{directory}/journal"
        with nothing_left() as seen, trainer(noise(400, 0.02, journal)) as enq:
            enq.start(workers=0)
            begun = time.monotonic()
            with RayFleet(enq, min_workers=3, max_workers=3) as fleet:
                epoch = Epoch(enq, 400)
                epoch.take(1)
                first = time.monotonic() - begun
                print(f"  first remote batch: {first:.1f} s after the fleet was made (bar: {_BAR_SECONDS:g} s)")
                enq.wait_for_workers(3, _LONG)
                wait_until(lambda: fleet.workers_count == 3, _LONG, "three placed workers")
                nodes = {member.node for member in fleet._actors._members}
                assert len(nodes) == min(3, len(made.worker_nodes)), f"not spread: {nodes}"
                epoch.take(99)
                seen |= own_processes()
                assert enq.key_file is not None
                _the_token_shows_nowhere(Path(enq.key_file).with_name("worker.token").read_text().strip())
                begun = time.monotonic()
            print(f"  drained in {time.monotonic() - begun:.1f} s")
            with RayFleet(enq, min_workers=1, max_workers=1):
                epoch.take()
            stats = enq.stats()
            assert stats.lost_workers_count == 0
            assert stats.stale_count == 0
            computed = Journal(journal).requested()
            # A sample that a joining host computes is no lease.
            print(f"  batches computed: {len(computed)} of 400, samples included")
            assert set(computed) == set(range(400))


def _the_token_shows_nowhere(token: str) -> None:
    """Neither in the command or environment of a process, nor in Ray's logs."""
    from ray._private import worker

    files = [*Path("/proc").glob("[0-9]*/cmdline"), *Path("/proc").glob("[0-9]*/environ")]
    logs = [path for path in Path(worker.global_worker.node.get_logs_dir_path()).rglob("*") if path.is_file()]
    assert len(logs) > 10
    for path in files + logs:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            assert token.encode() not in path.read_bytes(), f"{path} shows the token"


def raylet_killed(made: Any) -> None:
    """kill -9 of a raylet that has workers: others go on, and Ray starts the lost ones elsewhere."""
    with nothing_left() as seen, trainer(noise(1500, 0.04)) as enq:
        enq.start(workers=0)
        with RayFleet(enq, min_workers=3, max_workers=3) as fleet:
            enq.wait_for_workers(3, _LONG)
            epoch = Epoch(enq, 1500)
            epoch.take(100)
            seen |= own_processes()
            kill_raylet(next(iter(made.worker_nodes)))
            killed = time.monotonic()
            incarnations = {worker.pid for worker in enq.stats().workers}
            back = 0.0
            while not back and len(epoch.times) < 1500:
                epoch.take(1)
                workers = {worker.pid for worker in enq.stats().workers}
                if len(workers) == 3 and workers != incarnations:
                    back = time.monotonic() - killed
            epoch.take()
            enq.wait_for_workers(3, _LONG)
            print(f"  longest gap between two batches: {epoch.longest_gap():.2f} s")
            print(f"  the lost worker serves again after {back:.1f} s" if back else "  the epoch ended before that")
            assert fleet.waiting_count + fleet.workers_count == 3


def programs_killed(made: Any) -> None:
    """kill -9 of a worker program, then of an actor's process: the fleet, and Ray, start another one."""
    with nothing_left() as seen, trainer(noise(3000, 0.02)) as enq:
        enq.start(workers=0)
        with RayFleet(enq, min_workers=2, max_workers=2):
            enq.wait_for_workers(2, _LONG)
            epoch = Epoch(enq, 3000)
            for name in (b"enqueuer_worker.owned", b"ray::EnqueuerWorker"):
                epoch.take(50)
                seen |= own_processes()
                victim = next(
                    pid for pid in sorted(own_processes()) if name in Path(f"/proc/{pid}/cmdline").read_bytes()
                )
                before = {worker.pid for worker in enq.stats().workers}
                os.kill(victim, signal.SIGKILL)
                killed = time.monotonic()
                while not {worker.pid for worker in enq.stats().workers} - before:
                    assert time.monotonic() - killed < _LONG, "no other worker"
                    epoch.take(1)
                print(f"  {name.decode()} killed: another worker after {time.monotonic() - killed:.1f} s")
            epoch.take()
            print(f"  longest gap between two batches: {epoch.longest_gap():.2f} s")


def sessions(made: Any) -> None:
    """One fleet over several sessions of its enqueuer, whose port changes; then it ends with the enqueuer."""
    with nothing_left(), trainer(noise(100, 0.01)) as enq:
        fleet = RayFleet(enq, min_workers=2, max_workers=2)
        for _ in range(2):
            begun = time.monotonic()
            enq.start(workers=0)
            Epoch(enq, 100).take()
            print(f"  a session at {enq.endpoint}: {time.monotonic() - begun:.1f} s")
            enq.stop()
        enq.close()
        assert "closed" in repr(fleet)


def launched(made: Any) -> None:
    """`enqueuer launch ray` serves a trainer that is no part of the cluster; Ctrl-C drains its workers."""
    with nothing_left() as seen, trainer(noise(400, 0.02)) as enq, _launch(made, enq, seen) as (program, epoch):
        begun = time.monotonic()
        program.send_signal(signal.SIGINT)
        errors = program.communicate(timeout=_LONG)[1]
        print(f"  SIGINT: drained and ended after {time.monotonic() - begun:.1f} s")
        assert program.returncode == 0, errors
        assert "asking the Ray cluster for 2 workers" in errors and "draining" in errors, errors
        with RayFleet(enq, min_workers=1, max_workers=1):
            epoch.take()
        stats = enq.stats()
        assert (stats.lost_workers_count, stats.stale_count) == (0, 0)


def launcher_killed(made: Any) -> None:
    """After kill -9 of `enqueuer launch ray` Ray ends its actors, and these their programs."""
    with nothing_left() as seen, trainer(noise(400, 0.02)) as enq, _launch(made, enq, seen) as (program, epoch):
        program.kill()
        with RayFleet(enq, min_workers=1, max_workers=1):
            epoch.take()


def copied(made: Any) -> None:
    """`--working-dir` has Ray copy the Sequence's module to the nodes, which find it nowhere else."""
    with tempfile.TemporaryDirectory() as directory:
        project = Path(directory, "project")
        project.mkdir()
        shutil.copy(REPOSITORY / "tests" / "engines" / "ray" / "sequences.py", project / "copied.py")
        sys.path.insert(0, str(project))  # the trainer's own
        spec = SequenceSpec("copied:Noise", length=400, seconds=0.02)
        options = {"cwd": directory, "allow": "copied", "working_dir": "project"}
        with nothing_left() as seen, trainer(spec) as enq, _launch(made, enq, seen, **options) as (program, epoch):
            epoch.take()
            program.send_signal(signal.SIGINT)
            errors = program.communicate(timeout=_LONG)[1]
            assert program.returncode == 0, errors
            stats = enq.stats()
            assert (stats.lost_workers_count, stats.stale_count) == (0, 0)
        sys.path.remove(str(project))


def unreachable(_: Any) -> None:
    """Ctrl-C ends the command at once while Ray looks for a cluster at a wrong address."""
    command = "launch ray --address 127.0.0.1:1 --connect tcp://127.0.0.1:5555 -- --allow tests"
    program = subprocess.Popen(
        [sys.executable, "-m", "enqueuer", *command.split()], env=environment(), stderr=subprocess.PIPE, text=True
    )
    try:
        assert program.stderr is not None
        line = program.stderr.readline()
        assert "Failed to connect" in line, line
        program.send_signal(signal.SIGINT)
        program.communicate(timeout=_LONG)
        assert program.returncode == -signal.SIGINT, program.returncode
    finally:
        program.kill()
        program.communicate()


@contextlib.contextmanager
def _launch(
    made: Any,
    enq: SequenceEnqueuer,
    seen: set[int],
    *,
    cwd: str = str(REPOSITORY),
    allow: str = "tests",
    working_dir: str | None = None,
) -> Iterator[tuple[subprocess.Popen[str], Epoch]]:
    """The running command, whose two workers serve, and the epoch that they have begun."""
    enq.start(workers=0)
    assert enq.key_file is not None and enq.endpoint is not None
    token_file = Path(enq.key_file).with_name("worker.token")
    address = f"tcp://127.0.0.1:{enq.endpoint.rpartition(':')[2]}"
    command = f"launch ray --address {made.address} --workers 2 --connect {address} --token-file {token_file}"
    options = () if working_dir is None else ("--working-dir", working_dir)
    begun = time.monotonic()
    program = subprocess.Popen(
        [sys.executable, "-m", "enqueuer", *command.split(), *options, "--", "--allow", allow],
        env=environment(),
        cwd=cwd,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        epoch = Epoch(enq, 400)
        epoch.take(1)
        first = time.monotonic() - begun
        print(f"  first remote batch: {first:.1f} s after the command (bar: {_BAR_SECONDS:g} s)")
        enq.wait_for_workers(2, _LONG)
        epoch.take(50)
        seen |= own_processes()
        assert len(alive(seen)) >= 6
        _the_token_shows_nowhere(token_file.read_text().strip())
        yield program, epoch
    finally:
        program.kill()
        program.communicate()


def ends_of_a_trainer(made: Any) -> None:
    """Ctrl-C drains and ends; after kill -9 Ray ends the actors, and these their programs."""
    for number in (signal.SIGINT, signal.SIGKILL):
        with nothing_left() as seen:
            program = subprocess.Popen(
                [sys.executable, "-c", TRAINER, made.address],
                env={**environment(), "PYTHONFAULTHANDLER": "1"},
                cwd=REPOSITORY,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
            assert program.stdout is not None
            line = program.stdout.readline()
            assert line.startswith("training"), line + program.communicate()[1]
            seen |= own_processes() | {int(pid) for pid in line.split()[1:]}
            assert len(alive(seen)) >= 6
            os.kill(program.pid, number)
            begun = time.monotonic()
            errors = _wait_for_end(program)
            if number == signal.SIGINT:
                assert errors.rstrip().endswith("KeyboardInterrupt"), errors
            wait_until(lambda seen=seen: not alive(seen), _LONG, "the end of its processes")
            print(f"  {number.name}: all has ended after {time.monotonic() - begun:.1f} s")


def _wait_for_end(program: subprocess.Popen[str]) -> str:
    """What the program wrote to stderr; an AssertionError with the stacks of its threads if it does not end."""
    try:
        return program.communicate(timeout=_LONG)[1]
    except subprocess.TimeoutExpired:
        program.send_signal(signal.SIGABRT)
        raise AssertionError(f"it did not end within {_LONG} s:\n{program.communicate()[1]}") from None


PARTS = (
    placed,
    launched,
    launcher_killed,
    copied,
    unreachable,
    raylet_killed,
    programs_killed,
    sessions,
    ends_of_a_trainer,
)


def autoscaled() -> None:
    """A cluster without nodes: the fleet brings as many as the trainer wants, three at least, and gives all back."""
    import ray
    from ray.cluster_utils import AutoscalingCluster

    class Cluster(AutoscalingCluster):
        """Without a file of Ray's sources that its package lacks. Nodes are processes of this machine."""

        def _generate_config(self, head: Any, types: Any, autoscaler_v2: bool = False, **settings: Any) -> Any:
            provider = {"type": "fake_multinode", "disable_node_updaters": True, "disable_launch_config_check": True}
            # The autoscaler reads these without a default of its own.
            nothing = {"auth": {}, "docker": {}, "file_mounts": {}, "file_mounts_sync_continuously": False}
            steps = ("initialization", "setup", "head_setup", "worker_setup", "head_start_ray", "worker_start_ray")
            lists = (*(f"{step}_commands" for step in steps), "cluster_synced_files", "rsync_exclude", "rsync_filter")
            return {
                "cluster_name": "autoscaled",
                "max_workers": 4,
                "upscaling_speed": 1.0,
                "provider": {**provider, "use_node_id_as_ip": True},
                "available_node_types": {
                    **types,
                    "ray.head.default": {"resources": head, "node_config": {}, "max_workers": 0},
                },
                "head_node_type": "ray.head.default",
                **nothing,
                **{name: [] for name in lists},
                **settings,
            }

    node = {"resources": {"CPU": 1, "object_store_memory": _STORE_BYTES}, "node_config": {}}
    made = Cluster(
        {"CPU": 0, "object_store_memory": _STORE_BYTES},
        {"small": {**node, "min_workers": 0, "max_workers": 4}},
        idle_timeout_minutes=0.1,
    )
    # It calls the program `ray`.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    made.start()
    try:
        ray.init(address="auto", log_to_driver=False, logging_level="ERROR")

        def nodes_count() -> int:
            return sum(node["Alive"] and node["Resources"].get("CPU", 0) > 0 for node in ray.nodes())

        with (
            nothing_left(),
            trainer(noise(4000, 0.06)) as enq,
            RayFleet(enq, min_workers=0, max_workers=4, idle_timeout=3) as fleet,
        ):
            assert (nodes_count(), fleet.workers_count, fleet.waiting_count) == (0, 0, 0)
            enq.start(workers=0)
            begun = time.monotonic()
            epoch = Epoch(enq, 4000)
            epoch.take(1)
            print(f"  first batch, on a node that was not there: {time.monotonic() - begun:.1f} s")
            while enq.stats().workers_count < 3:
                epoch.take(1)
                time.sleep(0.025)  # the training step: 40 batches a second, of 60 ms each
            wanted = enq.stats().desired_slots
            print(f"  {nodes_count()} nodes for {wanted} slots wanted after {time.monotonic() - begun:.0f} s")
            epoch.take()
            enq.stop()
            stopped = time.monotonic()
            wait_until(lambda: fleet.workers_count + fleet.waiting_count == 0, _LONG, "the fleet's end")
            print(f"  no worker {time.monotonic() - stopped:.0f} s after stop()")
            wait_until(lambda: nodes_count() == 0, _LONG, "the end of all nodes")
            print(f"  no node {time.monotonic() - stopped:.0f} s after stop()")
    finally:
        ray.shutdown()
        made.shutdown()


def _run(part: Callable[..., None], *arguments: Any) -> None:
    begun = time.monotonic()
    print(f"--- {part.__name__}", flush=True)
    part(*arguments)
    print(f"--- {part.__name__}: {time.monotonic() - begun:.0f} s", flush=True)


def _isolate() -> None:
    """Go on in namespaces of our own, as root; elsewhere as it is."""
    if os.geteuid() == 0 and _ISOLATED not in os.environ:
        program = [sys.executable, "-m", "tests.engines.ray_cluster", *sys.argv[1:]]
        unshare = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--net", "--mount"]
        os.environ[_ISOLATED] = "1"
        os.execvp(unshare[0], [*unshare, "sh", "-c", _NAMESPACES, "sh", *program])


def main() -> None:
    """Run the parts that the command line names."""
    names = {part.__name__: part for part in PARTS}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--smoke", action="store_true", help="one small cluster: start, drain, launch, kill -9 a raylet"
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(names)}, autoscaled; default: all")
    chosen = parser.parse_args()
    unknown = set(chosen.parts) - {*names, "autoscaled"}
    if unknown:
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    _isolate()
    os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_DEDUP_LOGS="0", PYTHONPATH=environment()["PYTHONPATH"])
    logging.basicConfig(level=logging.ERROR)
    if chosen.smoke:
        with cluster(2, 3) as made:
            _run(placed, made)
            _run(launched, made)
            _run(raylet_killed, made)
        return
    wanted = chosen.parts or [*names, "autoscaled"]
    on_cluster = [part for name, part in names.items() if name in wanted]
    if on_cluster:
        with cluster(3, 3) as made:
            for part in on_cluster:
                _run(part, made)
    if "autoscaled" in wanted:
        _run(autoscaled)


if __name__ == "__main__":
    main()
