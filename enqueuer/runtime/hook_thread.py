"""The hook thread: calls the user's own object in the trainer (``len``, ``on_epoch_end``, pickling).

The I/O thread never does: it must go on answering workers while a hook takes its time.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable


class HookThread:
    """Runs tasks one after the other. An exception of a task is passed to ``on_error``, and the next task runs."""

    def __init__(self, name: str, on_error: Callable[[BaseException], None]) -> None:
        self._tasks: queue.SimpleQueue[tuple[Callable[[int], None], int] | None] = queue.SimpleQueue()
        self._on_error = on_error
        self._stopping = False
        # Daemon: a hook that never returns must not keep the interpreter from exiting.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def submit(self, task: Callable[[int], None], epoch: int) -> None:
        """Run the task with this epoch, after all tasks submitted before. Callable from any thread."""
        self._tasks.put((task, epoch))

    def stop(self) -> None:
        """End after the running task, and skip those that have not begun. Returns at once."""
        self._stopping = True
        self._tasks.put(None)

    @property
    def is_current(self) -> bool:
        """Whether the caller runs in this thread."""
        return threading.current_thread() is self._thread

    def join(self, timeout: float) -> bool:
        """Wait for the thread's end; True if it came, at once in the thread itself (``stop()`` in ``on_epoch_end``)."""
        if self.is_current:
            return True
        if self._thread.ident is None:
            return True  # never started
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (entry := self._tasks.get()) is not None and not self._stopping:
            task, epoch = entry
            try:
                task(epoch)
            except BaseException as error:
                # Also SystemExit and KeyboardInterrupt in a hook: the consumer gets them.
                self._on_error(error)
