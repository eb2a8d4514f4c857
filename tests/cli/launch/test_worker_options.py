from __future__ import annotations

import click
from click.testing import CliRunner, Result

from enqueuer.cli.launch.worker_options import LaunchCommand
from enqueuer.cli.main import main
from enqueuer_worker.cli import worker


@click.command(cls=LaunchCommand, own=("--name",))
@click.argument("hosts", nargs=-1)
@click.option("--processes")
def command(hosts: tuple[str, ...], processes: str | None, worker_options: list[str]) -> None:
    click.echo(f"{hosts} {processes} {worker_options}")


@click.group()
def group() -> None:
    pass


group.add_command(command)
group.add_command(worker)


def launch(*arguments: str, **variables: str) -> Result:
    return CliRunner().invoke(group, ["command", *arguments], env=variables)


def test_what_follows_the_dashes_are_the_workers_options() -> None:
    output = launch("a", "--processes", "2", "b", "--", "--allow", "p", "--", "x").output
    assert output == "('a', 'b') 2 ['--allow', 'p', '--', 'x']\n"
    assert launch("a").output == "('a',) None []\n"


def test_the_help_says_where_the_workers_options_go() -> None:
    assert "[HOSTS]... -- [OPTIONS OF enqueuer worker]" in launch("--help").output


def test_the_workers_variables_stand_for_options_that_are_not_given() -> None:
    variables = {
        "ENQUEUER_ALLOW": "one two.three",
        "ENQUEUER_ONCE": "1",
        "ENQUEUER_LOG_JSON": "no",
        "ENQUEUER_LIFETIME": "55m",
        "ENQUEUER_DRAIN_TIMEOUT": "7.5",
    }
    assert launch("a", "--", "--lifetime=2h", **variables).output == (
        "('a',) None ['--lifetime=2h', '--allow', 'one', '--allow', 'two.three', '--once', '--drain-timeout', '7.5']\n"
    )
    # The command's own option, and one that it sets.
    assert launch("a", ENQUEUER_PROCESSES="3", ENQUEUER_NAME="box").output == "('a',) None []\n"
    failed = launch("a", ENQUEUER_DRAIN_TIMEOUT="soon")
    assert failed.exit_code == 2 and "'soon' is not a valid float" in failed.output


def test_each_option_of_launch_that_the_worker_has_as_well_has_its_variable() -> None:
    variables = {option.opts[0]: option.envvar for option in worker.params}
    launch_group = main.get_command(click.Context(main), "launch")
    assert isinstance(launch_group, click.Group)
    context = click.Context(launch_group)
    for name in launch_group.list_commands(context):
        engine = launch_group.get_command(context, name)
        assert engine is not None
        for option in engine.params:
            # A token's own variable is looked up with it.
            if option.opts[0] in variables and option.opts[0] != "--token-file":
                assert option.envvar == variables[option.opts[0]], f"launch {name} {option.opts[0]}"


def test_variables_alone_are_enough_to_launch() -> None:
    variables = {"ENQUEUER_CONNECT": "tcp://127.0.0.1:5555", "ENQUEUER_PROCESSES": "3", "ENQUEUER_ALLOW": "mydata"}
    shown = CliRunner().invoke(main, ["launch", "local", "--dry-run"], env=variables).output
    assert shown == "enqueuer worker --connect tcp://127.0.0.1:5555 --processes 3 --allow mydata\n"
    script = CliRunner().invoke(main, ["launch", "slurm", "--dry-run"], env=variables).output
    assert "--cpus-per-task=3" in script and "--connect tcp://127.0.0.1:5555" in script and "--allow mydata" in script
