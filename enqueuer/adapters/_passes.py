"""One endless stream, dealt out to frameworks that think in passes: Keras and TensorFlow."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any

from enqueuer.runtime.iteration import StreamEnd
from enqueuer.sequence_enqueuer import SequenceEnqueuer

# Frameworks look at a few batches before they train (shapes, types, building the model) and want them again then.
# Keras 3 on TensorFlow looks at the most: two for the types, and what its prefetching took for the build.
KEPT_COUNT = 8
# Loops whose pass was given up to another are known for this long. A prefetching thread of theirs may still ask.
_PAST_COUNT = 8


class Passes:
    """Deals the enqueuer's stream out in passes of ``len(enqueuer)`` batches, one after another.

    Whoever asks names the loop that it asks for: any object, or None for one that only looks. A loop's first request
    begins a pass, and so does the one after its last batch:

    - a pass that is over is followed by the next epoch;
    - one that was left near its beginning (``KEPT_COUNT`` batches), or only looked at, begins again with the same
      batches: nothing is lost, and nothing is computed twice;
    - one that was left later was broken off. The enqueuer is started again, as it was before: what is pending is
      dropped, and the pass is a new epoch. (Give ``bind`` a fixed port.)

    An epoch that delivers fewer batches than its length (None, skipped errors) is filled up from the next one, because
    frameworks count on the length.
    """

    def __init__(self, enqueuer: SequenceEnqueuer) -> None:
        self.enqueuer = enqueuer
        self._lock = threading.Lock()
        self._session: Any = None
        self._loop: object | None = None
        self._past: deque[object] = deque(maxlen=_PAST_COUNT)
        # Of the pass: its length, batches taken from the stream, batches given to the loop, and the first ones.
        self._length = self._taken = self._given = 0
        self._kept: list[Any] = []
        self._broken_off = False

    def next(self, loop: object | None) -> Any:
        """The next batch of this loop's pass. Waits for it, as ``next(enqueuer.get())`` does, and raises the same.

        Raises RuntimeError if the enqueuer is not running, or if another loop has begun a pass meanwhile.
        """
        # A second thread waits until the first has its batch: what that one took may be the second's to begin with.
        with self._lock:
            self._attend(loop)
            batch = self._take() if self._given == self._taken else self._kept[self._given]
            self._given += 1
            return batch

    def break_off(self) -> None:
        """The loop that asked last will ask no more: what is left of its pass is nobody's."""
        with self._lock:
            self._broken_off = 0 < self._taken < self._length

    def _attend(self, loop: object | None) -> None:
        if loop is not None and any(loop is past for past in self._past):
            raise RuntimeError("another loop over the same enqueuer has begun: two cannot share its stream in passes")
        if self._enter_session():
            self._begin()
        elif loop is not self._loop:
            # Who only looks has used nothing up, even if it saw all there is.
            over = self._given == self._length and self._loop is not None
            if self._loop is not None:
                self._past.append(self._loop)
            if self._taken > len(self._kept) or self._broken_off:
                if not over:
                    self._restart()
                self._begin()
            elif over:
                self._begin()
            self._given = 0
        elif self._given == self._length:
            self._begin()
        self._loop = loop

    def _begin(self) -> None:
        self._length = max(1, len(self.enqueuer))
        self._taken = self._given = 0
        self._kept = []
        self._broken_off = False

    def _take(self) -> Any:
        try:
            batch = self.enqueuer._next_batch()
        except StreamEnd:
            raise RuntimeError("the enqueuer was stopped in the middle of a pass") from None
        if self._taken < KEPT_COUNT:
            self._kept.append(batch)
        elif self._kept:
            self._kept = []
        self._taken += 1
        return batch

    def _enter_session(self) -> bool:
        """Whether it was started (again) since the last request."""
        session = self.enqueuer._session
        if session is None:
            raise RuntimeError("the enqueuer is not running: call its start() before you train, predict or iterate")
        if session is self._session:
            return False
        self._session = session
        session.open_epochs_on_demand()
        return True

    def _restart(self) -> None:
        workers, max_queue_size = self.enqueuer.workers, self._session.max_queue_size
        self.enqueuer.stop()
        self.enqueuer.start(workers, max_queue_size)
        self._enter_session()
