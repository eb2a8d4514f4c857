"""The screen of `enqueuer top`: what is on it, for a recorded training and for running ones, in several sizes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import Input

from enqueuer import SequenceEnqueuer
from enqueuer.cli.observed import one_observer
from enqueuer.protocol.observation import Snapshot
from enqueuer.top.app import Page, Silence, TopApp
from enqueuer.top.worker_list import WorkerList
from tests.monitoring.test_status_table import SNAPSHOT
from tests.support.observed import own_directory
from tests.support.recorded import recorded_pages
from tests.support.sequences import Bare

DEADLINE = 60.0
SIZES = [(80, 24), (120, 40), (200, 60)]


@pytest.fixture
def directory(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with own_directory(monkeypatch) as path:
        yield path


def screen(app: TopApp) -> str:
    """The text of the screen."""
    return "\n".join(strip.text.rstrip() for strip in app.screen._compositor.render_strips())


def workers(app: TopApp) -> list[str]:
    """The names in the table, from the top down."""
    lines = screen(app).splitlines()
    [titles] = [number for number, line in enumerate(lines) if "batch/s" in line and "p95" in line]
    return [line.split()[0] for line in lines[titles + 1 : -1] if line.split()]


def run(
    act: Callable[[TopApp, Pilot[None]], Awaitable[None]], size: tuple[int, int] = (80, 24), app: TopApp | None = None
) -> None:
    """Run the app in a terminal of this size, and act on it."""

    async def main() -> None:
        made = app or TopApp()
        async with made.run_test(size=size) as pilot:
            await act(made, pilot)

    asyncio.run(main())


async def show(app: TopApp, pilot: Pilot[None], *pages: Snapshot) -> None:
    for page in pages:
        app.post_message(Page(page))
    await pilot.pause()
    app._draw()
    await pilot.pause()


async def until(condition: Callable[[], object], pilot: Pilot[None], what: str) -> None:
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, f"not within {DEADLINE} s: {what}"
        await pilot.pause(0.02)


# ---------------------------------------------------------------- a recorded training


@pytest.mark.parametrize("size", SIZES)
def test_a_recorded_training_is_on_the_screen(size: tuple[int, int]) -> None:
    pages = recorded_pages()
    last = pages[-1]

    async def act(app: TopApp, pilot: Pilot[None]) -> None:
        await show(app, pilot, *pages)
        text = screen(app)
        for part in (
            f"trainer {last.pid} on gpu-1",
            f"{last.ready_count} ready {last.received_count} out of order {last.leased_count} leased",
            "batches/s",
            "waiting",
            "too early to tell",
            f"slots {last.slots_count}",
            "3 of 3 workers shown",
            "100% shared",
            "1 lost worker",
            "0 retries",
            "q Quit",
            "? Help",
        ):
            assert part in text
        assert workers(app) == ["local-0", "local-1", "local-2"]
        assert any(block in text for block in "▁▂▃▄▅▆▇") and "█" in text
        assert max(map(len, text.splitlines())) <= size[0] and len(text.splitlines()) == size[1]
        assert "local-2 on gpu-1 joined" in text
        assert ("local-2 on gpu-1 died" in text) is (size != SIZES[0]), "below the latest one, where there is room"

    run(act, size)


def test_the_verdict_stands_with_its_cure_in_the_colour_of_its_band() -> None:
    async def act(app: TopApp, pilot: Pilot[None]) -> None:
        verdict = app.query_one("#verdict")
        for page, band in (
            (SNAPSHOT._replace(cause="too early to tell"), "quiet"),
            (SNAPSHOT._replace(cause="the trainer itself", recent_wait_share=0.01), "well"),
            (SNAPSHOT._replace(recent_wait_share=0.1), "slow"),
            (SNAPSHOT._replace(recent_wait_share=0.3), "starved"),
            (SNAPSHOT._replace(cause="no workers", recent_wait_share=0.1), "starved"),
            (SNAPSHOT._replace(cause="a cause of a later version"), "starved"),
        ):
            await show(app, pilot, page)
            assert verdict.has_class(band), (page.cause, verdict.classes)
        await show(app, pilot, SNAPSHOT)
        text = screen(app)
        assert "limit: workers – the training waits for data 20% of its time → add 2" in text
        assert "slots 2, 4 would keep up" in text

    run(act)


def test_long_texts_are_cut_and_push_nothing_off_the_screen() -> None:
    long = SNAPSHOT._replace(host="h" * 64, sentence="word " * 60, cure="c" * 300, queue_limit=10**6, pid=4_000_000)

    async def act(app: TopApp, pilot: Pilot[None]) -> None:
        await show(app, pilot, long, long._replace(elapsed_seconds=62.0))
        lines = screen(app).splitlines()
        assert len(lines) == 24 and "Quit" in lines[-1]
        assert lines[0].endswith("…") and workers(app) == ["w"]

    run(act)


def test_keys_sort_and_reverse() -> None:
    rows = tuple(
        SNAPSHOT.rows[0]._replace(worker_id=f"w-{number}", host=f"h-{9 - number}", item_seconds_p50=0.1 * (number % 2))
        for number in range(4)
    )
    page = SNAPSHOT._replace(rows=rows, rows_total=4)

    async def act(app: TopApp, pilot: Pilot[None]) -> None:
        await show(app, pilot, page)
        assert workers(app) == ["w-0", "w-1", "w-2", "w-3"] and "worker▲" in screen(app)
        await pilot.press("r")
        assert workers(app) == ["w-3", "w-2", "w-1", "w-0"] and "worker▼" in screen(app)
        await pilot.press("r", "s")
        assert workers(app) == ["w-3", "w-2", "w-1", "w-0"] and "host▲" in screen(app)
        await pilot.press("s", "s", "s")
        assert workers(app) == ["w-1", "w-3", "w-0", "w-2"] and "p50▼" in screen(app)
        await pilot.press("S", "S", "S", "S")
        assert "worker▲" in screen(app)

    run(act)


def test_words_filter_while_they_are_typed_and_escape_shows_all() -> None:
    pages = recorded_pages()

    async def act(app: TopApp, pilot: Pilot[None]) -> None:
        await show(app, pilot, *pages)
        await pilot.press("slash", *"local-1")
        assert workers(app) == ["local-1"] and "1 of 3 workers shown" in screen(app)
        await pilot.press("enter", "s")
        assert workers(app) == ["local-1"] and app.query_one("#filter", Input).value == "local-1"
        await pilot.press("slash", "x", "enter")
        assert "no worker has these words" in screen(app)
        await pilot.press("escape")
        assert len(workers(app)) == 3 and app.focused is app.query_one(WorkerList)

    run(act)


def test_a_thousand_workers_are_walked_through() -> None:
    rows = tuple(SNAPSHOT.rows[0]._replace(worker_id=f"w-{number}") for number in range(1_000))

    async def act(app: TopApp, pilot: Pilot[None]) -> None:
        await show(app, pilot, SNAPSHOT._replace(rows=rows, rows_total=1_000))
        assert workers(app)[0] == "w-0"
        await pilot.press("end")
        assert workers(app)[-1] == "w-999"
        await pilot.press("pageup", "up", "home", "down", "enter")
        assert "worker      w-1" in screen(app) and "index 17 of epoch 3" in screen(app)
        await pilot.press("escape")
        assert workers(app)[0] == "w-0"

    run(act)


def test_help_theme_and_span_are_a_key_away() -> None:
    async def act(app: TopApp, pilot: Pilot[None]) -> None:
        await show(app, pilot, *recorded_pages())
        assert "1 min" in screen(app)
        await pilot.press("z")
        assert "5 min" in screen(app)
        await pilot.press("question_mark")
        assert "sort by the next column" in screen(app)
        await show(app, pilot, recorded_pages()[-1])
        await pilot.press("escape")
        assert "sort by the next column" not in screen(app)
        dark = app.theme
        await pilot.press("d")
        assert app.theme != dark and "local-0" in screen(app)
        await pilot.press("d")
        assert app.theme == dark

    run(act)


def test_without_a_trainer_the_screen_says_so_and_the_figures_stay_when_it_ends() -> None:
    async def act(app: TopApp, pilot: Pilot[None]) -> None:
        app.post_message(Silence("no trainer runs here"))
        await pilot.pause()
        assert "no answer – no trainer runs here" in screen(app) and "batches/s" not in screen(app)
        await show(app, pilot, SNAPSHOT._replace(rows=(), rows_total=0, workers_count=0))
        assert "no answer" not in screen(app) and "no worker is there" in screen(app)
        await show(app, pilot, *recorded_pages())
        app.post_message(Silence("the trainer has ended"))
        await pilot.pause()
        assert "the trainer has ended" in screen(app) and "local-0" in screen(app)

    run(act)


def test_another_session_begins_anew() -> None:
    async def act(app: TopApp, pilot: Pilot[None]) -> None:
        await show(app, pilot, *recorded_pages())
        await show(app, pilot, SNAPSHOT._replace(elapsed_seconds=0.5))
        assert workers(app) == ["w"] and "local" not in screen(app) and "– batches/s" in screen(app)

    run(act)


@pytest.mark.parametrize("key", ["q", "ctrl+c", "ctrl+q"])
def test_a_key_leaves(key: str) -> None:
    app = TopApp()

    async def act(app: TopApp, pilot: Pilot[None]) -> None:
        await show(app, pilot, *recorded_pages())
        await pilot.press("slash" if key == "ctrl+c" else "s", key)

    run(act, app=app)
    assert app._exit and app.return_code == 0


# ---------------------------------------------------------------- running trainings


@pytest.mark.usefixtures("directory")
def test_a_trainer_that_starts_ends_and_starts_again_is_followed() -> None:
    app = TopApp(lambda: one_observer(None, None, DEADLINE))

    async def act(app: TopApp, pilot: Pilot[None]) -> None:
        await until(lambda: "no answer – no trainer runs here" in screen(app), pilot, "the first answer")
        with SequenceEnqueuer(Bare(length=6)) as enqueuer:
            for slots in (2, 3):
                enqueuer.start(workers=slots)
                batches = enqueuer.get()
                for _ in range(7):
                    next(batches)
                await until(lambda slots=slots: f"slots {slots}" in screen(app), pilot, "the trainer")
                stats = enqueuer.stats()
                progress = f"epoch {stats.epoch}, {stats.taken_count} of 6"
                await until(lambda progress=progress: progress in screen(app), pilot, "its progress")
                assert workers(app) == ["threads"] and "no answer" not in screen(app)
                enqueuer.stop()
                await until(lambda: "no answer" in screen(app), pilot, "the end")
                assert "threads" in screen(app), "what was seen last stays"
        await pilot.press("q")

    run(act, app=app)
    assert app._feed is not None
    app._feed.join()
