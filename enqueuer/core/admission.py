"""What newcomers are told, and why some are turned away. Changes nothing but its own list of epochs."""

from __future__ import annotations

from typing import Any

from enqueuer.core.events import EpochOpened
from enqueuer.core.settings import Settings
from enqueuer.protocol.messages import ACCEPTED_VERSIONS, Epoch, Hello, Ready, Role, Welcome

# The current epoch and the one that is computed ahead.
_EPOCHS_KEPT = 2


class Admission:
    """The epochs that workers must know of, and what a worker must be to serve them."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._channels = {channel.name: channel for channel in settings.channels}
        self._announced: dict[int, EpochOpened] = {}

    @property
    def newest(self) -> EpochOpened | None:
        return self._announced[max(self._announced)] if self._announced else None

    def is_local(self, channel: str) -> bool:
        return self._channels[channel].local

    def announce(self, opened: EpochOpened) -> bool:
        """Remember the epoch; True if workers need a new Welcome for it."""
        previous = self.newest
        self._announced[opened.epoch] = opened
        for epoch in sorted(self._announced)[:-_EPOCHS_KEPT]:
            del self._announced[epoch]
        return previous is None or (previous.sequence, previous.options) != (opened.sequence, opened.options)

    # ------------------------------------------------------------ messages

    def welcome(self, channel: str, received_seq: int, opened: EpochOpened | None) -> Welcome:
        settings = self._settings
        # Without an epoch it is for a supervisor.
        options: dict[str, Any] = dict(opened.options) if opened else {"batch_timeout": settings.batch_timeout}
        where = self._channels[channel]
        if opened and where.shared_memory:
            options["shared_memory"] = list(where.shared_memory)
        if opened and where.compression:
            options["compression"] = where.compression
        return Welcome(
            where.data_endpoint,
            settings.heartbeat_interval,
            settings.coordinator_timeout,
            received_seq,
            opened.sequence if opened else None,
            options,
        )

    def epochs(self, channel: str) -> list[Epoch]:
        return [self.epoch_message(channel, opened) for _, opened in sorted(self._announced.items())]

    def epoch_message(self, channel: str, opened: EpochOpened) -> Epoch:
        elsewhere = opened.remote_state is not None and not self.is_local(channel)
        state = opened.remote_state if elsewhere else opened.state
        return Epoch(opened.epoch, opened.generation, opened.seed, state)

    def is_heavy(self, channel: str) -> bool:
        """Whether an Epoch has a whole Sequence in it, for a worker that shares no memory with the trainer."""
        return not self.is_local(channel) and self.newest is not None and self.newest.sequence is None

    # ------------------------------------------------------------ reasons to refuse, '' for none

    def refusal_of_hello(self, hello: Hello) -> str:
        if hello.protocol not in ACCEPTED_VERSIONS:
            spoken = ", ".join(map(str, sorted(ACCEPTED_VERSIONS)))
            return f"it speaks protocol version {hello.protocol}, this trainer speaks {spoken}"
        trainers = self._settings.numpy_version
        if hello.role is Role.WORKER and _major(hello.numpy_version) != _major(trainers):
            return (
                f"it has NumPy {hello.numpy_version} and the trainer {trainers}; "
                "install the same major version on both, or batches may differ"
            )
        return ""

    def refusal_of_channel(self, channel: str, opened: EpochOpened) -> str:
        if opened.sequence is None and opened.remote_state is None and not self.is_local(channel):
            return opened.remote_refusal or (
                "the trainer's Sequence is a live object, which without keys only its own local processes get; "
                'pass SequenceSpec("package.module:callable", ...) to SequenceEnqueuer for remote workers'
            )
        return ""

    def refusal_of_ready(self, ready: Ready) -> str | None:
        """None if what it is ready for is not wanted any more."""
        opened = self._announced.get(ready.epoch)
        if opened is None or opened.generation != ready.generation:
            return None
        if ready.length != opened.length:
            return (
                f"its Sequence has {ready.length} batches and the trainer's has {opened.length}; "
                "both must be built from the same code, arguments and data"
            )
        if opened.digest and ready.digest and ready.digest != opened.digest:
            return (
                f"its Sequence's code has digest {ready.digest.hex()[:12]} and the trainer's "
                f"{opened.digest.hex()[:12]}; install the same code on both, or start the worker with --allow-skew"
            )
        return ""


def _major(version: str) -> str:
    return version.partition(".")[0]
