"""Starts a module of ours in a fresh interpreter, which finds our files and nothing in their way.

    sys.path of the new process:   [PYTHONPATH of the environment] · standard library · our roots · site-packages

Our roots are the folders of this library, of the worker program and of what both need, as this process has imported
them. They come behind the standard library: the folder may also hold a back-port named like one of its modules. They
come before site-packages, which may hold another version of this library. The current directory is no part of it, also
where PYTHONPATH has it ("" or "."): a ``json.py`` there must not be ours. User code gets the whole `sys.path` of the
trainer later (`process.limits`).

The flags of this interpreter (``-O``, ``-W``, ``-X`` …) are passed on, as `multiprocessing` does.

The garbage collector rests while modules are imported: it would walk through all of them again and again, and find
nothing (a tenth of the processor time of a worker's start).
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

from enqueuer.errors import ConfigurationError

_NEEDED = ("enqueuer", "enqueuer_worker", "numpy", "zmq", "msgpack", "msgpack_numpy", "cloudpickle")

_START = """\
import gc, os, sys
gc.disable()
roots, library = {roots!r}, os.path.dirname(os.__file__)
sys.path[:1] = sys.path[:1] if sys.path[0] else []
for entry in [] if sys.flags.ignore_environment else filter(None, [os.environ.get('PYTHONPATH')]):
    for folder in entry.split(os.pathsep):
        if not os.path.isabs(folder) and os.path.abspath(folder) in sys.path:
            sys.path.remove(os.path.abspath(folder))
behind = 1 + max(i for i, entry in enumerate(sys.path) if entry == library or entry.endswith('lib-dynload'))
sys.path[behind:behind] = [root for root in roots if root != library]
from {module} import main
gc.enable()
main()
"""


def interpreter_command(module: str) -> list[str]:
    """The command that calls ``main()`` of this module in a fresh interpreter. Raises ConfigurationError if it cannot.

    `multiprocessing.set_executable` is honoured: an embedded interpreter does not know its program.
    """
    flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    if sys.version_info >= (3, 11) and "-P" not in flags:
        flags = ["-P", *flags]
    return [_find_interpreter(), *flags, "-c", _START.format(roots=_find_roots(), module=module)]


def _find_interpreter() -> str:
    # While nothing has imported it, nothing has set an executable there.
    spawn = sys.modules.get("multiprocessing.spawn")
    found = sys.executable if spawn is None else spawn.get_executable()
    executable = os.fsdecode(found) if found else ""
    if not executable:
        raise ConfigurationError(
            "there is no Python interpreter to start workers with: sys.executable is empty, as it is in an embedded "
            "interpreter; call multiprocessing.set_executable('/path/to/python') before start()"
        )
    if not Path(executable).is_file() or not os.access(executable, os.X_OK):
        raise ConfigurationError(
            f"the interpreter to start workers with, {executable!r}, is no program that can be run; name another by "
            "multiprocessing.set_executable('/path/to/python') before start()"
        )
    return executable


def _find_roots() -> list[str]:
    roots = []
    for name in _NEEDED:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            raise ConfigurationError(f"{name!r} is not installed beside this library; reinstall enqueuer with pip")
        origin = Path(spec.origin)
        roots.append(str(origin.parents[1] if origin.name == "__init__.py" else origin.parent))
    return list(dict.fromkeys(roots))
