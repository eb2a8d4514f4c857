"""CURVE options of sockets, and the search for each side's key. Only this module reads keys from the environment.

`enqueuer.security.keys` is imported where a key is read: most processes have none.

Both ends prove their keys, and all messages are encrypted. A server asks its context's ZAP handler (`gatekeeper`) about
the key of each new peer, and refuses every peer while no handler answers.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import zmq

from enqueuer.errors import ConfigurationError

if TYPE_CHECKING:
    from enqueuer.security.keys import ObserverToken, Token, WorkerToken

KEY_FILE_VARIABLE = "ENQUEUER_KEY_FILE"
TOKEN_FILE_VARIABLE = "ENQUEUER_TOKEN_FILE"  # noqa: S105 - a name
TOKEN_VARIABLE = "ENQUEUER_TOKEN"  # noqa: S105 - a name
ZAP_DOMAIN = "enqueuer"
STDIN = "-"
_STDIN_FD = 0
# More than a token has.
_MOST_LINE_BYTES = 1024


def find_key_file(key_file: str | os.PathLike[str] | None) -> str | None:
    """The path of the trainer's key file: the argument, or else the environment variable's; None if neither is set."""
    found = os.environ.get(KEY_FILE_VARIABLE) if key_file is None else os.fspath(key_file)
    return found or None


def find_token(token_file: str | os.PathLike[str] | None) -> WorkerToken | None:
    """A worker's token: from ``token_file``, or else from the environment's file or text; None if none is given.

    The text is removed from this process's environment, which user code and crash reports see. The file '-' is one line
    of standard input. Raises ConfigurationError.
    """
    from enqueuer.security.keys import parse_token, read_token

    text = os.environ.pop(TOKEN_VARIABLE, None)
    file = token_file or os.environ.get(TOKEN_FILE_VARIABLE)
    if file == STDIN:
        return parse_token(_read_line(), "the first line of standard input")
    if file:
        return read_token(Path(file).expanduser())
    return parse_token(text, TOKEN_VARIABLE) if text else None


def _read_line() -> str:
    """One line of standard input, at most so long. Read byte by byte: what is behind it stays for other readers."""
    line = b""
    while len(line) < _MOST_LINE_BYTES and not line.endswith(b"\n") and (byte := os.read(_STDIN_FD, 1)):
        line += byte
    return line.decode(errors="replace")


def find_observer_token(token_file: str | os.PathLike[str] | None) -> ObserverToken | None:
    """An observer's token: from ``token_file``, or else from the environment's file or text; None if none is given.

    Raises ConfigurationError.
    """
    from enqueuer.security.keys import parse_observer_token, read_observer_token

    file = token_file or os.environ.get(TOKEN_FILE_VARIABLE)
    if file:
        return read_observer_token(Path(file).expanduser())
    text = os.environ.get(TOKEN_VARIABLE)
    return parse_observer_token(text, TOKEN_VARIABLE) if text else None


def parse_passed_token(text: str) -> WorkerToken | None:
    """The token that a supervisor passes to its child processes as text; '' stands for none."""
    if not text:
        return None
    from enqueuer.security.keys import parse_token

    return parse_token(text, "the supervisor's token")


def secure_server(socket: zmq.Socket[bytes], secret_key: bytes) -> None:
    """Make an unbound socket admit only peers that know our public key and have a key that the ZAP handler accepts."""
    _need_curve()
    socket.setsockopt(zmq.CURVE_SERVER, 1)
    socket.setsockopt(zmq.CURVE_SECRETKEY, secret_key)
    # Without a domain and this option, libzmq admits every peer while there is no handler ("Stonehouse pattern").
    socket.setsockopt_string(zmq.ZAP_DOMAIN, ZAP_DOMAIN)
    socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)


def secure_client(socket: zmq.Socket[bytes], token: Token) -> None:
    """Make an unconnected socket talk only to the token's coordinator."""
    _need_curve()
    socket.setsockopt(zmq.CURVE_SERVERKEY, token.server_key)
    socket.setsockopt(zmq.CURVE_PUBLICKEY, token.public_key)
    socket.setsockopt(zmq.CURVE_SECRETKEY, token.secret_key)


def _need_curve() -> None:
    if not zmq.has("curve"):
        raise ConfigurationError("this libzmq was built without CURVE: install pyzmq's own wheel (pip install pyzmq)")
