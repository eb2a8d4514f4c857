"""Looks for the modules that a worker's owner allows, without importing one: a supervisor runs no user code.

A wrong directory or a typing error is thus told when the program starts, not when the first trainer asks.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from typing import Any


def import_problem(module: str, paths: Sequence[str]) -> str | None:
    """Return why ``module`` cannot be imported with these entries as `sys.path`; None if nothing speaks against it.

    The sources of the module itself are compiled, not run. An import may still fail for other reasons.
    """
    if module in sys.modules:
        return None
    search: Sequence[str] | None = paths
    spec: ModuleSpec | None = None
    names = module.split(".")
    for depth in range(1, len(names) + 1):
        name = ".".join(names[:depth])
        if search is None:
            hint = "; a module's name has no .py" if names[-1] == "py" else ""
            return f"{'.'.join(names[: depth - 1])} is a module, not a package{hint}"
        spec = _find(name, search)
        if spec is None:
            return f"no module {name!r} can be found"
        search = spec.submodule_search_locations
    get_code = getattr(spec.loader if spec is not None else None, "get_code", None)
    try:
        if get_code is not None:
            get_code(module)
    except SyntaxError as error:
        return f"line {error.lineno} of {error.filename} is no Python: {error.msg}"
    except Exception:
        return None  # a loader with rules of its own: the import itself will tell
    return None


def _find(name: str, search: Sequence[str]) -> ModuleSpec | None:
    # Not importlib.util.find_spec: it imports the packages around the module. The finders include those of editable
    # installations.
    for finder in sys.meta_path:
        find_spec: Any = getattr(finder, "find_spec", None)
        found = find_spec(name, search) if find_spec is not None else None
        if isinstance(found, ModuleSpec):
            return found
    return None
