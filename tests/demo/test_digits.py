from __future__ import annotations

import numpy as np

from enqueuer.demo.digits import load_digits


def test_every_digit_is_either_trained_on_or_held_out_and_never_both():
    dataset = load_digits()
    assert len(dataset.train) + len(dataset.held_out) == 1797
    # The bundle holds a few equal scans, so the images themselves cannot be told apart; their counts can.
    labels = np.concatenate([dataset.train.labels, dataset.held_out.labels])
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_a_fifth_of_each_digit_is_held_out():
    counts = np.bincount(load_digits().held_out.labels)
    assert all(count in (35, 36, 37) for count in counts)


def test_two_processes_would_split_alike():
    first, second = load_digits(), load_digits()
    assert first.train.sources == second.train.sources
    assert (first.train.labels == second.train.labels).all()
    assert first.fingerprint() == second.fingerprint()


def test_digits_are_held_as_png_files():
    assert all(source[:8] == b"\x89PNG\r\n\x1a\n" for source in load_digits().train.sources[:5])
