"""The page in a real browser: live beside a training whose worker is killed, and as a report.

It needs Debian's `chromium` and `pip install -e . --group browser`; without them it is skipped, unless
REQUIRE_CHROMIUM=1.
"""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from enqueuer import SequenceEnqueuer
from enqueuer.monitoring.run_page.broadcast import Broadcast
from enqueuer.monitoring.run_page.server import DashboardServer
from enqueuer.observer import NoTrainerError, Observer, local_observers
from enqueuer.top.feed import Feed
from tests.support.observed import own_directory
from tests.support.waiting import wait_until

CHROMIUM = shutil.which("chromium")
if not os.environ.get("REQUIRE_CHROMIUM"):
    pytest.importorskip("playwright", reason="needs pip install -e . --group browser")
    if CHROMIUM is None:
        pytest.skip("needs Debian's chromium", allow_module_level=True)

TIMEOUT = 60.0
HOSTILE = "<img src=x onerror=\"document.title='taken over'\"><script>document.title='taken over'</script>"


class Images:
    def __len__(self) -> int:
        return 50

    def __getitem__(self, index: int) -> np.ndarray:
        time.sleep(0.01)
        if index == 7:
            raise ValueError(HOSTILE)
        return np.zeros((64, 1_000), np.float32)


@contextmanager
def training(report: Path) -> Iterator[SequenceEnqueuer]:
    is_over = threading.Event()
    with SequenceEnqueuer(Images(), True, on_error="skip", max_skipped=10**6, report=report) as enqueuer:
        enqueuer.start(workers=2)
        enqueuer.wait_for_workers(2, timeout=TIMEOUT)

        def train() -> None:
            for _ in enqueuer.get():
                if is_over.wait(0.005):
                    return

        thread = threading.Thread(target=train)
        thread.start()
        try:
            yield enqueuer
        finally:
            is_over.set()
            thread.join()


@contextmanager
def dashboard() -> Iterator[str]:
    def find() -> Observer:
        found = local_observers(timeout=TIMEOUT)
        if not found:
            raise NoTrainerError("no trainer runs here")
        return found[0]

    broadcast = Broadcast()
    server, feed = DashboardServer(broadcast, 0), Feed(find, broadcast.take, broadcast.note_silence)
    server.start()
    feed.start()
    try:
        yield server.url
    finally:
        feed.stop()
        feed.join()
        broadcast.close()
        server.close()


class Tab:
    """One tab of the browser, and what went wrong in it."""

    def __init__(self, browser: Any, url: str, width: int = 1280, scheme: str = "light") -> None:
        context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
        context.set_default_timeout(1_000 * TIMEOUT)
        self.page = context.new_page()
        self.complaints: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.check(request.url))
        self.origin = url
        self.page.goto(url)

    def check(self, url: str) -> None:
        if not url.startswith((self.origin, "data:")):
            self.complaints.append(f"asked for {url}")

    def wait_for(self, expression: str) -> None:
        # The page's policy forbids the `eval` in Playwright's own `wait_for_function`.
        wait_until(lambda: self.page.evaluate(expression), TIMEOUT, expression)

    def text(self, selector: str) -> str:
        return str(self.page.locator(selector).inner_text())

    def has_no_sideways_scrolling(self) -> bool:
        return bool(self.page.evaluate("document.documentElement.scrollWidth <= innerWidth"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # In a container, root has no sandbox.
        options = ["--no-sandbox"] if os.geteuid() == 0 else []
        made = playwright.chromium.launch(executable_path=CHROMIUM, args=options, timeout=1_000 * TIMEOUT)
        yield made
        made.close()


def test_a_page_follows_a_training_and_its_report_says_what_failed(
    browser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = tmp_path / "run.html"
    with own_directory(monkeypatch), dashboard() as url:
        tab = Tab(browser, url)
        tab.wait_for("document.querySelector('#state').textContent.startsWith('Waiting for a trainer')")
        with training(report) as enqueuer:
            tab.wait_for("document.querySelector('#state').textContent === 'Live'")
            assert f"Trainer {os.getpid()} on " in tab.text("#trainer")
            tab.wait_for("page.run.history[0].length > 3 && document.querySelectorAll('.uplot canvas').length === 6")
            tab.wait_for("document.querySelectorAll('#workers tbody tr').length === 2")
            os.kill(enqueuer.stats().workers[0].pid, signal.SIGKILL)
            tab.wait_for("document.querySelector('#events').textContent.includes('died')")
            tab.wait_for("document.querySelector('#tiles').textContent.includes('worker lost')")
            tab.wait_for("document.querySelector('.heat-plot canvas').width > 0 && page.heat.bands >= 2")
            operate(tab)
            for scheme in ("light", "dark"):
                narrow = Tab(browser, url, 360, scheme)
                narrow.wait_for("document.querySelectorAll('.uplot canvas').length === 6")
                assert narrow.has_no_sideways_scrolling() and narrow.complaints == []
                assert contrast(narrow) >= 4.5
                narrow.page.context.close()
        tab.wait_for("document.querySelector('#state').textContent.startsWith('The trainer has ended')")
    # The server is gone by now.
    tab.wait_for("document.querySelector('#state').textContent.startsWith('No connection')")
    assert [text for text in tab.complaints if "ERR_CONNECTION" not in text and "ERR_INCOMPLETE" not in text] == []
    tab.page.context.close()
    show_report(browser, report)


def test_the_report_of_a_failed_run_has_the_traceback_as_code(browser: Any, tmp_path: Path) -> None:
    report = tmp_path / "run.html"
    with SequenceEnqueuer(Images(), True, report=report) as enqueuer, pytest.raises(ValueError, match="taken over"):
        enqueuer.start(workers=2)
        for _ in enqueuer.get():
            pass
    for width in (360, 1280):
        tab = Tab(browser, report.as_uri(), width)
        tab.wait_for("document.querySelector('#failure-text').textContent.includes('sequence[7] raised')")
        assert HOSTILE in tab.text("#failure-text") and "Traceback" not in tab.text("#failure-text")
        assert "raise ValueError(HOSTILE)" in tab.text("#failure-traceback")
        style = tab.page.evaluate(
            "(({ whiteSpace, fontFamily }) => [whiteSpace, fontFamily])"
            "(getComputedStyle(document.querySelector('#failure-traceback')))"
        )
        assert style[0] == "pre" and "monospace" in style[1]
        assert tab.has_no_sideways_scrolling() and tab.complaints == []
        widths = tab.page.evaluate(
            "(({ scrollWidth, clientWidth }) => [scrollWidth, clientWidth])"
            "(document.querySelector('#summary .scrolled'))"
        )
        assert widths[0] <= widths[1], "the verdict by epoch fits"
        tab.page.context.close()


def operate(tab: Tab) -> None:
    """With the keyboard alone: the cursor of a plot, that of the strip, the table's order and its filter."""
    keyboard = tab.page.keyboard
    tab.page.locator("figure").first.focus()
    keyboard.press("ArrowLeft")
    tab.wait_for("document.querySelector('figure .at').textContent.startsWith('at ')")
    keyboard.press("Escape")
    tab.page.locator(".heat-plot canvas").focus()
    keyboard.press("ArrowLeft")
    tab.wait_for("/local-\\d on .* at \\d+:\\d+: /.test(document.querySelector('#heat-readout').textContent)")
    keyboard.press("Escape")
    tab.page.locator("#workers th button").first.focus()
    keyboard.press("Enter")
    tab.wait_for("document.querySelector('#workers th').getAttribute('aria-sort') === 'ascending'")
    tab.page.locator("#workers input").fill("no such worker")
    tab.wait_for("document.querySelectorAll('#workers tbody tr').length === 0")
    tab.page.locator("#workers input").fill("")


def contrast(tab: Tab) -> float:
    """The least contrast, after WCAG, of the colours for text on the colour of cards."""
    return float(
        tab.page.evaluate(
            """() => {
          const style = getComputedStyle(document.documentElement);
          const light = (name) => {
            const hex = style.getPropertyValue(`--${name}`).trim();
            const [r, g, b] = [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16) / 255)
              .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
            return 0.2126 * r + 0.7152 * g + 0.0722 * b;
          };
          const card = light("card");
          return Math.min(...["text", "muted", "good", "fair", "bad"].map((name) => {
            const [low, high] = [card, light(name)].sort((one, other) => one - other);
            return (high + 0.05) / (low + 0.05);
          }));
        }"""
        )
    )


def show_report(browser: Any, report: Path) -> None:
    wait_until(report.exists, TIMEOUT, "the report")
    for width in (360, 1280):
        tab = Tab(browser, report.as_uri(), width)
        tab.wait_for("document.querySelectorAll('.uplot canvas').length === 6")
        assert HOSTILE in tab.text("#faults") and "killed by SIGKILL" in tab.text("#faults")
        assert tab.page.title().endswith("Enqueuer")
        assert "Trainer" in tab.text("#time") and tab.page.locator("#epochs tr").count() >= 1
        assert tab.has_no_sideways_scrolling() and tab.complaints == []
        tab.page.context.close()
