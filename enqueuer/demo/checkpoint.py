"""The demo's training, saved in one file: the classifier and where the stream of batches is.

Both belong together: weights that have seen a batch and a stream that delivers it again would be another training.
"""

from __future__ import annotations

import contextlib
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np

from enqueuer.errors import ConfigurationError

# A kill loses this much work at most, and nothing of the result: what is computed again is the same.
SAVE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a training has come. ``job`` says which one it is; ``stream`` is the enqueuer's ``state_dict()``."""

    job: str
    batches_count: int
    stream: dict[str, Any]
    weights: list[np.ndarray]


class Checkpoint:
    """``path`` is replaced as a whole each time, so whenever the demo is killed there is one that can be read."""

    def __init__(self, path: Path, job: str) -> None:
        self._path = path
        self._job = job
        self._saved_at = monotonic()

    def load(self) -> Progress | None:
        """None if there is no such file yet. Raises ConfigurationError for one that is something else."""
        try:
            with np.load(self._path, allow_pickle=False) as saved:
                text = json.loads(str(saved["progress"]))
                weights = [saved[f"weights_{number}"] for number in range(text["weights_count"])]
                progress = Progress(text["job"], text["batches_count"], text["stream"], weights)
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise ConfigurationError(f"{self._path} is no checkpoint of this demo ({error})") from error
        if progress.job != self._job:
            raise ConfigurationError(
                f"{self._path} is of another training ({progress.job}), not of this one ({self._job}); "
                "give the options it was begun with, or another file"
            )
        return progress

    @property
    def is_due(self) -> bool:
        return monotonic() >= self._saved_at + SAVE_SECONDS

    def save(self, batches_count: int, stream: dict[str, Any], weights: list[np.ndarray]) -> None:
        """Raises OSError if the file cannot be written; the last one is then still there."""
        text = {"job": self._job, "batches_count": batches_count, "stream": stream, "weights_count": len(weights)}
        arrays: dict[str, Any] = {f"weights_{number}": weight for number, weight in enumerate(weights)}
        arrays["progress"] = np.array(json.dumps(text))
        # Always the same name: what a kill leaves of it, the next save replaces.
        unfinished = self._path.with_name(f"{self._path.name}.unfinished")
        try:
            with unfinished.open("wb") as file:
                np.savez(file, **arrays)
            unfinished.replace(self._path)
        except BaseException:
            with contextlib.suppress(OSError):
                unfinished.unlink()
            raise
        self._saved_at = monotonic()
