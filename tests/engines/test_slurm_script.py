from __future__ import annotations

import subprocess

import pytest

from enqueuer.engines.slurm_script import SlurmFleet, job_script, walltime_seconds
from enqueuer.errors import ConfigurationError

WORKER = ["--connect", "tcp://trainer:5555", "--allow", "mydata"]


def script(fleet: SlurmFleet, *options: str) -> str:
    text = job_script(fleet, "/opt/my python/bin/python", [*WORKER, *options])
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)
    return text


def test_a_fleet_is_an_array_of_jobs_of_one_node_that_slurm_requeues() -> None:
    text = script(SlurmFleet(nodes=4, array=16))
    assert text.startswith("#!/bin/bash\n")
    for directive in ("--array=0-15%4", "--nodes=1", "--exclusive", "--requeue", "--signal=TERM@120"):
        assert f"#SBATCH {directive}\n" in text
    assert "'/opt/my python/bin/python' -m enqueuer worker" in text
    assert "    --connect tcp://trainer:5555 \\\n    --allow mydata\nstatus=$?\n" in text
    assert "--lifetime" not in text, "the partition's walltime is not known"
    assert "scancel" not in text


def test_the_workers_leave_before_slurm_signals_the_end_of_the_walltime() -> None:
    text = script(SlurmFleet(nodes=1, array=1, walltime="1:00:00", processes=8, partition="cpu"))
    assert "#SBATCH --time=1:00:00\n" in text and "#SBATCH --partition=cpu\n" in text
    assert "#SBATCH --cpus-per-task=8\n" in text and "--processes 8 " in text
    # Slurm may signal at 57 of the 60 minutes.
    assert "--lifetime 3420s \\\n    --lifetime-stagger 240s " in text


def test_options_behind_the_dashes_win_over_those_that_follow_from_slurm() -> None:
    given = ("--lifetime=2m", "--drain-timeout", "90", "--name", "mine")
    text = script(SlurmFleet(nodes=1, array=1, walltime="60"), *given)
    assert text.count("--lifetime=2m") == text.count("--drain-timeout 90") == text.count("--name mine") == 1
    assert text.count("--drain-timeout") == text.count("--name") == 1
    with pytest.raises(ConfigurationError, match="--processes stands behind `--`"):
        script(SlurmFleet(nodes=1, array=1), "--processes", "4")


def test_prologue_and_directives_are_lines_of_the_script() -> None:
    text = script(SlurmFleet(1, 1, prologue=("module load python",), directives=("#SBATCH --mem=8G", "-A me")))
    assert "#SBATCH --mem=8G\n#SBATCH -A me\n\nmodule load python\n\n" in text
    for wrong in ("mem=8G", "--mem=8G\nrm -r x", ""):
        with pytest.raises(ConfigurationError, match="directive must be one option of sbatch"):
            script(SlurmFleet(1, 1, directives=(wrong,)))


def test_with_once_the_jobs_that_wait_are_cancelled_after_the_training() -> None:
    assert 'scancel --state=PENDING "$SLURM_ARRAY_JOB_ID"' in script(SlurmFleet(1, 1), "--once")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *[("90", 5400), ("90:30", 5430), ("1:30:00", 5400), ("2-12", 216_000), ("1-0:30", 88_200)],
        ("1-01:01:01", 90_061),
    ],
)
def test_a_walltime_is_read_as_slurm_reads_it(text: str, seconds: int) -> None:
    assert walltime_seconds(text) == seconds


@pytest.mark.parametrize("wrong", ["", "1h", "1:2:3:4", "-5", "UNLIMITED"])
def test_a_text_that_is_no_walltime_is_an_error(wrong: str) -> None:
    with pytest.raises(ConfigurationError, match="as Slurm writes it"):
        walltime_seconds(wrong)


def test_impossible_fleets_are_errors() -> None:
    with pytest.raises(ConfigurationError, match="too short: Slurm announces the end 120 to 180 s before"):
        script(SlurmFleet(1, 1, walltime="4"))
    with pytest.raises(ConfigurationError, match="processes must be 'auto' or a number"):
        script(SlurmFleet(1, 1, processes="0"))
