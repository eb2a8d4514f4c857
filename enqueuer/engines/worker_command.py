"""The command line of `enqueuer worker` that an engine runs: the launcher's own options, then those behind ``--``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from enqueuer.errors import ConfigurationError

_PERMISSIONS = ("--allow", "--sequence", "--allow-pickle")


def worker_command(own: Mapping[str, object], given: Sequence[str]) -> list[str]:
    """Return ``worker``, the launcher's ``own`` options and then the ``given`` ones, as arguments of `enqueuer`.

    ``own`` maps flags such as ``--connect`` to their values. True stands for the flag alone; one of False or None is
    left out. Raises ConfigurationError if ``given`` has a flag of ``own``, or lets the trainer import nothing.
    """
    _check(own, given)
    command = ["worker"]
    for flag, value in own.items():
        if value is True:
            command.append(flag)
        elif value is not None and value is not False:
            command += [flag, str(value)]
    return [*command, *given]


def _check(own: Mapping[str, object], given: Sequence[str]) -> None:
    flags = [word.partition("=")[0] for word in given]
    for flag in own:
        if flag in flags:
            raise ConfigurationError(f"{flag} stands behind `--`, and launch sets it itself: leave it out there")
    if not any(flag in _PERMISSIONS for flag in flags):
        raise ConfigurationError(
            "a worker imports only what its owner allows: give `-- --allow PACKAGE` (anything in it) or "
            "`-- --sequence package.module:callable` (only that) at the end"
        )
