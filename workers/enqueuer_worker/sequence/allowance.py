"""The allowance: the callables and live objects that a coordinator may run here, as decided by the worker's owner."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from enqueuer.compute.spec import import_target, split_target
from enqueuer.errors import AuthenticationError
from enqueuer_worker.sequence.package_names import is_internal, is_within, outermost_package


@dataclass(frozen=True, slots=True)
class Allowance:
    """The rules of one worker.

    Attributes:
        sequences: targets, allowed exactly as written (``--sequence``).
        packages: packages; callables defined in them or below are allowed (``--allow``).
        local: the trainer itself started this worker and may run anything, live objects included.
        pickle: the trainer, known by its key, may send live objects (``--allow-pickle``).
    """

    sequences: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    local: bool = False
    pickle: bool = False

    def resolve(self, target: str) -> Callable[..., Any]:
        """Import an allowed 'package.module:callable'.

        Raises AuthenticationError for any other target, before the import where the name shows it; ConfigurationError
        for a malformed name, or if there is no such callable; and any error of the import itself.
        """
        module, name = split_target(target)
        if self.local or target in self.sequences:
            return import_target(target)
        if not any(is_within(module, package) for package in self.packages) or is_internal(module):
            package = outermost_package(module)
            raise AuthenticationError(
                f"this worker may not run {target!r}: its owner allows {self.describe()}. Start it with "
                f"--sequence {target}" + ("" if package is None else f" or --allow {package}")
            )
        found = import_target(target)
        # Otherwise 'myproject.data:getoutput' would run a function merely imported there.
        if getattr(found, "__module__", None) != module:
            raise AuthenticationError(
                f"this worker may not run {target!r}: {name} is not defined in {module} but in "
                f"{getattr(found, '__module__', 'an unknown module')}, and --allow covers only what a package's own "
                f"modules define. Name it where it is defined, or start the worker with --sequence {target}"
            )
        return found

    def check_live_object(self) -> None:
        """Raise AuthenticationError unless this worker may unpickle the trainer's objects."""
        if not (self.local or self.pickle):
            raise AuthenticationError(
                "this remote worker does not take a live Sequence, since unpickling one runs any code in it. "
                "Give the enqueuer SequenceSpec('package.module:callable', …) instead, and start the worker with "
                "--sequence package.module:callable or --allow package; or start it with --allow-pickle, if anyone "
                "with the trainer's key may run anything here"
            )

    def check_segment(self) -> None:
        """Raise AuthenticationError unless the trainer may name a file here, to be opened and unpickled."""
        if not self.local:
            raise AuthenticationError("a trainer on another machine may not name this worker's files")

    def describe(self) -> str:
        """The owner's options, for an error text."""
        allowed = [f"--sequence {target}" for target in self.sequences]
        allowed += [f"--allow {package}" for package in self.packages]
        allowed += ["--allow-pickle"] if self.pickle else []
        return " and ".join(allowed) or "nothing (it has neither --sequence nor --allow)"
