"""Prometheus metrics of one trainer, made of a snapshot at each scrape: nothing is counted for them in between.

    Prometheus ──scrape──► collector ──► a snapshot: of this process's session, or of a trainer elsewhere

Names follow Prometheus' rules: base units, ``_total`` for counters. No label has a worker's name, since the number of
series must not grow with the fleet; `enqueuer status --json` has each worker.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from itertools import accumulate
from typing import TYPE_CHECKING

from enqueuer.core.item_times import OCTAVE_BOUNDS
from enqueuer.core.verdict import Cause
from enqueuer.errors import ConfigurationError
from enqueuer.protocol.observation import Snapshot

if TYPE_CHECKING:
    from prometheus_client.core import Metric

# From 1 ms to 17 minutes; what is below or above is in the first and the last bucket.
_FIRST_OCTAVE, _LAST_OCTAVE = 10, 29


class MetricsServer:
    """Serves ``/metrics`` at an address until `close`. Each scrape calls ``snapshot``, in a thread of the server.

    None from ``snapshot`` means that no trainer answers: ``enqueuer_up`` is then 0, and the only metric. Raises
    ConfigurationError without prometheus_client, and OSError if the port cannot be bound.
    """

    def __init__(self, snapshot: Callable[[], Snapshot | None], port: int, host: str = "127.0.0.1") -> None:
        try:
            from prometheus_client import CollectorRegistry, start_http_server
        except ImportError:
            raise ConfigurationError("metrics need prometheus_client: pip install 'enqueuer[metrics]'") from None
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Collector(snapshot))
        try:
            self._server, self._thread = start_http_server(port, addr=host, registry=registry)
        except OSError as error:
            reason = "the port is taken" if error.errno == errno.EADDRINUSE else error.strerror
            raise OSError(error.errno, f"cannot serve metrics at {host}:{port}: {reason}") from error

    def close(self) -> None:
        """End the server; a scrape that runs is not waited for."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def disarm(self) -> None:
        """In a forked child, which has no thread of the server: let go of the port."""
        self._server.socket.close()


class _Collector:
    """Makes metrics of a snapshot; `prometheus_client` calls `collect` at each scrape."""

    def __init__(self, snapshot: Callable[[], Snapshot | None]) -> None:
        self._snapshot = snapshot

    def describe(self) -> list[Metric]:
        """Describe nothing. Without this method the registry would scrape once to learn the names."""
        return []

    def collect(self) -> Iterator[Metric]:
        snapshot = self._snapshot()
        yield _gauge("enqueuer_up", "Whether the trainer answers.", float(snapshot is not None))
        if snapshot is not None:
            yield from _counters(snapshot)
            yield from _gauges(snapshot)
            yield _item_times(snapshot)


def _counters(seen: Snapshot) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily

    for name, doc, value in (
        ("batches", "Batches that the trainer has taken.", seen.batches_total),
        ("wait_seconds", "Seconds that the trainer waited for a batch.", seen.wait_seconds),
        ("busy_seconds", "Seconds that workers computed, summed over their slots.", seen.busy_seconds),
        ("io_thread_cpu_seconds", "Processor seconds of the trainer's I/O thread.", seen.io_thread_seconds),
        ("worker_cpu_seconds", "Seconds in which workers used a processor or waited for one.", seen.worker_cpu_seconds),
        ("worker_read_bytes", "Bytes that workers read from files and pipes.", seen.worker_read_bytes),
        ("sending_seconds", "Seconds in which idle workers waited for the network.", seen.sending_seconds),
        ("network_bytes", "Bytes of batches that came over the network, as they travelled.", seen.network_bytes_total),
        ("retries", "Batches that were tried again after an exception.", seen.retries_count),
        ("hedges", "Late batches that were leased to a second worker.", seen.hedges_count),
        ("timeouts", "Workers that were replaced because a batch took too long.", seen.timeouts_count),
        ("skipped", "Batches that were skipped after an exception.", seen.skipped_count),
        ("lost_workers", "Workers that died or fell silent.", seen.lost_workers_count),
        ("stale_answers", "Answers that came too late or twice.", seen.stale_count),
        ("malformed_messages", "Messages that broke the wire contract.", seen.malformed_count),
        ("offences", "Acts of peers that no honest peer does.", seen.offences_count),
    ):
        yield CounterMetricFamily(f"enqueuer_{name}", doc, value=value)
    received = CounterMetricFamily(
        "enqueuer_received_bytes", "Bytes of batches, counted without compression.", labels=["way"]
    )
    received.add_metric(["shared_memory"], seen.shared_bytes_total)
    received.add_metric(["socket"], max(0, seen.bytes_total - seen.shared_bytes_total))
    yield received


def _gauges(seen: Snapshot) -> Iterator[Metric]:
    from prometheus_client.core import InfoMetricFamily

    yield InfoMetricFamily("enqueuer", "The trainer's library.", value={"version": seen.library_version})
    yield _gauge("enqueuer_epoch", "The epoch of the batch taken last, from 0.", seen.epoch)
    yield _labelled(
        "enqueuer_undelivered_batches",
        "Batches that the trainer has not taken.",
        "state",
        {"ready": seen.ready_count, "ahead_of_turn": seen.received_count, "leased": seen.leased_count},
    )
    yield _gauge("enqueuer_queue_limit_batches", "How many batches may be undelivered; 0: any.", seen.queue_limit)
    yield _labelled(
        "enqueuer_workers",
        "Workers by state.",
        "state",
        {"joining": seen.joining_count, "serving": seen.workers_count, "draining": seen.draining_count},
    )
    yield _gauge("enqueuer_slots", "Batches that the serving workers can compute at a time.", seen.slots_count)
    yield _labelled(
        "enqueuer_memory_bytes",
        "Memory of the processes, shared memory included.",
        "side",
        {"trainer": seen.memory_bytes, "workers": seen.workers_memory_bytes},
    )
    if seen.desired_slots is not None:
        yield _gauge("enqueuer_desired_slots", "Slots that keep up with the trainer.", seen.desired_slots)
    yield _gauge("enqueuer_wait_ratio", "Share of the latest time that the trainer waited.", seen.recent_wait_share)
    yield _labelled(
        "enqueuer_verdict",
        "What holds the training back: 1 for the present verdict.",
        "verdict",
        {cause.name.lower(): cause.value == seen.cause for cause in Cause},
    )


def _item_times(seen: Snapshot) -> Metric:
    from prometheus_client.core import HistogramMetricFamily

    upto = list(accumulate(seen.item_counts))
    total = upto[-1] if upto else 0
    buckets = [
        (f"{bound:.10g}", float(count))
        for octave, (bound, count) in enumerate(zip(OCTAVE_BOUNDS, upto, strict=False))
        if _FIRST_OCTAVE <= octave <= _LAST_OCTAVE
    ]
    return HistogramMetricFamily(
        "enqueuer_item_seconds",
        "Seconds of work a batch; batches that came in one message count with their mean.",
        buckets=[*buckets, ("+Inf", float(total))],
        sum_value=seen.busy_seconds,
    )


def _gauge(name: str, doc: str, value: float) -> Metric:
    from prometheus_client.core import GaugeMetricFamily

    return GaugeMetricFamily(name, doc, value=value)


def _labelled(name: str, doc: str, label: str, values: dict[str, int]) -> Metric:
    from prometheus_client.core import GaugeMetricFamily

    family = GaugeMetricFamily(name, doc, labels=[label])
    for text, value in values.items():
        family.add_metric([text], float(value))
    return family
