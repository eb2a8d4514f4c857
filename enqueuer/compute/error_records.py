"""Error records: the worker records an exception as data, the trainer rebuilds it.

    worker: exception ──record_error──► ErrorRecord ──wire──► rebuild_error ──► raised by next() in the trainer

``next()`` raises the original type and arguments, as in Keras, `multiprocessing` and `concurrent.futures`. Its
``__cause__`` is a `SequenceError` with the location of the failure, and the cause of that is the user's own
``raise … from …`` chain. An original that cannot be rebuilt is replaced by the `SequenceError`.

A record is never a pickle (except with ``trust_local``), and its names resolve only to exception classes that are
already loaded: a worker must not be able to make the trainer import a module or call anything.
"""

from __future__ import annotations

import sys
import traceback
from contextlib import suppress
from types import ModuleType
from typing import Any

import cloudpickle

from enqueuer.compute.exception_state import get_cause, make_exception, set_cause, take_args, take_attributes
from enqueuer.errors import SequenceError, safe_text
from enqueuer.protocol.classes_by_value import pickle_to_return
from enqueuer.protocol.messages import ErrorRecord

# The control codec takes texts of up to 64 Ki characters and 16 causes; these stay below that.
TRACEBACK_LIMIT = 60 * 1024
NAME_LIMIT = 1024
ARGS_LIMIT_BYTES = 64 * 1024
ATTRIBUTES_LIMIT_BYTES = 64 * 1024
PICKLED_TYPE_LIMIT_BYTES = 256 * 1024
CAUSES_LIMIT = 8

# The descriptors of ``__dict__`` of a module and of a class, from the interpreter's own types.
_NAMESPACE: tuple[Any, Any] = (vars(ModuleType)["__dict__"], vars(type)["__dict__"])


def record_error(error: BaseException, *, trust_local: bool) -> ErrorRecord:
    """Record the exception as data. Every part is bounded, and faults in the exception's own methods are caught.

    ``trust_local``: the record goes to the trainer that started this process, so a class without an importable name
    (local to a function, or defined in the script) may travel as a pickle.
    """
    chain = [error]
    while len(chain) <= CAUSES_LIMIT:
        cause = get_cause(chain[-1])
        if cause is None or any(cause is seen for seen in chain):
            break
        chain.append(cause)
    record = None
    for exception in reversed(chain):
        # The traceback text of the outermost exception includes its causes.
        text = _format_traceback(error) if exception is error else ""
        record = _record_one(exception, text, record, trust_local)
    assert record is not None
    return record


def rebuild_error(
    record: ErrorRecord, *, index: int | None, epoch: int, worker: str | None, host: str | None, trust_local: bool
) -> BaseException:
    """The exception to raise in the trainer for a record. ``trust_local``: a local process of the trainer sent it."""
    location = _describe_location(index, epoch, worker, host)
    original = _rebuild_one(record, trust_local)
    failure = f"{_describe_source(index)} raised {_qualified(record)}"
    message = f"{failure} {location}" if original is not None else f"{failure}: {record.text} ({location})"
    error = SequenceError(
        message, index=index, epoch=epoch, worker=worker, host=host, remote_traceback=record.traceback
    )
    set_cause(error, _rebuild_causes(record.cause, trust_local))
    if original is None:
        return error
    if type(original) is SequenceError:
        # A batch that cannot be sent: the error lacks only the location, which the worker did not know.
        error.args = original.args
        return error
    set_cause(original, error)
    return original


def in_place_error(
    error: BaseException, *, index: int | None, epoch: int, worker: str | None, host: str | None
) -> BaseException:
    """The exception to raise for an item computed in this process: the same object, with a `SequenceError` as cause.

    Only an Exception is passed on; the `SequenceError` replaces SystemExit, KeyboardInterrupt and the like.
    """
    location = _describe_location(index, epoch, worker, host)
    name = f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")
    failure = f"{_describe_source(index)} raised {name}"
    where: dict[str, Any] = {"index": index, "epoch": epoch, "worker": worker, "host": host}
    if not isinstance(error, Exception):
        substitute = SequenceError(f"{failure}: {safe_text(error)} ({location})", **where)
        set_cause(substitute, error)
        return substitute
    cause = get_cause(error)
    if type(cause) is SequenceError and not cause.remote_traceback:
        # The same exception object was raised before: replace the explanation that it got then.
        cause = cause.__cause__
    explanation = SequenceError(f"{failure} {location}", **where)
    set_cause(explanation, None if cause is error else cause)
    set_cause(error, explanation)
    return error


# ---------------------------------------------------------------- recording


def _record_one(error: BaseException, text: str, cause: ErrorRecord | None, trust_local: bool) -> ErrorRecord:
    cls = type(error)
    return ErrorRecord(
        module=_utf8(str(cls.__module__)[:NAME_LIMIT]),
        qualname=_utf8(cls.__qualname__[:NAME_LIMIT]),
        text=safe_text(error),
        traceback=text,
        args=take_args(error, max_bytes=ARGS_LIMIT_BYTES),
        attributes=take_attributes(error, max_bytes=ATTRIBUTES_LIMIT_BYTES),
        cause=cause,
        pickled_type=_pickle_type(cls) if trust_local else None,
    )


def _pickle_type(cls: type[BaseException]) -> bytes | None:
    if cls.__module__ != "__main__" and "<locals>" not in cls.__qualname__:
        return None
    # If the class cannot be pickled, the original cannot be rebuilt; its text still arrives.
    with suppress(Exception):
        pickled = pickle_to_return(cls)
        if len(pickled) <= PICKLED_TYPE_LIMIT_BYTES:
            return pickled
    return None


def _format_traceback(error: BaseException) -> str:
    try:
        text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    except BaseException as problem:  # the worker outlives a SystemExit, too
        # format_exception runs the exception's own code: notes, SyntaxError's fields, __str__ of a cause.
        text = "".join(traceback.format_tb(error.__traceback__))
        text += f"{type(error).__qualname__} (formatting it raised {type(problem).__qualname__})\n"
    if len(text) > TRACEBACK_LIMIT:
        # Keep the end, which names the error and the innermost frames.
        text = f"… {len(text) - TRACEBACK_LIMIT} characters left out …\n{text[-TRACEBACK_LIMIT:]}"
    return _utf8(text)


def _utf8(text: str) -> str:
    """Escape lone surrogates: file names may contain them, and msgpack rejects them."""
    return text.encode(errors="backslashreplace").decode()


# ---------------------------------------------------------------- rebuilding


def _rebuild_causes(record: ErrorRecord | None, trust_local: bool) -> BaseException | None:
    if record is None:
        return None
    cause = _rebuild_one(record, trust_local) or SequenceError(f"{_qualified(record)}: {record.text}")
    set_cause(cause, _rebuild_causes(record.cause, trust_local))
    return cause


def _rebuild_one(record: ErrorRecord, trust_local: bool) -> Exception | None:
    """One exception without its cause, or None if it cannot be rebuilt."""
    if record.args is None:
        return None
    cls = _find_loaded(record.module, record.qualname)
    if cls is None and trust_local and record.pickled_type is not None:
        with suppress(Exception):
            cls = cloudpickle.loads(record.pickled_type)
    if not (isinstance(cls, type) and issubclass(cls, Exception)):
        return None
    # A class described by another process may fail in any way; the caller then raises a SequenceError with the text.
    with suppress(Exception):
        return make_exception(cls, record.args, record.attributes)
    return None


def _find_loaded(module: str, qualname: str) -> object:
    """The class of this name in a module that is already loaded; None if there is none or it bears another name.

    Reads namespaces, not attributes, because a module's ``__getattr__`` may import on demand. Reads those of modules
    and classes only, because other objects may run code on access.
    """
    found: Any = sys.modules.get(module)
    for name in qualname.split("."):
        if not issubclass(type(found), (ModuleType, type)):
            return None
        found = _NAMESPACE[issubclass(type(found), type)].__get__(found).get(name)
    if not issubclass(type(found), type) or (found.__module__, found.__qualname__) != (module, qualname):
        return None
    return found


def _qualified(record: ErrorRecord) -> str:
    return f"{record.module}.{record.qualname}".removeprefix("builtins.")


def _describe_source(index: int | None) -> str:
    return "the Sequence" if index is None else f"sequence[{index}]"


def _describe_location(index: int | None, epoch: int, worker: str | None, host: str | None) -> str:
    words = [f"in epoch {epoch}"]
    if worker is not None:
        words.append(f"on worker {worker}")
    if host is not None:
        words.append(f"at {host}")
    return " ".join(words)
