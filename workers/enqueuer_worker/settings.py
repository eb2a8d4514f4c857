"""What a supervisor decides and tells each of its worker processes, as one JSON line on the process's stdin."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from enqueuer.errors import ProtocolError
from enqueuer_worker.commands import parse_command


@dataclass(frozen=True, slots=True)
class Settings:
    """Common to all workers of a supervisor. Times in seconds; ids and the secret are hex text."""

    connect: str
    supervisor: str
    name: str
    secret: str = field(default="", repr=False)
    # A remote worker's proof and its coordinator's key, as the token's text; '': none, on loopback or by --insecure.
    token: str = field(default="", repr=False)
    # 'local' for a trainer's own processes, 'remote' for all others: what the batch codec may make of their bytes.
    trust: str = "remote"
    # A remote worker serves one session after the other; a local one waits for its trainer to name the next.
    reconnects: bool = True
    once: bool = False
    drain_timeout: float = 30.0
    max_reconnect_interval: float = 5.0
    heartbeat_interval: float = 1.0
    worker_threads: int = 1
    # What a remote worker may import for a trainer: exact targets, whole packages.
    sequences: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    # Live objects as well, from a coordinator that holds the key.
    allow_pickle: bool = False
    # Bytes of memory that each worker process may have; None: no limit.
    max_memory: int | None = None
    # What they take shared memory under, one after the other; None where there is none.
    lock_fd: int | None = None
    # A Sequence whose length or code differs from the trainer's is then a warning instead of a rejection.
    allow_skew: bool = False
    sys_path: tuple[str, ...] = ()
    # The PYTHONPATH that programs started by user code get; None: none.
    python_path: str | None = None
    forward_logs: bool = True
    log_level: str = "INFO"
    log_json: bool = False


@dataclass(frozen=True, slots=True)
class ChildSettings:
    """One process's own part."""

    common: Settings
    child_number: int
    incarnation: str
    # Where it notes its running lease; None: nowhere.
    running_fd: int | None
    parent_pid: int

    @property
    def worker_id(self) -> str:
        return f"{self.common.name}-{self.child_number}"

    def to_line(self) -> bytes:
        return encode_line(asdict(self))

    @classmethod
    def from_line(cls, line: bytes) -> ChildSettings:
        """Raises `ProtocolError`, and nothing else."""
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
            raise ProtocolError(f"{one.name} of a process's settings is no {one.type}")


def encode_line(value: dict[str, Any]) -> bytes:
    """A command as it goes over a process's stdin."""
    return json.dumps(value).encode() + b"\n"
