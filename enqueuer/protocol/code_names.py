"""The names that code uses, those of globals and of attributes among them."""

from __future__ import annotations

import dis
from types import CodeType

_GLOBAL_LOADS = frozenset({"LOAD_GLOBAL", "LOAD_NAME"})


def names_in(code: CodeType) -> dict[str, None]:
    """All names in the code and in functions defined within it, in order, each once."""
    names = dict.fromkeys(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names.update(names_in(constant))
    return names


def globals_in(code: CodeType) -> set[str]:
    """The names of globals and built-ins alone. Reading the instructions takes some ten times as long as `names_in`."""
    names = {step.argval for step in dis.get_instructions(code) if step.opname in _GLOBAL_LOADS}
    return names.union(*(globals_in(constant) for constant in code.co_consts if isinstance(constant, CodeType)))
