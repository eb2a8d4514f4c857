"""Makes a script's `multiprocessing` work in a worker process as it does in the script's own process.

- Classes and functions of the script are found by name: a pool over one of its functions works (`script_pools`).
- A block of shared memory outlives the worker. `multiprocessing` has one resource tracker for a program and its
  children; a worker is no such child, so a tracker of its own would remove each attached block at its end.

Most workers never import `multiprocessing`, which takes some 30 ms, so its modules are changed when they are imported.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from enqueuer.protocol.script_code import stand_in_for_main
from enqueuer.protocol.script_pools import reduce_for_pool

_BLOCK = "shared_memory"


def prepare_for_user_programs() -> None:
    """Set this worker process up. Called once, before any user code."""
    stand_in_for_main()
    on_import("multiprocessing.reduction", _pickle_script_for_pools)
    on_import("multiprocessing.shared_memory", leave_attached_blocks)


def on_import(name: str, action: Callable[[Any], object]) -> None:
    """Call the action with the module of this name, now if it is imported already, or else right after its import."""
    module = sys.modules.get(name)
    if module is not None:
        action(module)
    else:
        sys.meta_path.insert(0, _ImportAction(name, action))


class _ImportAction:
    """A finder that runs the action after the module's own code."""

    def __init__(self, name: str, action: Callable[[Any], object]) -> None:
        self._name = name
        self._action = action

    def find_spec(self, name: str, path: object = None, target: object = None) -> Any:
        if name != self._name or self not in sys.meta_path:
            return None
        # The real finders are asked next.
        sys.meta_path.remove(self)
        spec = find_spec(name)
        if spec is not None and spec.loader is not None:
            loader: Any = spec.loader
            run = loader.exec_module

            def run_and_act(module: ModuleType) -> None:
                run(module)
                self._action(module)

            loader.exec_module = run_and_act
        return spec


def _pickle_script_for_pools(reduction: Any) -> None:
    reduction.ForkingPickler.reducer_override = reduce_for_pool


class _Attaching(threading.local):
    """Whether the calling thread attaches a block."""

    block = False


def leave_attached_blocks(shared_memory: Any) -> None:
    """Keep blocks that this process attached, and did not create, out of its resource tracker.

    Python 3.13 has an argument for that, ``track``; but the calls are in the user's code.
    """
    tracker = shared_memory.resource_tracker
    attach, register, unregister = shared_memory.SharedMemory.__init__, tracker.register, tracker.unregister
    attaching = _Attaching()
    created: set[str] = set()

    def init(self: Any, name: str | None = None, create: bool = False, *args: Any, **options: Any) -> None:
        attaching.block = not create
        try:
            attach(self, name, create, *args, **options)
        finally:
            attaching.block = False

    def register_created(name: str, rtype: str) -> None:
        if rtype == _BLOCK:
            if attaching.block:
                return
            created.add(name)
        register(name, rtype)

    def unregister_created(name: str, rtype: str) -> None:
        if rtype == _BLOCK:
            if name not in created:
                return
            created.discard(name)
        unregister(name, rtype)

    shared_memory.SharedMemory.__init__ = init
    tracker.register, tracker.unregister = register_created, unregister_created
