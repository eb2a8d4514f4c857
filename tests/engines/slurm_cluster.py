"""A Slurm of the tests' own: munged, slurmctld and a slurmd for each of several virtual nodes, all on this machine.

Everything is in one temporary directory and on free ports of loopback, so that it meets no other Slurm here, and needs
no root. Differences from a cluster's usual configuration: a requeued job waits 5 s, not 120 (``cred_expire``); the
scheduler looks each second; a node's processes are found by their parents, without control groups.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.support.leaks import alive, descendants
from tests.support.remote import environment
from tests.support.waiting import wait_until

# Each Debian package by a program in it.
PACKAGES = {"slurmctld": "slurmctld", "slurmd": "slurmd", "sbatch": "slurm-client", "munged": "munge"}
# Debian has daemons here, where PATH may not lead.
_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
_START_SECONDS = 60.0
_STOP_SECONDS = 60.0
_COMMAND_SECONDS = 60.0

_CONFIGURATION = """\
ClusterName=enqueuer
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={directory}/munge.socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={directory}/state
SlurmdSpoolDir={directory}/%n
SlurmctldPidFile={directory}/slurmctld.pid
SlurmdPidFile={directory}/%n.pid
MailProg=/bin/true
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=30
JobRequeue=1
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
{nodes}
PartitionName=common Nodes=ALL Default=YES MaxTime=60 PriorityTier=1 PreemptMode=REQUEUE GraceTime=60
PartitionName=abrupt Nodes=ALL MaxTime=60 PriorityTier=1 PreemptMode=REQUEUE GraceTime=0
PartitionName=urgent Nodes=ALL MaxTime=60 PriorityTier=9 PreemptMode=OFF
"""


def why_no_slurm() -> str | None:
    """What is missing here, in words; None if nothing is."""
    missing = [package for program, package in PACKAGES.items() if shutil.which(program, path=_PATH) is None]
    return f"needs Debian's packages {', '.join(missing)}" if missing else None


class SlurmCluster:
    """The running cluster. ``environment`` makes Slurm's commands speak to it."""

    def __init__(self, directory: Path, nodes: tuple[str, ...]) -> None:
        self.directory = directory
        self.nodes = nodes
        self.daemons: set[int] = set()
        self.environment = {**environment(), "PATH": _PATH, "SLURM_CONF": str(directory / "slurm.conf")}
        # Where commands run and jobs have their logs.
        self.work_directory = directory

    def run(self, *command: str, input: str = "") -> str:
        """What a command that speaks to Slurm prints; an AssertionError with all of it where it fails."""
        done = subprocess.run(
            command,
            cwd=self.work_directory,
            env=self.environment,
            input=input,
            capture_output=True,
            text=True,
            timeout=_COMMAND_SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"{command}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout.strip()

    def facts(self, job: str) -> dict[str, str]:
        """What Slurm knows of a job, such as JobState, Restarts, NodeList; empty once it has forgotten it."""
        command = ["scontrol", "--oneliner", "show", "job", job]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=30, check=False)
        words = done.stdout.split() if done.returncode == 0 else []
        return dict(word.split("=", 1) for word in words if "=" in word)

    def jobs(self) -> list[str]:
        """The jobs that wait, run or end now, an array's jobs each by its own name, such as 7_3."""
        return self.run("squeue", "--noheader", "--array", "--format=%i").split()

    def job_processes(self) -> set[int]:
        """The processes of jobs that run now, and Slurm's own beside each job."""
        mark = f"SLURM_CONF={self.environment['SLURM_CONF']}".encode()
        found = set()
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):  # it has ended, or is another user's
                if entry.name.isdigit() and mark in (entry / "environ").read_bytes():
                    found.add(int(entry.name))
        # slurmctld has a process of its own for scripts.
        for daemon in self.daemons:
            found -= {daemon, *descendants(daemon)}
        return alive(found)


@contextlib.contextmanager
def slurm_cluster(nodes: tuple[str, ...] = ("n1", "n2", "n3"), cpus: int = 2) -> Iterator[SlurmCluster]:
    """A cluster with these nodes, ready for jobs. At the end its jobs are cancelled and its programs ended."""
    with tempfile.TemporaryDirectory(prefix="slurm-") as name, contextlib.ExitStack() as programs:
        directory = Path(name)
        # Munge lets its socket's directory be read by all, or refuses to start.
        directory.chmod(0o755)
        cluster = SlurmCluster(directory, nodes)
        _configure(cluster, cpus)
        programs.enter_context(_program(cluster, "munged", *_munge_options(directory)))
        wait_until((directory / "munge.socket").exists, _START_SECONDS, "munged's socket")
        programs.enter_context(_program(cluster, "slurmctld", "-D", "-i"))
        for node in nodes:
            programs.enter_context(_program(cluster, "slurmd", "-D", "-N", node))
        wait_until(lambda: _is_ready(cluster), _START_SECONDS, f"{len(nodes)} idle nodes")
        try:
            yield cluster
        finally:
            _cancel_all(cluster)


def _configure(cluster: SlurmCluster, cpus: int) -> None:
    directory = cluster.directory
    (directory / "state").mkdir()
    key = directory / "munge.key"
    key.touch(0o600)
    key.write_bytes(secrets.token_bytes(128))
    host = socket.gethostname().partition(".")[0]
    controller_port, *ports = _free_ports(1 + len(cluster.nodes))
    nodes = [
        f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={cpus} State=UNKNOWN"
        for node, port in zip(cluster.nodes, ports, strict=True)
    ]
    (directory / "slurm.conf").write_text(
        _CONFIGURATION.format(
            host=host,
            controller_port=controller_port,
            user=getpass.getuser(),
            directory=directory,
            nodes="\n".join(nodes),
        )
    )


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as probes:
        sockets = [probes.enter_context(socket.socket()) for _ in range(count)]
        for probe in sockets:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in sockets]


def _munge_options(directory: Path) -> list[str]:
    files = {
        "key-file": "munge.key",
        "socket": "munge.socket",
        "log-file": "munged.log",
        "pid-file": "munged.pid",
        "seed-file": "munged.seed",
    }
    # Debian's /tmp is open to all, which munged takes for an insecure place of the socket.
    return ["--foreground", "--force", *(f"--{option}={directory}/{file}" for option, file in files.items())]


@contextlib.contextmanager
def _program(cluster: SlurmCluster, *command: str) -> Iterator[None]:
    name = f"{command[0]}{'-' + command[-1] if command[0] == 'slurmd' else ''}"
    program = shutil.which(command[0], path=_PATH)
    assert program is not None, f"{command[0]} is not installed"
    with (cluster.directory / f"{name}.output").open("wb") as sink:
        running = subprocess.Popen(
            # A killed test leaves no daemon either.
            ["setpriv", "--pdeathsig", "TERM", program, *command[1:]],
            env=cluster.environment,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            # Ctrl-C at a test's terminal is not for them: the jobs are cancelled first.
            start_new_session=True,
        )
    cluster.daemons.add(running.pid)
    try:
        yield
    finally:
        running.terminate()
        try:
            running.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()


def _is_ready(cluster: SlurmCluster) -> bool:
    command = ["sinfo", "--noheader", "--Node", "--partition=common", "--states=idle", "--format=%N"]
    done = subprocess.run(command, env=cluster.environment, capture_output=True, text=True, timeout=30, check=False)
    return sorted(done.stdout.split()) == sorted(cluster.nodes)


def _cancel_all(cluster: SlurmCluster) -> None:
    """Leaves no job, and none of its processes: those that Slurm could not end are killed."""
    cluster.run("scancel", "--user", getpass.getuser())
    try:
        wait_until(lambda: not cluster.jobs(), _STOP_SECONDS, "the end of all jobs")
        wait_until(lambda: not cluster.job_processes(), _STOP_SECONDS, "the end of all processes of jobs")
    finally:
        for pid in cluster.job_processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
