"""All workers of a session, found by incarnation, by route and by supervisor."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from enqueuer.core.events import Route
from enqueuer.core.item_times import SessionTimes
from enqueuer.core.peer import Supervisor
from enqueuer.core.worker import Worker, WorkerState

# Records of departed workers are kept for late answers, but bounded in number: an ended worker has few answers on the
# way, and the leases of a worker lost for this long were computed again.
_MOST_KEPT = {WorkerState.LOST: 10_000, WorkerState.GONE: 250}
FORGET_SECONDS = 300.0


class Fleet:
    """The records and their indices; decides nothing. ``changed`` becomes the hook of every worker in it.

    ``item_times`` are those of all its workers, departed ones included.
    """

    def __init__(self, changed: Callable[[Worker], None]) -> None:
        self._changed = changed
        self._by_incarnation: dict[bytes, Worker] = {}
        self._by_route: dict[Route, Worker] = {}
        self._departed: dict[WorkerState, dict[bytes, None]] = {WorkerState.LOST: {}, WorkerState.GONE: {}}
        self.supervisors: dict[Route, Supervisor] = {}
        self.lost_count = 0
        self.item_times = SessionTimes()

    def __iter__(self) -> Iterator[Worker]:
        """The present workers: neither lost nor gone."""
        return (worker for worker in list(self._by_incarnation.values()) if worker.state not in self._departed)

    def __len__(self) -> int:
        return len(self._by_incarnation) - sum(map(len, self._departed.values()))

    def has_left(self, incarnation: bytes) -> bool:
        """Whether the worker is lost, gone or unknown."""
        worker = self._by_incarnation.get(incarnation)
        return worker is None or worker.state in self._departed

    def at(self, route: Route) -> Worker | None:
        """The worker at this route."""
        return self._by_route.get(route)

    def find(self, incarnation: bytes) -> Worker | None:
        """The worker of this incarnation, departed ones included."""
        return self._by_incarnation.get(incarnation)

    def of_supervisor(self, supervisor: bytes) -> list[Worker]:
        """The children of the supervisor with this id."""
        return [worker for worker in self if worker.supervisor == supervisor]

    def key_of_supervisor(self, supervisor: bytes, default: str) -> str:
        """The key proved before by a supervisor of this id, or by a child of it."""
        known = (other.key for other in self.supervisors.values() if other.id == supervisor)
        return next(known, next((worker.key for worker in self.of_supervisor(supervisor)), default))

    def add(self, worker: Worker) -> None:
        """Take in a new worker."""
        worker.changed = self._changed
        worker.item_times.join(self.item_times)
        self._by_incarnation[worker.incarnation] = worker
        self.connect(worker, worker.route)

    def connect(self, worker: Worker, route: Route | None) -> None:
        """Reach the worker at this route from now on; None: nowhere."""
        if worker.route is not None:
            self._by_route.pop(worker.route, None)
        worker.route = route
        if route is not None:
            self._by_route[route] = worker
        worker.changed(worker)

    def depart(self, worker: Worker, state: WorkerState) -> None:
        """Move the worker to LOST or GONE; its record stays for a while."""
        self._departed[WorkerState.LOST].pop(worker.incarnation, None)
        worker.move_to(state)
        self.connect(worker, None)
        departed = self._departed[state]
        departed[worker.incarnation] = None
        while len(departed) > _MOST_KEPT[state]:
            oldest = next(iter(departed))
            del departed[oldest]
            del self._by_incarnation[oldest]

    def forget_lost(self, silent_since: float) -> None:
        """Drop the records of lost workers that have been silent since then."""
        lost = self._departed[WorkerState.LOST]
        while lost:
            oldest = next(iter(lost))
            if self._by_incarnation[oldest].last_seen > silent_since:
                return
            del lost[oldest]
            del self._by_incarnation[oldest]

    def return_to(self, worker: Worker) -> None:
        """Take a lost worker back."""
        worker.move_to(WorkerState.JOINING)
        self._departed[WorkerState.LOST].pop(worker.incarnation, None)
