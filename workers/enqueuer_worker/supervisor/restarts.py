"""The delay before the restart of an ended worker process: none, unless it keeps failing."""

from __future__ import annotations

from enqueuer.protocol.messages import ExitCode

# A process that lived this long has started well.
_YOUNG_SECONDS = 10.0
_FIRST_DELAY = 0.5
# A process killed by a batch had started well, and the trainer gives up such batches.
_LONGEST_AT_WORK = 0.5


class RestartBackoff:
    """The delay before the next start of one of a supervisor's workers. Seconds."""

    def __init__(self, longest: float) -> None:
        self._longest = longest
        self._failures = 0

    def delay(self, exit_code: int, lived: float, *, at_work: bool = False) -> float:
        """Return the delay after an end with this exit code (negative: a signal) and a life of ``lived``.

        0 after a recycling, and after the first failure in a row: a worker that was killed is back at once. Then 0.5 s,
        doubled each time unless the worker was computing a batch (``at_work``). After a refusal the first delay is
        0.5 s, because the reason for it still holds.
        """
        if exit_code == ExitCode.RECYCLE:
            self._failures = 0
            return 0.0
        if lived >= _YOUNG_SECONDS and exit_code != ExitCode.REFUSED:
            self._failures = 0
        self._failures += 1
        if self._failures == 1 and exit_code != ExitCode.REFUSED:
            return 0.0
        doublings = self._failures - (1 if exit_code == ExitCode.REFUSED else 2)
        longest = min(_LONGEST_AT_WORK, self._longest) if at_work else self._longest
        return min(_FIRST_DELAY * float(2 ** min(doublings, 32)), longest)
