"""A fleet on a real Slurm: three virtual nodes of this machine, and a trainer whose batches are all checked.

Needs Debian's packages slurmctld, slurmd, slurm-client and munge, and no root.
"""

from __future__ import annotations

import getpass
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from enqueuer.security.key_directory import KeyDirectory
from tests.engines.slurm_cluster import SlurmCluster, slurm_cluster, why_no_slurm
from tests.support.chaos import Chaos, Run
from tests.support.chaos_sequences import Steady
from tests.support.remote import free_address
from tests.support.snippets import PAGES, snippets, write_modules
from tests.support.waiting import wait_until

STEADY = Steady(length=50, seconds=0.02)
# With a worker on each of two nodes.
TRAINING = """
from enqueuer import SequenceEnqueuer, SequenceSpec
spec = SequenceSpec("mydata:Batches", count=50)
with SequenceEnqueuer(spec, bind="{address}", key_file="keys/coordinator.key", min_workers=2) as enq:
    enq.start(workers=0)
    assert [int(x[0, 0]) for x in enq.epoch()] == list(range(50))
    assert enq.stats().lost_workers_count == 0
print("exact")
"""
# Slurm looks for preemptions and time limits every 30 s at most.
SLURM_SECONDS = 90.0


@pytest.fixture(scope="module")
def cluster() -> Iterator[SlurmCluster]:
    if (reason := why_no_slurm()) is not None:
        # CI sets this: there, a skipped test is a failed one.
        if os.environ.get("REQUIRE_SLURM"):
            pytest.fail(reason)
        pytest.skip(reason)
    with slurm_cluster(("n1", "n2", "n3"), cpus=1) as made:
        yield made


class Training:
    """A trainer without workers of its own, whose batches are checked, and fleets for it, whose logs it can show."""

    def __init__(self, cluster: SlurmCluster, chaos: Chaos, directory: Path) -> None:
        self.cluster = cluster
        self.directory = cluster.work_directory = directory
        self.address = free_address()
        keys = KeyDirectory(directory / "keys")
        self.token_file = keys.token_file(keys.create())
        self.run: Run = chaos.run(
            STEADY,
            local=0,
            epochs=None,
            max_queue_size=12,
            bind=self.address,
            key_file=str(keys.key_file),
            min_workers=1,
        )

    def launch(self, *options: str, worker: tuple[str, ...] = ()) -> str:
        """What `enqueuer launch slurm` prints."""
        command = [sys.executable, "-m", "enqueuer", "launch", "slurm", "--processes", "1", *options]
        command += ["--", "--connect", self.address, "--token-file", str(self.token_file), "--allow", "tests", *worker]
        return self.cluster.run(*command)

    def submit(self, *options: str, worker: tuple[str, ...] = ()) -> str:
        """The array's number."""
        return self.launch(*options, worker=worker).partition(":")[0].split()[-1]

    def wait_for(self, count: int) -> None:
        """Wait for so many workers."""
        try:
            self.run.wait_for_workers(count, deadline=SLURM_SECONDS)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.logs()}") from None

    def wait_for_restart(self, task: str) -> None:
        """Wait until Slurm has started the job of this task again, and it serves."""
        wait_until(
            lambda: int(self.cluster.facts(task).get("Restarts", 0)) >= 1 and self.serves(task),
            SLURM_SECONDS,
            f"a second start of {task}",
        )

    def wait_for_drain(self, task: str, reason: str = "SIGTERM") -> None:
        """Wait until the log of this task's job tells of a drain for this reason, and that nothing was lost by it."""
        told = re.compile(rf"{reason}: draining.*: drained: all results have arrived", re.DOTALL)
        wait_until(lambda: told.search(self.log(task)), SLURM_SECONDS, f"a drain of {task}: {reason}")

    def serves(self, task: str) -> bool:
        return any(f"-{task}-" in worker.worker_id for worker in self.run.enqueuer.stats().workers)

    def node_of(self, task: str) -> str:
        return self.cluster.facts(task)["NodeList"]

    def gap(self, event: Callable[[], object], then: Callable[[], object], what: str) -> None:
        """Print the longest time without a batch from ``event`` until ``then`` has returned and some more are there."""
        self.run.tally.longest_gap = 0.0
        event()
        then()
        self.run.wait_for_more(20)
        print(f"{what}: longest time without a batch {self.run.tally.longest_gap:.2f} s")

    def log(self, task: str) -> str:
        return (self.directory / f"enqueuer-{task}.log").read_text(errors="replace")

    def logs(self) -> str:
        return "\n".join(f"{path.name}:\n{path.read_text(errors='replace')}" for path in self.directory.glob("*.log"))

    def finish(self) -> None:
        """To the end of the epoch; asserts that each position came once, in order, as a local run has it."""
        tally = self.run.finish()
        print(f"{tally.taken_count} batches: none lost, repeated, out of order or wrong")


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


@pytest.fixture
def training(cluster: SlurmCluster, tmp_path: Path) -> Iterator[Training]:
    """Afterwards no job is left, and no process of one."""
    chaos = Chaos(tmp_path)
    made = Training(cluster, chaos, tmp_path)
    try:
        yield made
        cluster.run("scancel", "--user", getpass.getuser())
        wait_until(lambda: not cluster.jobs(), SLURM_SECONDS, "the end of all jobs")
        wait_until(lambda: not cluster.job_processes(), SLURM_SECONDS, "the end of all processes of jobs")
    finally:
        print(made.logs())
        chaos.close()


@pytest.mark.timeout(300)
def test_an_array_grows_shrinks_and_ends_with_its_training(training: Training) -> None:
    cluster, run = training.cluster, training.run
    began = time.monotonic()
    array = training.submit("--nodes", "1", "--array", "6", worker=("--once",))
    run.wait_for_taken(1)
    print(f"from `enqueuer launch slurm` to the first batch: {time.monotonic() - began:.1f} s")

    cluster.run("scontrol", "update", f"JobId={array}", "ArrayTaskThrottle=3")
    training.wait_for(3)

    # Fewer: first the number at once, or the next of the array takes the place.
    cluster.run("scontrol", "update", f"JobId={array}", "ArrayTaskThrottle=2")
    training.gap(
        lambda: cluster.run("scancel", f"{array}_0"), lambda: training.wait_for(2), "scancel of one of three jobs"
    )
    training.wait_for_drain(f"{array}_0")

    text = training.token_file.read_text().strip()
    assert text not in cluster.run("scontrol", "write", "batch_script", f"{array}_1", "-")
    assert text not in "".join(map(command_line, cluster.job_processes()))

    training.finish()
    wait_until(lambda: not cluster.jobs(), SLURM_SECONDS, "the end of the array")
    found = [cluster.facts(f"{array}_{task}") for task in range(3)]
    assert [facts["JobState"] for facts in found] == ["CANCELLED", "COMPLETED", "COMPLETED"]
    assert [facts["Restarts"] for facts in found] == ["0", "0", "0"]
    assert not (training.directory / f"enqueuer-{array}_3.log").exists(), "the others waited, and never ran"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("partition", ["common", "abrupt"])
def test_a_preempted_job_drains_and_comes_back(training: Training, partition: str) -> None:
    cluster = training.cluster
    array = training.submit("--nodes", "2", "--partition", partition)
    training.wait_for(2)
    victim = f"{array}_1"
    urgent = ["sbatch", "--partition=urgent", "--nodelist", training.node_of(victim), "--output=/dev/null"]
    training.gap(
        lambda: cluster.run(*urgent, "--wrap=sleep 2"),
        lambda: training.wait_for_restart(victim),
        f"preemption of one of two jobs, partition {partition}",
    )
    training.wait_for_drain(victim)
    # The last job of an array has the array's id, which is not to requeue all of them.
    assert cluster.facts(f"{array}_0")["Restarts"] == "0"
    training.finish()


@pytest.mark.timeout(300)
def test_jobs_leave_nodes_that_are_drained_or_lost_and_come_back_when_requeued(training: Training) -> None:
    cluster = training.cluster
    array = training.submit("--nodes", "2", "--array", "3")
    training.wait_for(2)

    # A drained node finishes its job and gets no other.
    drained = training.node_of(f"{array}_0")
    cluster.run("scontrol", "update", f"NodeName={drained}", "State=DRAIN", "Reason=test")
    training.run.wait_for_more(30)
    wait_until(lambda: training.serves(f"{array}_0"), SLURM_SECONDS, "the job on the drained node")
    assert cluster.facts(f"{array}_0")["JobState"] == "RUNNING"
    training.gap(
        lambda: cluster.run("scancel", f"{array}_0"),
        lambda: wait_until(lambda: training.serves(f"{array}_2"), SLURM_SECONDS, "the next of the array"),
        "drain of a node, and the end of its job",
    )
    assert training.node_of(f"{array}_2") != drained
    cluster.run("scontrol", "update", f"NodeName={drained}", "State=RESUME")

    training.gap(
        lambda: cluster.run("scontrol", "requeue", f"{array}_1"),
        lambda: training.wait_for_restart(f"{array}_1"),
        "requeue of one of two jobs",
    )
    training.wait_for_drain(f"{array}_1")

    lost = training.node_of(f"{array}_2")
    training.gap(
        lambda: cluster.run("scontrol", "update", f"NodeName={lost}", "State=DOWN", "Reason=test"),
        lambda: training.wait_for_restart(f"{array}_2"),
        "loss of one of two nodes",
    )
    training.finish()


@pytest.mark.timeout(300)
def test_jobs_whose_walltime_or_lifetime_ends_are_requeued(training: Training) -> None:
    cluster = training.cluster
    by_lifetime = training.submit(worker=("--lifetime", "10s"))
    # Slurm's shortest walltime is a minute, of which nothing would be left before the usual signal.
    script = training.launch("--dry-run")
    by_signal = cluster.run("sbatch", "--parsable", "--time=1", "--signal=TERM@30", input=script)
    training.run.wait_for_taken(1)
    training.wait_for_restart(f"{by_signal}_0")
    training.wait_for_restart(f"{by_lifetime}_0")
    training.wait_for_drain(f"{by_signal}_0")
    training.wait_for_drain(f"{by_lifetime}_0", reason="the lifetime is over")
    training.finish()


@pytest.mark.timeout(300)
def test_the_guides_heterogeneous_job_starts_trainer_and_workers_and_ends_with_the_trainer(
    cluster: SlurmCluster, tmp_path: Path
) -> None:
    cluster.work_directory = tmp_path
    keys = KeyDirectory(tmp_path / "keys")
    (tmp_path / "worker.token").write_text(keys.token_file(keys.create()).read_text())
    (tmp_path / "worker.token").chmod(0o600)
    write_modules(PAGES / "how-to" / "workers.md", tmp_path)  # mydata.py
    address = free_address()
    (tmp_path / "train.py").write_text(TRAINING.format(address=address))
    [script] = [one.source for one in snippets(PAGES / "how-to" / "slurm.md") if "#SBATCH hetjob" in one.source]
    for theirs, ours in (
        ("4:00:00", "10:00"),
        (" --gpus=1 --partition=gpu", ""),
        ("--nodes=4", "--nodes=2"),
        ("--processes auto", "--processes 1"),
        (" --partition=cpu", ""),
        ('"tcp://$trainer:5555"', address),
        (" enqueuer ", f" {sys.executable} -m enqueuer "),
        (" python ", f" {sys.executable} "),
    ):
        assert theirs in script, theirs
        script = script.replace(theirs, ours)
    began = time.monotonic()
    cluster.run("sbatch", "--output=job.log", input=script)
    wait_until(lambda: not cluster.jobs(), SLURM_SECONDS, "the end of the job")
    print(f"trained and ended after {time.monotonic() - began:.1f} s")
    wait_until(lambda: not cluster.job_processes(), SLURM_SECONDS, "the end of all its processes")
    log = (tmp_path / "job.log").read_text()
    assert "exact\n" in log, log
