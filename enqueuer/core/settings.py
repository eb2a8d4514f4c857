"""What the core must know of the user's options: one frozen object, plain values only."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ChannelFacts:
    """A socket pair that workers connect to."""

    name: str
    data_endpoint: str
    # The trainer's own processes: the only ones that get a live object.
    local: bool
    # Where workers on the same host show their shared memory, and the secret to say there; None where they cannot.
    shared_memory: tuple[str, bytes] | None = None
    # What workers are to compress large buffers with; None: nothing.
    compression: str | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """One session. Times in seconds."""

    session: bytes
    channels: tuple[ChannelFacts, ...]
    numpy_version: str
    ordered: bool = True
    # None: as deep as it turns out to help.
    max_queue_size: int | None = 10
    max_bytes: int | None = None
    retries: int = 0
    skip_errors: bool = False
    max_skipped: int = 100
    max_worker_deaths: int | None = 3
    # Of the skips that are allowed, what earlier sessions have used up.
    skipped_before: int = 0
    min_workers: int = 1
    # A head of the order that takes this many times the 95th percentile is leased a second time; None: never.
    hedge_factor: float | None = None
    # Supervisors replace a worker that computes one batch for longer.
    batch_timeout: float | None = None
    no_worker_timeout: float | None = None
    heartbeat_interval: float = 1.0
    worker_timeout: float = 10.0
    coordinator_timeout: float = 30.0
    no_worker_warning: float = 30.0
    # For the message that nobody is there.
    address: str = ""
