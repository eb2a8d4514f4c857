"""When a worker process that has ended is started again: at once, unless it keeps failing."""

from __future__ import annotations

from enqueuer.protocol.messages import ExitCode

# A process that lived this long was not killed by being started.
_YOUNG_SECONDS = 10.0
_FIRST_DELAY = 0.5
# One that died at work had been started well: it is the batch that the trainer looks at then (core/failures.py).
_LONGEST_AT_WORK = 0.5


class RestartBackoff:
    """The delay before the next start of one of a supervisor's workers. Seconds."""

    def __init__(self, longest: float) -> None:
        self._longest = longest
        self._failures = 0

    def delay(self, exit_code: int, lived: float, *, at_work: bool = False) -> float:
        """How long to wait after an end with this exit code (negative: a signal) and this life time.

        0 after a recycling, and after the first of a row of failures: a worker that was killed is back at once. Then
        0.5 s, doubling unless it was computing a batch (``at_work``). One that was refused starts with that: nothing
        has changed yet about why.
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
