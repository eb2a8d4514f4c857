from __future__ import annotations

import numpy as np

from enqueuer.demo.classifier import Classifier


def two_clouds(count: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """Two separable classes of 2 × 2 × 1 'images'."""
    rng = np.random.default_rng(0)
    labels = np.arange(count) % 2
    x = rng.standard_normal((count, 2, 2, 1), dtype=np.float32) * 0.3 + np.where(labels, 1, -1)[:, None, None, None]
    return x.astype(np.float32), labels.astype(np.int64)


def test_the_classifier_learns_to_separate_two_classes():
    x, y = two_clouds()
    classifier = Classifier(4, 2, hidden=8, learning_rate=0.05)
    losses = [classifier.step(x, y) for _ in range(50)]
    assert losses[-1] < 0.1 * losses[0]
    assert classifier.accuracy(x, y) == 1.0


def test_the_first_loss_is_that_of_guessing_when_the_input_is_blank():
    assert np.isclose(Classifier(4, 10).step(np.zeros((5, 4), np.float32), np.arange(5)), np.log(10))


def test_the_same_seed_and_batches_give_the_same_losses():
    x, y = two_clouds()
    first, second = (Classifier(4, 2, seed=3) for _ in range(2))
    assert [first.step(x, y) for _ in range(5)] == [second.step(x, y) for _ in range(5)]
    assert Classifier(4, 2, seed=4).step(x, y) != Classifier(4, 2, seed=3).step(x, y)


def test_a_small_step_lowers_the_loss_a_little():
    x, y = two_clouds(8)
    classifier = Classifier(4, 2, hidden=8, learning_rate=1e-4, seed=1)
    loss = classifier.step(x, y)
    assert loss - 0.1 < classifier.step(x, y) < loss


def test_large_inputs_do_not_overflow():
    classifier = Classifier(4, 2)
    loss = classifier.step(np.full((3, 4), 1e4, np.float32), np.array([0, 1, 0]))
    assert np.isfinite(loss)
