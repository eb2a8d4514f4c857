"""The bars that this project is held to, as a table: what is measured against what, and how much is asked for.

They are what was promised before anything was measured; a figure that misses one is reported, and the bar stays.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.benchmarks.comparison.contestants import CONTESTANTS
from tests.benchmarks.comparison.results import COSTS, CPU, OTHERS, RATE, Cell, Results

_WORDS = {RATE: "batches/s", CPU: "CPU s/GB"}
# Beyond this a verdict is one on the machine's other work.
_QUIET = 0.05
# Which of the two is the better one depends on the kind: the bar is against it.
_TORCH = ("torch", "torch-numpy")


@dataclass(frozen=True)
class Bar:
    """``contestant`` at ``depth`` against the best of ``baselines`` at ``baseline_depth``; without one, a plain figure.

    At most ``bound`` where the quantity is a cost, else at least.
    """

    kind: str
    contestant: str
    baselines: tuple[str, ...]
    bound: float
    quantity: str = RATE
    depth: int = 10
    baseline_depth: int | None = 10

    @property
    def at_most(self) -> bool:
        return self.quantity in COSTS

    def measured(self, results: Results) -> float | None:
        """None: one of them was not measured."""
        cell = Cell(self.kind, self.contestant, self.depth)
        if not self.baselines:
            return results.median(cell, self.quantity)
        baselines = [Cell(self.kind, name, self.baseline_depth) for name in self.baselines]
        return results.ratio(cell, baselines, self.quantity)

    def disturbed(self, results: Results) -> float:
        """The most of the machine that others took in one of its cells, in [0, 1]; 0 if unknown."""
        cells = [Cell(self.kind, name, self.baseline_depth) for name in self.baselines]
        cells.append(Cell(self.kind, self.contestant, self.depth))
        return max(results.median(cell, OTHERS) or 0.0 for cell in cells)

    def met(self, measured: float) -> bool:
        return measured <= self.bound if self.at_most else measured >= self.bound

    def says(self) -> str:
        """What is asked for, in words."""
        asked = f"{_WORDS[self.quantity]} {'<=' if self.at_most else '>='} {self.bound:,g}"
        ours = f"{self.kind}, {self.contestant} at {self.depth}: {asked}"
        if not self.baselines:
            return ours
        bounded = any(CONTESTANTS[name].bounded for name in self.baselines)
        at = " by default" if self.baseline_depth is None else f" at {self.baseline_depth}"
        return f"{ours} x {' or '.join(self.baselines)}{at if bounded else ''}"


def _against(kind: str, contestant: str, baselines: tuple[str, ...], bound: float, quantity: str = RATE) -> list[Bar]:
    """With equally many batches in flight and, since nobody is to gain from a peer's depth, with the peer's default."""
    return [Bar(kind, contestant, baselines, bound, quantity, baseline_depth=depth) for depth in (10, None)]


BARS: tuple[Bar, ...] = (
    Bar("img8", "enqueuer", ("memcpy",), 0.5),
    Bar("imgf", "enqueuer", ("memcpy",), 0.5),
    *_against("img8", "enqueuer", _TORCH, 5),
    *_against("imgf", "enqueuer", _TORCH, 5),
    *_against("img8", "enqueuer-tcp", ("zmq-raw-tcp",), 0.9),
    *_against("img8", "enqueuer-tcp", ("zmq-msgpack-tcp",), 1.5),
    *_against("imgf", "enqueuer-tcp", ("zmq-raw-tcp",), 1.3),
    *_against("img8", "enqueuer-keys", ("zmq-raw-curve",), 1.1),
    *_against("imgf", "enqueuer-keys", ("zmq-raw-curve",), 1.5),
    Bar("small", "enqueuer", (), 100_000, depth=256),
    Bar("small", "enqueuer", ("zmq-msgpack-ipc",), 0.9, depth=256, baseline_depth=256),
    Bar("small", "enqueuer", ("zmq-msgpack-ipc",), 0.9, depth=256, baseline_depth=None),
    Bar("small", "enqueuer", _TORCH, 5, depth=256, baseline_depth=256),
    Bar("small", "enqueuer", (), 25_000),
    *_against("small", "enqueuer", _TORCH, 5),
    *_against("mid", "enqueuer", _TORCH, 5),
    *_against("mid", "enqueuer", ("zmq-raw-ipc", "zmq-raw-tcp"), 1),
    Bar("digits", "enqueuer", ("bare",), 0.88),
    Bar("digits", "enqueuer", ("pipes",), 0.97),
    Bar("crops", "enqueuer", ("bare",), 0.96),
    Bar("crops", "enqueuer", ("pipes",), 0.97),
    Bar("jpeg", "enqueuer", ("bare",), 0.97),
    Bar("digits", "enqueuer-tcp", ("bare",), 0.83),
    Bar("crops", "enqueuer-tcp", ("bare",), 0.91),
    *_against("img8", "enqueuer", _TORCH, 0.5, CPU),
    *_against("imgf", "enqueuer", _TORCH, 0.5, CPU),
    *_against("mid", "enqueuer", _TORCH, 0.5, CPU),
)


def lines(results: Results) -> list[str]:
    """A line a bar: what is asked for, what was measured, and whether it is met."""
    width = max(len(bar.says()) for bar in BARS)
    return [f"{bar.says():{width}}  {_verdict(bar, bar.measured(results), bar.disturbed(results))}" for bar in BARS]


def _verdict(bar: Bar, value: float | None, disturbed: float) -> str:
    if value is None:
        return f"{'not measured':>12}"
    warning = f"  (others took {disturbed:.0%} of the machine)" if disturbed > _QUIET else ""
    return f"{value:>12,.2f}  {'met' if bar.met(value) else 'MISSED'}{warning}"
