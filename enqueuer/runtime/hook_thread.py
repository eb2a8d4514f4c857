"""The thread in which the user's own object is called in the trainer: ``len``, ``on_epoch_end``, pickling.

Never the I/O thread, which must go on answering workers while a hook takes its time.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable


class HookThread:
    """Runs tasks one after the other. A task's exception goes to ``on_error``; the thread goes on."""

    def __init__(self, name: str, on_error: Callable[[BaseException], None]) -> None:
        self._tasks: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._on_error = on_error
        self._stopping = False
        # Daemon: a hook that never returns must not keep the interpreter from exiting.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def submit(self, task: Callable[[], None]) -> None:
        """Run it after what was submitted before. Callable from any thread."""
        self._tasks.put(task)

    def stop(self) -> None:
        """Skip what has not begun, and end. Returns at once."""
        self._stopping = True
        self._tasks.put(None)

    @property
    def is_current(self) -> bool:
        """Whether it is the thread that asks."""
        return threading.current_thread() is self._thread

    def join(self, timeout: float) -> bool:
        """Wait for the end; True if it came. At once True in the thread itself (``stop()`` in ``on_epoch_end``)."""
        if self.is_current:
            return True
        if self._thread.ident is None:
            return True  # never started
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (task := self._tasks.get()) is not None and not self._stopping:
            try:
                task()
            except BaseException as error:
                # SystemExit and KeyboardInterrupt in a hook too: the trainer's thread gets them.
                self._on_error(error)
