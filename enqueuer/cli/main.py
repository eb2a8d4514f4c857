"""The command ``enqueuer``: the group of all subcommands."""

from __future__ import annotations

import click

from enqueuer import __version__
from enqueuer.cli.lazy_group import LazyGroup


@click.group(
    cls=LazyGroup,
    # By name: the worker program imports this library, not the reverse.
    subcommands={
        "dashboard": "enqueuer.cli.dashboard:dashboard",
        "demo": "enqueuer.cli.demo:demo",
        "doctor": "enqueuer.cli.doctor:doctor",
        "health": "enqueuer.cli.health:health",
        "keygen": "enqueuer.cli.keygen:keygen",
        "launch": "enqueuer.cli.launch:launch",
        "metrics": "enqueuer.cli.metrics:metrics",
        "status": "enqueuer.cli.status:status",
        "top": "enqueuer.cli.top:top",
        "worker": "enqueuer_worker.cli:worker",
    },
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="enqueuer")
def main() -> None:
    """Compute a Keras-style Sequence on any number of processes and machines.

    `enqueuer demo` shows it at work on this machine. `enqueuer worker` lends this machine to a training on another one,
    `enqueuer launch` starts workers by SSH, Slurm or Ray, and `enqueuer keygen` makes the keys for both sides.
    `enqueuer status` shows what a training does and what holds it back, `enqueuer top` shows it live, and `enqueuer
    dashboard` in a browser. `enqueuer metrics` serves its figures to Prometheus, `enqueuer doctor` checks the
    surroundings, and `enqueuer health` the trainer or the workers that run here.
    """
