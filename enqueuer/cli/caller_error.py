"""The error of a command's caller."""

from __future__ import annotations

import click


class CallerError(click.ClickException):
    """An option is impossible: one line on stderr, exit code 2."""

    exit_code = 2
