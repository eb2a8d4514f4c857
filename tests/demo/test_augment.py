from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from enqueuer.compute.context import begin_item, end_item
from enqueuer.demo.augment import (
    WORK_SIZE,
    augment,
    decode,
    decode_all,
    load_dataset,
    make_sequence,
    resample,
    to_array,
)
from enqueuer.demo.digits import IMAGE_SIZE as digits_size
from enqueuer.demo.image_folder import IMAGE_SIZE as folder_size
from enqueuer.demo.image_folder import ImageFolderError


@contextmanager
def item(index: int, seed: int = 7) -> Iterator[None]:
    """Compute one item as a worker does."""
    outer = begin_item(seed, 0, index)
    try:
        yield
    finally:
        end_item(outer)


@pytest.fixture(scope="module")
def digits():
    return make_sequence(None, 32, load_dataset(None).fingerprint())


def test_a_batch_has_images_and_their_labels(digits):
    with item(0):
        x, y = digits[0]
    assert (x.shape, x.dtype) == ((32, 16, 16, 1), np.float32)
    assert (y.shape, y.dtype) == ((32,), np.int64)
    assert -1.8 < x.min() < -0.9
    assert 0.5 < x.max() < 1.8


def test_the_batches_of_an_epoch_cover_every_training_image_once(digits):
    labels = []
    for index in range(len(digits)):
        with item(index):
            labels.append(digits[index][1])
    assert (np.concatenate(labels) == load_dataset(None).train.labels).all()
    assert len(labels[-1]) == 1438 % 32


def test_the_same_item_is_the_same_bit_for_bit_wherever_it_is_built(digits):
    with item(3):
        first = digits[3]
    other_instance = make_sequence(None, 32, load_dataset(None).fingerprint())
    with item(3):
        second = other_instance[3]
    assert first[0].tobytes() == second[0].tobytes()


def test_another_seed_augments_in_another_way(digits):
    with item(3, seed=1):
        first = digits[3][0]
    with item(3, seed=2):
        second = digits[3][0]
    assert (first != second).any()


def test_images_of_one_batch_are_augmented_each_in_its_own_way():
    image = Image.new("L", (64, 64), 255)
    rng = np.random.default_rng(0)
    assert (augment(image, 16, rng) != augment(image, 16, rng)).any()


def test_a_deformed_image_stays_near_its_place():
    image = Image.new("L", (64, 64))
    image.paste(255, (28, 28, 36, 36))
    places = set()
    for seed in range(40):
        y, x = np.unravel_index(augment(image, 16, np.random.default_rng(seed))[:, :, 0].argmax(), (16, 16))
        places.add((int(x), int(y)))
    assert places <= {(x, y) for x in range(5, 11) for y in range(5, 11)}
    assert len(places) > 4


def test_resampling_at_each_pixels_own_place_changes_nothing():
    pixels = np.random.default_rng(0).random((8, 8, 3), dtype=np.float32)
    rows, columns = np.indices((8, 8), dtype=np.float32)
    assert np.array_equal(resample(pixels, rows, columns), pixels)


def test_resampling_interpolates_between_pixels_and_repeats_the_edge():
    pixels = np.array([[0, 1], [2, 3]], np.float32)[..., np.newaxis]
    rows, columns = np.array([[0.5, -9]], np.float32), np.array([[0.5, 9]], np.float32)
    assert resample(pixels, rows, columns)[..., 0].tolist() == [[1.5, 1.0]]


def test_the_size_at_which_images_are_deformed_is_a_multiple_of_the_final_ones():
    assert WORK_SIZE % digits_size == WORK_SIZE % folder_size == 0


def test_pixels_lie_between_minus_one_and_one():
    image = Image.new("L", (2, 1))
    image.putpixel((1, 0), 255)
    assert to_array(image).tolist() == [[[-1.0], [1.0]]]


def test_colour_images_of_any_shape_become_squares(image_folder: Path):
    dataset = load_dataset(str(image_folder))
    x, y = decode_all(dataset.held_out, dataset.mode, dataset.image_size)
    assert x.shape == (4, 32, 32, 3)
    assert sorted(y.tolist()) == [0, 0, 1, 1]


def test_a_file_that_is_no_image_is_named(image_folder: Path):
    broken = image_folder / "dark" / "3.png"
    broken.write_bytes(b"not an image")
    with pytest.raises(ImageFolderError, match=f"cannot read {broken}"):
        decode(str(broken), "RGB", 32)


def test_a_truncated_image_is_named(image_folder: Path):
    broken = image_folder / "dark" / "3.png"
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    encoded = io.BytesIO()
    Image.fromarray(noise).save(encoded, "PNG")
    broken.write_bytes(encoded.getvalue()[:500])
    with pytest.raises(ImageFolderError, match=f"cannot read {broken}"):
        decode(str(broken), "RGB", 32)


def test_other_images_than_the_trainers_are_refused(image_folder: Path):
    fingerprint = load_dataset(str(image_folder)).fingerprint()
    (image_folder / "dark" / "0.png").unlink()
    with pytest.raises(ImageFolderError, match="holds other images on"):
        make_sequence(str(image_folder), 4, fingerprint)
