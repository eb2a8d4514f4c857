"""The comparison's pure pieces. Its peers are not needed here, and nothing is measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.benchmarks.comparison import bars, process_tree, table
from tests.benchmarks.comparison.bars import Bar
from tests.benchmarks.comparison.contestants import ALL_KINDS, CONTESTANTS, WORKERS
from tests.benchmarks.comparison.contestants.plain_zmq import high_water_mark
from tests.benchmarks.comparison.process_tree import Stat
from tests.benchmarks.comparison.results import CPU, Cell, Measurement, Results
from tests.benchmarks.comparison.run import cells, reason


def measured(rate: float, cpu: float = 1.0) -> Measurement:
    return Measurement(rate, rate * 1e6, 100_000_000, cpu)


def results_of(**rates: float) -> Results:
    """Of `mid`, ten in flight; names with _ for -."""
    results = Results()
    for name, rate in rates.items():
        results.add(Cell("mid", name.replace("_", "-"), 10).resolved(), measured(rate, 1 / rate))
    return results


# ------------------------------------------------------------ processes


def test_a_process_name_with_spaces_and_parentheses_does_not_shift_the_fields() -> None:
    line = "42 (a ) S 7 (b) R 41 42 42 0 -1 4194304 99 0 0 0 5 6 7 8 20 0 1 0 70991 3133440 380"
    assert process_tree.parse_stat(line) == Stat(pid=42, parent=41, cpu_ticks=26)


def test_grandchildren_belong_to_the_tree_and_the_roots_siblings_do_not() -> None:
    stats = [Stat(1, 0, 0), Stat(10, 1, 0), Stat(30, 20, 0), Stat(20, 10, 0), Stat(11, 1, 0)]
    assert [stat.pid for stat in process_tree.below(10, stats)] == [10, 20, 30]


def test_a_process_that_is_gone_has_no_tree() -> None:
    assert process_tree.below(99, [Stat(1, 0, 0)]) == []


def test_rollup_sizes_are_bytes_and_its_first_line_is_no_size() -> None:
    text = "55eab000-7fff000 ---p 00000000 00:00 0   [rollup]\nPss:      284 kB\nPss_Shmem:   4 kB\n"
    assert process_tree.parse_rollup(text) == {"Pss": 284 * 1024, "Pss_Shmem": 4096}


def test_the_machine_is_busy_with_all_but_idling_and_waiting() -> None:
    assert process_tree.parse_busy_ticks("cpu  1 2 3 1000 1000 4 5 6 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n") == 21


# ------------------------------------------------------------ what is measured


def test_a_default_that_is_one_of_the_depths_is_measured_once() -> None:
    assert cells(["mid"], ["enqueuer", "torch"], [10, None]) == [
        Cell("mid", "enqueuer", 10),
        Cell("mid", "torch", 10),
        Cell("mid", "torch", None),
    ]


def test_a_baseline_without_depth_is_measured_once() -> None:
    assert cells(["small"], ["memcpy"], [10, 256, None]) == [Cell("small", "memcpy", None)]


def test_only_small_batches_are_measured_256_deep() -> None:
    assert cells(["mid", "small"], ["torch"], [256]) == [Cell("small", "torch", 256)]


def test_a_kind_that_a_contestant_cannot_express_is_not_run() -> None:
    assert cells(["sleep20"], ["tf-data-service", "memcpy"], [10]) == []


def test_the_two_ends_of_the_plain_sockets_together_hold_the_depth() -> None:
    assert [high_water_mark(depth, WORKERS) * 2 * WORKERS for depth in (10, 256)] == [12, 260]
    assert high_water_mark(10, 8) * 2 * 8 == 32


def test_other_numbers_of_workers_and_steps_are_other_cells() -> None:
    assert cells(["crops"], ["enqueuer"], [None], workers=4, step_ms=2) == [Cell("crops", "enqueuer", 10, 4, 2)]


def test_the_reason_of_a_failure_is_the_last_error_in_the_output() -> None:
    assert reason("Traceback:\n  File x\nValueError: too small\nbye\n") == "ValueError: too small"
    assert reason("killed\n") == "killed"
    assert reason("") == "it ended without a word"


def test_only_voluntary_switches_count() -> None:
    assert process_tree.parse_switches("Name:\tx\nvoluntary_ctxt_switches:\t12\nnonvoluntary_ctxt_switches:\t3\n") == 12


# ------------------------------------------------------------ results and bars


def test_results_survive_their_file(tmp_path: Path) -> None:
    results = results_of(enqueuer=3.0, torch=1.0)
    results.failures[Cell("mid", "ray", None)] = "no room"
    results.not_installed["keras"] = ["keras"]
    results.save(tmp_path / "results.json")
    assert Results.load(tmp_path / "results.json") == results


def test_results_of_an_earlier_version_are_of_two_workers_without_a_step(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    results_of(enqueuer=3.0).save(file)
    content = json.loads(file.read_text())
    for entry in content["cells"]:
        del entry["workers"], entry["step_ms"]
    file.write_text(json.dumps(content))
    assert list(Results.load(file).runs) == [Cell("mid", "enqueuer", 10, 2, 0.0)]


def test_medians_are_of_all_runs() -> None:
    results = Results()
    for rate in (1.0, 9.0, 2.0):
        results.add(Cell("mid", "torch", 10), measured(rate))
    assert results.median(Cell("mid", "torch", 10)) == 2.0


def test_the_best_of_several_baselines_counts_which_for_a_cost_is_the_least() -> None:
    results = results_of(enqueuer=10.0, torch=4.0, torch_numpy=5.0)
    names = ("torch", "torch-numpy")
    assert Bar("mid", "enqueuer", names, 5).measured(results) == pytest.approx(10 / 5)
    assert Bar("mid", "enqueuer", names, 0.5, CPU).measured(results) == pytest.approx((1 / 10) / (1 / 5))


def test_a_bar_is_not_measured_while_one_of_its_baselines_is_missing() -> None:
    results = results_of(enqueuer=10.0, torch=4.0)
    assert Bar("mid", "enqueuer", ("torch", "torch-numpy"), 5).measured(results) is None


def test_a_rate_is_to_reach_its_bar_and_a_cost_to_stay_below() -> None:
    rate, cost = Bar("mid", "enqueuer", ("torch",), 5), Bar("mid", "enqueuer", ("torch",), 0.5, CPU)
    assert rate.met(5.0) and not rate.met(4.99)
    assert cost.met(0.5) and not cost.met(0.51)


def test_every_bar_names_contestants_that_can_express_its_kind() -> None:
    for bar in bars.BARS:
        assert all(bar.kind in CONTESTANTS[name].kinds for name in (bar.contestant, *bar.baselines)), bar.says()


def test_the_lines_say_which_bars_are_met_missed_and_not_measured() -> None:
    lines = bars.lines(results_of(enqueuer=100.0, torch=10.0, torch_numpy=10.0, zmq_raw_ipc=200.0, zmq_raw_tcp=1.0))
    of_mid = [line for line in lines if line.startswith("mid")]
    assert of_mid[0].endswith("10.00  met")
    assert any(line.endswith("0.50  MISSED") for line in of_mid)
    assert lines[0].endswith("not measured")


# ------------------------------------------------------------ the table


def test_the_table_has_a_row_a_cell_failures_below_and_a_dash_for_what_cannot_be_expressed() -> None:
    results = Results()
    results.add(Cell("jpeg", "enqueuer", 10), measured(20.0))
    results.add(Cell("jpeg", "bare", None), measured(25.0))
    results.add(Cell("sleep20", "enqueuer", 10), measured(90.0))
    results.failures[Cell("jpeg", "ray", 10)] = "no room"
    results.not_installed["keras"] = ["keras"]
    text = list(table.lines(results))
    assert any(line.startswith("Enqueuer, local processes") and " 0.80 " in line for line in text)
    assert any(line.startswith("Ray Data") and line.endswith("failed") for line in text)
    assert "failed: jpeg, ray at 10: no room" in text
    assert "left out: keras (keras not installed)" in text
    assert any(line.startswith("tf.data service") and line.endswith(table.DASH) for line in text)


def test_each_number_of_workers_and_each_step_has_a_block_with_its_own_baseline() -> None:
    results = Results()
    results.add(Cell("crops", "enqueuer", 10), measured(80.0))
    results.add(Cell("crops", "bare", None), measured(100.0))
    results.add(Cell("crops", "enqueuer", 10, 4, 2.0), measured(60.0))
    results.add(Cell("crops", "bare", None, 4, 2.0), measured(120.0))
    text = list(table.lines(results))
    titles = [number for number, line in enumerate(text) if line.startswith("crops:")]
    assert [text[number].rpartition("batch)")[2] for number in titles] == ["", ", 4 workers, a step of 2 ms"]
    assert " 0.80 " in text[titles[0] + 2] and " 0.50 " in text[titles[1] + 2]


def test_every_kind_has_a_title_and_baselines() -> None:
    assert set(table.TITLES) == set(table.BASELINES) == set(ALL_KINDS)
