"""A command of `enqueuer launch`: the options after ``--`` are for `enqueuer worker`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from enqueuer.engines.worker_command import worker_command

_ANY_ADDRESS = "tcp://127.0.0.1:1"


class LaunchCommand(click.Command):
    """Passes the arguments after the first ``--`` to the command's function as the list ``worker_options``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        end = args.index("--") if "--" in args else len(args)
        rest = super().parse_args(ctx, args[:end])
        ctx.params["worker_options"] = args[end + 1 :]
        return rest

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return [*super().collect_usage_pieces(ctx), "--", "[OPTIONS OF enqueuer worker]"]


def _worker() -> tuple[click.Command, click.Context]:
    """`enqueuer worker`, and the context of `enqueuer`."""
    # By name, from the group of all commands: the library does not import the worker program.
    root = click.get_current_context().find_root()
    assert isinstance(root.command, click.Group)
    worker = root.command.get_command(root, "worker")
    assert worker is not None
    return worker, root


def worker_context(own: Mapping[str, object], given: Sequence[str]) -> click.Context:
    """Return the context of `enqueuer worker` with the options of `worker_command`, to use as a context manager.

    Raises ConfigurationError as `worker_command` does, and click.UsageError for options that the worker does not have.
    """
    _, *words = worker_command(own, given)
    worker, root = _worker()
    return worker.make_context(worker.name, words, parent=root)


def check_worker_options(own: Mapping[str, object], given: Sequence[str]) -> None:
    """Raise as `worker_context` does. The trainer's address may be unknown yet: without ``--connect``, or with None."""
    with worker_context({**own, "--connect": own.get("--connect") or _ANY_ADDRESS}, given):
        pass


def spelled_out(arguments: Mapping[str, Any]) -> list[str]:
    """The command `enqueuer worker` that stands for these arguments of `run_worker`, without those of defaults."""
    words = ["enqueuer", "worker"]
    for option in _worker()[0].params:
        assert option.name is not None
        value, flag = arguments[option.name], option.opts[0]
        if value == option.default:
            continue
        for one in value if option.multiple else (value,):
            words += [flag] if one is True else [flag, str(one)]
    return words
