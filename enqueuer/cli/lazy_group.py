"""A command group that imports a subcommand on first use."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import click

# A shell's exit code for a program ended by Ctrl-C: 128 + SIGINT.
INTERRUPTED_EXIT_CODE = 130


class LazyGroup(click.Group):
    """A group of subcommands given by name, ``{"worker": "package.module:attribute"}``, and imported on first use.

    Ctrl-C ends a subcommand with one line and exit code 130, without a traceback.
    """

    def __init__(self, *args: Any, subcommands: Mapping[str, str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._subcommands = dict(subcommands)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(self._subcommands)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        target = self._subcommands.get(cmd_name)
        if target is None:
            return None
        module, _, attribute = target.partition(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command), f"{target} is not a click command"
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            ctx.exit(INTERRUPTED_EXIT_CODE)
