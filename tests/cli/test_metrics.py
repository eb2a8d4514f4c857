"""The command `enqueuer metrics`: a trainer that starts, ends and starts again behind it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from enqueuer import SequenceEnqueuer
from enqueuer.cli.caller_error import CallerError
from enqueuer.cli.main import main
from enqueuer.cli.metrics import TrainerSource
from enqueuer.security.key_directory import KeyDirectory
from tests.monitoring.test_metrics import free_port, scrape
from tests.support.observed import own_directory
from tests.support.sequences import Bare
from tests.support.waiting import wait_until

TIMEOUT = 30.0


@pytest.fixture(autouse=True)
def directory(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with own_directory(monkeypatch) as path:
        yield path


def test_the_one_trainer_of_this_machine_is_served_whenever_it_runs(capsys: pytest.CaptureFixture[str]) -> None:
    source = TrainerSource(None, None, TIMEOUT)
    assert source.snapshot() is None and source.snapshot() is None
    assert capsys.readouterr().err == "no trainer runs here\n", "once"
    with SequenceEnqueuer(Bare(length=6)) as enqueuer:
        for slots in (1, 2):
            enqueuer.start(workers=slots)
            seen = source.snapshot() or source.snapshot()  # the first one may meet the end of the trainer before
            assert seen is not None and seen.slots_count == slots
            enqueuer.stop()
            assert source.snapshot() is None
        enqueuer.start(workers=1)
        with SequenceEnqueuer(Bare(length=6)) as other:
            other.start(workers=1)
            assert source.snapshot() is None
            assert "several trainers run here" in capsys.readouterr().err
            with pytest.raises(
                CallerError, match="several trainers run here: give the address of one of them: unix://"
            ):
                TrainerSource(None, None, TIMEOUT)


def test_a_token_that_is_revoked_while_it_serves_is_told_and_the_trainer_counts_as_silent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = KeyDirectory(tmp_path / "keys")
    keys.create()
    token = keys.token_file(keys.add_observer("grafana"))
    with SequenceEnqueuer(Bare(length=6), bind="tcp://127.0.0.1:*", key_file=keys.key_file) as enqueuer:
        enqueuer.start(workers=1)
        source = TrainerSource(enqueuer.endpoint, token, TIMEOUT)
        assert source.snapshot() is not None
        keys.revoke_observer("grafana")
        wait_until(lambda: source.snapshot() is None, TIMEOUT)
        assert source.snapshot() is None, "its file is gone as well"
        told = capsys.readouterr().err
        assert "its key was revoked" in told and f"cannot read {token}" in told


def test_an_impossible_address_is_an_error_of_the_command() -> None:
    result = CliRunner().invoke(main, ["metrics", "trainer:80"])
    assert result.exit_code == 2 and "is no address" in result.output


def test_the_command_serves_a_trainer_at_an_address() -> None:
    pytest.importorskip("prometheus_client")
    port = free_port()
    with SequenceEnqueuer(Bare(length=6), bind="tcp://127.0.0.1:*") as enqueuer:
        enqueuer.start(workers=2)
        assert enqueuer.endpoint is not None
        command = [sys.executable, "-m", "enqueuer", "metrics", enqueuer.endpoint, "--port", str(port)]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as program:
            try:
                assert program.stderr is not None
                assert program.stderr.readline() == f"serving metrics at http://127.0.0.1:{port}/metrics\n"
                wait_until(lambda: scrape(port)[0].get(("enqueuer_slots", ())) == 2, TIMEOUT)
                second = CliRunner().invoke(main, ["metrics", enqueuer.endpoint, "--port", str(port)])
                assert second.exit_code == 1 and "the port is taken: --port gives another one" in second.output
                enqueuer.stop()
                wait_until(lambda: scrape(port)[0] == {("enqueuer_up", ()): 0.0}, 2 * TIMEOUT)
            finally:
                program.terminate()
