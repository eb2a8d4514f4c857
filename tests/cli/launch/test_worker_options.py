from __future__ import annotations

import click
from click.testing import CliRunner

from enqueuer.cli.launch.worker_options import LaunchCommand


@click.command(cls=LaunchCommand)
@click.argument("hosts", nargs=-1)
@click.option("--processes")
def command(hosts: tuple[str, ...], processes: str | None, worker_options: list[str]) -> None:
    click.echo(f"{hosts} {processes} {worker_options}")


def test_what_follows_the_dashes_are_the_workers_options() -> None:
    output = CliRunner().invoke(command, ["a", "--processes", "2", "b", "--", "--allow", "p", "--", "x"]).output
    assert output == "('a', 'b') 2 ['--allow', 'p', '--', 'x']\n"
    assert CliRunner().invoke(command, ["a"]).output == "('a',) None []\n"


def test_the_help_says_where_the_workers_options_go() -> None:
    assert "[HOSTS]... -- [OPTIONS OF enqueuer worker]" in CliRunner().invoke(command, ["--help"]).output
