"""PyTorch's parts, in interpreters of their own."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

from tests.support.frameworks import require_frameworks, run_program, run_tests_in_framework
from tests.support.remote import REPOSITORY, environment

HERE = Path(__file__).parent


def test_an_enqueuer_distributes_pytorch_datasets() -> None:
    run_tests_in_framework(HERE / "in_torch.py", "torch")


def test_pytorch_loops_iterate_over_an_enqueuer() -> None:
    run_tests_in_framework(HERE / "in_torch_stream.py", "torch", "torchdata")


def test_an_epochs_order_is_drawn_once_and_belongs_to_the_state() -> None:
    run_tests_in_framework(HERE / "in_torch_orders.py", "torch")


def test_samplers_augmenters_and_states_of_other_libraries_are_as_in_their_loaders() -> None:
    run_tests_in_framework(HERE / "in_torch_peers.py", "torch")


def test_datasets_find_in_workers_what_a_data_loader_gives_them() -> None:
    run_tests_in_framework(HERE / "in_torch_workers.py", "torch")


def test_two_ranks_train_on_disjoint_shards_of_equal_length(tmp_path: Path) -> None:
    require_frameworks("torch")
    ranks = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.adapters.rank_program", str(rank), str(tmp_path / "store")],
            cwd=REPOSITORY,
            env=environment(),
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    try:
        outputs = [json.loads(rank.communicate(timeout=580)[0]) for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
            rank.wait()
    assert outputs[0]["weights"] == outputs[1]["weights"]
    for epoch in (0, 1):
        shards = [
            [sample for number, batch in output["steps"] for sample in batch if number == epoch] for output in outputs
        ]
        assert [len(shard) for shard in shards] == [12, 12]
        assert len({*shards[0], *shards[1]}) == 24, "8 whole batches of 25 samples, none twice"


def test_the_example_learns_the_digits_from_two_processes_and_a_remote_worker(tmp_path: Path) -> None:
    require_frameworks("torch", "sklearn", "PIL")
    printed = run_program([str(REPOSITORY / "examples" / "torch_digits.py")], tmp_path)
    assert float(re.search(r"accuracy: ([\d.]+)", printed)[1]) > 0.95
    counts = {name: int(count) for name, count in re.findall(r"^(\S+) on \S+: (\d+) batches$", printed, re.M)}
    assert len(counts) == 3 and all(counts.values()), counts
    # Batches computed ahead count too.
    assert sum(counts.values()) >= 8 * 45
