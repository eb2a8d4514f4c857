"""What was measured, and its JSON."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.benchmarks.comparison.contestants import CONTESTANTS


@dataclass(frozen=True)
class Cell:
    """The contestant, its task and its depth: ``depth`` batches in flight, or None for the contestant's default."""

    kind: str
    contestant: str
    depth: int | None

    def resolved(self) -> Cell:
        """The cell that is measured for this one."""
        return Cell(self.kind, self.contestant, CONTESTANTS[self.contestant].resolve(self.depth))


@dataclass(frozen=True)
class Measurement:
    """Of one run's steady state. ``peak_bytes`` and CPU are of the trainer, its workers and what daemons they have.

    ``others_share``: the part of the machine's CPU time that processes outside took then, in [0, 1]; None: unknown.
    """

    batches_per_second: float
    bytes_per_second: float
    peak_bytes: int
    cpu_seconds_per_gb: float
    others_share: float | None = None


QUANTITIES = tuple(Measurement.__dataclass_fields__)
RATE, CPU, PEAK, OTHERS = "batches_per_second", "cpu_seconds_per_gb", "peak_bytes", "others_share"
# Of which the least is the best.
COSTS = (CPU, PEAK)


@dataclass
class Results:
    """All runs of each cell, and why one failed that has not been measured since."""

    runs: dict[Cell, list[Measurement]] = field(default_factory=dict)
    failures: dict[Cell, str] = field(default_factory=dict)
    not_installed: dict[str, list[str]] = field(default_factory=dict)

    def add(self, cell: Cell, measurement: Measurement) -> None:
        self.runs.setdefault(cell, []).append(measurement)
        self.failures.pop(cell, None)

    def median(self, cell: Cell, quantity: str = RATE) -> float | None:
        """None: it was not measured."""
        values = [getattr(run, quantity) for run in self.runs.get(cell.resolved(), [])]
        known = [value for value in values if value is not None]
        return statistics.median(known) if known else None

    def ratio(self, cell: Cell, baselines: Iterable[Cell], quantity: str = RATE) -> float | None:
        """The cell's median divided by the best of the baselines'; None if one of them was not measured."""
        values = [self.median(baseline, quantity) for baseline in baselines]
        ours = self.median(cell, quantity)
        known = [value for value in values if value is not None]
        if ours is None or not known or len(known) < len(values):
            return None
        return ours / (min(known) if quantity in COSTS else max(known))

    def save(self, path: Path) -> None:
        content = {
            "cells": [
                {**asdict(cell), "medians": self._medians(cell), "runs": [asdict(run) for run in runs]}
                for cell, runs in self.runs.items()
            ],
            "failures": [{**asdict(cell), "reason": reason} for cell, reason in self.failures.items()],
            "not_installed": self.not_installed,
        }
        path.write_text(json.dumps(content, indent=1) + "\n")

    def _medians(self, cell: Cell) -> dict[str, float | None]:
        return {quantity: self.median(cell, quantity) for quantity in QUANTITIES}

    @classmethod
    def load(cls, path: Path) -> Results:
        content = json.loads(path.read_text())
        results = cls(not_installed=content["not_installed"])
        for entry in content["cells"]:
            cell = Cell(entry["kind"], entry["contestant"], entry["depth"])
            results.runs[cell] = [Measurement(**run) for run in entry["runs"]]
        for entry in content["failures"]:
            results.failures[Cell(entry["kind"], entry["contestant"], entry["depth"])] = entry["reason"]
        return results
