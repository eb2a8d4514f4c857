"""The key directory of `enqueuer keygen`: ``coordinator.key``, and a ``NAME.token`` for each worker.

Several processes may change it at once, as each locks the directory. A running coordinator may read it at any moment,
as files are replaced whole.
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
        """Make the coordinator refuse this worker's token, and remove the token's file if it is here."""
        with self._locked():
            key = read_coordinator_key(self.key_file)
            if name not in key.workers:
                known = ", ".join(key.workers) or "no worker"
                raise ConfigurationError(f"{self.key_file} has no worker {name!r}; it admits: {known}")
            left = {other: public for other, public in key.workers.items() if other != name}
            _write(self.key_file, CoordinatorKey(key.secret_key, left).to_text())
            with contextlib.suppress(ConfigurationError):  # not here, or not a token
                if read_token(self.token_file(name)).public_key == key.workers[name]:
                    self.token_file(name).unlink()

    def workers(self) -> dict[str, bytes]:
        """Names and public keys of all workers that the coordinator admits."""
        return dict(read_coordinator_key(self.key_file).workers)

    def _remove_tokens_of_old_key(self) -> None:
        with contextlib.suppress(ConfigurationError):  # no old key, or a damaged one
            old = read_coordinator_key(self.key_file)
            for file in self.path.glob("*.token"):
                with contextlib.suppress(ConfigurationError):
                    if read_token(file).server_key == old.public_key:
                        file.unlink()

    def _add(self, key: CoordinatorKey, name: str) -> str:
        if self.token_file(name).exists():
            raise ConfigurationError(
                f"{self.token_file(name)} is there already and does not belong to this key: move it away"
            )
        token = WorkerToken(key.public_key, new_secret_key())
        # The token first: a failure in between then leaves no listed worker without a token.
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
