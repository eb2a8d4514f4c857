"""This library beside the other ways to bring batches to a trainer: `python -m tests.benchmarks.comparison`.

Two workers each unless told otherwise, in order where the peer can, with the same number of batches in flight for all
and, beside it, with everyone's defaults. Prints a table and the bars that this project is held to; writes
comparison.json, .txt, .png and .svg. Peers that are not installed are left out: `make compare` installs them all. The
whole takes more than an hour on two cores; in pieces, `--add` takes what an earlier run wrote to the same directory and
adds to it.
"""

from __future__ import annotations

import signal
from pathlib import Path

import click

from tests.benchmarks.comparison import bars, table
from tests.benchmarks.comparison.chart import draw
from tests.benchmarks.comparison.contestants import ALL_KINDS, CONTESTANTS, WORKERS
from tests.benchmarks.comparison.results import Results
from tests.benchmarks.comparison.run import cells, run_all

_DEPTHS: dict[str, int | None] = {"10": 10, "256": 256, "default": None}


class Names(click.ParamType):  # type: ignore[type-arg]
    """A list with commas, each of ``choices``; all of them by default."""

    name = "LIST"

    def __init__(self, choices: tuple[str, ...]) -> None:
        self.choices = choices

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> list[str]:
        names = list(self.choices) if value == "all" else value.split(",")
        for name in names:
            if name not in self.choices:
                self.fail(f"{name!r} is none of {', '.join(self.choices)}", param, ctx)
        return names


@click.command(help=__doc__)
@click.option("--kinds", type=Names(ALL_KINDS), default="all", show_default=True)
@click.option("--contestants", type=Names(tuple(CONTESTANTS)), default="all", show_default=True)
@click.option("--depths", type=Names(tuple(_DEPTHS)), default="all", show_default=True, help="Batches in flight.")
@click.option(
    "--runs",
    type=click.IntRange(min=0),
    default=3,
    show_default=True,
    help="Interleaved rounds; 0 only draws what `--add` has.",
)
@click.option("--seconds", default=2.0, show_default=True, help="Of each timed steady state.")
@click.option("--workers", type=click.IntRange(min=1), default=WORKERS, show_default=True)
@click.option("--step-ms", default=0.0, show_default=True, help="The consumer needs a core for this long each batch.")
@click.option("--output", type=click.Path(path_type=Path), default="comparison", show_default=True)
@click.option("--add", is_flag=True, help="To what the output directory holds.")
def main(
    kinds: list[str],
    contestants: list[str],
    depths: list[str],
    runs: int,
    seconds: float,
    workers: int,
    step_ms: float,
    output: Path,
    add: bool,
) -> None:
    # As a Ctrl-C: what runs is ended, and what was measured is saved.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if runs == 0 and not add:
        raise click.UsageError("--runs 0 draws what --add has; give both")
    output.mkdir(parents=True, exist_ok=True)
    file = output / "comparison.json"
    results = Results.load(file) if add and file.exists() else Results()
    missing = {name: CONTESTANTS[name].missing() for name in contestants}
    results.not_installed = {name: modules for name, modules in missing.items() if modules}
    there = [name for name in contestants if not missing[name]]
    wanted = cells(kinds, there, [_DEPTHS[depth] for depth in depths], workers, step_ms)
    try:
        run_all(wanted, runs, seconds, results, lambda line: click.echo(line, err=True))
    finally:  # what was measured until a Ctrl-C is worth keeping
        results.save(file)
    report = "\n".join([*table.lines(results), "", "bars:", *bars.lines(results)])
    (output / "comparison.txt").write_text(report + "\n")
    click.echo(report)
    paths = draw(results, output)
    for path in paths:
        click.echo(f"wrote {path}", err=True)
    if not paths:
        click.echo("no chart: it takes matplotlib (pip install --group comparison) and a result", err=True)


if __name__ == "__main__":
    main()
