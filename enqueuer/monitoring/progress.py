"""A progress bar for training loops: batches/s, loss, connected workers, the time lost to waiting, and what limits it.

    with ProgressBar(enqueuer, total=epochs * len(enqueuer)) as bar:
        for x, y in …:
            bar.update(loss=model.train_on_batch(x, y))

tqdm draws it, in a notebook as a widget if ipywidgets is installed; it comes with the extra ``enqueuer[progress]``.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from time import monotonic
from types import TracebackType
from typing import Any, ClassVar, Protocol, TextIO

from enqueuer.monitoring.stats import Stats
from enqueuer.monitoring.verdict_word import limit_word

# How often the line is drawn, in seconds: rarely in a log file, where each state is a line of its own.
TERMINAL_INTERVAL = 0.2
LOG_INTERVAL = 10.0
_NO_BATCH_YET = "waiting for the first batch"
# Without tqdm's own rate, which would count the time before the first batch.
_FORMAT = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"
_FORMAT_WITHOUT_TOTAL = "{n_fmt} batches [{elapsed}{postfix}]"


class HasStats(Protocol):
    """The part of an enqueuer that the bar uses."""

    def stats(self) -> Stats: ...


class ProgressBar:
    """Shows the progress of a training. Call `update` once a batch, from one thread.

    The rate and the share of waiting are those of `Stats`: they begin with the first batch, so the start of the workers
    is in neither.

    Args:
        enqueuer: The `SequenceEnqueuer` that delivers the batches.
        total: The number of batches in all, None if it is not known.
        initial: The number of batches trained on before.
        file: Where to write; standard error, or the notebook's output, by default.

    Raises:
        ImportError: tqdm is missing; the text has the command that installs it.
    """

    def __init__(
        self, enqueuer: HasStats, total: int | None = None, *, initial: int = 0, file: TextIO | None = None
    ) -> None:
        stream = sys.stderr if file is None else file
        overwrites = _can_overwrite(stream)
        bar, is_widget = _bar_class(overwrites, for_notebook=file is None)
        self._interval = TERMINAL_INTERVAL if is_widget or overwrites else LOG_INTERVAL
        self._enqueuer = enqueuer
        self._metrics: dict[str, float] = {}
        self._looked_at = monotonic()
        self._is_waiting = True
        # miniters=1: the clock alone decides when to draw, however the pace changes.
        self._bar = bar(
            total=total,
            initial=initial,
            postfix=_NO_BATCH_YET,
            bar_format=_FORMAT if total is not None else _FORMAT_WITHOUT_TOTAL,
            file=stream,
            mininterval=self._interval,
            maxinterval=self._interval,
            miniters=1,
            dynamic_ncols=True,
        )

    def update(self, **metrics: float) -> None:
        """Count one more batch. ``metrics`` (``loss=…``) are shown with three decimal places."""
        if self._is_waiting:
            # Its clock begins with the first batch, as the rate does.
            self._is_waiting = False
            self._bar.unpause()
        self._metrics = metrics
        now = monotonic()
        # Once a redraw, not once a batch: stats() waits for the I/O thread.
        if now - self._looked_at >= self._interval:
            self._looked_at = now
            self._bar.set_postfix_str(self._text(), refresh=False)
        self._bar.update()

    def close(self) -> None:
        """Draw the last state and leave it on the screen. A second call does nothing."""
        if not self._bar.disable:
            self._bar.set_postfix_str(self._text(), refresh=False)
        self._bar.close()

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        self.close()

    def _text(self) -> str:
        stats = self._enqueuer.stats()
        metrics = [f"{name} {value:.3f}" for name, value in self._metrics.items()]
        rate, waited = f"{stats.batches_per_second:.1f} batches/s", f"waited {stats.wait_share:.0%}"
        word = limit_word(stats.verdict.cause) if stats.verdict is not None else ""
        limit = [f"limit: {word}"] if word else []
        return ", ".join([rate, *metrics, f"workers {stats.slots_count}", waited, *limit])


def _can_overwrite(stream: TextIO) -> bool:
    """Whether a line on the stream can replace the one before: in a terminal, and in a notebook without widgets."""
    return stream.isatty() or type(stream).__module__.startswith("ipykernel.")


def _bar_class(overwrites: bool, *, for_notebook: bool) -> tuple[Any, bool]:
    """A tqdm class, and whether it draws a widget; ``for_notebook`` lets it, where there is a notebook."""
    try:
        from tqdm import auto, tqdm
    except ImportError as error:
        raise ImportError("the progress bar needs tqdm: pip install 'enqueuer[progress]'", name="tqdm") from error

    if for_notebook and any(base.__module__ == "tqdm.notebook" for base in auto.tqdm.__mro__):

        class Widget(auto.tqdm):  # type: ignore[type-arg]
            _lock: ClassVar[Any] = threading.RLock()
            monitor_interval = 0

        return Widget, True

    class Bar(tqdm):  # type: ignore[type-arg]
        # tqdm shares its lock with child processes through a semaphore, and its monitor thread outlives the bar. This
        # bar is used by one thread, so it needs neither.
        _lock: ClassVar[Any] = threading.RLock()
        monitor_interval = 0

        @staticmethod
        def status_printer(file: Any) -> Callable[[str], None]:
            """In a terminal each state replaces the last one; in a log each is a line of its own."""
            if overwrites:
                printer: Callable[[str], None] = tqdm.status_printer(file)
                return printer
            return lambda text: print(text, file=file, flush=True) if text else None

    return Bar, False
