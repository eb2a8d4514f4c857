"""The names that code uses, those of globals and of attributes among them."""

from __future__ import annotations

from types import CodeType


def names_in(code: CodeType) -> dict[str, None]:
    """All names in the code and in functions defined within it, in order, each once."""
    names = dict.fromkeys(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names.update(names_in(constant))
    return names
