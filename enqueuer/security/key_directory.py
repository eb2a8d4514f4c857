"""The key directory of `enqueuer keygen`: ``coordinator.key``, and a ``NAME.token`` for each worker and
observer.

Several processes may change it at once, as each locks the directory. A running coordinator may read it at any moment,
as files are replaced whole.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from enqueuer.errors import ConfigurationError
from enqueuer.security.keys import (
    COORDINATOR_FILE,
    PEER_NAME,
    CoordinatorKey,
    ObserverToken,
    Token,
    WorkerToken,
    new_secret_key,
    public_key_of,
    read_coordinator_key,
    read_observer_token,
    read_token,
)

FIRST_WORKER, FIRST_OBSERVER = "worker", "observer"


class KeyDirectory:
    """A key directory; each method is one operation of its owner. All raise ConfigurationError with the reason."""

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.path = Path(directory)
        self.key_file = self.path / COORDINATOR_FILE

    def token_file(self, name: str) -> Path:
        return self.path / f"{name}.token"

    def create(self, *, replace: bool = False) -> str:
        """Make a new key for the coordinator, and a token for a first worker; returns that worker's name.

        ``replace`` allows this if a key exists already: tokens of the old key then become useless, and are removed.
        """
        with self._locked(make=True):
            if self.key_file.exists() and not replace:
                raise ConfigurationError(
                    f"{self.key_file} is there already, and a new key would lock out every worker with a token of the "
                    "old one. --add-worker makes one more token; --replace makes a new key all the same"
                )
            self._remove_tokens_of_old_key()
            return self._add(CoordinatorKey(new_secret_key(), {}), FIRST_WORKER)

    def add_worker(self, name: str | None = None) -> str:
        """Make one more token; returns the worker's name. The default is the first free one of worker, worker-2, …"""
        return self._add_peer(name, FIRST_WORKER, WorkerToken)

    def add_observer(self, name: str | None = None) -> str:
        """Make a token that can observe and nothing else; returns the observer's name, by default a free one."""
        return self._add_peer(name, FIRST_OBSERVER, ObserverToken)

    def _add_peer(self, name: str | None, first: str, kind: type[Token]) -> str:
        with self._locked():
            key = read_coordinator_key(self.key_file)
            taken = {**key.workers, **key.observers}
            if name is None:
                names = [first, *(f"{first}-{number}" for number in range(2, len(taken) + 3))]
                name = next(name for name in names if name not in taken)
            if PEER_NAME.fullmatch(name) is None:
                raise ConfigurationError(
                    f"{name!r} cannot be {kind.holder}'s name: up to 64 letters, digits, dots, dashes and underscores"
                )
            if name in taken:
                holder, option = ("a worker", "worker") if name in key.workers else ("an observer", "observer")
                raise ConfigurationError(
                    f"{self.key_file} has {holder} {name!r} already: choose another name, or --revoke-{option} it first"
                )
            return self._add(key, name, kind)

    def revoke_worker(self, name: str) -> None:
        """Make the coordinator refuse this worker's token, and remove the token's file if it is here."""
        with self._locked():
            key = read_coordinator_key(self.key_file)
            public_key = self._find(key.workers, name, "worker")
            _write(self.key_file, replace(key, workers=_without(key.workers, name)).to_text())
            with contextlib.suppress(ConfigurationError):  # not here, or not a token
                if read_token(self.token_file(name)).public_key == public_key:
                    self.token_file(name).unlink()

    def revoke_observer(self, name: str) -> None:
        """Make the coordinator refuse this observer's token, and remove the token's file if it is here."""
        with self._locked():
            key = read_coordinator_key(self.key_file)
            public_key = self._find(key.observers, name, "observer")
            _write(self.key_file, replace(key, observers=_without(key.observers, name)).to_text())
            with contextlib.suppress(ConfigurationError):  # not here, or not a token
                if read_observer_token(self.token_file(name)).public_key == public_key:
                    self.token_file(name).unlink()

    def _find(self, peers: Mapping[str, bytes], name: str, kind: str) -> bytes:
        if name not in peers:
            known = ", ".join(peers) or f"no {kind}"
            raise ConfigurationError(f"{self.key_file} has no {kind} {name!r}; it admits: {known}")
        return peers[name]

    def workers(self) -> dict[str, bytes]:
        """Names and public keys of all workers that the coordinator admits."""
        return dict(read_coordinator_key(self.key_file).workers)

    def observers(self) -> dict[str, bytes]:
        """Names and public keys of all observers that the coordinator admits."""
        return dict(read_coordinator_key(self.key_file).observers)

    def _remove_tokens_of_old_key(self) -> None:
        with contextlib.suppress(ConfigurationError):  # no old key, or a damaged one
            old = read_coordinator_key(self.key_file)
            for file in self.path.glob("*.token"):
                for read in (read_token, read_observer_token):
                    with contextlib.suppress(ConfigurationError):
                        if read(file).server_key == old.public_key:
                            file.unlink()

    def _add(self, key: CoordinatorKey, name: str, kind: type[Token] = WorkerToken) -> str:
        if self.token_file(name).exists():
            raise ConfigurationError(
                f"{self.token_file(name)} is there already and does not belong to this key: move it away"
            )
        token = kind(key.public_key, new_secret_key())
        # The token first: a failure in between then leaves no listed peer without a token.
        _write(self.token_file(name), token.to_text() + "\n")
        added = {name: public_key_of(token.secret_key)}
        if kind is ObserverToken:
            key = replace(key, observers={**key.observers, **added})
        else:
            key = replace(key, workers={**key.workers, **added})
        _write(self.key_file, key.to_text())
        return name

    @contextlib.contextmanager
    def _locked(self, *, make: bool = False) -> Iterator[None]:
        try:
            if make:
                self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except (FileExistsError, NotADirectoryError):
            raise ConfigurationError(f"{self.path} is a file: give a directory for the keys") from None
        except FileNotFoundError:
            raise ConfigurationError(
                f"there is no directory {self.path}: `enqueuer keygen {self.path}` makes it, with keys"
            ) from None
        except OSError as error:
            raise ConfigurationError(f"{self.path}: {error.strerror}") from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        except OSError as error:
            raise ConfigurationError(f"{error.filename or self.path}: {error.strerror}") from None
        finally:
            os.close(lock)


def _without(peers: Mapping[str, bytes], name: str) -> dict[str, bytes]:
    return {other: public_key for other, public_key in peers.items() if other != name}


def _write(path: Path, text: str) -> None:
    """Write a file with mode 0600 from the start, whole or not at all, even if the power fails."""
    fd, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(fd, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink()
        raise
