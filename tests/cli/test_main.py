from __future__ import annotations

import subprocess
import sys

import click
from click.testing import CliRunner

import enqueuer
from enqueuer.cli.lazy_group import LazyGroup
from enqueuer.cli.main import main


@click.command()
def interrupted() -> None:
    """A command that the user interrupts with Ctrl-C."""
    raise KeyboardInterrupt


def test_help_names_both_subcommands_and_what_they_do():
    result = CliRunner().invoke(main, ["--help"])
    assert result.exit_code == 0
    assert "demo" in result.output
    assert "worker" in result.output
    assert "Train a small classifier" in result.output


def test_version_prints_the_version_of_the_library():
    result = CliRunner().invoke(main, ["--version"])
    assert result.output.strip() == f"enqueuer, version {enqueuer.__version__}"


def test_an_unknown_subcommand_is_the_callers_mistake():
    result = CliRunner().invoke(main, ["dance"])
    assert result.exit_code == 2
    assert "No such command 'dance'" in result.output


def test_subcommands_are_imported_when_they_are_asked_for():
    heavy = ["numpy", "zmq", "PIL", "enqueuer_worker", "enqueuer.cli.demo"]
    code = f"import sys, enqueuer.cli.main; print([name for name in {heavy} if name in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert loaded.stdout.strip() == "[]"


def test_ctrl_c_ends_a_subcommand_with_one_line_and_130():
    group = LazyGroup("group", subcommands={"interrupted": f"{__name__}:interrupted"})
    result = CliRunner().invoke(group, ["interrupted"])
    assert result.exit_code == 130
    assert result.output == "interrupted\n"
