"""Metrics as Prometheus scrapes them: names and values, the page of the guide, and trainers that come and go."""

from __future__ import annotations

import re
import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from enqueuer import SequenceEnqueuer
from enqueuer.core.item_times import OCTAVES
from enqueuer.core.verdict import Cause
from enqueuer.monitoring.metrics import MetricsServer
from enqueuer.protocol.observation import Snapshot
from tests.monitoring.test_status_table import SNAPSHOT
from tests.support.observed import own_directory
from tests.support.sequences import Bare

parser = pytest.importorskip("prometheus_client.parser")

PAGE = Path(__file__).parents[2] / "docs" / "pages" / "reference" / "metrics.md"
SEEN = SNAPSHOT._replace(cause=Cause.WORKERS.value, item_counts=(5, *(0,) * 13, 900, 90, 4, *(0,) * (OCTAVES - 18), 1))

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def scrape(port: int) -> tuple[Samples, set[str]]:
    """The samples by name and labels, and the names of the families with their kinds."""
    # A system's proxy has no part in this.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        text = answer.read().decode()
    families = list(parser.text_string_to_metric_families(text))
    samples = {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}
    return samples, {re.sub(r"_(bucket|count|sum)$", "", name) for name, _ in samples}


@pytest.fixture
def served() -> Iterator[tuple[int, list[Snapshot | None]]]:
    """The port of a server, and what it shows: the last of a list."""
    shown: list[Snapshot | None] = [SEEN]
    port = free_port()
    server = MetricsServer(lambda: shown[-1], port)
    yield port, shown
    server.close()


def test_a_scrape_has_the_figures_of_the_snapshot(served: tuple[int, list[Snapshot | None]]) -> None:
    samples, _ = scrape(served[0])
    for name, labels, value in (
        ("enqueuer_up", {}, 1),
        ("enqueuer_info", {"version": "0.2.0"}, 1),
        ("enqueuer_batches_total", {}, 4_000),
        ("enqueuer_received_bytes_total", {"way": "shared_memory"}, 2**39),
        ("enqueuer_received_bytes_total", {"way": "socket"}, 2**39),
        ("enqueuer_network_bytes_total", {}, 2**38),
        ("enqueuer_worker_cpu_seconds_total", {}, 70.5),
        ("enqueuer_memory_bytes", {"side": "workers"}, 2**32),
        ("enqueuer_undelivered_batches", {"state": "leased"}, 5),
        ("enqueuer_workers", {"state": "joining"}, 1),
        ("enqueuer_desired_slots", {}, 4),
        ("enqueuer_wait_ratio", {}, 0.2),
        ("enqueuer_verdict", {"verdict": "workers"}, 1),
        ("enqueuer_verdict", {"verdict": "nothing"}, 0),
        ("enqueuer_lost_workers_total", {}, 7),
        ("enqueuer_item_seconds_count", {}, 1_000),
        ("enqueuer_item_seconds_sum", {}, 80.0),
        ("enqueuer_item_seconds_bucket", {"le": "0.03125"}, 905),
        ("enqueuer_item_seconds_bucket", {"le": "+Inf"}, 1_000),
    ):
        assert samples[name, tuple(sorted(labels.items()))] == value
    assert sum(value for (name, _), value in samples.items() if name == "enqueuer_verdict") == 1


def test_the_guide_lists_every_metric_and_no_other(served: tuple[int, list[Snapshot | None]]) -> None:
    _, names = scrape(served[0])
    assert set(re.findall(r"^\| `(enqueuer_\w+)` \|", PAGE.read_text(), re.M)) == names
    verdicts = next(line for line in PAGE.read_text().splitlines() if line.startswith("| `enqueuer_verdict`"))
    assert all(f"`{cause.name.lower()}`" in verdicts for cause in Cause)


def test_names_follow_prometheus_rules_and_no_label_names_a_worker(served: tuple[int, list[Snapshot | None]]) -> None:
    samples, _ = scrape(served[0])
    labels = {label for _, pairs in samples for label, _ in pairs}
    assert labels == {"version", "way", "state", "side", "verdict", "le"}
    assert all(re.fullmatch(r"enqueuer_[a-z_]+", name) for name, _ in samples)
    assert not any(name.endswith("_created") for name, _ in samples)


def test_without_an_answer_of_the_trainer_up_is_zero_and_alone(served: tuple[int, list[Snapshot | None]]) -> None:
    port, shown = served
    shown.append(None)
    assert scrape(port)[0] == {("enqueuer_up", ()): 0.0}
    shown.append(SEEN._replace(desired_slots=None, item_counts=()))
    samples, names = scrape(port)
    assert "enqueuer_desired_slots" not in names and samples["enqueuer_item_seconds_count", ()] == 0


def test_a_running_training_serves_its_metrics_at_metrics_port(monkeypatch: pytest.MonkeyPatch) -> None:
    with own_directory(monkeypatch):
        port = free_port()
        with SequenceEnqueuer(Bare(length=6), metrics_port=port) as enqueuer:
            for _ in range(2):  # a port can be bound again at once
                enqueuer.start(workers=2)
                batches = enqueuer.get()
                for _ in range(4):
                    next(batches)
                samples, _ = scrape(port)
                assert samples["enqueuer_batches_total", ()] == 4 and samples["enqueuer_slots", ()] == 2
                enqueuer.stop()
            with pytest.raises(OSError):
                scrape(port)


def test_a_port_in_use_is_an_error_of_start_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with own_directory(monkeypatch), socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with SequenceEnqueuer(Bare(length=6), metrics_port=port) as enqueuer:
            with pytest.raises(OSError, match=f"cannot serve metrics at 127.0.0.1:{port}: the port is taken"):
                enqueuer.start(workers=1)
            assert not enqueuer.is_running()
