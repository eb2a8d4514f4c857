"""Trainers over PyTorch, in interpreters of their own: resumed in the middle and at the end of an epoch."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.frameworks import require_frameworks, run_program, run_tests_in_framework
from tests.support.remote import REPOSITORY, environment

HERE = Path(__file__).parent
WORLD_SIZE = 2


def rendezvous() -> dict[str, str]:
    """Variables by which the ranks of one training find one another; threads of one core each are enough."""
    with socket.socket() as probe:  # torch listens on all addresses
        probe.bind(("", 0))
        port = str(probe.getsockname()[1])
    return {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def run_ranks(module: str, *arguments: str) -> list[Any]:
    """What each rank of the program printed last, read as JSON."""
    common = {**environment(), **rendezvous(), "WORLD_SIZE": str(WORLD_SIZE), "LOCAL_WORLD_SIZE": str(WORLD_SIZE)}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=REPOSITORY,
            env={**common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(WORLD_SIZE)
    ]
    try:
        printed = [rank.communicate(timeout=580)[0] for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
            rank.wait()
    return [json.loads(text.splitlines()[-1]) for text in printed]


def check_resumed(ranks: list[Any]) -> None:
    """Each training that was resumed after a step had the rest of the samples, and the same last weights."""
    for rank in ranks:
        whole = rank["whole"]
        for step, resumed in rank["resumed"].items():
            expected = {"steps": whole["steps"][int(step) :], "weights": whole["weights"]}
            assert resumed == expected, f"resumed after step {step}"


def test_lightning_trains_on_an_enqueuer_and_resumes() -> None:
    run_tests_in_framework(HERE / "in_lightning.py", "torch", "lightning")


def test_lightning_on_two_processes_resumes_bit_by_bit(tmp_path: Path) -> None:
    require_frameworks("torch", "lightning")
    run_program([str(HERE / "lightning_program.py"), str(tmp_path)], tmp_path, **rendezvous())
    ranks = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(WORLD_SIZE)]
    for epoch in (0, 12):
        parts = [rank["whole"]["steps"][epoch : epoch + 12] for rank in ranks]
        assert sorted(parts[0] + parts[1]) == list(range(24))
    check_resumed(ranks)


def test_accelerate_loses_no_batch_of_an_enqueuer() -> None:
    run_tests_in_framework(HERE / "in_accelerate.py", "torch", "torchdata", "accelerate")


@pytest.mark.parametrize("how", ["dealt", "own"])
def test_accelerates_ranks_resume_at_their_next_batch(how: str) -> None:
    require_frameworks("torch", "torchdata", "accelerate")
    ranks = run_ranks("tests.adapters.accelerate_program", how)
    for epoch in (0, 12):
        seen = [sample for rank in ranks for step in rank["whole"][epoch : epoch + 12] for sample in step]
        assert sorted(seen) == list(range(48))
    for rank in ranks:
        for step, resumed in rank["resumed"].items():
            assert resumed == rank["whole"][int(step) :], f"resumed after step {step}"


def test_hugging_faces_trainer_resumes_bit_by_bit() -> None:
    run_tests_in_framework(HERE / "in_transformers.py", "torch", "accelerate", "transformers")


def test_ranks_keep_their_place_in_distributed_checkpoints(tmp_path: Path) -> None:
    require_frameworks("torch")
    ranks = run_ranks("tests.adapters.checkpoint_program", str(tmp_path))
    assert ranks[0]["whole"]["weights"] == ranks[1]["whole"]["weights"]
    check_resumed(ranks)
    for rank in ranks:
        assert "each of the 2 ranks would train on all batches" in rank["refusal"]
