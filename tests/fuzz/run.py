"""Fuzzing of the decoders for as long as wanted; the default test run does a little of it.

python -m tests.fuzz.run --decoder all --seconds 60            coverage-guided (``pip install -e '.[fuzz]'``: atheris)
python -m tests.fuzz.run --decoder control --seconds 600 --keep    the inputs that reach new code are kept
python -m tests.fuzz.run --engine mutation --seconds 600 --seed 3    values changed at random: blind, and faster

A child process a decoder, under limits: address space, time of one input, and of every 256th its memory. It ends with
the first defect; the input is printed, and belongs into the corpus when the defect is mended.
"""

from __future__ import annotations

import random
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click

from tests.fuzz import corpus
from tests.fuzz.decoders import DECODERS, Decoder
from tests.fuzz.limits import feed_measured, feed_timed, watchdog
from tests.fuzz.mutation import mutate

_ADDRESS_SPACE = 4 << 30
_MOST_BYTES = 16_384
# The share of inputs whose memory is measured, which makes them several times slower.
_MEASURED = 256
_SLACK_SECONDS = 120
# Of the mutation engine: how many inputs the next ones are made of, and how often one of those joins them.
_POOL = 1000
_JOINS = 50
_JOIN_BYTES = 1024


class Feeder:
    """Feeds inputs under the limits and counts them."""

    def __init__(self, feed: Callable[[bytes], object], still_alive: Callable[[], None]) -> None:
        self.count = 0
        self._feed = feed
        self._still_alive = still_alive

    def __call__(self, data: bytes) -> None:
        self.count += 1
        if self.count % 256 == 0:
            self._still_alive()
        if self.count % _MEASURED == 0:
            feed_measured(self._feed, data)
        else:
            feed_timed(self._feed, data)


# ---------------------------------------------------------------- in the child


def fuzz_guided(name: str, directory: str, seconds: int, seed: int) -> None:
    """Never returns: libFuzzer ends the process."""
    import atheris

    for module in [module for module in sys.modules if module.startswith(("enqueuer", "tests.fuzz.decoders"))]:
        del sys.modules[module]  # imported before anything counted what it reaches
    with atheris.instrument_imports(include=["enqueuer", "enqueuer_worker"]):
        from tests.fuzz.decoders import DECODERS as INSTRUMENTED

    decoder = INSTRUMENTED[name]

    def change(data: bytes, most: int, number: int) -> bytes:
        rng = random.Random(number)
        if rng.random() < 0.4:
            return bytes(atheris.Mutate(data, most))
        return mutate(data, rng, packed=decoder.packed)[:most]

    arguments = [sys.argv[0], directory, f"-max_total_time={seconds}", f"-max_len={_MOST_BYTES}", f"-seed={seed + 1}"]
    arguments += ["-print_final_stats=1", "-verbosity=0", f"-artifact_prefix={directory}/../", "-rss_limit_mb=3000"]
    _limit_memory()
    with watchdog() as still_alive:
        atheris.Setup(arguments, Feeder(decoder.feed, still_alive), custom_mutator=change, internal_libfuzzer=True)
        atheris.Fuzz()


def fuzz_blindly(name: str, directory: str, seconds: int, seed: int) -> None:
    """Changes values of the samples and the corpus, and of what comes of that."""
    decoder = DECODERS[name]
    first = [path.read_bytes() for path in sorted(Path(directory).iterdir())]
    pool = list(first)
    rng = random.Random(seed)
    _limit_memory()
    end = time.monotonic() + seconds
    with watchdog() as still_alive:
        feeder = Feeder(decoder.feed, still_alive)
        while time.monotonic() < end:
            data = mutate(rng.choice(pool), rng, packed=decoder.packed)[:_MOST_BYTES]
            try:
                feeder(data)
            except BaseException:
                Path(directory, "../crash-blind").write_bytes(data)
                raise
            if feeder.count % _JOINS == 0 and len(data) <= _JOIN_BYTES:
                pool.append(data)
                if len(pool) > len(first) + _POOL:
                    del pool[len(first) :]
    sys.stderr.write(f"stat::number_of_executed_units: {feeder.count}\n")


def _limit_memory() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (_ADDRESS_SPACE, _ADDRESS_SPACE))


# ---------------------------------------------------------------- in the parent


def fuzz(decoder: Decoder, engine: str, seconds: int, seed: int, keep: bool) -> int:
    """How many inputs it was fed; 0 if one of them was a defect, which is printed."""
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch, "corpus")
        directory.mkdir()
        for number, data in enumerate([*decoder.samples(), *corpus.load(decoder.name)]):
            (directory / f"{number:05}").write_bytes(data)
        function = "fuzz_guided" if engine == "atheris" else "fuzz_blindly"
        call = f"{function}({decoder.name!r}, {str(directory)!r}, {seconds}, {seed})"
        program = [sys.executable, "-c", f"from tests.fuzz.run import {function}; {call}"]
        started = time.monotonic()
        done = subprocess.run(program, capture_output=True, text=True, timeout=seconds + _SLACK_SECONDS)
        took = time.monotonic() - started
        found = re.search(r"stat::number_of_executed_units:\s*(\d+)", done.stderr)
        if done.returncode != 0 or found is None:
            click.echo(
                f"{decoder.name}: DEFECT (exit code {done.returncode})\n{done.stdout[-4000:]}{done.stderr[-4000:]}"
            )
            for artifact in Path(scratch).glob("*-*"):
                click.echo(f"{artifact.name}: {artifact.read_bytes()!r}")
            return 0
        reached = [path for path in sorted(directory.iterdir()) if not path.name.isdigit()]
        count = int(found[1])
        click.echo(f"{decoder.name:14} {count:>10,} inputs, {count / took:>7,.0f}/s, {len(reached)} reach new code")
        if keep:
            corpus.store(decoder.name, [*corpus.load(decoder.name), *(path.read_bytes() for path in reached)])
        return count


@click.command()
@click.option("--decoder", "name", type=click.Choice(["all", *DECODERS]), default="all", show_default=True)
@click.option("--engine", type=click.Choice(["atheris", "mutation"]), default="atheris", show_default=True)
@click.option("--seconds", default=60, show_default=True, help="For each decoder.")
@click.option("--seed", default=0, show_default=True)
@click.option("--keep", is_flag=True, help="Write the inputs that reach new code into tests/fuzz/corpus.")
def main(name: str, engine: str, seconds: int, seed: int, keep: bool) -> None:
    """Fuzz one decoder or all; the exit code is 1 if there was a defect."""
    chosen = list(DECODERS.values()) if name == "all" else [DECODERS[name]]
    counts = [fuzz(decoder, engine, seconds, seed, keep) for decoder in chosen]
    click.echo(f"{sum(counts):,} inputs, {counts.count(0)} decoders with a defect")
    raise SystemExit(0 in counts)


if __name__ == "__main__":
    main()
