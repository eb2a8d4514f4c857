"""A command of `enqueuer launch`: the options after ``--`` are for `enqueuer worker`."""

from __future__ import annotations

import click


class LaunchCommand(click.Command):
    """Passes the arguments after the first ``--`` to the command's function as the list ``worker_options``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        end = args.index("--") if "--" in args else len(args)
        rest = super().parse_args(ctx, args[:end])
        ctx.params["worker_options"] = args[end + 1 :]
        return rest

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return [*super().collect_usage_pieces(ctx), "--", "[OPTIONS OF enqueuer worker]"]
