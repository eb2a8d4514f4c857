"""Settings of an interpreter that neither its flags nor its environment carry: a local worker has its trainer's.

sys.argv                       modules that parse it when they are imported
recursion limit, digits        what one item may recurse, and the length of an int's text
start method of multiprocessing  for pools that an item starts
timeout of new sockets         for downloads of an item
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

OnImport = Callable[[str, Callable[[Any], object]], object]


def describe_settings() -> str:
    """This process's settings as JSON, for `take_over`."""
    context = sys.modules.get("multiprocessing.context")
    sockets = sys.modules.get("socket")
    return json.dumps(
        {
            # A program may have put paths or numbers there.
            "argv": [str(argument) for argument in getattr(sys, "argv", [""])],
            "recursion_limit": sys.getrecursionlimit(),
            "int_digits": sys.get_int_max_str_digits() if hasattr(sys, "get_int_max_str_digits") else None,
            "start_method": None if context is None else context._default_context.get_start_method(allow_none=True),
            "socket_timeout": None if sockets is None else sockets.getdefaulttimeout(),
        }
    )


def take_over(description: str, on_import: OnImport) -> None:
    """Use the settings of the trainer. ``on_import(name, action)`` calls the action with a module once it is there."""
    settings = json.loads(description)
    sys.argv[:] = settings["argv"]
    sys.setrecursionlimit(max(settings["recursion_limit"], sys.getrecursionlimit()))
    if settings["int_digits"] is not None:
        sys.set_int_max_str_digits(settings["int_digits"])
    if settings["start_method"] is not None:
        on_import("multiprocessing.context", lambda context: _prefer(context, settings["start_method"]))
    if settings["socket_timeout"] is not None:
        on_import("socket", lambda socket: socket.setdefaulttimeout(settings["socket_timeout"]))


def _prefer(context: Any, start_method: str) -> None:
    # As the default, so that a module of the user's can still set the method, once, as it did in the trainer.
    default = context._default_context
    default._default_context = default.get_context(start_method)
