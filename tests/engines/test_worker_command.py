from __future__ import annotations

import pytest

from enqueuer.engines.worker_command import worker_command
from enqueuer.errors import ConfigurationError


def test_the_launchers_options_come_first_and_empty_ones_are_left_out() -> None:
    own = {
        "--connect": "tcp://trainer:5555",
        "--processes": 4,
        "--token-file": None,
        "--once": False,
        "--insecure": True,
    }
    assert worker_command(own, ["--allow", "mydata", "--log-level", "DEBUG"]) == [
        *("worker", "--connect", "tcp://trainer:5555", "--processes", "4", "--insecure"),
        *("--allow", "mydata", "--log-level", "DEBUG"),
    ]


@pytest.mark.parametrize("given", [["--token-file", "x"], ["--token-file=x"]])
def test_an_option_that_the_launcher_sets_is_refused_behind_the_dashes(given: list[str]) -> None:
    with pytest.raises(ConfigurationError, match="--token-file stands behind `--`"):
        worker_command({"--token-file": None}, ["--allow", "mydata", *given])


def test_a_worker_that_may_import_nothing_is_an_error_before_it_is_started() -> None:
    with pytest.raises(ConfigurationError, match="-- --allow PACKAGE"):
        worker_command({}, ["--once"])
    for given in (["--allow=p"], ["--sequence", "p.m:C"], ["--allow-pickle"]):
        worker_command({}, given)
