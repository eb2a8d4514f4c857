"""An exception on its way from a worker to the trainer: recorded there as data, rebuilt here as what was raised.

What comes out of ``next()`` has the original's type and arguments, as in Keras, `multiprocessing` and
`concurrent.futures`; its ``__cause__`` is a `SequenceError` that says where it happened; the user's own
``raise … from …`` chain is the cause of that one. The `SequenceError` stands for an original that cannot be rebuilt.

A record is never a pickle (but see ``trust_local``), and names lead only to exception classes that are already loaded:
a worker must not be able to have the trainer import a module or call anything.
"""

from __future__ import annotations

import sys
import traceback
from contextlib import suppress
from types import ModuleType
from typing import Any

import cloudpickle

from enqueuer.compute.exception_state import get_cause, make_exception, set_cause, take_args, take_attributes
from enqueuer.errors import SequenceError
from enqueuer.protocol.messages import ErrorRecord

# The control codec takes texts of up to 64 Ki characters and 16 causes; these stay below that.
TRACEBACK_LIMIT = 60 * 1024
TEXT_LIMIT = 8 * 1024
NAME_LIMIT = 1024
ARGS_LIMIT_BYTES = 64 * 1024
ATTRIBUTES_LIMIT_BYTES = 64 * 1024
PICKLED_TYPE_LIMIT_BYTES = 256 * 1024
CAUSES_LIMIT = 8

# Of a module and of a class, as the interpreter's own classes have them.
_NAMESPACE: tuple[Any, Any] = (vars(ModuleType)["__dict__"], vars(type)["__dict__"])


def record_error(error: BaseException, *, trust_local: bool) -> ErrorRecord:
    """The exception as data, bounded in every part, whatever its own methods do.

    ``trust_local``: the record goes to the trainer that started this process, so a class that cannot be found by name
    (local to a function, or the script's own) may travel as a pickle.
    """
    chain = [error]
    while len(chain) <= CAUSES_LIMIT:
        cause = get_cause(chain[-1])
        if cause is None or any(cause is seen for seen in chain):
            break
        chain.append(cause)
    record = None
    for link in reversed(chain):
        # The outermost one's traceback text shows the others' too.
        text = _format_traceback(error) if link is error else ""
        record = _record_link(link, text, record, trust_local)
    assert record is not None
    return record


def rebuild_error(
    record: ErrorRecord, *, index: int | None, epoch: int, worker: str | None, host: str | None, trust_local: bool
) -> BaseException:
    """What to raise in the trainer for a record. ``trust_local``: it came from a process of the trainer's own."""
    place = _describe_place(index, epoch, worker, host)
    original = _rebuild_link(record, trust_local)
    what = f"{_describe_source(index)} raised {_qualified(record)}"
    message = f"{what} {place}" if original is not None else f"{what}: {record.text} ({place})"
    error = SequenceError(
        message, index=index, epoch=epoch, worker=worker, host=host, remote_traceback=record.traceback
    )
    set_cause(error, _rebuild_causes(record.cause, trust_local))
    if original is None:
        return error
    if type(original) is SequenceError:
        # A batch that cannot be carried: it lacks only the place, which the worker did not know.
        error.args = original.args
        return error
    set_cause(original, error)
    return original


def in_place_error(
    error: BaseException, *, index: int | None, epoch: int, worker: str | None, host: str | None
) -> BaseException:
    """What to raise for an exception of this very process: itself, with its traceback and a `SequenceError` as cause.

    Only an Exception is passed on; SystemExit, KeyboardInterrupt and their like become the `SequenceError`.
    """
    place = _describe_place(index, epoch, worker, host)
    name = f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")
    what = f"{_describe_source(index)} raised {name}"
    where: dict[str, Any] = {"index": index, "epoch": epoch, "worker": worker, "host": host}
    if not isinstance(error, Exception):
        stand_in = SequenceError(f"{what}: {_safe_text(error)} ({place})", **where)
        set_cause(stand_in, error)
        return stand_in
    cause = get_cause(error)
    if type(cause) is SequenceError and not cause.remote_traceback:
        # The same exception object raised once more: this takes the place of what was said the last time.
        cause = cause.__cause__
    explanation = SequenceError(f"{what} {place}", **where)
    set_cause(explanation, None if cause is error else cause)
    set_cause(error, explanation)
    return error


# ---------------------------------------------------------------- recording


def _record_link(error: BaseException, text: str, cause: ErrorRecord | None, trust_local: bool) -> ErrorRecord:
    cls = type(error)
    return ErrorRecord(
        module=_utf8(str(cls.__module__)[:NAME_LIMIT]),
        qualname=_utf8(cls.__qualname__[:NAME_LIMIT]),
        text=_safe_text(error),
        traceback=text,
        args=take_args(error, max_bytes=ARGS_LIMIT_BYTES),
        attributes=take_attributes(error, max_bytes=ATTRIBUTES_LIMIT_BYTES),
        cause=cause,
        pickled_type=_pickle_type(cls) if trust_local else None,
    )


def _pickle_type(cls: type[BaseException]) -> bytes | None:
    if cls.__module__ != "__main__" and "<locals>" not in cls.__qualname__:
        return None
    # A class whose namespace cannot be pickled is one more that cannot be rebuilt; its text still arrives.
    with suppress(Exception):
        pickled: bytes = cloudpickle.dumps(cls)
        if len(pickled) <= PICKLED_TYPE_LIMIT_BYTES:
            return pickled
    return None


def _format_traceback(error: BaseException) -> str:
    try:
        text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    except Exception as problem:
        # The exception's own code runs in there: notes, SyntaxError's fields, __str__ of a cause.
        text = "".join(traceback.format_tb(error.__traceback__))
        text += f"{type(error).__qualname__} (formatting it raised {type(problem).__qualname__})\n"
    if len(text) > TRACEBACK_LIMIT:
        # The end says what went wrong; the beginning is how Python got there.
        text = f"… {len(text) - TRACEBACK_LIMIT} characters left out …\n{text[-TRACEBACK_LIMIT:]}"
    return _utf8(text)


def _safe_text(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception as problem:
        text = f"(its __str__ raised {type(problem).__qualname__})"
    return _utf8(text if len(text) <= TEXT_LIMIT else f"{text[:TEXT_LIMIT]} …")


def _utf8(text: str) -> str:
    """Without lone surrogates, which file names can bring in and msgpack refuses."""
    return text.encode(errors="backslashreplace").decode()


# ---------------------------------------------------------------- rebuilding


def _rebuild_causes(record: ErrorRecord | None, trust_local: bool) -> BaseException | None:
    if record is None:
        return None
    cause = _rebuild_link(record, trust_local) or SequenceError(f"{_qualified(record)}: {record.text}")
    set_cause(cause, _rebuild_causes(record.cause, trust_local))
    return cause


def _rebuild_link(record: ErrorRecord, trust_local: bool) -> Exception | None:
    """One exception without its cause, or None if it cannot be had as it was."""
    if record.args is None:
        return None
    cls = _find_loaded(record.module, record.qualname)
    if cls is None and trust_local and record.pickled_type is not None:
        with suppress(Exception):
            cls = cloudpickle.loads(record.pickled_type)
    if not (isinstance(cls, type) and issubclass(cls, Exception)):
        return None
    # Anything may be wrong with a class that another process describes; the caller then says it in words.
    with suppress(Exception):
        return make_exception(cls, record.args, record.attributes)
    return None


def _find_loaded(module: str, qualname: str) -> object:
    """What is known by this name in a module that is already loaded, if it calls itself the same; else None.

    Reads namespaces instead of attributes, since a module's ``__getattr__`` may import on demand; of modules and
    classes alone, since what else a module holds may run code when it is looked at.
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


def _describe_place(index: int | None, epoch: int, worker: str | None, host: str | None) -> str:
    words = [f"in epoch {epoch}"]
    if worker is not None:
        words.append(f"on worker {worker}")
    if host is not None:
        words.append(f"at {host}")
    return " ".join(words)
