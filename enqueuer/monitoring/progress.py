"""A progress bar for training loops: loss, batches/s, connected workers, and how full the queue is.

    with ProgressBar(enqueuer, total=epochs * len(enqueuer)) as bar:
        for x, y in …:
            bar.update(loss=model.train_on_batch(x, y))

tqdm draws it; it comes with the extra ``enqueuer[demo]``.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from time import monotonic
from types import TracebackType
from typing import Any, ClassVar, Protocol, TextIO

from enqueuer.monitoring.stats import Stats

# How often the line is drawn, in seconds: rarely in a log file, where each state is a line of its own.
TERMINAL_INTERVAL = 0.2
LOG_INTERVAL = 10.0


class HasStats(Protocol):
    """The part of an enqueuer that the bar uses."""

    def stats(self) -> Stats: ...


class ProgressBar:
    """Shows the progress of a training. Call `update` once a batch, from one thread.

    Args:
        enqueuer: The `SequenceEnqueuer` that delivers the batches.
        total: The number of batches in all, None if it is not known.
        initial: The number of batches trained on before.
        file: Where to write; standard error by default.

    Raises:
        ImportError: tqdm is missing; the text has the command that installs it.
    """

    def __init__(
        self, enqueuer: HasStats, total: int | None = None, *, initial: int = 0, file: TextIO | None = None
    ) -> None:
        stream = sys.stderr if file is None else file
        self._interval = TERMINAL_INTERVAL if stream.isatty() else LOG_INTERVAL
        self._enqueuer = enqueuer
        self._metrics: dict[str, float] = {}
        self._looked_at = monotonic()
        # miniters=1: the clock alone decides when to draw, however the pace changes.
        self._bar = _tqdm_class()(
            total=total,
            initial=initial,
            unit=" batches",
            file=stream,
            mininterval=self._interval,
            maxinterval=self._interval,
            miniters=1,
            dynamic_ncols=True,
        )

    def update(self, **metrics: float) -> None:
        """Count one more batch. ``metrics`` (``loss=…``) are shown with three decimal places."""
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
        parts = [f"{name} {value:.3f}" for name, value in self._metrics.items()]
        limit = f"/{stats.queue_limit}" if stats.queue_limit > 0 else ""
        return ", ".join([*parts, f"workers {stats.workers_count}", f"queue {stats.ready_count}{limit}"])


def _tqdm_class() -> Any:
    try:
        from tqdm import tqdm
    except ImportError as error:
        raise ImportError("the progress bar needs tqdm: pip install 'enqueuer[demo]'", name="tqdm") from error

    class Bar(tqdm):  # type: ignore[type-arg]
        # tqdm shares its lock with child processes through a semaphore, and its monitor thread outlives the bar. This
        # bar is used by one thread, so it needs neither.
        _lock: ClassVar[Any] = threading.RLock()
        monitor_interval = 0

        @staticmethod
        def status_printer(file: Any) -> Callable[[str], None]:
            """In a terminal each state replaces the last one; in a log each is a line of its own."""
            if file.isatty():
                printer: Callable[[str], None] = tqdm.status_printer(file)
                return printer
            return lambda text: print(text, file=file, flush=True) if text else None

    return Bar
