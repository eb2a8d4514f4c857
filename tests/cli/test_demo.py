from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from enqueuer.cli.main import main
from tests.support.waiting import wait_until


def run_demo(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["demo", *arguments])


def assert_callers_error(result: Result, message: str) -> None:
    """Assert exit code 2 and one line with the error, below the progress bar if there is one."""
    assert result.exit_code == 2, result.output
    lines = [line for line in re.split(r"[\r\n]+", result.output) if line and "%|" not in line]
    assert len(lines) == 1, result.output
    assert lines[0].startswith("Error: ")
    assert message in lines[0]


@pytest.fixture
def image_folder(tmp_path: Path) -> Path:
    for name, level in {"bright": 200, "dark": 40}.items():
        (tmp_path / name).mkdir()
        for number in range(10):
            Image.new("RGB", (24, 24), (level, level, number)).save(tmp_path / name / f"{number}.png")
    return tmp_path


def test_help_explains_every_option():
    output = run_demo("--help").output
    for option in ("--images", "--workers", "--bind", "--key-file", "--insecure", "--epochs", "--batch-size", "--seed"):
        assert re.search(rf"{option}\b.*\S", output)


def test_a_missing_folder_is_one_line_and_exit_code_2(tmp_path: Path):
    assert_callers_error(run_demo("--images", str(tmp_path / "gone")), "there is no folder")


def test_a_bind_off_loopback_is_refused_before_anything_starts():
    result = run_demo("--bind", "tcp://0.0.0.0:0")
    assert_callers_error(result, "pass --insecure if")
    assert "--key-file DIR/coordinator.key" in result.output
    assert "key_file" not in result.output


def test_a_bind_that_is_no_address_is_refused():
    assert_callers_error(run_demo("--bind", "localhost"), "tcp://host:port")


def test_a_negative_number_of_workers_is_refused():
    result = run_demo("--workers", "-1")
    assert result.exit_code == 2
    assert "--workers" in result.output


@pytest.mark.parametrize("missing", ["PIL", "sklearn"])
def test_a_missing_extra_is_named_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch, missing: str):
    for name in [
        name for name in sys.modules if name.startswith("enqueuer.demo.") or name.partition(".")[0] == missing
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    result = run_demo()
    assert result.exit_code == 1
    assert result.output == f"Error: the demo needs {missing}: pip install 'enqueuer[demo]'\n"


def test_an_unreadable_training_image_is_named(image_folder: Path):
    for path in image_folder.glob("dark/*.png"):
        path.write_bytes(path.read_bytes()[:60])
    assert_callers_error(run_demo("--images", str(image_folder)), f"cannot read {image_folder / 'dark'}")


def test_an_unreadable_image_that_only_workers_decode_is_named(image_folder: Path):
    from enqueuer.demo.image_folder import load_image_folder

    broken = load_image_folder(image_folder).train.sources[0]
    assert isinstance(broken, str)
    Path(broken).write_bytes(b"not an image")
    assert_callers_error(run_demo("--images", str(image_folder), "--workers", "1"), f"cannot read {broken}")


def test_the_demo_learns_an_image_folder(image_folder: Path):
    result = run_demo("--images", str(image_folder), "--workers", "1", "--epochs", "15", "--batch-size", "4")
    assert result.exit_code == 0, result.output
    assert "accuracy: 1.000 (on 4 held-out images)" in result.output


def test_with_bind_the_command_for_the_other_machine_is_printed(image_folder: Path):
    arguments = ["--images", str(image_folder), "--workers", "1", "--epochs", "1", "--no-baseline"]
    result = run_demo(*arguments, "--bind", "tcp://127.0.0.1:0")
    assert result.exit_code == 0, result.output
    assert re.search(r"enqueuer worker --connect tcp://127\.0\.0\.1:\d+ .*--allow enqueuer\.demo\n", result.output)


def test_with_keys_the_command_names_the_token_to_copy(image_folder: Path, tmp_path_factory: pytest.TempPathFactory):
    keys = tmp_path_factory.mktemp("keys")
    CliRunner().invoke(main, ["keygen", str(keys)])
    arguments = ["--images", str(image_folder), "--workers", "1", "--epochs", "1", "--no-baseline"]
    result = run_demo(*arguments, "--bind", "tcp://127.0.0.1:0", "--key-file", str(keys / "coordinator.key"))
    assert result.exit_code == 0, result.output
    assert f"--token-file {keys}/worker.token --allow enqueuer.demo\n" in result.output


def test_a_port_in_use_is_an_error_in_one_line(image_folder: Path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        result = run_demo("--images", str(image_folder), "--bind", address)
    assert result.exit_code == 2, result.output
    assert address in result.output.splitlines()[-1]


def test_ctrl_c_during_training_ends_it_at_once_without_a_traceback():
    # As in a terminal also where the tests run in the background, which ignores Ctrl-C.
    heeding = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    command = [sys.executable, "-c", f"{heeding}; from enqueuer.cli.main import main; main()", "demo", "--workers", "1"]
    command += ["--epochs", "100000", "--bind", "tcp://127.0.0.1:0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True) as process:
        try:
            assert process.stdout is not None
            # The announcement of the address: the workers are being started.
            process.stdout.readline()
            # As a terminal does it: every process of the group gets the signal.
            os.killpg(process.pid, signal.SIGINT)
            sent_at = time.monotonic()
            _, errors = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == 130, errors.decode()
    assert b"Traceback" not in errors
    assert errors.endswith(b"interrupted\n")
    assert time.monotonic() - sent_at < 10


@pytest.mark.proves("the trainer is killed and goes on where it was")
def test_a_killed_demo_goes_on_to_the_same_weights(image_folder: Path, tmp_path_factory: pytest.TempPathFactory):
    directory = tmp_path_factory.mktemp("resume")
    job = ["--images", str(image_folder), "--workers", "1", "--batch-size", "1", "--seed", "3", "--no-baseline"]
    whole, killed = directory / "whole.npz", directory / "killed.npz"
    command = [sys.executable, "-c", "from enqueuer.cli.main import main; main()", "demo", *job]
    with subprocess.Popen(
        [*command, "--epochs", "100000", "--resume", str(killed)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            wait_until(killed.exists, 60)
        finally:
            process.kill()
    count = int(np.load(killed)["progress"].item().partition('"batches_count": ')[2].partition(",")[0])
    epochs = str(count // 16 + 4)
    for path in (killed, whole):
        result = run_demo(*job, "--epochs", epochs, "--resume", str(path))
        assert result.exit_code == 0, result.output
        assert (f"resuming after batch {count} of" in result.output) == (path == killed)
    with np.load(killed) as one, np.load(whole) as other:
        assert sorted(one) == sorted(other)
        # Not the place in the stream: at the end of an epoch it says whether `on_epoch_end` has run by then.
        assert all((one[name] == other[name]).all() for name in one if name != "progress")
    again = run_demo(*job, "--epochs", epochs, "--resume", str(whole))
    assert again.exit_code == 0, again.output
    assert "a training that was complete" in again.output
    (accuracy,) = [line for line in result.output.splitlines() if line.startswith("accuracy: ")]
    assert accuracy in again.output
    assert_callers_error(run_demo(*job, "--epochs", "1", "--resume", str(whole)), "give more epochs")


def test_two_processes_train_the_digits_to_95_percent():
    result = run_demo("--workers", "2", "--epochs", "6")
    assert result.exit_code == 0, result.output
    accuracy = re.search(r"^accuracy: ([\d.]+)", result.stdout, re.MULTILINE)
    assert accuracy is not None
    assert float(accuracy[1]) >= 0.95
    assert re.search(r"^batches/s: [\d.]+ \([\d.]+ with no workers: [\d.]+×\)$", result.stdout, re.MULTILINE)
    assert re.search(r"^time spent waiting for data: [\d.]+ s", result.stdout, re.MULTILINE)
    assert re.search(r"^before the first batch: [\d.]+ s to load the images here, then", result.stdout, re.MULTILINE)
    (rate,) = set(re.findall(r"([\d.]+) batches/s", result.output.rpartition("100%|")[2])[:1])
    assert abs(float(rate) - float(re.findall(r"^batches/s: ([\d.]+)", result.stdout, re.MULTILINE)[0])) < 1
