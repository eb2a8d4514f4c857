"""Classes and functions that travel by value: their source lines, and their names in the worker's ``__main__``.

    trainer:  code object ──► real file name + the file's text (once a file) ──► `linecache` of the worker
              attribute of ``__main__`` ──► the same attribute of the worker's stand-in for ``__main__``

cloudpickle gives code the file name ``<dynamic-code>``. With the real name and the text, tracebacks and warnings look
as for a module, also for a notebook's cell, which is no file, and on a host without the file. The texts are only shown;
nothing in them is run.

In a worker process ``__main__`` is the worker program. A pool started by ``__getitem__`` pickles functions of the
script by their names in ``__main__``. So these functions are put into a module of that name; forked children have it,
too, and `script_pools` serves other children.
"""

from __future__ import annotations

import linecache
import sys
import threading
import types
from collections.abc import Callable
from functools import partial
from typing import Any

import cloudpickle

# A longer file travels as its name only; so do all files after these many, or these many characters in one pickle.
FILE_LIMIT_CHARS = 256 * 1024
FILES_LIMIT_CHARS = 1024 * 1024
FILES_LIMIT_COUNT = 64
_MAIN = "__main__"


# ---------------------------------------------------------------- trainer: source lines


class SourceFile:
    """The name and text of one file. It unpickles to its name, after its text was given to `linecache`."""

    __slots__ = ("name", "text")

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.text = text

    def __reduce__(self) -> tuple[Any, ...]:
        return add_source, (self.name, self.text)


class SourceFiles:
    """The files of one pickle's code."""

    def __init__(self) -> None:
        self._files: dict[str, SourceFile] = {}
        self._left_chars = FILES_LIMIT_CHARS

    def of(self, name: str) -> SourceFile:
        """The file of this name: one object for all code in it, so a pickle holds it once."""
        file = self._files.get(name)
        if file is None:
            text = _read_source(name) if len(self._files) < FILES_LIMIT_COUNT else ""
            if len(text) > min(self._left_chars, FILE_LIMIT_CHARS):
                text = ""
            self._left_chars -= len(text)
            file = self._files[name] = SourceFile(name, text)
        return file


# The texts as they were when first sent: an edited file must not make the Sequence look changed.
_first_texts: dict[str, str] = {}


def _read_source(name: str) -> str:
    text = _first_texts.get(name)
    if text is None:
        text = "".join(linecache.getlines(name))
        while len(_first_texts) >= FILES_LIMIT_COUNT:
            _first_texts.pop(next(iter(_first_texts)))
        _first_texts[name] = text
    return text


def with_source(reduced: tuple[Any, ...], name: str, files: SourceFiles) -> tuple[Any, ...]:
    """cloudpickle's reduction of a code object from this file, with its real file name: the first text among them."""
    make, args, *rest = reduced
    place = next(place for place, arg in enumerate(args) if isinstance(arg, str))
    return (make, (*args[:place], files.of(name), *args[place + 1 :]), *rest)


# ---------------------------------------------------------------- worker: source lines

_lock = threading.Lock()
# The files in `linecache` that came from the trainer, oldest first, and their lengths.
_added: dict[str, int] = {}


def add_source(name: str, text: str) -> str:
    """Show ``text`` as the file's lines in tracebacks of this process; returns the name.

    Bounded in size: the oldest texts are dropped.
    """
    if not text or len(text) > FILE_LIMIT_CHARS:
        return name
    with _lock:
        _added.pop(name, None)
        _added[name] = len(text)
        # Without a time of change, `linecache.checkcache` does not look for a file of this name here.
        linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
        while len(_added) > FILES_LIMIT_COUNT or sum(_added.values()) > FILES_LIMIT_CHARS:
            oldest = next(iter(_added))
            del _added[oldest]
            linecache.cache.pop(oldest, None)
    return name


# ---------------------------------------------------------------- names in ``__main__``


def with_name(reduced: tuple[Any, ...], value: Any) -> tuple[Any, ...]:
    """cloudpickle's reduction of a class or function; one with a name in ``__main__`` gets that name again.

    So does a class within a class or function, by its qualified name.
    """
    has_name = isinstance(value, type) if "." in value.__qualname__ else is_of_main(value)
    if len(reduced) == 6 and reduced[5] is not None and has_name:
        return (*reduced[:5], named_setter(reduced[5], value))
    return reduced


def is_of_main(value: Any) -> bool:
    """Whether ``__main__`` has the object under its own name."""
    name = getattr(value, "__qualname__", None)
    if getattr(value, "__module__", None) != _MAIN or not isinstance(name, str):
        return False
    found: Any = sys.modules[_MAIN]
    for part in name.split("."):
        found = vars(found).get(part) if isinstance(found, (type, types.ModuleType)) else None
    return found is value


def can_be_imported(value: Any) -> bool:
    """Whether workers find the class or function by its module and name."""
    name = getattr(value, "__module__", None)
    if name == _MAIN or any(_is_within(name, module) for module in cloudpickle.list_registry_pickle_by_value()):
        return False
    found: Any = sys.modules.get(name or "")
    for part in getattr(value, "__qualname__", "").split("."):
        found = getattr(found, part, None)
    return found is value


def _is_within(name: str | None, module: str) -> bool:
    return name is not None and (name == module or name.startswith(f"{module}."))


_named_setters: dict[tuple[Callable[..., Any], str], Callable[..., Any]] = {}


def named_setter(setter: Callable[[Any, Any], Any], value: Any) -> Callable[[Any, Any], Any]:
    """The state setter, and after it the value's name; always the same object, so that pickles can be compared."""
    key = setter, value.__qualname__
    return _named_setters.setdefault(key, partial(_set_and_name, *key))


def _set_and_name(setter: Callable[[Any, Any], Any], name: str, value: Any, state: Any) -> None:
    setter(value, state)
    # cloudpickle forgets in which class a class is.
    value.__qualname__ = name
    main = sys.modules.get(_MAIN)
    if isinstance(main, MainStandIn) and "." not in name:
        setattr(main, name, value)


class MainStandIn(types.ModuleType):
    """Stands for the script in a process that does not run it.

    Its names are the globals of all functions of the script in this process, whichever pickle they came with. Only the
    script's ``__file__`` is no attribute: `multiprocessing` would run that file in each child.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._globals: dict[str, Any] = {"__name__": name}
        # Makes values that no function has named when they are asked for.
        self._late: dict[str, Callable[[], Any]] = {}

    @property
    def __dict__(self) -> dict[str, Any]:  # type: ignore[override]
        return self._globals

    def __getattr__(self, name: str) -> Any:
        is_special = name.startswith("__") and name.endswith("__")
        if name in self._globals and not is_special:
            return self._globals[name]
        make = None if is_special else self._late.pop(name, None)
        if make is None:
            raise AttributeError(f"{self!r} has no attribute {name!r}")
        value = make()
        return self._globals.setdefault(name, value)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("_globals", "_late"):
            super().__setattr__(name, value)
        else:
            self._globals[name] = value

    def __delattr__(self, name: str) -> None:
        self._globals.pop(name, None)

    def __repr__(self) -> str:
        # Unpickling shows this, and not the text of an AttributeError.
        return (
            f"module {self.__name__!r} in a worker process, which does not run the script (move what is "
            "looked up there to a module that the script imports)"
        )


def stand_in_for_main() -> None:
    """Make ``__main__`` a module for the script's names. The worker program keeps its own under another name."""
    program = sys.modules[_MAIN]
    if not isinstance(program, MainStandIn):
        sys.modules["__enqueuer_worker__"] = program
        sys.modules[_MAIN] = MainStandIn(_MAIN)
