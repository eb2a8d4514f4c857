"""`deploy/monitoring` with a real Prometheus, which scrapes a real training: each query of the rules and the dashboard.

Needs Debian's package `prometheus`, which has `promtool` too.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from enqueuer import SequenceEnqueuer
from enqueuer.core import verdict
from enqueuer.monitoring import verdict_watch
from tests.monitoring.test_metrics import free_port
from tests.support.observed import own_directory
from tests.support.remote import REPOSITORY, free_address
from tests.support.sequences import Bare
from tests.support.waiting import wait_until

pytest.importorskip("prometheus_client")

FILES = REPOSITORY / "deploy" / "monitoring"
ALERTS = FILES / "alerts.yml"
DASHBOARD = json.loads((FILES / "grafana-dashboard.json").read_text())
# A system's proxy has no part in this.
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
if shutil.which("prometheus") is None or shutil.which("promtool") is None:
    if os.environ.get("REQUIRE_PROMETHEUS"):  # CI sets this: there, a skipped test is a failed one
        raise RuntimeError("prometheus and promtool are not installed")
    pytest.skip("needs prometheus and promtool", allow_module_level=True)


def queries() -> list[str]:
    """The expressions of all panels and annotations, with Grafana's variables filled in."""
    found = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    found += [annotation["expr"] for annotation in DASHBOARD["annotations"]["list"]]
    return [text.replace("$instance", ".+").replace("$__rate_interval", "10s") for text in found]


def promtool(*arguments: str, given: str | None = None) -> str:
    done = subprocess.run(["promtool", *arguments], input=given, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


class Slow(Bare):
    """Batches that the training waits for."""

    def __getitem__(self, index: int) -> Any:
        time.sleep(0.02)
        return super().__getitem__(index)


@dataclass(frozen=True)
class Scraped:
    """A training with its metrics at a port, and a Prometheus at an address."""

    metrics_port: int
    address: str

    def ask(self, what: str, **parameters: str) -> Any:
        url = f"http://{self.address}/api/v1/{what}?{urllib.parse.urlencode(parameters)}"
        with OPENER.open(url, timeout=30) as answer:
            return json.load(answer)["data"]

    def query(self, text: str) -> list[Any]:
        """The series that this expression has now. Raises HTTPError for a wrong one."""
        found: list[Any] = self.ask("query", query=text)["result"]
        return found

    def has_alert(self, name: str) -> bool:
        return any(alert["labels"]["alertname"] == name for alert in self.ask("alerts")["alerts"])


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scraped]:
    """A training that waits for its data, and a Prometheus with the files of the directory."""
    folder = tmp_path_factory.mktemp("prometheus")
    metrics_port, address = free_port(), free_address().removeprefix("tcp://")
    text = (FILES / "prometheus.yml").read_text()
    text = text.replace("15s", "1s").replace("9464", str(metrics_port)).replace("alerts.yml", str(ALERTS))
    assert str(metrics_port) in text
    config = folder / "prometheus.yml"
    config.write_text(text)
    with pytest.MonkeyPatch.context() as patch, own_directory(patch), (folder / "log").open("wb") as log:
        for module in (verdict, verdict_watch):
            patch.setattr(module, "LEAST_SECONDS", 1.0)
        command = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}"]
        command += [f"--web.listen-address={address}"]
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            with SequenceEnqueuer(Slow(length=50), use_multiprocessing=True, metrics_port=metrics_port) as enqueuer:
                enqueuer.start(workers=2)
                batches = enqueuer.get()
                ended = threading.Event()
                training = threading.Thread(target=lambda: all(not ended.is_set() for _ in batches))
                training.start()
                try:
                    yield Scraped(metrics_port, address)
                finally:
                    ended.set()
                    training.join()
        finally:
            process.terminate()
            process.wait(30)


def test_promtool_accepts_the_rules_the_configuration_and_the_dashboards_shape() -> None:
    assert "9 rules found" in promtool("check", "rules", str(ALERTS))
    promtool("check", "config", str(FILES / "prometheus.yml"))
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len({panel["title"] for panel in panels}) == len(panels)
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in panels)


def test_each_alert_is_raised_by_what_it_is_for_and_by_nothing_else(tmp_path: Path) -> None:
    text = (Path(__file__).parent / "alerts_test.yml").read_text().replace("ALERTS]", f"{ALERTS}]")
    names = re.findall(r"alert: (\w+)", ALERTS.read_text())
    assert all(f"alertname: {name}, exp_alerts: []" in text and f'"{name}"' in text for name in names)
    (tmp_path / "test.yml").write_text(text)
    promtool("test", "rules", str(tmp_path / "test.yml"))


def test_promtool_accepts_the_metrics_of_a_training(scraped: Scraped) -> None:
    with OPENER.open(f"http://127.0.0.1:{scraped.metrics_port}/metrics", timeout=30) as answer:
        promtool("check", "metrics", given=answer.read().decode())


def test_every_query_is_answered_and_those_of_panels_have_figures(scraped: Scraped) -> None:
    def answered() -> bool:
        return bool(scraped.query("enqueuer_desired_slots and rate(enqueuer_batches_total[10s]) > 0"))

    def is_up() -> bool:
        try:
            return answered()
        except urllib.error.URLError:
            return False

    wait_until(is_up, 60, "the first figures")
    lacking: list[str] = []

    def all_have_figures() -> bool:
        lacking[:] = [text for text in queries() if " > 0" not in text and not scraped.query(text)]
        return not lacking

    try:
        wait_until(all_have_figures, 60)
    except AssertionError:
        pytest.fail(f"queries without an answer: {lacking}")
    assert [text for text in queries() if " > 0" in text and scraped.query(text)] == [], "no worker was lost"


def test_the_rules_are_evaluated_on_metrics_that_exist_and_one_is_about_to_fire(scraped: Scraped) -> None:
    wait_until(lambda: scraped.has_alert("EnqueuerWaitsForData"), 60, "the alert of a training that waits")
    [group] = scraped.ask("rules")["groups"]
    assert [rule for rule in group["rules"] if rule["health"] != "ok" or rule.get("lastError")] == []
    for name in set(re.findall(r"enqueuer_\w+", " ".join(rule["query"] for rule in group["rules"]))):
        assert scraped.query(name), f"no metric has the name {name}"
    assert not scraped.has_alert("EnqueuerDoesNotAnswer")
