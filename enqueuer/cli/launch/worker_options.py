"""A command of `enqueuer launch`: the options after ``--`` are for `enqueuer worker`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import click

from enqueuer.engines.worker_command import worker_command

_ANY_ADDRESS = "tcp://127.0.0.1:1"


class LaunchCommand(click.Command):
    """Passes the options for the workers to the command's function, as the list ``worker_options``.

    They are the arguments after the first ``--``, and the worker's variables of the environment: an engine's hosts do
    not all have the environment of this process. Left out are those of this command's own options, and of ``own``, the
    other options of the worker that the command sets or that are one machine's.
    """

    def __init__(self, *args: Any, own: Collection[str] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._own = {*own, *(flag for option in self.params for flag in option.opts)}

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        end = args.index("--") if "--" in args else len(args)
        rest = super().parse_args(ctx, args[:end])
        given = args[end + 1 :]
        known = self._own.union(word.partition("=")[0] for word in given)
        ctx.params["worker_options"] = [*given, *_from_environment(known)]
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


def _from_environment(known: Collection[str]) -> list[str]:
    """The worker's options that its variables set, but for those whose flags are known."""
    worker, root = _worker()
    with click.Context(worker, parent=root) as context:
        options = [option for option in worker.params if option.opts[0] not in known]
        values = [(option, option.value_from_envvar(context)) for option in options]
        return [
            word
            for option, value in values
            if value is not None
            for word in _spell(option, option.type_cast_value(context, value))
        ]


def _spell(option: click.Parameter, value: Any) -> list[str]:
    """The words of a command line that set the option to this value."""
    words = []
    for one in value if option.multiple else (value,):
        if one is not False:
            words += [option.opts[0]] if one is True else [option.opts[0], str(one)]
    return words


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
        if arguments[option.name] != option.default:
            words += _spell(option, arguments[option.name])
    return words
