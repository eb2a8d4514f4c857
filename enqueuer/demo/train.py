"""The demo's training loop, as a user would write it, and the same loop without workers as the baseline."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from time import perf_counter

from threadpoolctl import threadpool_limits

from enqueuer import SequenceEnqueuer, SequenceSpec, Stats
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
    epochs: int = 20
    batch_size: int = 32
    seed: int = 0
    max_queue_size: int = 10
    resume: str | None = None
    # How long the baseline without workers runs; 0 leaves it out.
    baseline_seconds: float = 3.0


@dataclass(frozen=True, slots=True)
class Report:
    """The results of one training."""

    accuracy: float
    held_out_count: int
    # Seconds to import what the demo needs and load the images, before anything else starts.
    loading_seconds: float
    # The enqueuer's own statistics at the end of the training.
    stats: Stats
    # Computed in the training loop's own thread; None if the baseline was left out.
    baseline_batches_per_second: float | None


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
    begun_at = perf_counter()
    dataset = load_dataset(settings.images)
    held_out_x, held_out_y = decode_all(dataset.held_out, dataset.mode, dataset.image_size)
    loading_seconds = perf_counter() - begun_at
    classifier = _classifier(settings, dataset)
    stats = _train(settings, dataset, classifier, observer)
    compares = _wants_baseline(settings) and stats.batches_total > 0
    return Report(
        accuracy=classifier.accuracy(held_out_x, held_out_y),
        held_out_count=len(held_out_y),
        loading_seconds=loading_seconds,
        stats=stats,
        baseline_batches_per_second=_baseline(settings, dataset) if compares else None,
    )


def _train(settings: Settings, dataset: Dataset, classifier: Classifier, observer: Observer) -> Stats:
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
        if done == total:
            return Stats()  # killed after its last batch, or run again: the weights are complete
        enqueuer.start(settings.workers, settings.max_queue_size)
        with observer(enqueuer, total, done) as observe:
            for count, (x, y) in enumerate(islice(enqueuer.get(), total - done), done + 1):
                observe(classifier.step(x, y))
                if checkpoint is not None and (checkpoint.is_due or count == total):
                    checkpoint.save(count, enqueuer.state_dict(), classifier.state)
            return enqueuer.stats()


def _job(settings: Settings, dataset: Dataset) -> str:
    """The identity of a training: only one with equal images, batch size and seed can be resumed."""
    return f"images {dataset.fingerprint()[:12]}, batch size {settings.batch_size}, seed {settings.seed}"


def _wants_baseline(settings: Settings) -> bool:
    """Whether to measure the baseline. A training without any workers is itself the baseline."""
    return settings.baseline_seconds > 0 and (settings.workers > 0 or settings.bind is not None)


def _baseline(settings: Settings, dataset: Dataset) -> float:
    """Batches/s of the same Sequence and training step without workers, measured for a few seconds."""
    classifier = _classifier(settings, dataset)
    with SequenceEnqueuer(_spec(settings, dataset), shuffle=True, seed=settings.seed) as enqueuer:
        enqueuer.start(workers=0)
        end_at = math.inf
        for x, y in enqueuer.get():
            classifier.step(x, y)
            end_at = min(end_at, perf_counter() + settings.baseline_seconds)
            if perf_counter() >= end_at:
                break
        return enqueuer.stats().batches_per_second


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
