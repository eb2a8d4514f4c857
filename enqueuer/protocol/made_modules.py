"""Modules that a fresh interpreter does not find: their classes and functions travel by value, as those of a script.

    sys.modules["made"] = types.ModuleType("made")          it has no file
    spec_from_file_location("other_name", "plugins/a.py")   a file of another name, or within no package
    a finder of the program's own in sys.meta_path          workers have it not
    runpy.run_path("part.py", run_name="part")              a module for that moment

A module in a folder that has left `sys.path` is none of these: local workers get the folders of all modules.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterable
from pathlib import PurePath
from types import FunctionType, ModuleType
from typing import Any

import cloudpickle

_FOLDERS = frozenset({"site-packages", "dist-packages"})
# The names of modules that have been judged.
_judged: set[str] = set()


def send_made_modules_by_value() -> None:
    """Register the modules with cloudpickle: whatever loads its pickles would not find them either."""
    for name in sys.modules.keys() - _judged:
        _judged.add(name)
        module = sys.modules.get(name)
        if type(module) is not ModuleType or module.__name__ != name or _is_installed(name.partition(".")[0]):
            continue
        if not _is_found(module) and _is_python(module):
            cloudpickle.register_pickle_by_value(module)


@functools.cache
def _is_installed(name: str) -> bool:
    """Whether the top-level module is the standard library's or an installed one, and so all within it."""
    origin = getattr(getattr(sys.modules.get(name), "__spec__", None), "origin", None) or ""
    return name in sys.stdlib_module_names or not _FOLDERS.isdisjoint(PurePath(origin).parts)


def _is_python(module: ModuleType) -> bool:
    """Whether anything in it is written in Python: extensions make modules of their own."""
    values = list(vars(module).values())
    values += [method for value in values if isinstance(value, type) for method in vars(value).values()]
    return any(isinstance(value, FunctionType) and value.__module__ == module.__name__ for value in values)


def _is_found(module: ModuleType) -> bool:
    name, spec = module.__name__, getattr(module, "__spec__", None)
    parent, _, last = name.rpartition(".")
    if name in ("__main__", "__mp_main__") or _is_installed(name):
        return True
    if spec is None or not (spec.has_location or spec.submodule_search_locations is not None):
        # Importing a package may make modules within it, such as those of extensions.
        return bool(parent) and parent in sys.modules and _is_found(sys.modules[parent])
    if spec.submodule_search_locations is not None and not spec.has_location:
        return True  # a namespace
    path = PurePath(spec.origin)
    stem = path.parent.name if path.name.startswith("__init__.") else path.name.partition(".")[0]
    folder = path.parents[1] if path.name.startswith("__init__.") else path.parent
    folders = getattr(sys.modules.get(parent), "__path__", ()) if parent else [str(folder)]
    if stem == last and str(folder) in map(str, folders):
        return not parent or _is_found(sys.modules[parent])
    return any(_is_in_every_process(finder) and _finds(finder, spec, folders) for finder in sys.meta_path)


def _is_in_every_process(finder: Any) -> bool:
    module = finder.__module__ if isinstance(finder, type) else type(finder).__module__
    return module.startswith("_frozen_importlib") or "editable" in module


def _finds(finder: Any, spec: Any, folders: Iterable[str]) -> bool:
    try:
        found = finder.find_spec(spec.name, list(folders) if "." in spec.name else None)
    except Exception:
        return False
    return found is not None and found.origin == spec.origin
