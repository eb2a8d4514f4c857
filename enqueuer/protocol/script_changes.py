"""What a ``worker_init`` sets in the script: globals, attributes of classes, and content of both.

A function's pickle has the trainer's values of the globals that the function names, and a class's those of its
attributes. The Sequence is unpickled after ``worker_init`` has run, and perhaps again for each epoch. So what
``worker_init`` has changed is noted, and set again after each unpickling.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

from enqueuer.protocol.object_pickler import pickle_small
from enqueuer.protocol.script_code import MainStandIn
from enqueuer.protocol.script_globals import DEFINITIONS

# A class or None for the script's globals, a name, and the value.
_Value = tuple[type | None, str, Any]


class ScriptChanges:
    """The changes that ``worker_init`` made in this process."""

    def __init__(self) -> None:
        self._changed: list[_Value] = []

    def note(self, worker_init: Callable[[], object]) -> None:
        """Call it, and note what it changes."""
        before = {(id(owner), name): (value, _content(value)) for owner, name, value in _values()}
        worker_init()
        for owner, name, value in _values():
            found = before.get((id(owner), name))
            if found is None or found[0] is not value or found[1] != _content(value):
                self._changed.append((owner, name, value))

    def restore(self) -> None:
        """Set what has been changed again."""
        for owner, name, value in self._changed:
            if owner is None:
                _globals()[name] = value
            else:
                setattr(owner, name, value)


def _globals() -> dict[str, Any]:
    main = sys.modules["__main__"]
    return vars(main) if isinstance(main, MainStandIn) else {}


def _values() -> Iterator[_Value]:
    for name, value in list(_globals().items()):
        yield None, name, value
        if isinstance(value, type) and value.__module__ == "__main__":
            yield from ((value, key, content) for key, content in list(vars(value).items()) if key[:2] != "__")


def _content(value: Any) -> bytes | None:
    return None if isinstance(value, (*DEFINITIONS, classmethod, staticmethod, property)) else pickle_small(value)
