"""The demo's training loop, as a user would write it, and the same loop without workers as the baseline."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Any

from threadpoolctl import threadpool_limits

from enqueuer import SequenceEnqueuer, SequenceSpec
from enqueuer.demo.augment import decode_all, load_dataset
from enqueuer.demo.checkpoint import Checkpoint
from enqueuer.demo.classifier import Classifier
from enqueuer.demo.dataset import Dataset
from enqueuer.errors import ConfigurationError

# observer(enqueuer, batches in all, batches done before): the enqueuer is started. It yields a function that is called
# with each batch's loss.
Observer = Callable[[SequenceEnqueuer, int, int], AbstractContextManager[Callable[[float], None]]]


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of one training. ``images`` is a folder, None for the digits; ``bind`` lets other machines join.

    ``resume`` is the file of the checkpoints; if it exists, the training continues from it.
    """

    images: str | None = None
    workers: int = 2
    bind: str | None = None
    key_file: str | None = None
    insecure: bool = False
    epochs: int = 40
    batch_size: int = 32
    seed: int = 0
    max_queue_size: int = 10
    resume: str | None = None
    # How long the baseline without workers runs; 0 leaves it out.
    baseline_seconds: float = 3.0


@dataclass(frozen=True, slots=True)
class Report:
    """The results of one training. Times are in seconds and, except ``startup_seconds``, begin with the first batch."""

    accuracy: float
    held_out_count: int
    batches_count: int
    startup_seconds: float
    training_seconds: float
    wait_seconds: float
    batches_per_second: float
    # Computed in the training loop's own thread; None if the baseline was left out.
    baseline_batches_per_second: float | None

    @property
    def wait_share(self) -> float:
        """The part of the training time spent waiting for data, 0.0 to 1.0."""
        return self.wait_seconds / self.training_seconds


@contextmanager
def unobserved(_enqueuer: SequenceEnqueuer, _batches_count: int, _done_count: int) -> Iterator[Callable[[float], None]]:
    """An observer that shows nothing."""
    yield lambda _loss: None


def run(settings: Settings, observer: Observer = unobserved) -> Report:
    """Train, evaluate on the held-out images, and measure the baseline without workers.

    Raises `ConfigurationError` for impossible settings or images, and passes on the errors of the enqueuer.
    """
    # Idle BLAS threads spin: on two cores, two of them took the workers' time, and training with workers was no faster
    # than without.
    with threadpool_limits(limits=1):
        return _run(settings, observer)


def _run(settings: Settings, observer: Observer) -> Report:
    dataset = load_dataset(settings.images)
    held_out_x, held_out_y = decode_all(dataset.held_out, dataset.mode, dataset.image_size)
    classifier = _classifier(settings, dataset)
    pace = _train(settings, dataset, classifier, observer)
    compares = _wants_baseline(settings) and pace.batches_count > 0
    return Report(
        accuracy=classifier.accuracy(held_out_x, held_out_y),
        held_out_count=len(held_out_y),
        batches_count=pace.batches_count,
        startup_seconds=pace.startup_seconds,
        training_seconds=pace.training_seconds,
        wait_seconds=pace.wait_seconds,
        batches_per_second=pace.batches_per_second,
        baseline_batches_per_second=_baseline(settings, dataset) if compares else None,
    )


def _train(settings: Settings, dataset: Dataset, classifier: Classifier, observer: Observer) -> _Pace:
    with SequenceEnqueuer(
        _spec(settings, dataset),
        use_multiprocessing=True,
        shuffle=True,
        seed=settings.seed,
        bind=settings.bind,
        key_file=settings.key_file,
        insecure=settings.insecure,
    ) as enqueuer:
        checkpoint = Checkpoint(Path(settings.resume), _job(settings, dataset)) if settings.resume else None
        progress = checkpoint.load() if checkpoint is not None else None
        total, done = settings.epochs * len(enqueuer), 0
        if progress is not None:
            done = progress.batches_count
            if done > total:
                raise ConfigurationError(
                    f"{settings.resume} holds {done} batches of training and --epochs {settings.epochs} are {total}: "
                    "give more epochs, or another file"
                )
            classifier.state = progress.weights
            enqueuer.load_state_dict(progress.stream)
        pace = _Pace()
        if done == total:
            return pace  # killed after its last batch, or run again: the weights are complete
        enqueuer.start(settings.workers, settings.max_queue_size)
        with observer(enqueuer, total, done) as observe:
            for count, (x, y) in enumerate(pace.watch(islice(enqueuer.get(), total - done)), done + 1):
                observe(classifier.step(x, y))
                if checkpoint is not None and (checkpoint.is_due or count == total):
                    checkpoint.save(count, enqueuer.state_dict(), classifier.state)
        return pace


def _job(settings: Settings, dataset: Dataset) -> str:
    """The identity of a training: only one with equal images, batch size and seed can be resumed."""
    return f"images {dataset.fingerprint()[:12]}, batch size {settings.batch_size}, seed {settings.seed}"


def _wants_baseline(settings: Settings) -> bool:
    """Whether to measure the baseline. A training without any workers is itself the baseline."""
    return settings.baseline_seconds > 0 and (settings.workers > 0 or settings.bind is not None)


def _baseline(settings: Settings, dataset: Dataset) -> float:
    """Batches/s of the same Sequence and training step without workers, measured for a few seconds."""
    classifier = _classifier(settings, dataset)
    pace = _Pace()
    with SequenceEnqueuer(_spec(settings, dataset), shuffle=True, seed=settings.seed) as enqueuer:
        enqueuer.start(workers=0)
        for x, y in pace.watch(enqueuer.get(), settings.baseline_seconds):
            classifier.step(x, y)
    return pace.batches_per_second


def _spec(settings: Settings, dataset: Dataset) -> SequenceSpec:
    """The Sequence by name, from which each worker builds its own instance."""
    return SequenceSpec(
        "enqueuer.demo.augment:make_sequence",
        images=settings.images,
        batch_size=settings.batch_size,
        fingerprint=dataset.fingerprint(),
    )


def _classifier(settings: Settings, dataset: Dataset) -> Classifier:
    return Classifier(math.prod(dataset.sample_shape), len(dataset.class_names), seed=settings.seed)


class _Pace:
    """Measures the batches per second and the time that the loop waits for them.

    The wait for the first batch is measured separately, because it includes the start of the workers.
    """

    def __init__(self) -> None:
        self._begun_at = self._first_at = self._asked_at = perf_counter()
        self.batches_count = 0
        self.wait_seconds = 0.0

    def watch(self, batches: Iterable[Any], seconds: float = math.inf) -> Iterator[Any]:
        """Pass on the batches until ``seconds`` after the first, and time each wait for the next one."""
        iterator = iter(batches)
        while True:
            self._asked_at = perf_counter()
            if self.batches_count and self.training_seconds >= seconds:
                return
            try:
                batch = next(iterator)
            except StopIteration:
                return
            self._arrived(perf_counter())
            yield batch

    def _arrived(self, now: float) -> None:
        if self.batches_count:
            self.wait_seconds += now - self._asked_at
        else:
            self._first_at = now
        self.batches_count += 1

    @property
    def startup_seconds(self) -> float:
        return self._first_at - self._begun_at

    @property
    def training_seconds(self) -> float:
        """The time from the arrival of the first batch to the end of training on the last one."""
        return self._asked_at - self._first_at

    @property
    def batches_per_second(self) -> float:
        return self.batches_count / self.training_seconds if self.batches_count else 0.0
