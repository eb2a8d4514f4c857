"""The table: one block a kind, a row a contestant and depth, ratios to that kind's baselines."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from tests.benchmarks.comparison.contestants import ALL_KINDS, CONTESTANTS, CPU_KINDS, WORKERS
from tests.benchmarks.comparison.results import CPU_MS, OTHERS, SWITCHES, Cell, Results

TITLES = {
    "img8": "64 x 224 x 224 x 3 uint8 and labels (9.6 MB a batch)",
    "imgf": "64 x 224 x 224 x 3 float32 and labels (38.5 MB a batch)",
    "mid": "256 x 784 float32 and labels (0.8 MB a batch)",
    "small": "32 x 10 float32 and labels (1.5 KB a batch)",
    "sleep20": "20 ms of sleep a batch",
    "digits": "32 PNGs of 8 x 8 a batch: decode, rotate, crop (8 KB a batch)",
    "crops": "8 JPEGs a batch: decode, random crop, resize to 64 x 64 (98 KB a batch)",
    "jpeg": "32 JPEGs a batch: decode, random crop, resize (4.8 MB a batch)",
}
# "PyTorch" is the better of its two ways.
BASELINES: dict[str, dict[str, tuple[str, ...]]] = {
    **{kind: {"memcpy": ("memcpy",), "raw tcp": ("zmq-raw-tcp",)} for kind in ("img8", "imgf", "mid")},
    "small": {"memcpy": ("memcpy",), "msgpack": ("zmq-msgpack-ipc",)},
    "sleep20": {"bare": ("bare",)},
    **{kind: {"bare": ("bare",), "pipes": ("pipes",)} for kind in CPU_KINDS},
}
PYTORCH = ("torch", "torch-numpy")
DASH = "–"


def kinds_of(results: Results) -> list[str]:
    found = {cell.kind for cell in (*results.runs, *results.failures)}
    return [kind for kind in ALL_KINDS if kind in found]


Setting = tuple[int, float]
# What the chart shows, and what the bars are about.
USUAL: Setting = (WORKERS, 0.0)


def settings_of(results: Results, kind: str) -> list[Setting]:
    """The numbers of workers and the steps, in milliseconds, with which this kind was measured."""
    found = {(cell.workers, cell.step_ms) for cell in (*results.runs, *results.failures) if cell.kind == kind}
    return sorted(found)


def cells_of(results: Results, kind: str, setting: Setting = USUAL) -> list[Cell]:
    """In the order of the contestants, the smaller depth first and the default last."""
    names = list(CONTESTANTS)
    found = {
        cell
        for cell in (*results.runs, *results.failures)
        if cell.kind == kind and (cell.workers, cell.step_ms) == setting
    }
    return sorted(found, key=lambda cell: (names.index(cell.contestant), cell.depth is None, cell.depth or 0))


def depth_words(cell: Cell) -> str:
    contestant = CONTESTANTS[cell.contestant]
    if not contestant.bounded:
        return DASH
    if cell.depth is None:
        return "default"
    return f"{cell.depth} = default" if cell.depth == contestant.default_depth else str(cell.depth)


def lines(results: Results) -> Iterator[str]:
    for kind in kinds_of(results):
        for setting in settings_of(results, kind):
            yield from _block(results, kind, setting)
            yield ""
    for cell, reason in results.failures.items():
        kind = cell.kind + setting_words((cell.workers, cell.step_ms))
        yield f"failed: {kind}, {cell.contestant} at {depth_words(cell)}: {reason}"
    for name, modules in results.not_installed.items():
        yield f"left out: {name} ({', '.join(modules)} not installed)"


def setting_words(setting: Setting) -> str:
    """What is unusual about it, to follow a title."""
    workers, step_ms = setting
    words = "" if workers == WORKERS else f", {workers} workers"
    return words + (f", a step of {step_ms:g} ms" if step_ms else "")


def _block(results: Results, kind: str, setting: Setting) -> Iterator[str]:
    baselines = {**BASELINES[kind], "PyTorch": PYTORCH}
    ratios = "".join(f"{f'x {name}':>11}" for name in baselines)
    yield f"{kind}: {TITLES[kind]}{setting_words(setting)}"
    costs = f"{'peak MB':>8} {'CPU s/GB':>9} {'CPU ms':>7} {'switches':>8} {'others':>7} {'runs':>5}"
    yield f"{'':32} {'in flight':>13} {'batches/s':>10} {'GB/s':>7}{ratios} {costs}"
    cells = cells_of(results, kind, setting)
    for cell in cells:
        yield _row(results, cell, list(baselines.values()))
    measured = {cell.contestant for cell in cells}
    for name, contestant in CONTESTANTS.items():
        if kind not in contestant.kinds and contestant.bounded and name not in measured:
            yield f"{contestant.title:32} {DASH:>13} {DASH:>10}"


def _row(results: Results, cell: Cell, baselines: list[tuple[str, ...]]) -> str:
    contestant = CONTESTANTS[cell.contestant]
    title = contestant.title + ("" if contestant.ordered else " *")
    head = f"{title:32} {depth_words(cell):>13}"
    if cell not in results.runs:
        return f"{head} {'failed':>10}"
    rate, bytes_rate, peak, cpu = (
        results.median(cell, quantity) or 0.0
        for quantity in ("batches_per_second", "bytes_per_second", "peak_bytes", "cpu_seconds_per_gb")
    )
    ratios = "".join(f"{_ratio(results, cell, names):>11}" for names in baselines)
    rates = f"{rate:>10,.{0 if rate >= 100 else 1}f} {bytes_rate / 1e9:>7.3g}"
    costs = f"{peak / 1e6:>8,.0f} {cpu:>9.3g} {_figure(results, cell, CPU_MS):>7} {_figure(results, cell, SWITCHES):>8}"
    costs += f" {_share(results, cell):>7} {len(results.runs[cell]):>5}"
    return f"{head} {rates}{ratios} {costs}"


def _figure(results: Results, cell: Cell, quantity: str) -> str:
    value = results.median(cell, quantity)
    return DASH if value is None else f"{value:.2f}"


def _share(results: Results, cell: Cell) -> str:
    share = results.median(cell, OTHERS)
    return DASH if share is None else f"{share:.0%}"


def _ratio(results: Results, cell: Cell, names: tuple[str, ...]) -> str:
    """Baselines at the row's own depth."""
    ratio = results.ratio(cell, [replace(cell, contestant=name) for name in names])
    return DASH if ratio is None else f"{ratio:.{2 if ratio < 10 else 0}f}"
