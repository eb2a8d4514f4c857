"""A cluster of containers as its user sees it: compose commands, health, and what the trainer logs."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import time
import uuid
from collections.abc import Iterator, Sequence
from types import TracebackType

from tests.docker.engine import compose_command, run
from tests.support.remote import REPOSITORY
from tests.support.waiting import wait_until

DEADLINE_SECONDS = 120.0
_GAP = re.compile(r"gap (\d+\.\d+) s before batch")
_BATCH = re.compile(r"(?:batch|exact:) (\d+)$|^exact: (\d+)", re.MULTILINE)
_WORKERS = re.compile(r"workers (\d+)")
_POLL_SECONDS = 0.3


def wait_for(condition: object, what: str, deadline: float = DEADLINE_SECONDS) -> None:
    """Like `wait_until`, but each look costs a process or more."""
    assert callable(condition)

    def looked() -> object:
        found = condition()
        if not found:
            time.sleep(_POLL_SECONDS)
        return found

    wait_until(looked, deadline, what)


class ComposeProject:
    """Its containers, volumes and networks are gone when the ``with`` block ends; on failure all logs are printed."""

    def __init__(self, files: Sequence[str], environment: dict[str, str]) -> None:
        self.name = f"enqtest{uuid.uuid4().hex[:8]}"
        self._environment = environment
        paths = [argument for file in files for argument in ("--file", str(REPOSITORY / file))]
        self._command = [*compose_command(), "--project-name", self.name, *paths]

    def compose(self, *arguments: str) -> str:
        return run(*self._command, *arguments, env=self._environment)

    def up(self, *services: str, workers: int | None = None) -> None:
        """With so many workers; those that run already are left alone."""
        scale = [] if workers is None else [f"--scale=worker={workers}"]
        self.compose("up", "--detach", "--no-recreate", *scale, *services)

    def containers(self, service: str) -> list[str]:
        """Names of those that run."""
        labels = (
            f"--filter=label=com.docker.compose.project={self.name}",
            f"--filter=label=com.docker.compose.service={service}",
        )
        return sorted(run("docker", "ps", "--format={{.Names}}", *labels).split())

    @property
    def network(self) -> str:
        return f"{self.name}_default"

    # ------------------------------------------------------------ the trainer

    @property
    def trainer(self) -> str:
        (container,) = self.containers("trainer")
        return container

    def log(self, *arguments: str, container: str | None = None) -> str:
        done = subprocess.run(
            ["docker", "logs", *arguments, container or self._any_trainer()],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=True,
        )
        return done.stdout

    def _any_trainer(self) -> str:
        label = f"--filter=label=com.docker.compose.project={self.name}"
        service = "--filter=label=com.docker.compose.service=trainer"
        return run("docker", "ps", "--all", "--format={{.Names}}", label, service)

    def batches(self) -> int:
        """How many it has taken, give or take the twenty between two lines."""
        found = _BATCH.findall(self.log("--tail=300"))
        return int("".join(found[-1])) if found else 0

    def wait_for_batches(self, more: int) -> None:
        wanted = self.batches() + more
        wait_for(lambda: self.batches() >= wanted, f"{more} more batches")

    def workers(self) -> int:
        """Those that the trainer counts now."""
        asked = subprocess.run(
            ["docker", "exec", self._any_trainer(), "enqueuer", "health"], capture_output=True, text=True, check=False
        )
        found = _WORKERS.search(asked.stdout)
        return int(found[1]) if found else 0

    def joins(self) -> int:
        """How often a worker has joined the trainer, ever."""
        return self.log().count(" joined\n")

    def wait_for_workers(self, count: int) -> None:
        wait_for(lambda: self.workers() == count, f"{count} workers")

    @contextlib.contextmanager
    def fault(self, what: str) -> Iterator[None]:
        """Prints the longest time without a batch, from the block's beginning until the stream flows after its end."""
        begun = time.time()
        yield
        self.wait_for_batches(100)
        gaps = [float(gap) for gap in _GAP.findall(self.log(f"--since={begun:.3f}"))]
        longest = f"{max(gaps):.2f} s" if gaps else "below 0.1 s"
        print(f"{what}: longest gap {longest} ({time.time() - begun:.0f} s in all)", flush=True)

    def finish(self) -> str:
        """Have the trainer end with its epoch; its last line, which says that all was exact."""
        trainer = self.trainer
        run("docker", "kill", "--signal=USR1", trainer)
        wait_for(lambda: re.search("^(exact|WRONG): .*", self.log("--tail=20"), re.MULTILINE), "the trainer's verdict")
        code = run("docker", "wait", trainer)
        verdict = re.findall("^(?:exact|WRONG): .*", self.log("--tail=20"), re.MULTILINE)[-1]
        assert verdict.startswith("exact") and code == "0", f"{verdict}, exit code {code}"
        return verdict

    # ------------------------------------------------------------ the end

    def __enter__(self) -> ComposeProject:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if error is not None:
                print(self.compose("logs", "--no-color", "--tail=60"), flush=True)
        finally:
            # Nothing is left to drain for.
            self.compose("down", "--volumes", "--remove-orphans", "--timeout=5")


def environment_of(image: str, project: str, sequence: str, **more: str) -> dict[str, str]:
    """What deploy/README.md has its reader export."""
    return {"ENQUEUER_IMAGE": image, "PROJECT": project, "SEQUENCE": sequence, "PATH": os.environ["PATH"], **more}
