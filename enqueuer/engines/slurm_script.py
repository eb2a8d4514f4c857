"""The batch script of a fleet on Slurm: an array of one-node jobs, each of which Slurm preempts and requeues alone.

Three of Slurm's rules, each measured, shape it:

- Slurm signals the steps of a job, not its shell. So the workers run under ``srun``, and the shell outlives them.
- If the workers drain and exit before Slurm ends the job, the job is COMPLETED, and Slurm never starts it again, also
  after a preemption. So a preempted worker exits with a code of its own, and the shell requeues the job. The shell
  names the job by its number in the array, since the last job's id is the id of the whole array. ``scancel`` of the
  job ends the shell as well, so a cancelled job stays cancelled.
- At the end of the walltime Slurm kills. So the workers leave before, and the job is requeued for another walltime.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from enqueuer.engines.worker_command import worker_command
from enqueuer.errors import ConfigurationError

# EX_TEMPFAIL of sysexits.h: "temporary failure; the user is invited to retry".
REQUEUE_EXIT_CODE = 75
# A shell's exit code for a program ended by SIGTERM.
_TERMINATED = 143
# Slurm may send the signal up to 60 s early; the lifetime is over before that.
_SIGNAL_SECONDS, _SIGNAL_SLACK_SECONDS = 120, 60
_LEAST_WALLTIME_SECONDS = 300
# The jobs of an array leave spread over this part of the walltime, because they started together.
_STAGGER_SHARE = 1 / 15
# Slurm kills 30 s after it signals, unless the cluster is configured otherwise (KillWait).
_DRAIN_SECONDS = 25
# The node and the job, as in the name of the job's log; the shell on the node fills it in.
_NAME = '"$SLURMD_NODENAME-${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"'

_UNITS = {
    "minutes": re.compile(r"(?P<minutes>\d+)(?::(?P<seconds>\d+))?"),
    "hours": re.compile(r"(?P<hours>\d+):(?P<minutes>\d+):(?P<seconds>\d+)"),
    "days": re.compile(r"(?P<days>\d+)-(?P<hours>\d+)(?::(?P<minutes>\d+)(?::(?P<seconds>\d+))?)?"),
}
_SECONDS = {"days": 86_400, "hours": 3600, "minutes": 60, "seconds": 1}


@dataclass(frozen=True)
class SlurmFleet:
    """A user's request to Slurm: ``nodes`` jobs at once, out of an array of ``array`` ones."""

    nodes: int
    array: int
    processes: int | str = "auto"
    walltime: str | None = None
    partition: str | None = None
    prologue: Sequence[str] = ()
    directives: Sequence[str] = ()


def job_script(fleet: SlurmFleet, python: str, worker_options: Sequence[str]) -> str:
    """The text to give to ``sbatch``. ``worker_options`` are those of `enqueuer worker`, ``python`` runs them.

    Raises ConfigurationError.
    """
    command = [python, "-m", "enqueuer", *worker_command(own_options(fleet, worker_options), worker_options)]
    lines = [
        "#!/bin/bash",
        "# Workers of Enqueuer: an array of one-node jobs, each preempted, requeued and cancelled alone.",
        *(f"#SBATCH {directive}" for directive in _directives(fleet)),
        "",
    ]
    if fleet.prologue:
        lines += [*fleet.prologue, ""]
    lines += [
        "# Slurm signals what runs under srun, not this shell.",
        'srun --cpus-per-task="$SLURM_CPUS_ON_NODE" ' + _in_lines(command),
        "status=$?",
        "",
        f"# {REQUEUE_EXIT_CODE}: the workers left early, for a preemption, the walltime or another signal; "
        f"{_TERMINATED}: it came before they were ready for it.",
        "# Without this, Slurm would take the job for completed.",
        f'if [ "$status" -eq {REQUEUE_EXIT_CODE} ] || [ "$status" -eq {_TERMINATED} ]; then',
        '    scontrol requeue "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"',
        "fi",
    ]
    if "--once" in worker_options:
        lines += [
            "# 0: the training has ended, so the jobs of the array that still wait are not needed.",
            'if [ "$status" -eq 0 ]; then',
            '    scancel --state=PENDING "$SLURM_ARRAY_JOB_ID"',
            "fi",
        ]
    return "\n".join([*lines, 'exit "$status"', ""])


def walltime_seconds(text: str) -> int:
    """The seconds of a time as Slurm writes it: 90 (minutes), 1:30:00, 2-12 (days and hours) …

    Raises ConfigurationError.
    """
    for pattern in _UNITS.values():
        if found := pattern.fullmatch(text.strip()):
            return sum(_SECONDS[unit] * int(count or 0) for unit, count in found.groupdict().items())
    raise ConfigurationError(f"walltime must be as Slurm writes it, 90 (minutes), 1:30:00 or 2-12:00:00, not {text!r}")


def _directives(fleet: SlurmFleet) -> list[str]:
    if fleet.processes != "auto" and not re.fullmatch(r"[1-9]\d*", str(fleet.processes)):
        raise ConfigurationError(f"processes must be 'auto' or a number of at least 1, not {fleet.processes!r}")
    if fleet.array < fleet.nodes:
        raise ConfigurationError(
            f"array={fleet.array} is too small for nodes={fleet.nodes}: give at least as many, or leave it out"
        )
    share = "--exclusive" if fleet.processes == "auto" else f"--cpus-per-task={fleet.processes}"
    directives = [
        "--job-name=enqueuer",
        f"--array=0-{fleet.array - 1}%{fleet.nodes}",
        "--nodes=1",
        "--ntasks=1",
        share,
        *([f"--time={fleet.walltime}"] if fleet.walltime else []),
        *([f"--partition={fleet.partition}"] if fleet.partition else []),
        "--requeue",
        f"--signal=TERM@{_SIGNAL_SECONDS}",
        "--output=enqueuer-%A_%a.log",
        # A requeued job goes on in its log.
        "--open-mode=append",
    ]
    for given in fleet.directives:
        directive = given.strip().removeprefix("#SBATCH").strip()
        if not directive.startswith("-") or "\n" in directive:
            raise ConfigurationError(f"directive must be one option of sbatch, such as --mem=8G, not {given!r}")
        directives.append(directive)
    return directives


def own_options(fleet: SlurmFleet, worker_options: Sequence[str]) -> dict[str, object]:
    """The options of `enqueuer worker` for Slurm; some of them only if the user does not give them."""
    flags = {word.partition("=")[0] for word in worker_options}
    defaults: dict[str, object] = {"--name": _NAME, "--drain-timeout": _DRAIN_SECONDS, **_life(fleet.walltime)}
    return {
        "--processes": fleet.processes,
        "--requeue-exit-code": REQUEUE_EXIT_CODE,
        **{flag: value for flag, value in defaults.items() if flag not in flags},
    }


def _life(walltime: str | None) -> dict[str, object]:
    if walltime is None:
        return {}
    seconds = walltime_seconds(walltime)
    if seconds < _LEAST_WALLTIME_SECONDS:
        raise ConfigurationError(
            f"walltime={walltime!r} is too short: Slurm announces the end {_SIGNAL_SECONDS} to "
            f"{_SIGNAL_SECONDS + _SIGNAL_SLACK_SECONDS} s before, so give at least {_LEAST_WALLTIME_SECONDS // 60} "
            "minutes"
        )
    lifetime = seconds - _SIGNAL_SECONDS - _SIGNAL_SLACK_SECONDS
    return {"--lifetime": f"{lifetime}s", "--lifetime-stagger": f"{round(seconds * _STAGGER_SHARE)}s"}


def _in_lines(command: Sequence[str]) -> str:
    """The command for a shell, with a line for each option."""
    text = ""
    for word in command:
        quoted = word if word == _NAME else shlex.quote(word)
        text += (" \\\n    " if word.startswith("--") else " ") + quoted
    return text.lstrip()
