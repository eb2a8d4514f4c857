"""Trainings that something holds back, for real: `python -m tests.benchmarks.verdict_cases CASE SEED`.

A case trains until the first verdict, and prints it as JSON. `tests.benchmarks.verdicts` runs many of them. The seed
draws the case's times within a range around those in its table.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from enqueuer import Cause, SequenceEnqueuer, SequenceSpec, Verdict
from enqueuer.observer import local_observers
from tests.support.namespaces import TRAINER_ADDRESS, TwoHosts
from tests.support.remote import REPOSITORY, environment, free_address

SLOTS = 2
# A verdict needs 30 seconds; a busy machine may be late.
_MOST_SECONDS = 40.0
_START_SECONDS = 60.0
_FEED = "import sys, time\nwhile sys.stdout.buffer.write(bytes({size})) and not sys.stdout.flush(): time.sleep({pause})"


class Work:
    """Batches that compute, or wait, for some time; one index in fifty takes longer; some read from a slow pipe."""

    def __init__(
        self, computed: float = 0.0, waited: float = 0.0, late: float = 0.0, read: float = 0.0, size: int = 100
    ) -> None:
        self.computed, self.waited, self.late, self.read, self.size = computed, waited, late, read, size
        self._source: subprocess.Popen[bytes] | None = None

    def __len__(self) -> int:
        return 200

    def __getitem__(self, index: int) -> Any:
        end = time.thread_time() + self.computed
        while time.thread_time() < end:
            pass
        time.sleep(self.waited + (self.late if index % 50 == 10 else 0.0))
        if self.read:
            self._read(64 * 1024)
        # What cannot be compressed, as pictures cannot.
        return np.random.default_rng(index).integers(0, 256, self.size, np.uint8)

    def _read(self, left: int) -> None:
        if self._source is None:
            program = _FEED.format(size=left, pause=self.read)
            self._source = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
        assert self._source.stdout is not None
        while left > 0:
            left -= len(os.read(self._source.stdout.fileno(), left))

    def close(self) -> None:
        if self._source is not None:
            self._source.kill()
            self._source.communicate()


@dataclass(frozen=True)
class Case:
    """``step``: seconds of the trainer's own work a batch. ``workers`` names the function that provides them."""

    expected: Cause
    work: dict[str, float] = field(default_factory=dict)
    step: float = 0.005
    beside: Callable[[threading.Event], None] | None = None
    workers: str = "processes"
    # Bytes a second of the wire between the two hosts; 0: there is one host.
    wire: int = 0


def hold_interpreter(stop: threading.Event) -> None:
    """Python code that gives up the interpreter only when it must."""
    while not stop.is_set():
        sum(range(10_000))


CASES = {
    "sleeping items": Case(Cause.WORKERS, {"waited": 0.02}),
    "busy workers": Case(Cause.WORKERS, {"computed": 0.02}),
    "a slow trainer": Case(Cause.NOTHING, {"computed": 0.002}, step=0.05),
    "a slow wire": Case(Cause.NETWORK, {"computed": 0.002, "size": 100_000}, workers="remote", wire=3_000_000),
    "one late index": Case(Cause.ORDER, {"computed": 0.001, "late": 5.0}),
    "an interpreter that is held": Case(Cause.INTERPRETER, {"computed": 0.0005}, step=0.0, beside=hold_interpreter),
    "throttled reads": Case(Cause.STORAGE, {"read": 0.03}),
    "no worker": Case(Cause.NO_WORKERS, workers="none"),
    "healthy processes": Case(Cause.NOTHING, {"computed": 0.002, "size": 50_000}, step=0.03),
    "healthy threads": Case(Cause.NOTHING, {"waited": 0.005}, step=0.03, workers="threads"),
    "healthy remote workers": Case(Cause.NOTHING, {"waited": 0.005, "size": 50_000}, step=0.03, workers="remote"),
    "healthy between hosts": Case(
        Cause.NOTHING, {"waited": 0.005, "size": 20_000}, step=0.05, workers="remote", wire=3_000_000
    ),
}


@contextmanager
def enqueuer_of(case: Case, spec: SequenceSpec) -> Iterator[SequenceEnqueuer]:
    """A started enqueuer with the workers of this case; in a namespace, the worker's host is the other one's."""
    with ExitStack() as stack:
        if case.workers in ("processes", "threads"):
            enqueuer = SequenceEnqueuer(spec, use_multiprocessing=case.workers == "processes")
            stack.enter_context(enqueuer).start(SLOTS)
        else:
            prefix = json.loads(os.environ.get("WORKER_PREFIX", "[]"))
            bind = f"tcp://{TRAINER_ADDRESS}:5555" if prefix else free_address()
            enqueuer = SequenceEnqueuer(spec, bind=bind, shared_memory=False, insecure=True)
            stack.enter_context(enqueuer).start(0)
            if case.workers == "remote":
                command = ["-m", "enqueuer_worker", "--connect", bind, "--allow", "tests", "--processes", str(SLOTS)]
                command += ["--insecure"] if prefix else []
                log = stack.enter_context(tempfile.TemporaryFile())
                worker = subprocess.Popen(
                    [*prefix, sys.executable, *command], cwd=REPOSITORY, env=environment(), stdout=log, stderr=log
                )
                stack.callback(worker.wait)
                stack.callback(worker.terminate)
        yield enqueuer


def train(case: Case, seed: int) -> tuple[Verdict, float, str]:
    """The first verdict of a training, how long after the first batch, or the start, it was there, and its figures."""
    draw = random.Random(seed)
    work = {name: value if name == "size" else value * draw.uniform(0.8, 1.25) for name, value in case.work.items()}
    stop = threading.Event()
    threads = [threading.Thread(target=case.beside, args=(stop,))] if case.beside is not None else []
    with enqueuer_of(case, SequenceSpec("tests.benchmarks.verdict_cases:Work", **work)) as enqueuer:
        try:
            step = case.step * draw.uniform(0.8, 1.25)
            return _train(enqueuer, step, threads, stop, has_workers=case.workers != "none")
        finally:
            stop.set()
            enqueuer.stop()
            for thread in threads:
                thread.join()


def _train(
    enqueuer: SequenceEnqueuer,
    step: float,
    threads: list[threading.Thread],
    stop: threading.Event,
    *,
    has_workers: bool,
) -> tuple[Verdict, float, str]:
    first = threading.Event()

    def loop() -> None:
        for _ in enqueuer.get():
            first.set()
            if stop.is_set():
                return
            time.sleep(step)

    threads.append(threading.Thread(target=loop, daemon=True))
    threads[-1].start()
    # Without workers there is no first batch.
    first.wait(_START_SECONDS if has_workers else 0.0)
    started = time.monotonic()
    for thread in threads[:-1]:
        thread.start()
    while enqueuer.verdict().cause is Cause.TOO_EARLY and time.monotonic() - started < _MOST_SECONDS:
        time.sleep(0.1)
    return enqueuer.verdict(), time.monotonic() - started, figures()


def run_case(name: str, seed: int) -> dict[str, Any]:
    """Run the case in a process of its own, between two hosts if it has a wire."""
    case = CASES[name]
    command = [sys.executable, "-m", "tests.benchmarks.verdict_cases", name, str(seed)]
    with ExitStack() as stack:
        variables = environment()
        if case.wire:
            hosts = stack.enter_context(TwoHosts(delay_ms=1, seed=seed))
            hosts.weather(rate=case.wire)
            command = [*hosts.trainer, *command]
            variables["WORKER_PREFIX"] = json.dumps(hosts.worker)
        variables["XDG_RUNTIME_DIR"] = stack.enter_context(tempfile.TemporaryDirectory())
        done = subprocess.run(command, cwd=REPOSITORY, env=variables, capture_output=True, text=True, timeout=180)
    if done.returncode != 0:
        return {"cause": "failed", "words": done.stderr[-2_000:], "seconds": 0.0}
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def figures() -> str:
    """What the verdict of this process's trainer was judged by, as an observer sees it."""
    [observer] = local_observers(timeout=30.0)
    with observer:
        seen = observer.look(with_workers=False)
    shares = {name: value for name, value in seen._asdict().items() if name.endswith("_share")}
    return ", ".join(f"{name.removesuffix('_share')} {value:.2f}" for name, value in shares.items() if value)


def main() -> None:
    """Print the verdict as JSON."""
    verdict, seconds, seen = train(CASES[sys.argv[1]], int(sys.argv[2]))
    print(json.dumps({"cause": verdict.cause.name, "words": f"{verdict} ({seen})", "seconds": seconds}))


if __name__ == "__main__":
    main()
