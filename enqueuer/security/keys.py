"""The two key files as data: their contents, how they are read, and the errors about them.

``coordinator.key`` (JSON, for the trainer) holds the server's secret key and the public keys of the workers and of the
observers that it admits, by name. ``worker.token`` (one line, for a worker) holds the server's *public* key and one
worker's secret key. A copy of it can serve as that worker, but cannot pose as the trainer. An observer's token has the
same form, and its key can do nothing but observe.

Keys are Curve25519, 32 bytes; in ``coordinator.key`` as hex. A token is

    enqueuer-worker-1. + URL-safe base64 of (server's public key, worker's secret key, checksum)

(``enqueuer-observer-1.`` for an observer) without any special character of a shell, YAML or an env file. The checksum
(8 bytes of SHA-256 over everything before it) detects typing mistakes and lost ends; it gives no protection. Error
texts never repeat the contents.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import zmq
from zmq.utils import z85

from enqueuer.errors import ConfigurationError

KEY_BYTES = 32
COORDINATOR_FILE = "coordinator.key"
TOKEN_FILE = "worker.token"  # noqa: S105 - the first worker's
OBSERVER_TOKEN_FILE = "observer.token"  # noqa: S105 - the first observer's
PEER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
# For people and logs: enough to tell keys apart, not enough to forge one.
_FINGERPRINT_BYTES = 4
_VERSION = 1
_KIND = "coordinator key"
_CHECKSUM_BYTES = 8
# Enough for ten thousand workers.
_MOST_FILE_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Token:
    """A peer's identity (its secret key) and the coordinator's (its public key)."""

    # The beginning of every token of this kind, of any version; its holder in words; the command that makes one.
    family: ClassVar[str]
    holder: ClassVar[str]
    maker: ClassVar[str]

    server_key: bytes
    secret_key: bytes = field(repr=False)

    @property
    def public_key(self) -> bytes:
        return public_key_of(self.secret_key)

    def to_text(self) -> str:
        """The token's one line, without a newline."""
        payload = self.server_key + self.secret_key
        encoded = base64.urlsafe_b64encode(payload + _checksum(self, payload))
        return _prefix(self) + encoded.decode()


@dataclass(frozen=True, slots=True)
class WorkerToken(Token):
    """A token that can serve as a worker."""

    family = "enqueuer-worker-"
    holder = "a worker"
    maker = "`enqueuer keygen DIR`"


@dataclass(frozen=True, slots=True)
class ObserverToken(Token):
    """A token that can observe a training, and nothing else."""

    family = "enqueuer-observer-"
    holder = "an observer"
    maker = "`enqueuer keygen DIR --add-observer`"


_KINDS: tuple[type[Token], ...] = (WorkerToken, ObserverToken)
_FAMILIES = tuple(kind.family for kind in _KINDS)
T = TypeVar("T", bound=Token)


@dataclass(frozen=True, slots=True)
class CoordinatorKey:
    """The server's secret key, and the public keys of all admitted workers and observers, by name."""

    secret_key: bytes = field(repr=False)
    workers: Mapping[str, bytes]
    observers: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def public_key(self) -> bytes:
        return public_key_of(self.secret_key)

    def to_text(self) -> str:
        document = {
            "enqueuer": _KIND,
            "version": _VERSION,
            "public_key": self.public_key.hex(),
            "secret_key": self.secret_key.hex(),
            "workers": {name: key.hex() for name, key in self.workers.items()},
            "observers": {name: key.hex() for name, key in self.observers.items()},
        }
        return json.dumps(document, indent=2) + "\n"


def new_secret_key() -> bytes:
    """A fresh secret key, from libsodium's (or tweetnacl's) generator."""
    return z85.decode(zmq.curve_keypair()[1])


def public_key_of(secret_key: bytes) -> bytes:
    return z85.decode(zmq.curve_public(z85.encode(secret_key)))


def fingerprint(public_key: bytes) -> str:
    """The short name of a public key in logs and lists."""
    return public_key[:_FINGERPRINT_BYTES].hex()


# ---------------------------------------------------------------- files


def read_coordinator_key(path: str | os.PathLike[str]) -> CoordinatorKey:
    """The key in this file. Raises ConfigurationError, which names the mistake and the remedy."""
    return parse_coordinator_key(_read_private(path, COORDINATOR_FILE), str(path))


def read_token(path: str | os.PathLike[str]) -> WorkerToken:
    """The worker's token in this file. Raises ConfigurationError, which names the mistake and the remedy."""
    return parse_token(_read_private(path, TOKEN_FILE), str(path))


def read_observer_token(path: str | os.PathLike[str]) -> ObserverToken:
    """The observer's token in this file. Raises ConfigurationError, which names the mistake and the remedy."""
    return parse_observer_token(_read_private(path, OBSERVER_TOKEN_FILE, " --add-observer"), str(path))


def _read_private(path: str | os.PathLike[str], usual_name: str, option: str = "") -> str:
    """The text of a file, if only its owner can read it. Raises ConfigurationError."""
    _check_path(path)
    try:
        with Path(path).open("rb") as file:
            status = os.fstat(file.fileno())
            content = file.read(_MOST_FILE_BYTES + 1)
    except IsADirectoryError:
        raise ConfigurationError(f"{path} is a directory: give a file, such as {Path(path) / usual_name}") from None
    except FileNotFoundError as error:
        cure = f"`enqueuer keygen DIR{option}` makes DIR/{usual_name}"
        raise ConfigurationError(f"cannot read {path}: {error.strerror}; {cure}") from None
    except PermissionError as error:
        cure = "it must be this user's own; a Kubernetes Secret needs the pod's securityContext.fsGroup"
        raise ConfigurationError(f"cannot read {path}: {error.strerror}; {cure}") from None
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from None
    if len(content) > _MOST_FILE_BYTES:
        raise ConfigurationError(f"{path} is not a key file of Enqueuer: it is larger than {_MOST_FILE_BYTES} bytes")
    text = content.decode(errors="replace")
    # Another file, which was named by mistake, is not to be made private.
    if _KIND in text or any(family in text for family in _FAMILIES):
        _check_private(status, path)
    return text


def _check_path(path: str | os.PathLike[str]) -> None:
    """Refuse a file's contents given in place of its path: an error about the path would repeat the secret."""
    text = os.fspath(path)
    if any(family in text for family in _FAMILIES):
        raise ConfigurationError(
            "the path of a token's file is a token itself: give the file's path, or put the token into ENQUEUER_TOKEN"
        )
    if "{" in text and _KIND in text:
        raise ConfigurationError(f"the path of a key file is a {_KIND} itself: give the path of {COORDINATOR_FILE}")


def _check_private(status: os.stat_result, path: str | os.PathLike[str]) -> None:
    """Refuse a file that others can read: 0600 if it is ours, and 0640 if it is root's and of a group of ours."""
    mode = stat.S_IMODE(status.st_mode)
    if status.st_uid not in (0, os.geteuid()):
        raise ConfigurationError(f"{path} belongs to another user and could be changed: copy it and use the copy")
    if mode & (0o037 if _is_roots_gift(status) else 0o077):
        cure = f"chmod 600 {path}" if status.st_uid == os.geteuid() else f"as root, chmod 640 {path}"
        raise ConfigurationError(
            f"{path} can be read or changed by others (mode {mode:04o}): {cure}; the Kubernetes volume of a Secret "
            "needs defaultMode: 0440"
        )


def _is_roots_gift(status: os.stat_result) -> bool:
    """Whether root has given this file to a group for processes such as this one.

    Only root can give a file of root's to a group, so the group's members are root's choice (PostgreSQL has the same
    rule for its keys). Kubernetes does so with a Secret under ``fsGroup``: 0440, root's, and of a group that it makes
    the pod's processes members of, root's too. Root's own group is no such gift: on some systems it has members.
    """
    is_roots_own_group = status.st_gid == 0 == os.geteuid()
    return status.st_uid == 0 and status.st_gid in (os.getegid(), *os.getgroups()) and not is_roots_own_group


# ---------------------------------------------------------------- contents


def parse_coordinator_key(text: str, where: str) -> CoordinatorKey:
    """The key in this text. Errors (ConfigurationError) call the text ``where``."""
    for kind in _KINDS:
        if text.lstrip().startswith(kind.family):
            raise ConfigurationError(
                f"{where} is {kind.holder}'s token; the trainer needs the {COORDINATOR_FILE} that was made with it"
            )
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict) or document.get("enqueuer") != _KIND:
        raise ConfigurationError(
            f"{where} is not a coordinator's key, or is incomplete: `enqueuer keygen DIR` makes one"
        )
    if document.get("version") != _VERSION:
        raise ConfigurationError(f"{where} is of another version of Enqueuer: this one reads version {_VERSION}")
    secret, public = _key(document.get("secret_key")), _key(document.get("public_key"))
    # Key files of before have no observers.
    workers, observers = _peers(document.get("workers")), _peers(document.get("observers", {}))
    if secret is None or workers is None or observers is None or public != public_key_of(secret):
        raise ConfigurationError(f"{where} is damaged: its parts do not fit together; `enqueuer keygen` makes another")
    return CoordinatorKey(secret, workers, observers)


def _peers(value: Any) -> dict[str, bytes] | None:
    if not isinstance(value, dict) or not all(map(PEER_NAME.fullmatch, value)):
        return None
    keys = {name: _key(text) for name, text in value.items()}
    return {name: key for name, key in keys.items() if key is not None} if None not in keys.values() else None


def _key(value: Any) -> bytes | None:
    try:
        key = bytes.fromhex(value)
    except (TypeError, ValueError):
        return None
    return key if len(key) == KEY_BYTES else None


def parse_token(text: str, where: str) -> WorkerToken:
    """The worker's token in this text. Errors (ConfigurationError) call the text ``where``."""
    return _parse_token(text, where, WorkerToken)


def parse_observer_token(text: str, where: str) -> ObserverToken:
    """The observer's token in this text. Errors (ConfigurationError) call the text ``where``."""
    return _parse_token(text, where, ObserverToken)


def _parse_token(text: str, where: str, kind: type[T]) -> T:
    text, name = text.strip(), kind.holder.partition(" ")[2]
    if text.startswith("{") and _KIND in text:
        raise ConfigurationError(
            f"{where} is a coordinator's key, which should never leave the trainer's machine: "
            f"{kind.holder} needs the {name}.token that was made with it"
        )
    for other in _KINDS:
        if other is not kind and text.startswith(other.family):
            raise ConfigurationError(
                f"{where} is {other.holder}'s token: {kind.holder} needs one of its own, from {kind.maker}"
            )
    if not text.startswith(kind.family):
        hint = " (for the path of a file use --token-file or ENQUEUER_TOKEN_FILE)" if where == "ENQUEUER_TOKEN" else ""
        raise ConfigurationError(f"{where} is not {kind.holder}'s token, such as {kind.maker} makes{hint}")
    if not text.startswith(_prefix(kind)):
        raise ConfigurationError(
            f"{where} is a token of another version of Enqueuer: this one reads version {_VERSION}"
        )
    try:
        content = base64.b64decode(text.removeprefix(_prefix(kind)), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        content = b""
    payload, checksum = content[: 2 * KEY_BYTES], content[2 * KEY_BYTES :]
    if len(payload) != 2 * KEY_BYTES or checksum != _checksum(kind, payload):
        raise ConfigurationError(f"{where} is a token with a mistake in it, or an incomplete one: copy it again")
    return kind(payload[:KEY_BYTES], payload[KEY_BYTES:])


def _prefix(kind: Token | type[Token]) -> str:
    return f"{kind.family}{_VERSION}."


def _checksum(kind: Token | type[Token], payload: bytes) -> bytes:
    return hashlib.sha256(_prefix(kind).encode() + payload).digest()[:_CHECKSUM_BYTES]
