"""Every error this library raises. Blame is in the type.

EnqueuerError
├── SequenceError            the user's Sequence failed; also the ``__cause__`` of a rebuilt original
│   ├── PoisonedBatchError   computing it killed several workers
│   └── BatchTimeoutError    it took longer than ``batch_timeout``
├── NoWorkersError           the fleet's: nobody is there to compute
├── StateError               a resume state that does not fit
├── AuthenticationError      a key or secret that does not fit
├── ProtocolError            a peer's: bytes that are not what the wire contract says
└── ConfigurationError       the caller's: an option that cannot be (also a ValueError)
"""

from __future__ import annotations


class EnqueuerError(Exception):
    """The root of all errors of this library."""


class SequenceError(EnqueuerError):
    """A batch could not be computed or carried.

    ``index``, ``epoch``, ``worker`` and ``host`` say which and where (None when unknown);
    ``remote_traceback`` is the text of the traceback on the worker, '' when there is none.
    """

    def __init__(
        self,
        message: str,
        *,
        index: int | None = None,
        epoch: int | None = None,
        worker: str | None = None,
        host: str | None = None,
        remote_traceback: str = "",
    ) -> None:
        super().__init__(message)
        self.index = index
        self.epoch = epoch
        self.worker = worker
        self.host = host
        self.remote_traceback = remote_traceback

    def __str__(self) -> str:
        text = str(self.args[0]) if self.args else ""
        return f"{text}\n\n{self.remote_traceback}" if self.remote_traceback else text


class PoisonedBatchError(SequenceError):
    """Computing this batch killed ``max_worker_deaths`` workers; it is not tried again."""


class BatchTimeoutError(SequenceError):
    """This batch took longer than ``batch_timeout`` on every worker that tried it."""


class NoWorkersError(EnqueuerError):
    """No worker is there to compute, and none is expected to come."""


class StateError(EnqueuerError):
    """A resume state does not fit this enqueuer; the text names the difference."""


class AuthenticationError(EnqueuerError):
    """A peer's key or secret does not fit, or it asks for what the owner of this side did not allow."""


class ProtocolError(EnqueuerError):
    """A peer sent bytes that break the wire contract. The message is dropped; nothing else happens."""


class ConfigurationError(EnqueuerError, ValueError):
    """An option, or a combination of options, that cannot be; the text says what to do."""
