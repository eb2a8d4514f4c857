"""CURVE on sockets, and where each side's key comes from. Nothing else that is about keys reads the environment.

Both ends prove their keys, and all that they say is encrypted. A server asks the ZAP handler of its context (see
`gatekeeper`) about each newcomer's key, and lets nobody in when no handler answers.
"""

from __future__ import annotations

import os
from pathlib import Path

import zmq

from enqueuer.errors import ConfigurationError
from enqueuer.security.keys import WorkerToken, parse_token, read_token

KEY_FILE_VARIABLE = "ENQUEUER_KEY_FILE"
TOKEN_FILE_VARIABLE = "ENQUEUER_TOKEN_FILE"  # noqa: S105 - a name
TOKEN_VARIABLE = "ENQUEUER_TOKEN"  # noqa: S105 - a name
ZAP_DOMAIN = "enqueuer"


def find_key_file(key_file: str | os.PathLike[str] | None) -> str | None:
    """The trainer's key file: the argument, else the environment's; None: there is none."""
    found = os.environ.get(KEY_FILE_VARIABLE) if key_file is None else os.fspath(key_file)
    return found or None


def find_token(token_file: str | os.PathLike[str] | None) -> WorkerToken | None:
    """A worker's token: of the given file, else of the environment's, else the environment's own; None: there is none.

    It is taken out of this process's environment, which user code and its crash reports see. Raises ConfigurationError.
    """
    text = os.environ.pop(TOKEN_VARIABLE, None)
    file = token_file or os.environ.get(TOKEN_FILE_VARIABLE)
    if file:
        return read_token(Path(file).expanduser())
    return parse_token(text, TOKEN_VARIABLE) if text else None


def parse_passed_token(text: str) -> WorkerToken | None:
    """The token that a supervisor passes on to its children; '' is none."""
    return parse_token(text, "the supervisor's token") if text else None


def secure_server(socket: zmq.Socket[bytes], secret_key: bytes) -> None:
    """Before it is bound: let in who knows our public key, has a key of its own, and is let in by the ZAP handler."""
    _need_curve()
    socket.setsockopt(zmq.CURVE_SERVER, 1)
    socket.setsockopt(zmq.CURVE_SECRETKEY, secret_key)
    # Without a domain and this option, libzmq lets everybody in while there is no handler ("Stonehouse pattern").
    socket.setsockopt_string(zmq.ZAP_DOMAIN, ZAP_DOMAIN)
    socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)


def secure_client(socket: zmq.Socket[bytes], token: WorkerToken) -> None:
    """Before it connects: speak to nobody but the token's coordinator."""
    _need_curve()
    socket.setsockopt(zmq.CURVE_SERVERKEY, token.server_key)
    socket.setsockopt(zmq.CURVE_PUBLICKEY, token.public_key)
    socket.setsockopt(zmq.CURVE_SECRETKEY, token.secret_key)


def _need_curve() -> None:
    if not zmq.has("curve"):
        raise ConfigurationError("this libzmq was built without CURVE: install pyzmq's own wheel (pip install pyzmq)")
