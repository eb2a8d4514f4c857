"""What ``--allow`` can name. Apart from what resolves targets, so that a supervisor need not load that."""

from __future__ import annotations

# Of this library's own packages, what is there to be run for a trainer. The rest unpickles, imports and starts things.
_OWN = ("enqueuer", "enqueuer_worker")
_OPEN = "enqueuer.demo"


def is_within(module: str, package: str) -> bool:
    """Whole dotted components: 'myproject_evil' is not within 'myproject'."""
    return module == package or module.startswith(f"{package}.")


def is_internal(module: str) -> bool:
    """Whether ``--allow`` never covers this module, or package, whoever asks for it."""
    return any(is_within(module, own) for own in _OWN) and not is_within(module, _OPEN)


def widest(module: str) -> str | None:
    """The outermost package that ``--allow`` could name for this module; None if it covers it under no name."""
    if is_internal(module):
        return None
    return _OPEN if is_within(module, _OPEN) else module.partition(".")[0]
