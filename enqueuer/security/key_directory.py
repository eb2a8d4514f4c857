"""The directory that `enqueuer keygen` keeps: ``coordinator.key``, and a ``NAME.token`` for each worker.

Several may work on it at once (a lock on the directory), and a running coordinator may read it at any moment: files
appear and change whole.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from enqueuer.errors import ConfigurationError
from enqueuer.security.keys import (
    COORDINATOR_FILE,
    WORKER_NAME,
    CoordinatorKey,
    WorkerToken,
    new_secret_key,
    public_key_of,
    read_coordinator_key,
    read_token,
)

FIRST_WORKER = "worker"


class KeyDirectory:
    """Each method does one thing that an owner may want; all raise ConfigurationError with what is in the way."""

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.path = Path(directory)
        self.key_file = self.path / COORDINATOR_FILE

    def token_file(self, name: str) -> Path:
        return self.path / f"{name}.token"

    def create(self, *, replace: bool = False) -> str:
        """A new key pair for the coordinator and the first worker's token; that worker's name.

        With ``replace`` also where there is one already: none of its tokens opens anything from then on.
        """
        with self._locked(make=True):
            if self.key_file.exists() and not replace:
                raise ConfigurationError(
                    f"{self.key_file} is there already, and a new one would lock out every worker that has a token of "
                    "it. --add-worker makes one more token for it; --replace makes new keys all the same"
                )
            self._remove_tokens_of_old_key()
            return self._add(CoordinatorKey(new_secret_key(), {}), FIRST_WORKER)

    def add_worker(self, name: str | None = None) -> str:
        """One more token; the worker's name: if none is given, the first of worker, worker-2, … that is free."""
        with self._locked():
            key = read_coordinator_key(self.key_file)
            if name is None:
                numbers = range(2, len(key.workers) + 3)
                names = [FIRST_WORKER, *(f"{FIRST_WORKER}-{number}" for number in numbers)]
                name = next(name for name in names if name not in key.workers)
            if WORKER_NAME.fullmatch(name) is None:
                raise ConfigurationError(
                    f"{name!r} cannot be a worker's name: up to 64 letters, digits, dots, dashes and underscores"
                )
            if name in key.workers:
                raise ConfigurationError(
                    f"{self.key_file} has a worker {name!r} already: choose another name, or --revoke-worker it first"
                )
            return self._add(key, name)

    def revoke_worker(self, name: str) -> None:
        """Let nobody in any more with this worker's token; the token's file goes too, if it is here."""
        with self._locked():
            key = read_coordinator_key(self.key_file)
            if name not in key.workers:
                known = ", ".join(key.workers) or "nobody"
                raise ConfigurationError(f"{self.key_file} has no worker {name!r}; it lets in: {known}")
            left = {other: public for other, public in key.workers.items() if other != name}
            _write(self.key_file, CoordinatorKey(key.secret_key, left).to_text())
            with contextlib.suppress(ConfigurationError):  # not here, or not one that we made
                if read_token(self.token_file(name)).public_key == key.workers[name]:
                    self.token_file(name).unlink()

    def workers(self) -> dict[str, bytes]:
        """Names and public keys of those that are let in."""
        return dict(read_coordinator_key(self.key_file).workers)

    def _remove_tokens_of_old_key(self) -> None:
        with contextlib.suppress(ConfigurationError):  # there is none, or it is damaged
            old = read_coordinator_key(self.key_file)
            for file in self.path.glob("*.token"):
                with contextlib.suppress(ConfigurationError):
                    if read_token(file).server_key == old.public_key:
                        file.unlink()

    def _add(self, key: CoordinatorKey, name: str) -> str:
        if self.token_file(name).exists():
            raise ConfigurationError(
                f"{self.token_file(name)} is there already and is none of this key's: move it away"
            )
        token = WorkerToken(key.public_key, new_secret_key())
        # The token first: who is listed without having one would be a riddle.
        _write(self.token_file(name), token.to_text() + "\n")
        workers = {**key.workers, name: public_key_of(token.secret_key)}
        _write(self.key_file, CoordinatorKey(key.secret_key, workers).to_text())
        return name

    @contextlib.contextmanager
    def _locked(self, *, make: bool = False) -> Iterator[None]:
        try:
            if make:
                self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise ConfigurationError(f"{self.path}: {error.strerror}") from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        except OSError as error:
            raise ConfigurationError(f"{error.filename or self.path}: {error.strerror}") from None
        finally:
            os.close(lock)


def _write(path: Path, text: str) -> None:
    """0600 from the first moment, and whole or not at all, also if the power fails."""
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
