"""Settings: values of the user's modules and classes, compared between the trainer and its local workers.

A local worker imports modules afresh, so what the training script has set in a module is lost there, in silence: a
value, an attribute of an object, a function in another's place.

    trainer, when an epoch opens    read_settings(sequence)      name ► digest and text
    worker, after the Sequence      find_unlike(digests)         names with other values here, and these values
    worker, before that             changed_by(worker_init)      what ``worker_init`` sets is meant to be another value

Read are the modules of all classes and functions that the Sequence holds, and the modules that those import. Only the
user's: of 5 821 plain values of libraries, 20 differ between any two processes. Of libraries there is a list
(`library_settings`), and functions that the user has put into one are found. Left out are values with an underscore
and those that differ by their nature (`source_names`). `setting_texts` says what can be compared.
"""

from __future__ import annotations

import contextlib
import enum
import functools
import hashlib
import sys
import types
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from enqueuer.compute.library_settings import NAMES as LIBRARY_SETTINGS
from enqueuer.compute.library_settings import read_process_settings, read_thread_settings
from enqueuer.compute.object_walk import walk
from enqueuer.compute.setting_texts import flatten, home_of, is_users_instance
from enqueuer.compute.source_names import names_in_source
from enqueuer.compute.user_modules import SCRIPTS, is_users

# A walk through this many objects takes 2 ms.
_MOST_NODES = 2_000
_MOST_MODULES = 100
_MOST_SETTINGS = 1_000
# The most settings in one warning; the first is mostly the cause.
_MOST_TOLD = 5
_TEXT_SHOWN = 100


def read_settings(sequence: object, of_thread: Mapping[str, str]) -> dict[str, tuple[bytes, str]]:
    """Digest and text of each setting that the Sequence may read, by its name ("module:NAME", "module:Class.name").

    ``of_thread``: the libraries' settings in the trainer's own thread (`read_thread_settings`).
    """
    settings = {**of_thread, **read_process_settings()}
    # Modules may hold anything, such as a proxy that raises for every name.
    with contextlib.suppress(Exception):
        modules = _modules_of(sequence)
        # Globals of the script itself travel with its classes.
        imported = [name for name in modules if name not in SCRIPTS]
        settings |= {name: text for module in imported for name, text in _own_settings_in(module)}
        settings |= {name: text for library in _libraries_of(modules) for name, text in _planted_in(library)}
    return {name: (_digest(text), _shown(text)) for name, text in islice(settings.items(), _MOST_SETTINGS)}


def find_unlike(digests: Mapping[str, bytes]) -> tuple[tuple[str, str], ...]:
    """Names and values of the settings with another digest here, among modules already imported here."""
    try:
        return tuple(islice(_unlike(digests), _MOST_TOLD))
    except Exception:  # as in `read_settings`
        return ()


def changed_by(worker_init: Callable[[], object], names: Iterable[str]) -> frozenset[str]:
    """Call it; of the settings of these names, those that it sets in modules imported before: not to be compared."""
    before = _safely_here(names)
    imported = frozenset(sys.modules)
    worker_init()
    after = _safely_here(names)
    changed = (name for name in names if before.get(name) != after.get(name))
    return frozenset(name for name in changed if name.partition(":")[0] in imported)


def _safely_here(names: Iterable[str]) -> dict[str, str]:
    try:
        return _here(names)
    except Exception:  # as in `read_settings`
        return {}


def _here(names: Iterable[str]) -> dict[str, str]:
    """The texts of all settings here, in the modules of these names."""
    modules = {name.partition(":")[0] for name in names if name not in LIBRARY_SETTINGS}
    here = {**read_thread_settings(), **read_process_settings()}
    return here | {name: text for module in modules.intersection(sys.modules) for name, text in _values_in(module)}


def _unlike(digests: Mapping[str, bytes]) -> Iterator[tuple[str, str]]:
    here = _here(digests)
    for name, digest in digests.items():
        module, _, variable = name.partition(":")
        if module in sys.modules and (name not in here or _digest(here[name]) != digest):
            without_text = "another object" if variable in vars(sys.modules[module]) else "not set"
            yield name, _shown(here[name]) if name in here else without_text


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest()


def _shown(text: str) -> str:
    cut = text if len(text) <= _TEXT_SHOWN else f"{text[:_TEXT_SHOWN]}…"
    return cut if cut.isprintable() else ascii(cut)


# ---------------------------------------------------------------- modules


def _modules_of(sequence: object) -> list[str]:
    """The user's modules with the Sequence's classes and functions, the script too, and the modules imported there."""
    waiting = deque(dict.fromkeys(_homes_of(sequence)))
    seen: dict[str, None] = {}
    while waiting and len(seen) < _MOST_MODULES:
        name = waiting.popleft()
        if name in seen or not is_users(name):
            continue
        seen[name] = None
        for value in list(vars(sys.modules[name]).values()):
            if issubclass(type(value), types.ModuleType):
                waiting.append(value.__name__)
            elif issubclass(type(value), type | types.FunctionType) and isinstance(value.__module__, str):
                waiting.append(value.__module__)
    return list(seen)


def _libraries_of(modules: list[str]) -> list[str]:
    """The libraries' modules that those modules of the user's have among their globals.

    Not the standard library's: a script has hooks there for itself, such as `warnings.showwarning`.
    """
    named = (value for name in modules for value in list(vars(sys.modules[name]).values()))
    names = dict.fromkeys(value.__name__ for value in named if issubclass(type(value), types.ModuleType))
    return [
        name
        for name in names
        if name in sys.modules and name.partition(".")[0] not in sys.stdlib_module_names and not is_users(name)
    ]


def _homes_of(sequence: object) -> Iterator[str]:
    """The modules of all classes and functions in reach of the Sequence."""
    for node, _ in walk(sequence, _MOST_NODES):
        if issubclass(type(node), type | types.FunctionType) and isinstance(node.__module__, str):
            yield node.__module__


# ---------------------------------------------------------------- values


def _own_settings_in(module: str) -> Iterator[tuple[str, str]]:
    """What the trainer tells of a module of the user's: functions only where they are not what the source defines."""
    names = names_in_source(module)
    for name, cls, value in _variables_of(module):
        variable = name.rpartition(".")[2].rpartition(":")[2]
        home = home_of(value)
        if variable in names.varying or (is_users_instance(value) and variable not in names.made):
            continue
        if home is not None:
            is_own = home == (module, variable if cls is None else f"{cls.__qualname__}.{variable}")
            is_librarys = not is_users(home[0])
            if is_own or (is_librarys and (cls is not None or variable in names.imported)):
                continue
        yield from flatten(name, value)


def _values_in(module: str) -> Iterator[tuple[str, str]]:
    for name, _, value in _variables_of(module):
        yield from flatten(name, value)


def _planted_in(module: str) -> Iterator[tuple[str, str]]:
    """Functions and classes of the user's that took the place of a library's own."""
    for name, value in list(vars(sys.modules[module]).items()):
        home = home_of(value)
        if issubclass(type(value), functools.partial) or (home is not None and is_users(home[0])):
            yield from flatten(f"{module}:{name}", value)


def _variables_of(module: str) -> Iterator[tuple[str, type | None, object]]:
    """Variables of the module, and attributes of its classes: by what name, of which class, the value."""
    for name, value in list(vars(sys.modules[module]).items()):
        if not name.startswith("_") or home_of(value) is not None:
            yield f"{module}:{name}", None, value
        yield from _variables_of_class(module, value)


def _variables_of_class(module: str, cls: Any) -> Iterator[tuple[str, type | None, object]]:
    """Attributes of a class of this module, and of the classes in it."""
    if not issubclass(type(cls), type) or cls.__module__ != module or issubclass(cls, enum.Enum):
        return
    for attribute, content in list(vars(cls).items()):
        if not attribute.startswith("_") or home_of(content) is not None:
            yield f"{module}:{cls.__qualname__}.{attribute}", cls, content
        if home_of(content) == (module, f"{cls.__qualname__}.{attribute}"):
            yield from _variables_of_class(module, content)
