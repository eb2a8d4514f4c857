"""Mistakes of a first hour, planted: each gives one error, which names its cause and its cure."""

from __future__ import annotations

import logging
import re
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from click.testing import CliRunner

from enqueuer import (
    ConfigurationError,
    NoWorkersError,
    PoisonedBatchError,
    SequenceEnqueuer,
    SequenceSpec,
    StateError,
)
from enqueuer.cli.main import main
from tests.support.mistaken_sequences import Batches, Deadly, Halved, Locked, Raising, Unsized, train


def stopped() -> SequenceEnqueuer:
    enqueuer = SequenceEnqueuer(Batches())
    enqueuer.start()
    enqueuer.stop()
    return enqueuer


def failed() -> SequenceEnqueuer:
    enqueuer = SequenceEnqueuer(Raising())
    enqueuer.start()
    with pytest.raises(KeyError):
        next(enqueuer.get())
    return enqueuer


def start_twice() -> None:
    with SequenceEnqueuer(Batches()) as enqueuer:
        enqueuer.start()
        enqueuer.start()


def wait_for_too_many() -> None:
    with SequenceEnqueuer(Batches()) as enqueuer:
        enqueuer.start(workers=2)
        enqueuer.wait_for_workers(5, timeout=30)


def bind_a_taken_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        train(Batches(), bind=f"tcp://127.0.0.1:{server.getsockname()[1]}")


def set_an_option(name: str, value: Any) -> None:
    setattr(SequenceEnqueuer(Batches()), name, value)


def use_a_local_class() -> None:
    class Local(Batches):
        pass

    SequenceSpec(Local)


def import_an_adapter() -> None:
    sys.modules.pop("enqueuer.adapters.jax", None)
    import enqueuer.adapters.jax  # noqa: F401


def draw_a_bar() -> None:
    from enqueuer.monitoring.progress import ProgressBar

    ProgressBar(SequenceEnqueuer(Batches()))


class Mistake(NamedTuple):
    make: Callable[[], Any]
    error: type[BaseException]
    cause: str
    cure: str


def replace_the_sequence() -> None:
    SequenceEnqueuer(Batches()).sequence = 5


MISTAKES = {
    "a Sequence by its name alone": Mistake(
        lambda: SequenceEnqueuer("mydata:Batches"),
        TypeError,
        "its items are characters",
        r"pass SequenceSpec\('mydata:Batches'\)",
    ),
    "a dict of columns as the Sequence": Mistake(
        lambda: SequenceEnqueuer({"x": [1], "y": [2]}),
        TypeError,
        "its keys are not 0, 1",
        r"pass an object whose __getit",
    ),
    "a Sequence that is replaced by something else": Mistake(
        replace_the_sequence, TypeError, "an int cannot serve", "lacks __len__ "
    ),
    "a length by a division": Mistake(
        lambda: train(Halved()), TypeError, r"Halved.__len__ must return .*'float'", r"divide with // or math\.ceil"
    ),
    "the number of workers for the constructor": Mistake(
        lambda: SequenceEnqueuer(Batches(), workers=4),  # type: ignore[call-arg]
        TypeError,
        "no option 'workers'",
        r"an argument of start\(\), start\(workers=4\)",
    ),
    "an option for start()": Mistake(
        lambda: SequenceEnqueuer(Batches()).start(shuffle=True),  # type: ignore[call-arg]
        TypeError,
        "no argument 'shuffle'",
        r"SequenceEnqueuer\(sequence, shuffle=True\)",
    ),
    "a time-out for the constructor": Mistake(
        lambda: SequenceEnqueuer(Batches(), worker_timeout=4),  # type: ignore[call-arg]
        TypeError,
        "no option 'worker_timeout'",
        r"timing=Timing\(worker_timeout=4\)",
    ),
    "a spec of a lambda": Mistake(
        lambda: SequenceSpec(lambda: Batches()),
        ConfigurationError,
        "a lambda has no name",
        "define a function with def",
    ),
    "a spec with a dot for the colon": Mistake(
        lambda: SequenceSpec("mydata.Batches"), ConfigurationError, "not of the form", "such as 'mydata:Batches'"
    ),
    "a port that there is not": Mistake(
        lambda: SequenceEnqueuer(Batches(), bind="tcp://*:99999"),
        ConfigurationError,
        "not 'tcp://\\*:99999'",
        "ports end at 65535",
    ),
    "a key file that is not there": Mistake(
        lambda: SequenceEnqueuer(Batches(), bind="tcp://*:0", key_file="no.key"),
        ConfigurationError,
        "cannot read .*no.key: No such file",
        "`enqueuer keygen DIR` makes",
    ),
    "a worker_init that holds a lock": Mistake(
        lambda: train(Batches(), True, worker_init=threading.Lock().acquire),
        ConfigurationError,
        "cannot pickle '_thread.lock'",
        "Name it as worker_init='package.module:callable'",
    ),
    "a class in place of an instance": Mistake(
        lambda: SequenceEnqueuer(Batches), TypeError, "Batches is a class", r"pass Batches\(…\)"
    ),
    "a Sequence without a length": Mistake(
        lambda: SequenceEnqueuer(Unsized()), TypeError, "an? Unsized cannot serve", "lacks __len__ "
    ),
    "an option with a typing error": Mistake(
        lambda: SequenceEnqueuer(Batches(), shufle=True), TypeError, "no option 'shufle'", "did you mean 'shuffle'"
    ),
    "the number of workers as use_multiprocessing": Mistake(
        lambda: SequenceEnqueuer(Batches(), 4),
        ConfigurationError,
        "use_multiprocessing must be True or False, not 4",
        r"workers is an argument of start\(\)",
    ),
    "a number of workers as text": Mistake(
        lambda: SequenceEnqueuer(Batches()).start(workers="4"),  # type: ignore[arg-type]
        TypeError,
        "workers must be an integer",
        "None for one worker a CPU, not '4'",
    ),
    "a negative number of workers": Mistake(
        lambda: SequenceEnqueuer(Batches()).start(workers=-1), ValueError, "workers must be 0 or more", "not -1"
    ),
    "more threads than any machine has": Mistake(
        lambda: SequenceEnqueuer(Batches()).start(workers=10**9),
        ValueError,
        "workers must be at most 10000",
        "not 1000000000",
    ),
    "a queue of unknown depth": Mistake(
        lambda: SequenceEnqueuer(Batches()).start(max_queue_size="deep"),  # type: ignore[arg-type]
        ValueError,
        "max_queue_size must be an integer or 'auto'",
        "not 'deep'",
    ),
    "a second start": Mistake(start_twice, RuntimeError, "already running", r"call stop\(\) first"),
    "an epoch before the start": Mistake(
        lambda: SequenceEnqueuer(Batches()).epoch(),
        RuntimeError,
        r"start\(\) was not called yet",
        r"call start\(\) first",
    ),
    "an epoch after the stop": Mistake(
        lambda: stopped().epoch(), RuntimeError, r"stop\(\) was called", r"call start\(\) first"
    ),
    "an epoch after an error": Mistake(
        lambda: failed().epoch(), RuntimeError, "KeyError came out of the last next", r"call start\(\) first"
    ),
    "an option set afterwards": Mistake(
        lambda: set_an_option("shuffle", True),
        AttributeError,
        "shuffle cannot be changed once the enqueuer is made",
        r"make a new one, with SequenceEnqueuer\(sequence, shuffle=True\)",
    ),
    "the number of workers set afterwards": Mistake(
        lambda: set_an_option("workers", 8), AttributeError, r"an argument of start\(\)", r"start\(workers=8\)"
    ),
    "positional arguments of a spec": Mistake(
        lambda: SequenceSpec("mydata:Batches", 100),  # type: ignore[arg-type]
        TypeError,
        "not by position",
        "by keyword, such as count=100",
    ),
    "a spec of a local class": Mistake(
        use_a_local_class, ConfigurationError, "Local cannot be imported by its name", "move it to the top level"
    ),
    "a spec of an object": Mistake(
        lambda: SequenceSpec(Batches()),  # type: ignore[arg-type]
        ConfigurationError,
        "not of a Batches",
        "goes to SequenceEnqueuer as it is",
    ),
    "a spec with a path": Mistake(
        lambda: SequenceSpec("mydata:Batches", folder=Path("data")),
        ConfigurationError,
        "argument folder: a PosixPath .* does not travel",
        "for a path give its str",
    ),
    "a spec with a NumPy number": Mistake(
        lambda: SequenceSpec("mydata:Batches", size=np.int64(3)),
        ConfigurationError,
        "argument size: an int64",
        "Arguments are None, bool, 64-bit int",
    ),
    "a spec of a module that is not there": Mistake(
        lambda: train(SequenceSpec("no_such_module:Batches")),
        ModuleNotFoundError,
        "No module named 'no_such_module'",
        "correct the name, or put the module's directory on the import path",
    ),
    "a Sequence that cannot be pickled": Mistake(
        lambda: train(Locked(), True), ConfigurationError, "cannot pickle '_thread.lock'", "Use threads .* or name it"
    ),
    "a batch that ends its process": Mistake(
        lambda: train(Deadly(), True),
        PoisonedBatchError,
        r"batch 2 of epoch 0 killed 3 workers.* exit code 7 \(3 times\)",
        r"Mend sequence\[2\], or leave such batches out with on_error='skip'",
    ),
    "more workers than there are": Mistake(
        wait_for_too_many, NoWorkersError, "5 workers will never be there", r"start\(\) was called for 2"
    ),
    "more workers wanted than started": Mistake(
        lambda: train(Batches(), min_workers=3), ConfigurationError, "min_workers=3", "never more than 1"
    ),
    "an address without a protocol": Mistake(
        lambda: train(Batches(), bind="0.0.0.0:5555"), ConfigurationError, "not '0.0.0.0:5555'", "tcp://host:port"
    ),
    "an open port without keys": Mistake(
        lambda: train(Batches(), bind="tcp://0.0.0.0:0"),
        ConfigurationError,
        "can be reached from other machines",
        "Make keys with `enqueuer keygen DIR`",
    ),
    "a port that another program has": Mistake(
        bind_a_taken_port, OSError, r"another program has port \d+", "end it, or take port 0"
    ),
    "another machine's address": Mistake(
        lambda: train(Batches(), bind="tcp://192.0.2.7:5555", insecure=True),
        OSError,
        "192.0.2.7 is not an address of this machine",
        r"bind one that is, or tcp://\*:5555",
    ),
    "shards without a common seed": Mistake(
        lambda: SequenceEnqueuer(Batches(), shuffle=True, shard=(0, 2)),
        ConfigurationError,
        "the ranks' shards overlap",
        "needs the same seed=…",
    ),
    "seconds as text": Mistake(
        lambda: SequenceEnqueuer(Batches(), batch_timeout="5"),  # type: ignore[arg-type]
        ConfigurationError,
        "batch_timeout must be a number of seconds",
        "not '5'",
    ),
    "a state of something else": Mistake(
        lambda: SequenceEnqueuer(Batches()).load_state_dict({"weights": 1}),
        StateError,
        "version is missing",
        "not a resume state",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_gives_one_error_that_names_cause_and_cure(
    mistake: Mistake, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(mistake.error) as caught:
        mistake.make()
    assert re.search(mistake.cause, str(caught.value))
    assert re.search(mistake.cure, str(caught.value))
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR], "told once"


@pytest.mark.parametrize(
    ("module", "use", "extra"),
    [("jax", import_an_adapter, "jax"), ("tqdm", draw_a_bar, "progress")],
)
def test_a_missing_package_gives_one_error_with_the_extra_to_install(
    monkeypatch: pytest.MonkeyPatch, module: str, use: Callable[[], None], extra: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf"pip install 'enqueuer\[{extra}\]'"):
        use()


@pytest.mark.parametrize(
    ("arguments", "cause", "cure"),
    [
        (
            ["demo", "--bind", "tcp://0.0.0.0:0"],
            "--bind tcp://0.0.0.0:0 can be reached",
            "--key-file DIR/coordinator.key",
        ),
        (["demo", "--bind", "localhost"], "--bind must look like", "tcp://host:port"),
        (["worker", "--connect", "trainer", "--allow", "mydata"], "--connect must be", "tcp://host:port"),
        (
            ["worker", "--connect", "tcp://0.0.0.0:5555", "--allow", "mydata"],
            "--connect tcp://0.0.0.0:5555 is where a trainer listens",
            "'tcp://trainer:5555'",
        ),
        (["demo", "--bind", "localhost:5555"], "not 'localhost:5555'", "did you mean 'tcp://localhost:5555'"),
        (["worker", "--connect", "tcp://127.0.0.1:5555"], "imports only what its owner allows", "--allow PACKAGE"),
        (
            ["worker", "--connect", "tcp://127.0.0.1:5555", "--allow", "a", "--processes", "x"],
            "--processes must",
            "'auto'",
        ),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line_in_the_commands_words(
    arguments: list[str], cause: str, cure: str
) -> None:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    (line,) = result.output.splitlines()
    assert line.startswith("Error: ") and cause in line and cure in line
