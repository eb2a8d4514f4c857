"""Tells the user's own modules from libraries and from ours."""

from __future__ import annotations

import functools
import sys
import sysconfig
from pathlib import Path

SCRIPTS = frozenset({"__main__", "__mp_main__"})
_OWN = frozenset({"enqueuer", "enqueuer_worker"})


def is_users(name: str) -> bool:
    """Whether the module is the user's own, or the script."""
    return name in SCRIPTS or _is_users_file(name)


@functools.lru_cache(1024)
def _is_users_file(name: str) -> bool:
    file = getattr(sys.modules.get(name), "__file__", None)
    if not isinstance(file, str) or name.partition(".")[0] in _OWN:
        return False
    path = Path(file).absolute()
    return (
        path.suffix == ".py"
        and not {"site-packages", "dist-packages"}.intersection(path.parts)
        and not any(path.is_relative_to(root) for root in _library_roots())
    )


@functools.cache
def _library_roots() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    return tuple({paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")})
