"""The command `enqueuer worker`: its help, its errors, and the settings that it makes of its options."""

from __future__ import annotations

import inspect
import math
import os
import sys
from dataclasses import replace
from typing import Any

import pytest
from click.testing import CliRunner, Result

import enqueuer_worker
from enqueuer.errors import ConfigurationError
from enqueuer_worker import cli, run
from enqueuer_worker.arguments import parse_duration
from enqueuer_worker.settings import ChildSettings, Settings

CONNECT = ["--connect", "tcp://trainer:5555", "--insecure"]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Settings, int]]:
    """The settings and the number of processes of each supervisor that would have run."""
    calls: list[tuple[Settings, int]] = []

    class Recorded:
        def __init__(self, settings: Settings, processes: int, *_: Any) -> None:
            calls.append((settings, processes))

        def run(self) -> int:
            return 7

    monkeypatch.setattr(run, "Supervisor", Recorded)
    return calls


def invoke(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(cli.worker, list(arguments), env=environment)


def test_every_option_has_a_help_text_and_an_environment_variable() -> None:
    for option in cli.worker.params:
        assert getattr(option, "help", ""), option.name
        assert str(getattr(option, "envvar", "")).startswith("ENQUEUER_"), option.name
    shown = invoke("--help").output
    assert "tcp://trainer:5555" in shown and "ENQUEUER_CONNECT" in shown


def test_the_options_are_the_parameters_of_run_worker_with_the_same_defaults(started: list[Any]) -> None:
    assert [option.name for option in cli.worker.params] == list(inspect.signature(run.run_worker).parameters)
    invoke(*CONNECT, "--allow", "p")
    enqueuer_worker.run_worker("tcp://trainer:5555", insecure=True, allow="p")
    (by_command, _), (by_function, _) = started
    assert replace(by_command, supervisor="") == replace(by_function, supervisor="")


def test_options_reach_the_workers_settings(started: list[tuple[Settings, int]]) -> None:
    result = invoke(
        *CONNECT,
        *("--processes", "3", "--sequence", "my.data:Train", "--sequence", "my.data:Test", "--allow", "other.package"),
        *("--name", "box", "--once", "--drain-timeout", "2.5", "--max-reconnect-interval", "9", "--allow-skew"),
        *("--worker-threads", "2", "--log-level", "debug", "--log-json", "--data-connect", "tcp://trainer:5556"),
    )
    assert result.exit_code == 7
    ((settings, processes),) = started
    assert processes == 3
    assert (settings.connect, settings.name, settings.once, settings.allow_skew) == (
        "tcp://trainer:5555",
        "box",
        True,
        True,
    )
    assert settings.sequences == ("my.data:Train", "my.data:Test") and settings.packages == ("other.package",)
    assert (settings.drain_timeout, settings.max_reconnect_interval, settings.worker_threads) == (2.5, 9.0, 2)
    assert (settings.data_connect, settings.stdin_timeout) == ("tcp://trainer:5556", math.inf)
    assert (settings.log_level, settings.log_json, settings.trust) == ("DEBUG", True, "remote")
    assert settings.sys_path[0] == os.getcwd()  # noqa: PTH109
    child = ChildSettings(settings, 1, "ab" * 16, 5, 77)
    assert ChildSettings.from_line(child.to_line()) == child


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("55m", 3300), ("2h", 7200), ("1.5d", 129_600), (" 2 H ", 7200)]
)
def test_a_duration_is_a_number_with_a_unit(text: str, seconds: float) -> None:
    assert parse_duration("lifetime", text) == seconds


def test_environment_variables_set_options_too(started: list[tuple[Settings, int]]) -> None:
    result = invoke(
        ENQUEUER_CONNECT="tcp://[fe80::1%eth0]:5555",
        ENQUEUER_PROCESSES="auto",
        ENQUEUER_ALLOW="one two.three",
        ENQUEUER_ONCE="1",
        ENQUEUER_INSECURE="1",
        ENQUEUER_LOG_LEVEL="WARNING",
    )
    assert result.exit_code == 7, result.output
    ((settings, processes),) = started
    assert settings.packages == ("one", "two.three") and settings.once
    assert processes == len(os.sched_getaffinity(0)) if sys.platform == "linux" else processes >= 1


@pytest.mark.usefixtures("started")
def test_a_worker_without_a_token_logs_a_warning() -> None:
    assert (
        "no token (--insecure): any program that poses as tcp://trainer:5555" in invoke(*CONNECT, "--allow", "p").output
    )
    assert "--insecure" not in invoke("--connect", "tcp://127.0.0.1:5555", "--allow", "p").output


@pytest.mark.usefixtures("started")
def test_a_module_that_cannot_be_imported_here_is_told_at_the_start() -> None:
    told = invoke(*CONNECT, "--allow", "json", "--allow", "jsno", "--sequence", "mydata.train:Batches").output
    assert "--allow jsno: no module 'jsno' can be found" in told and os.getcwd() in told  # noqa: PTH109
    assert "--sequence mydata.train:Batches: no module 'mydata' can be found" in told
    assert "--allow json" not in told


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "remote worker imports only what its owner allows"),
        (("--sequence", "data.Train"), "package.module:callable"),
        (("--allow", "my-package"), "dotted name"),
        (("--allow", "one,two"), "not 'one,two'; several go one by one: --allow A --allow B"),
        (("--allow", "p", "--max-memory", "99999999999T"), "a size like 4G"),
        (("--allow", "p", "--name", "a\nb"), "printable"),
        (("--allow", "p", "--name", "n" * 201), "up to 200"),
        (("--allow", "enqueuer"), "allow enqueuer.demo for the demo"),
        (("--allow", "p", "--allow", "enqueuer_worker.sequence.loader"), "unpickle"),
        (("--allow", "p", "--interface", "ib7"), "--interface ib7 is none of this machine; there are: "),
        (("--allow", "p", "--lifetime", "1 week"), "--lifetime must be a time like 90s, 55m, 2h"),
        (("--allow", "p", "--lifetime", "0s"), "--lifetime 0s must be longer than 0"),
        (
            ("--allow", "p", "--lifetime", "4m", "--lifetime-stagger", "300"),
            "than --lifetime-stagger 300, which shortens",
        ),
        (("--allow", "p", "--lifetime-stagger", "4m"), "--lifetime-stagger 4m shortens a lifetime: give --lifetime …"),
        (("--allow", "p", "--requeue-exit-code", "1"), "--requeue-exit-code must be from 3 to 125"),
        (("--allow", "p", "--preemption-notice", "ftp://x/y"), "a URL that begins with http:// or https://"),
        (("--allow", "p", "--preemption-notice", "http://"), "a URL that begins with http:// or https://"),
        (("--allow", "p", "--processes", "0"), "'auto' or a number of at least 1"),
        (("--allow", "p", "--processes", "10000000"), "do not fit this machine"),
        (("--allow", "p", "--processes", "many"), "'auto' or a number of at least 1"),
        (("--allow", "p", "--data-connect", "trainer:5556"), "--data-connect must be the trainer's address"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments: tuple[str, ...], words: str) -> None:
    result = invoke(*CONNECT, *arguments)
    assert result.exit_code == 2
    assert words in result.output and result.output.count("\n") == 1


@pytest.mark.parametrize(
    "address",
    [
        "trainer:5555",
        "tcp://trainer",
        "tcp://:5555",
        "tcp://*:5555",
        "tcp://trainer:0",
        "tcp://trainer:65536",
        "ipc://x",
    ],
)
def test_a_malformed_address_is_an_error(address: str) -> None:
    result = invoke("--connect", address, "--allow", "p")
    assert result.exit_code == 2
    assert "tcp://host:port" in result.output and address in result.output


@pytest.mark.parametrize("address", ["tcp://0.0.0.0:5555", "tcp://[::]:5555"])
def test_the_address_of_all_interfaces_is_the_trainers_to_bind_and_none_to_connect_to(address: str) -> None:
    result = invoke("--connect", address, "--allow", "p", "--insecure")
    assert result.exit_code == 2
    assert f"--connect {address} is where a trainer listens" in result.output and "tcp://trainer:5555" in result.output


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("drain_timeout", -1),
        ("max_reconnect_interval", -1),
        ("max_reconnect_interval", math.inf),
        ("worker_threads", -1),
    ],
)
def test_run_worker_rejects_numbers_out_of_range(option: str, value: float) -> None:
    arguments: dict[str, Any] = {option: value}
    with pytest.raises(ConfigurationError, match=option):
        enqueuer_worker.run_worker("tcp://127.0.0.1:5555", allow="p", **arguments)


def test_run_worker_refuses_an_unknown_log_level() -> None:
    with pytest.raises(ConfigurationError, match="log_level"):
        enqueuer_worker.run_worker("tcp://127.0.0.1:5555", allow="p", log_level="LOUD")


def test_run_worker_takes_one_target_or_many(started: list[tuple[Settings, int]]) -> None:
    enqueuer_worker.run_worker("tcp://127.0.0.1:5555", sequence="m:f", allow=["a", "b"])
    ((settings, _),) = started
    assert settings.sequences == ("m:f",) and settings.packages == ("a", "b")


def test_the_package_has_no_other_attribute() -> None:
    with pytest.raises(AttributeError, match="nothing"):
        enqueuer_worker.nothing  # noqa: B018
