"""The demo's checkpoint: one file with the classifier's weights and the position in the stream of batches.

Both are saved together: if the stream delivered a batch again that the weights have seen, the training would differ.
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

# A kill loses at most this much work and changes no result, because batches are computed again bit for bit.
SAVE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of one training. ``job`` identifies it; ``stream`` is the enqueuer's ``state_dict()``."""

    job: str
    batches_count: int
    stream: dict[str, Any]
    weights: list[np.ndarray]


class Checkpoint:
    """Saves and loads ``path``. Each save replaces the file atomically, so a kill leaves a readable one."""

    def __init__(self, path: Path, job: str) -> None:
        self._path = path
        self._job = job
        self._saved_at = monotonic()

    def load(self) -> Progress | None:
        """The saved progress, None without a file.

        Raises ConfigurationError if the file is of another kind or job, or can never be written.
        """
        if not self._path.parent.is_dir():
            raise ConfigurationError(
                f"resume={str(self._path)!r} cannot be written: there is no folder {self._path.parent}"
            )
        try:
            with np.load(self._path, allow_pickle=False) as saved:
                text = json.loads(str(saved["progress"]))
                weights = [saved[f"weights_{number}"] for number in range(text["weights_count"])]
                progress = Progress(text["job"], text["batches_count"], text["stream"], weights)
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
            # NumPy's text about a file of another kind advises to unpickle it.
            raise ConfigurationError(
                f"{self._path} is no checkpoint of this demo: name a new file, or one that --resume has saved"
            ) from error
        if progress.job != self._job:
            raise ConfigurationError(
                f"{self._path} is of another training ({progress.job}), not of this one ({self._job}); "
                "give the options it was begun with, or another file"
            )
        return progress

    @property
    def is_due(self) -> bool:
        """Whether the last save is `SAVE_SECONDS` ago."""
        return monotonic() >= self._saved_at + SAVE_SECONDS

    def save(self, batches_count: int, stream: dict[str, Any], weights: list[np.ndarray]) -> None:
        """Replace the file. Raises OSError if it cannot be written, and keeps the previous one."""
        text = {"job": self._job, "batches_count": batches_count, "stream": stream, "weights_count": len(weights)}
        arrays: dict[str, Any] = {f"weights_{number}": weight for number, weight in enumerate(weights)}
        arrays["progress"] = np.array(json.dumps(text))
        # Always the same name, so that the next save replaces the remains of a kill.
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
