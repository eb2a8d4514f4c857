"""``enqueuer launch slurm``: a fleet of workers as an array of jobs on Slurm."""

from __future__ import annotations

import os
import subprocess
import sys

import click

from enqueuer.cli.caller_error import CallerError
from enqueuer.cli.launch.worker_options import LaunchCommand, worker_context
from enqueuer.cli.option_names import in_option_names
from enqueuer.engines.slurm_script import SlurmFleet, job_script, own_options
from enqueuer.errors import ConfigurationError
from enqueuer.security.curve import TOKEN_VARIABLE
from enqueuer.security.keys import read_token
from enqueuer.transport.addresses import is_loopback


@click.command(
    cls=LaunchCommand,
    own=("--name", "--stdin-timeout", "--requeue-exit-code"),
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True},
)
@click.option(
    "--nodes", type=click.IntRange(min=1), default=1, metavar="N", help="How many jobs run at once, each on one node."
)
@click.option(
    "--array",
    type=click.IntRange(min=1),
    metavar="N",
    help="How many jobs the array has. Those beyond --nodes wait: they step in for a job that Slurm has requeued, and "
    "the fleet can grow to them.  [default: as many as --nodes]",
)
@click.option(
    "--processes",
    envvar="ENQUEUER_PROCESSES",
    show_envvar=True,
    default="auto",
    metavar="N|auto",
    help="Worker processes of each job, and its CPUs. 'auto': the whole node, with a process for each CPU.",
)
@click.option(
    "--time",
    "walltime",
    metavar="TIME",
    help="The walltime of each job, as Slurm writes it: 90 (minutes), 12:00:00, 2-00 (days and hours). The workers "
    "leave before, and the job is requeued.  [default: the partition's]",
)
@click.option("--partition", metavar="NAME", help="The partition, or several with commas.  [default: the cluster's]")
@click.option(
    "--prologue",
    multiple=True,
    metavar="LINE",
    help="A line of the script before the workers start, such as 'module load python'. Can be given several times.",
)
@click.option(
    "--directive",
    multiple=True,
    metavar="OPTION",
    help="Another option of sbatch, such as '--mem=8G'. Can be given several times; it wins over one of ours.",
)
@click.option(
    "--python",
    default=sys.executable,
    metavar="PATH",
    help="The Python on the nodes that has this package.  [default: the one that runs this command]",
    show_default=False,
)
@click.option("--dry-run", is_flag=True, help="Print the script, which `sbatch` takes, and submit nothing.")
def slurm(
    nodes: int,
    array: int | None,
    processes: str,
    walltime: str | None,
    partition: str | None,
    prologue: tuple[str, ...],
    directive: tuple[str, ...],
    python: str,
    dry_run: bool,
    worker_options: list[str],
) -> None:
    """Start workers on a Slurm cluster: an array of one-node jobs.

    What follows `--` are options of `enqueuer worker`, which each job runs in this directory. A job that Slurm
    preempts, or whose walltime ends, drains and is requeued. So the fleet lasts until you cancel it with `scancel`;
    with `-- --once`, until the first training ends.

    The directory and the file of --token-file must be on a file system that the nodes share. Nobody but you may be able
    to read that file.

    \b
    Example:
      enqueuer launch slurm --nodes 4 --array 16 --time 4:00:00 --partition cpu \\
          -- --connect tcp://trainer:5555 --token-file worker.token --allow mydata
    """
    try:
        fleet = SlurmFleet(
            nodes=nodes,
            array=nodes if array is None else array,
            processes=processes,
            walltime=walltime,
            partition=partition,
            prologue=prologue,
            directives=directive,
        )
        script = job_script(fleet, python, worker_options)
        _check_worker(fleet, worker_options)
    except ConfigurationError as error:
        raise CallerError(in_option_names(str(error), slurm)) from error
    if dry_run:
        click.echo(script, nl=False)
        return
    job = _submit(script)
    click.echo(f"submitted the array {job}: {nodes} of {fleet.array} jobs at once; logs: enqueuer-{job}_*.log")
    click.echo(f"  more or fewer at once:  scontrol update JobId={job} ArrayTaskThrottle=N")
    click.echo(f"  end one, or all:        scancel {job}_0, scancel {job}")


def _check_worker(fleet: SlurmFleet, options: list[str]) -> None:
    """Find now what each of the jobs would find only once it runs."""
    with worker_context(own_options(fleet, options), options) as context:
        chosen = context.params
    if chosen["token_file"]:
        read_token(chosen["token_file"])
    elif TOKEN_VARIABLE in os.environ:
        raise ConfigurationError(
            f"{TOKEN_VARIABLE} would be stored by Slurm with the job's environment: write the token to a file of mode "
            "600 on the shared file system, unset the variable, and give `-- --token-file FILE`"
        )
    elif not chosen["insecure"] and not is_loopback(chosen["connect"]):
        raise ConfigurationError(
            f"{chosen['connect']} is another machine for the nodes: give `-- --token-file FILE` with the worker.token "
            "that `enqueuer keygen` made, on the shared file system; or `-- --insecure` if the network is yours alone"
        )


def _submit(script: str) -> str:
    """Give the script to sbatch, and return the number of its job."""
    environment = {name: value for name, value in os.environ.items() if name != TOKEN_VARIABLE}
    try:
        done = subprocess.run(
            ["sbatch", "--parsable"],  # noqa: S607 - where the user's PATH has it
            input=script,
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        raise click.ClickException(
            "there is no sbatch here: run this where you submit jobs, or take the script of --dry-run there"
        ) from None
    if done.returncode != 0:
        raise click.ClickException(f"sbatch refused the script (exit code {done.returncode}); nothing was submitted")
    return done.stdout.strip().partition(";")[0]
