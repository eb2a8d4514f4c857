"""The content of an actor: one worker program, ``enqueuer_worker.owned``, as a child process.

The program is the one of ``enqueuer worker``, with its own supervisor, so user code never runs in Ray's process. It
ends with the actor: its stdin closes with the actor's process, however that ends.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from enqueuer.fresh_interpreter import interpreter_command

_PROGRAM = "enqueuer_worker.owned"


@dataclass(frozen=True, slots=True)
class ProgramSettings:
    """The arguments of `enqueuer_worker.run_worker`, and the text of a worker's token; '' for none."""

    arguments: dict[str, Any]
    token: str = field(default="", repr=False)


class EnqueuerWorker:
    """The actor's class, under the name that Ray shows. Ray calls its methods one after the other."""

    def __init__(self, settings: ProgramSettings) -> None:
        """Start the program."""
        # A session of its own: signals of a terminal to Ray's processes do not reach it.
        self._process = subprocess.Popen(
            interpreter_command(_PROGRAM), stdin=subprocess.PIPE, bufsize=0, start_new_session=True
        )
        directory = str(Path.cwd())
        config = {
            "arguments": settings.arguments,
            "token": settings.token,
            "sys_path": [entry or directory for entry in sys.path],
        }
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(config).encode() + b"\n")

    def node(self) -> str:
        """The id of the node that the actor is on. Raises RuntimeError if the program has ended."""
        import ray

        code = self._process.poll()
        if code is not None:
            raise RuntimeError(f"the worker program has ended with exit code {code}; its reason is in the actor's log")
        return str(ray.get_runtime_context().get_node_id())

    def drain(self) -> int:
        """Have the workers finish their leases; returns the program's exit code when all have left."""
        self._process.terminate()
        return self._process.wait()
