"""What ``__getitem__`` logs and warns in local processes appears as it does with threads."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.scripts import run_script

SCRIPT = """
import logging
import logging.handlers
import sys
import warnings
from enqueuer import SequenceEnqueuer

SET_UP

class Chatty:
    def __len__(self):
        return 6
    def __getitem__(self, index):
        READ
        return index

with SequenceEnqueuer(Chatty(), use_multiprocessing=USE_PROCESSES, prefetch_epochs=False) as enqueuer:
    enqueuer.start(2)
    assert list(enqueuer.epoch()) == list(range(6))
"""
TO_STDOUT = 'format="%(levelname)s %(name)s %(filename)s:%(lineno)d %(message)s", stream=sys.stdout'
LEVELS = f"""
logging.basicConfig(level=logging.INFO, {TO_STDOUT})
logging.getLogger("enqueuer").setLevel(logging.ERROR)
logging.getLogger("quiet").setLevel(logging.ERROR)
logging.getLogger("loud").setLevel(logging.DEBUG)
"""
OWN_HANDLERS = f"""
logging.basicConfig(level=logging.WARNING, {TO_STDOUT})
own = logging.getLogger("own")
own.propagate = False
own.addHandler(logging.StreamHandler(sys.stdout))
own.setLevel(logging.INFO)
"""
EXTRA = """
handler = logging.StreamHandler(sys.stdout)
handler.setFormatter(logging.Formatter("%(shelf)s %(message)s"))
logging.getLogger().addHandler(handler)
logging.getLogger("enqueuer").setLevel(logging.ERROR)
"""
FILTERS = """
warnings.filterwarnings("ignore", message="never")
def show(message, category, filename, lineno, *_):
    sys.stdout.write(f"{category.__name__} {lineno} {message}" + chr(10))
warnings.showwarning = show
"""
CASES = {
    "levels": (
        LEVELS,
        [
            'logging.getLogger("reading").info("opened shelf %d", index)',
            'logging.getLogger("reading").debug("hidden")',
            'logging.getLogger("quiet").warning("hidden")',
            'logging.getLogger("quiet.below").warning("hidden")',
            'logging.getLogger("loud").debug("heard %s", index)',
            'logging.info("of the root %s", index)',
        ],
    ),
    "handlers of a logger": (
        OWN_HANDLERS,
        ['own.info("once %d", index)', 'logging.getLogger("own.child").info("too")'],
    ),
    "exceptions and fields": (
        EXTRA,
        [
            "try: 1 / 0",
            'except ZeroDivisionError: logging.exception("failed %d", index, extra={"shelf": index})',
        ],
    ),
    "nothing set up": ("logging.lastResort = logging.StreamHandler(sys.stdout)", ['logging.getLogger("x").error("e")']),
    "a warning is shown once": (
        FILTERS,
        ['warnings.warn("once")', 'warnings.warn("never")', 'warnings.warn("old", DeprecationWarning)'],
    ),
    "all warnings": ('warnings.simplefilter("always")\n' + FILTERS, ['warnings.warn(f"number {index}")']),
    "errors": (
        'warnings.simplefilter("error")',
        ["try: warnings.warn('raised')", "except UserWarning: sys.stdout.write('caught' + chr(10))"],
    ),
    "captured": (LEVELS + "logging.captureWarnings(True)", ['warnings.warn("to the log")']),
}


@pytest.mark.parametrize(("set_up", "read"), CASES.values(), ids=CASES.keys())
def test_processes_log_and_warn_what_threads_do(set_up: str, read: list[str], tmp_path: Path) -> None:
    source = SCRIPT.replace("SET_UP", set_up).replace("READ", "\n        ".join(read))
    threads, processes = (
        sorted(run_script(source.replace("USE_PROCESSES", str(kind)), tmp_path).splitlines()) for kind in (False, True)
    )
    assert threads
    # Tracebacks mark the columns only where the code was compiled from a file.
    assert [line for line in processes if line.strip(" ~^")] == [line for line in threads if line.strip(" ~^")]
    assert "hidden" not in str(threads)
