"""``enqueuer launch``: the group of commands that start a fleet of workers by an engine."""

from __future__ import annotations

import click

from enqueuer.cli.lazy_group import LazyGroup


@click.group(
    cls=LazyGroup,
    subcommands={
        "local": "enqueuer.cli.launch.local:local",
        "ray": "enqueuer.cli.launch.ray:ray",
        "ssh": "enqueuer.cli.launch.ssh:ssh",
        "slurm": "enqueuer.cli.launch.slurm:slurm",
    },
)
def launch() -> None:
    """Start workers on this machine, on other hosts, or on a cluster.

    Each started host runs `enqueuer worker`, with the options after `--` and the worker's variables, such as
    ENQUEUER_ALLOW, that are set here.
    """
