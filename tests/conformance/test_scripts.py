"""Whole programs: without a main guard, from ``python -c``, ending without ``stop()``, killed, forked, interrupted."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.journal import Journal
from tests.support.leaks import alive, descendants
from tests.support.scripts import run_command, run_script, start_script, write_broken_module
from tests.support.waiting import wait_until

WITHOUT_A_GUARD = """
import numpy as np
from enqueuer import SequenceEnqueuer

class InMain:
    def __init__(self, length):
        self.data = np.arange(length * 4).reshape(length, 4)
    def __len__(self):
        return len(self.data)
    def __getitem__(self, index):
        return self.data[index], helper(index)

def helper(index):
    return -index

enq = SequenceEnqueuer(InMain(5), use_multiprocessing=USE_PROCESSES)
enq.start(2, 10)
stream = enq.get()
print([(int(next(stream)[0][0]), next(stream)[1]) for _ in range(4)])
STOP
print("end of the script")
"""
PRINTED = "[(0, -1), (8, -3), (16, 0), (4, -2)]\nend of the script\n"


@pytest.mark.parametrize("use_processes", [False, True])
@pytest.mark.parametrize("stop", ["enq.stop()", ""])
def test_defect_24_is_absent_a_script_needs_no_main_guard_and_its_class_may_be_in_main(
    tmp_path: Path, use_processes: bool, stop: str
) -> None:
    source = WITHOUT_A_GUARD.replace("USE_PROCESSES", str(use_processes)).replace("STOP", stop)
    assert run_script(source, tmp_path) == PRINTED


def test_a_class_in_main_works_with_python_c(tmp_path: Path) -> None:
    source = WITHOUT_A_GUARD.replace("USE_PROCESSES", "True").replace("STOP", "enq.stop()")
    assert run_command(source, tmp_path) == PRINTED


def test_a_module_beside_the_script_is_found_by_its_workers(tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text(
        "class Beside:\n    def __len__(self): return 2\n    def __getitem__(self, index): return index * 10\n"
    )
    source = """
from beside import Beside
from enqueuer import SequenceEnqueuer
with SequenceEnqueuer(Beside(), True) as enq:
    enq.start(1)
    stream = enq.get()
    print([next(stream) for _ in range(3)])
"""
    assert run_script(source, tmp_path) == "[0, 10, 0]\n"


RUNNING = """
import os, sys
from enqueuer import SequenceEnqueuer
from tests.support.sequences import Delayed

enq = SequenceEnqueuer(Delayed(length=20, journal=sys.argv[1]), use_multiprocessing=sys.argv[2] == "processes")
enq.start(2, 10)
stream = enq.get()
next(stream)
"""


@pytest.mark.parametrize("placement_name", ["threads", "processes"])
def test_a_program_that_never_stops_its_enqueuer_ends_by_itself(
    tmp_path: Path, journal: Journal, placement_name: str
) -> None:
    source = RUNNING + "from tests.support.leaks import descendants\nprint(*descendants(os.getpid()))\n"
    started = run_script(source, tmp_path, [journal.path, placement_name], timeout=20)
    pids = {int(pid) for pid in started.split()}
    assert bool(pids) == (placement_name == "processes")
    wait_until(lambda: not alive(pids), what="the end of its processes")


@pytest.mark.proves("the training loop drops out without `stop()`")
def test_a_program_that_ends_by_an_exception_ends_all_it_started(tmp_path: Path, journal: Journal) -> None:
    source = RUNNING + "for _ in stream:\n    raise LookupError('from the loop')\n"
    with start_script(source, tmp_path, [journal.path, "processes"]) as program:
        output, _ = program.communicate(timeout=20)
    assert program.returncode == 1
    assert output.rstrip().endswith("LookupError: from the loop")
    assert not alive({item.pid for item in journal.entries("item")})


def test_a_killed_program_leaves_no_process(tmp_path: Path, journal: Journal) -> None:
    with start_script(RUNNING + "for _ in stream:\n    pass\n", tmp_path, [journal.path, "processes"]) as program:
        wait_until(lambda: len(journal.entries("done")) > 20, 20, what="batches")
        pids = descendants(program.pid)
        program.kill()
    assert len(pids) >= 2
    wait_until(lambda: not alive(pids), what="the end of its processes")


@pytest.mark.proves("Ctrl-C")
@pytest.mark.parametrize("placement_name", ["threads", "processes"])
def test_ctrl_c_ends_the_program_and_all_it_started(tmp_path: Path, journal: Journal, placement_name: str) -> None:
    with start_script(RUNNING + "for _ in stream:\n    pass\n", tmp_path, [journal.path, placement_name]) as program:
        wait_until(lambda: len(journal.entries("done")) > 20, 20, what="batches")
        pids = descendants(program.pid)
        # As a terminal does it: to the whole foreground process group.
        os.killpg(program.pid, signal.SIGINT)
        output, _ = program.communicate(timeout=15)
    assert program.returncode in (-signal.SIGINT, 128 + signal.SIGINT)
    assert output.count("KeyboardInterrupt") == 1, output
    wait_until(lambda: not alive(pids), what="the end of its processes")


@pytest.mark.proves("the trainer forks")
def test_a_forked_child_of_the_trainer_touches_nothing(tmp_path: Path, journal: Journal) -> None:
    source = (
        RUNNING
        + """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)
for number in range(3):
    child = os.fork()
    if child == 0:
        if number == 0:
            enq.stop()
        if number == 1:
            del stream, enq
        sys.exit(0)
    assert os.waitpid(child, 0)[1] == 0
taken = [next(stream) for _ in range(39)]
assert taken == [(0, index) for index in range(1, 20)] + [(1, index) for index in range(20)], taken
enq.stop()
print("unharmed")
"""
    )
    assert run_script(source, tmp_path, [journal.path, "processes"]) == "unharmed\n"


def test_importing_the_library_starts_nothing(tmp_path: Path) -> None:
    source = "import enqueuer, threading\nprint(threading.active_count())"
    assert run_command(source, tmp_path) == "1\n"


def test_no_signal_handler_is_installed_in_the_trainer(tmp_path: Path, journal: Journal) -> None:
    before = "import signal\nbefore = [signal.getsignal(number) for number in signal.valid_signals()]\n"
    after = "print(before == [signal.getsignal(number) for number in signal.valid_signals()])\n"
    assert run_script(before + RUNNING + after, tmp_path, [journal.path, "processes"]) == "True\n"


def test_workers_print_where_the_trainer_prints(tmp_path: Path) -> None:
    """A local worker's output is the trainer's, as with Keras' forked workers."""
    source = """
from enqueuer import SequenceEnqueuer
class Loud:
    def __len__(self): return 1
    def __getitem__(self, index):
        print("from the worker", flush=True)
        return index
with SequenceEnqueuer(Loud(), True) as enq:
    enq.start(1, 1)
    next(enq.get())
"""
    with start_script(source, tmp_path) as program:
        try:
            output, _ = program.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            program.kill()
            raise
    assert "from the worker" in output


WITH_AN_INTERPRETER = """
import multiprocessing
import sys
from enqueuer import SequenceEnqueuer

class Plain:
    def __len__(self):
        return 2
    def __getitem__(self, index):
        return index

multiprocessing.set_executable(EXECUTABLE)
try:
    with SequenceEnqueuer(Plain(), use_multiprocessing=True, no_worker_timeout=10) as enqueuer:
        enqueuer.start(1)
        print(next(enqueuer.get()))
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("not a program", r"ConfigurationError .*'{path}', does not start: .*multiprocessing\.set_executable"),
        ("#!/bin/sh\nexit 3\n", r"NoWorkersError .*'{path}', set by multiprocessing\.set_executable\(\), must be"),
        (f'#!/bin/sh\nexec {sys.executable} "$@"\n', "^0$"),
    ],
)
def test_an_interpreter_that_was_set_is_used_or_named(content: str, told: str, tmp_path: Path) -> None:
    program = tmp_path / "python"
    program.write_text(content)
    program.chmod(0o755)
    printed = run_script(WITH_AN_INTERPRETER.replace("EXECUTABLE", repr(str(program))), tmp_path)
    assert re.search(told.replace("{path}", re.escape(str(program))), printed), printed


def test_workers_start_in_a_directory_with_a_module_that_is_named_like_one_of_the_standard_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_broken_module(tmp_path / "data", "queue")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["", os.environ.get("PYTHONPATH", "")]))
    source = WITHOUT_A_GUARD.replace("USE_PROCESSES", "True").replace("STOP", "enq.stop()")
    assert run_script(f"import os\nos.chdir({data!r})\n{source}", tmp_path) == PRINTED
