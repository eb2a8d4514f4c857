"""The books of samples: the trusted hosts, and the known batches to compare with.

Only the rules, in `sampling` and `comparing`, write them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from enqueuer.core.digests import BatchDigest, Difference

if TYPE_CHECKING:
    from enqueuer.core.worker import Worker

# Known batches kept of one epoch and state generation. Two different listings of n files agree at one place by chance
# once in n times.
MOST_KNOWN = 3
_MOST_HOSTS = 10_000


@dataclass(frozen=True, slots=True)
class Known:
    """A batch of a trusted worker, to compare samples with. ``digest`` None: it cannot be compared."""

    index: int
    digest: BatchDigest | None
    seconds: float
    worker: Worker


class Sample(NamedTuple):
    """One index, computed by a worker to be compared; ``host`` is the host in question.

    ``is_control``: a trusted worker computes it once more, because the host's sample differed from the known batch.
    """

    epoch: int
    generation: int
    known: Known
    host: Host
    is_control: bool = False


@dataclass(slots=True)
class Contest:
    """A sample unlike the known batch, until a control shows whether each computation gives another result."""

    worker: Worker
    sample: Sample
    difference: Difference
    control: Worker
    begun_at: float


@dataclass(slots=True, eq=False)
class Host:
    """The workers of one remote supervisor; a worker without one is a host by itself."""

    is_trusted: bool = False
    # The time since when the host may compute without any trusted host; None: it may not. And whether an item failed.
    founding_since: float | None = None
    has_failed: bool = False
    # The workers that are ready to serve once the host is trusted, and the time since when there are any.
    waiting: dict[Worker, None] = field(default_factory=dict)
    waiting_since: float = 0.0
    asked_at: float = 0.0
    asks_count: int = 0
    contest: Contest | None = None
    has_rounded: bool = False


class Samples:
    """The trusted hosts and the known batches of one session.

    ``is_on``: the session may have remote workers, and batches can be compared.
    """

    def __init__(self, *, is_on: bool) -> None:
        self.is_on = is_on
        self.hosts: dict[bytes, Host] = {}
        # By epoch and state generation.
        self.known: dict[tuple[int, int], list[Known]] = {}
        # Batches differ each time they are computed, so no sample says anything.
        self.is_random = False
        # A host may compute while nobody is trusted yet.
        self.is_founding = False
        # A difference between two answers to one position is reported once.
        self.has_told_of_twice = False

    @property
    def waiting_count(self) -> int:
        """Workers that are ready and wait for their host to be trusted."""
        return sum([len(host.waiting) for host in self.hosts.values()])

    def host_of(self, worker: Worker) -> Host:
        """The worker's host; a new one is not trusted."""
        key = worker.supervisor or worker.incarnation
        host = self.hosts.get(key)
        if host is None:
            while len(self.hosts) >= _MOST_HOSTS:
                del self.hosts[next(iter(self.hosts))]
            host = self.hosts[key] = Host()
        return host

    def is_waiting(self, worker: Worker) -> bool:
        """Whether the worker is ready and waits for its host to be trusted."""
        host = self.hosts.get(worker.supervisor or worker.incarnation)
        return host is not None and worker in host.waiting

    def looks_at(self, epoch: int, generation: int) -> bool:
        """Whether answers of this epoch say anything that is not known yet."""
        return self.is_on and (self.is_founding or self.wants(epoch, generation))

    def wants(self, epoch: int, generation: int) -> bool:
        """Whether one more known batch of this epoch is wanted."""
        return len(self.known.get((epoch, generation), ())) < MOST_KNOWN

    def keep_only(self, announced: Iterable[tuple[int, int]]) -> None:
        """Forget the known batches of all epochs but these."""
        kept = set(announced)
        for key in [key for key in self.known if key not in kept]:
            del self.known[key]

    def shift(self, gap: float) -> None:
        """Move all times by the coordinator's own pause of ``gap`` seconds: no host waited during it."""
        for host in self.hosts.values():
            host.waiting_since += gap
            host.asked_at += gap
            if host.founding_since is not None:
                host.founding_since += gap
            if host.contest is not None:
                host.contest.begun_at += gap
