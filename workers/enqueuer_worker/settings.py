"""The settings of worker processes: a supervisor writes them as one JSON line to each process's stdin.

An option of ``enqueuer worker`` is a parameter of `run_worker`, checked there, and a field of `Settings` or of its base
class `Policy`.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from enqueuer.errors import ProtocolError
from enqueuer_worker.commands import parse_command
from enqueuer_worker.core.policy import Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(Policy):
    """The settings common to all workers of a supervisor. Times in seconds; ids and the secret are hex text."""

    # The coordinator's address.
    connect: str
    supervisor: str
    name: str
    # The network interface to connect from; '' for any.
    interface: str = ""
    secret: str = field(default="", repr=False)
    # The address for batches, where it is not the one that the trainer names; '' for the trainer's.
    data_connect: str = ""
    # The text of a remote worker's token: its key and its coordinator's. '' for none, on loopback or by --insecure.
    token: str = field(default="", repr=False)
    # The batch codec's `Trust`: 'local' for a trainer's own processes, 'remote' for all others.
    trust: str = "remote"
    # Until a Welcome says otherwise.
    heartbeat_interval: float = 1.0
    # How many processes are started together.
    processes: int = 1
    # How long the supervisor's standard input may be silent; infinite: it is not read.
    stdin_timeout: float = math.inf
    # Threads for BLAS, OpenMP and their like in each process.
    worker_threads: int = 1
    # Targets and packages from which a remote worker imports for a trainer.
    sequences: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    # Whether it unpickles live objects as well, from a coordinator with a proven key.
    allow_pickle: bool = False
    # Bytes of memory for each process; None: no limit.
    max_memory: int | None = None
    # The file to lock for an allocation of shared memory; None where there is none.
    lock_fd: int | None = None
    # Whether a Sequence of another length or code than the trainer's is a warning instead of a rejection.
    allow_skew: bool = False
    sys_path: tuple[str, ...] = ()
    forward_logs: bool = True
    # A local worker's socket for what user code logs, and the trainer's levels and filters as JSON.
    log_fd: int | None = None
    trainer_logging: str = ""
    # The settings of the trainer's interpreter, as JSON; '' for none.
    trainer_interpreter: str = ""
    log_level: str = "INFO"
    log_json: bool = False


@dataclass(frozen=True, slots=True)
class ChildSettings:
    """The settings of one worker process: the shared ones and its own."""

    common: Settings
    child_number: int
    incarnation: str
    # The file for its running lease and its stack; None: nothing reads them.
    running_fd: int | None
    parent_pid: int

    @property
    def worker_id(self) -> str:
        return f"{self.common.name}-{self.child_number}"

    def to_line(self) -> bytes:
        """The settings as one line of bytes, for `from_line`."""
        return encode_line(asdict(self))

    @classmethod
    def from_line(cls, line: bytes) -> ChildSettings:
        """Read the settings of this process. Raises `ProtocolError`, and nothing else."""
        values = parse_command(line)
        try:
            common: dict[str, Any] = {
                name: tuple(value) if isinstance(value, list) else value for name, value in values["common"].items()
            }
            settings = cls(**{**values, "common": Settings(**common)})
        except (KeyError, AttributeError, TypeError) as error:
            raise ProtocolError(f"a process's settings have other fields: {error!s:.120}") from None
        _check_types(settings)
        _check_types(settings.common)
        return settings


_TYPES: dict[str, tuple[type, ...]] = {
    "Settings": (Settings,),
    "str": (str,),
    "str | None": (str, type(None)),
    "int": (int,),
    "int | None": (int, type(None)),
    "float": (float, int),
    "bool": (bool,),
    "tuple[str, ...]": (tuple,),
}


def _check_types(settings: Settings | ChildSettings) -> None:
    for one in fields(settings):
        value = getattr(settings, one.name)
        parts = value if type(value) is tuple else ()
        if type(value) not in _TYPES[str(one.type)] or not all(type(part) is str for part in parts):
            raise ProtocolError(f"{one.name} of a process's settings is not of type {one.type}")


def encode_line(value: dict[str, Any]) -> bytes:
    """A command as one JSON line for a process's stdin."""
    return json.dumps(value).encode() + b"\n"
