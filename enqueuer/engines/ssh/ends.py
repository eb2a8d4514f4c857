"""Why an OpenSSH client has ended: what its exit code and its first lines mean, and whether to start it again.

The client ends with the exit code of the remote program, or with 255 after an error of its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

_SSH_FAILED = 255
_NOT_EXECUTABLE, _NOT_FOUND = 126, 127
_BAD_USAGE = 2


class End(NamedTuple):
    """The reason of an end, in words. ``is_final``: only the user can mend it, so another attempt is useless."""

    reason: str
    is_final: bool


def explain_end(code: int, first_lines: Iterable[str], host: str, *, command: str, version: str) -> End:
    """Explain an end with this exit code (negative: a signal) of a client with these lines before its worker began.

    ``command`` is how `enqueuer` is started there; ``version`` is that of this library here.
    """
    text = "\n".join(first_lines)
    if code == _SSH_FAILED:
        return _explain_ssh(text, host)
    if code in (_NOT_FOUND, _NOT_EXECUTABLE) or "No module named enqueuer" in text:
        return End(
            f"there is no enqueuer on it (tried: {command}): install version {version} there, or name its place "
            "by --remote-command",
            is_final=True,
        )
    if code == _BAD_USAGE and ("No such option" in text or "No such command" in text):
        return End(f"enqueuer is older there than here ({version}): install the same version", is_final=True)
    if code == _BAD_USAGE:
        return End("the worker does not take its options, for the reason above", is_final=True)
    if code < 0:
        return End(f"the SSH client was ended by signal {-code}", is_final=False)
    return End(f"the worker there ended with exit code {code}", is_final=False)


def _explain_ssh(text: str, host: str) -> End:
    if text.startswith(("command-line: line 0", "usage: ssh")) or ": Bad configuration option" in text:
        return End("ssh does not take its options, for the reason above", is_final=True)
    if "REMOTE HOST IDENTIFICATION HAS CHANGED" in text:
        return End(
            "its host key has changed: another machine may pose as this host. If the change is right, remove the old "
            f"key: ssh-keygen -R {host.rpartition('@')[2]}",
            is_final=True,
        )
    if "Host key verification failed" in text:
        return End(
            f"its host key is not known here: run `ssh {host}` once and compare the fingerprint, or add the key to "
            "known_hosts",
            is_final=True,
        )
    if "Permission denied (" in text or "Too many authentication failures" in text:
        return End(
            f"it refuses this user's keys: `ssh {host} true` must work without a question (`ssh-add -l` lists the keys "
            "in the agent)",
            is_final=True,
        )
    if "remote port forwarding failed" in text:
        return End("its SSH server refuses the tunnel: the port is taken, or AllowTcpForwarding is off", is_final=False)
    if "Could not resolve hostname" in text or "ssh: connect to host" in text:
        return End("it cannot be reached, for the reason above", is_final=False)
    return End("the connection has ended", is_final=False)
