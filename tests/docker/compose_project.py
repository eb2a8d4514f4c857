"""A cluster of containers as its user sees it: compose commands, health, and what the trainer logs."""

from __future__ import annotations

import os
import subprocess
import uuid
from collections.abc import Sequence
from types import TracebackType

from tests.docker.engine import compose_command, run
from tests.support.remote import REPOSITORY
from tests.support.training_log import TrainingLog


class ComposeProject(TrainingLog):
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

    def tail(self, lines: int) -> str:
        return self.log(f"--tail={lines}")

    def log_since(self, when: float) -> str:
        return self.log(f"--since={when:.3f}")

    def health(self) -> str:
        asked = ["docker", "exec", self._any_trainer(), "enqueuer", "health"]
        return subprocess.run(asked, capture_output=True, text=True, check=False).stdout

    def joins(self) -> int:
        """How often a worker has joined the trainer, ever."""
        return self.log().count(" joined\n")

    def finish(self) -> str:
        """Have the trainer end with its epoch; its last line, which says that all was exact."""
        trainer = self.trainer
        run("docker", "kill", "--signal=USR1", trainer)
        verdict = self.wait_for_verdict()
        code = run("docker", "wait", trainer)
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
