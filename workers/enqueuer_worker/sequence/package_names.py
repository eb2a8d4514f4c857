"""The package names for ``--allow``. A supervisor loads this file without the code to resolve targets."""

from __future__ import annotations

# This library's own packages unpickle, import and start things: a trainer may call only the demo.
_OWN = ("enqueuer", "enqueuer_worker")
_OPEN = "enqueuer.demo"


def is_within(module: str, package: str) -> bool:
    """Whether ``module`` is the package or below it, by whole components: 'myproject_evil' is not in 'myproject'."""
    return module == package or module.startswith(f"{package}.")


def is_internal(module: str) -> bool:
    """Whether ``--allow`` never covers this module or package."""
    return any(is_within(module, own) for own in _OWN) and not is_within(module, _OPEN)


def outermost_package(module: str) -> str | None:
    """The outermost package to name with ``--allow`` for this module; None if ``--allow`` never covers it."""
    if is_internal(module):
        return None
    return _OPEN if is_within(module, _OPEN) else module.partition(".")[0]
