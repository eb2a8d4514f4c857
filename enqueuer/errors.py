"""The errors of this library. The type tells the blame.

EnqueuerError
├── SequenceError            the user's Sequence failed; also the ``__cause__`` of a rebuilt original
│   ├── PoisonedBatchError   computing a batch killed several workers
│   └── BatchTimeoutError    a batch took longer than ``batch_timeout``
├── NoWorkersError           the fleet: no worker can compute
├── StateError               the caller: a resume state does not fit
├── AuthenticationError      the trainer asks for something that the worker's owner did not allow
├── ProtocolError            a peer: its bytes break the wire contract
└── ConfigurationError       the caller: an option is impossible (also a ValueError)
"""

from __future__ import annotations


def with_article(name: str) -> str:
    """A type's name as a sentence has it: "an int", "a list"."""
    return f"{'an' if name.lstrip('_')[:1].lower() in ('a', 'e', 'i', 'o') else 'a'} {name}"


# A worker's message takes texts of up to 64 Ki characters; this is far below.
TEXT_LIMIT = 8 * 1024


def safe_text(error: BaseException) -> str:
    """The text of a user's exception, bounded in length.

    Its ``__str__`` may raise anything, or return a str of a class of its own. Lone surrogates are escaped: file names
    may contain them, and msgpack rejects them.
    """
    try:
        text = str.__str__(str(error))
    except BaseException as problem:
        text = f"(its __str__ raised {type(problem).__qualname__})"
    text = text if len(text) <= TEXT_LIMIT else f"{text[:TEXT_LIMIT]} …"
    return text.encode(errors="backslashreplace").decode()


class EnqueuerError(Exception):
    """The root of all errors of this library."""


class SequenceError(EnqueuerError):
    """A batch could not be computed, sent or rebuilt. To blame: the user's Sequence.

    ``next()`` raises it in the batch's place in the order, and stops the enqueuer, which can be started again. If the
    exception of ``__getitem__`` can be rebuilt in the trainer, ``next()`` raises that one with this error as its
    ``__cause__``. To mend it, fix the Sequence, or set ``retries`` or ``on_error="skip"``.

    Attributes:
        index: The batch's index; None if it is not known, or if the Sequence could not be built.
        epoch: The batch's epoch; None if it is not known.
        worker: The name of the worker; None if it is not known.
        host: The name of the worker's host; None if it is not known.
        remote_traceback: The text of the traceback on the worker, '' if there is none.
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
    """Computing one batch killed ``max_worker_deaths`` workers. To blame: the user's Sequence, or too little memory.

    ``next()`` raises it in the batch's place; the batch is not tried again. The text has the signal or exit code that
    ended each of the workers: SIGSEGV is a crash of native code, SIGKILL is mostly a lack of memory.
    """


class BatchTimeoutError(SequenceError):
    """One batch took longer than ``batch_timeout`` on every worker that tried it. To blame: the user's Sequence.

    ``next()`` raises it in the batch's place; the batch is not tried again. ``remote_traceback`` is the stack of the
    last worker when its time was over. To mend it, remove the cause of the hang; if the batch is only slow, raise
    ``batch_timeout``.
    """


class NoWorkersError(EnqueuerError):
    """No worker is there to compute, and none is expected. To blame: the fleet.

    ``next()`` raises it after ``no_worker_timeout``, or when the local workers cannot serve or die whenever they are
    started; ``wait_for_workers()`` raises it for more workers than can ever come. To mend it, start workers, or follow
    the reason in the text.
    """


class StateError(EnqueuerError):
    """A resume state does not fit this enqueuer. To blame: the caller.

    ``load_state_dict()``, ``state_dict()`` and ``start()`` raise it, and ``next()`` if a difference shows only then.
    The text names the difference between the state and the enqueuer. To mend it, use the options, the Sequence and the
    ranks of the run that saved the state.
    """


class AuthenticationError(EnqueuerError):
    """A trainer asks a worker for something that the worker's owner did not allow. To blame: the worker's options.

    The worker raises it and refuses the Sequence; the trainer's log names the option that would allow it
    (``--sequence``, ``--allow`` or ``--allow-pickle``). To mend it, start the worker with that option.
    """


class ProtocolError(EnqueuerError):
    """A peer sent bytes that break the wire contract. To blame: the peer.

    It never reaches the training loop: the message is dropped, logged and counted (``stats().malformed_count``). To
    mend it, run the same version of the library on both sides. If it stays, another program connects to the port.
    """


class ConfigurationError(EnqueuerError, ValueError):
    """An option, or a combination of options, is impossible. To blame: the caller.

    Constructors, ``start()`` and the commands raise it. The text says what to change.
    """
