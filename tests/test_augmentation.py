"""Crop and flip: each change equally likely, another every visit, none in the test."""

from __future__ import annotations

import functools
from collections import Counter
from dataclasses import replace

import batches
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cnnjax
from cnnjax.base.errors import InputError
from cnnjax.data.augmentation import (
    Cutout,
    RandomCrop,
    RandomFlip,
    RandomShift,
    augment,
)
from cnnjax.data.order import example_keys
from cnnjax.data.preprocessing import Identity
from cnnjax.experiments.experiment import keys_of, prepare
from cnnjax.experiments.recipes import get_recipe
from cnnjax.models.stack import Dropout

IMAGE = np.arange(5 * 7 * 2, dtype=np.uint8).reshape(5, 7, 2)
COUNT = 4_000
STEPS = (RandomCrop(2), RandomFlip())


def shifted(image: np.ndarray, down: int, right: int, padding: int) -> np.ndarray:
    """Return the crop whose corner is (down, right) in the padded image."""
    side = (padding, padding)
    padded = np.pad(image, (side, side, (0, 0)), mode="reflect")
    height, width = image.shape[:2]
    return padded[down : down + height, right : right + width]


def many(step, *, count: int = COUNT) -> np.ndarray:
    """Return what a step makes of one image under many keys."""
    keys = jax.random.split(jax.random.key(7), count)
    of_one = functools.partial(step, jnp.asarray(IMAGE))
    return np.asarray(jax.jit(jax.vmap(of_one))(keys))


def shares(images: np.ndarray) -> dict[bytes, float]:
    """Return how often each image occurs."""
    counts = Counter(image.tobytes() for image in images)
    return {image: count / len(images) for image, count in counts.items()}


def test_half_of_the_images_are_mirrored():
    found = shares(many(RandomFlip()))
    assert set(found) == {IMAGE.tobytes(), IMAGE[:, ::-1].tobytes()}
    assert found[IMAGE.tobytes()] == pytest.approx(0.5, abs=0.04)


@pytest.mark.parametrize("padding", [1, 2])
def test_every_crop_is_a_shift_and_all_are_equally_likely(padding):
    found = shares(many(RandomCrop(padding)))
    ways = range(2 * padding + 1)
    expected = {shifted(IMAGE, i, j, padding).tobytes() for i in ways for j in ways}
    assert set(found) == expected
    assert len(found) == len(ways) ** 2
    assert max(found.values()) < 2 / len(found)
    assert min(found.values()) > 0.5 / len(found)


def test_the_type_and_the_shape_stay():
    for dtype in ("uint8", "float32"):
        image = jnp.asarray(IMAGE, dtype)
        changed = augment(image, jax.random.key(0), steps=STEPS)
        assert changed.shape == IMAGE.shape
        assert changed.dtype == dtype


def test_steps_have_keys_of_their_own():
    """Were they the same, a flip and a crop, or two flips, would go together."""
    both = many(lambda image, key: augment(image, key, steps=(RandomFlip(),) * 2))
    assert shares(both)[IMAGE.tobytes()] == pytest.approx(0.5, abs=0.04)


RECIPE = replace(batches.TINY, augmentation=STEPS, preprocessing=Identity())


def test_training_differentiates_the_loss_of_the_changed_example():
    """The loss of a raw example is the plain loss of what its key makes of it."""
    dataset = batches.random_dataset(RECIPE, train=24, test=8)
    experiment = prepare(RECIPE, dataset)
    plain = prepare(replace(RECIPE, augmentation=()), dataset)
    keys = example_keys(keys_of(0).dropout, 3, batch_size=24)
    seen = 0
    for image, label, key in zip(*experiment.train, keys, strict=True):
        changed = augment(jnp.asarray(image), jax.random.fold_in(key, 1), steps=STEPS)
        seen += not np.array_equal(changed, image)
        got = experiment.loss_fn(experiment.params, image, label, key)
        expected = plain.loss_fn(plain.params, np.asarray(changed), label, key)
        np.testing.assert_array_equal(got[0], expected[0])
    assert seen > 18  # of 24; one in 50 stays as it is
    # The same without a key, as in the test.
    one = [example[0] for example in experiment.test]
    for wanted in (experiment.loss_fn, experiment.test_loss_fn):
        got = wanted(experiment.params, *one, None)
        assert got[0] == plain.loss_fn(plain.params, *one, None)[0]


def test_keys_are_drawn_where_something_is_random():
    assert RECIPE.needs_keys
    layers = [one for one in RECIPE.model.layers if not isinstance(one, Dropout)]
    model = replace(RECIPE.model, layers=tuple(layers))
    assert replace(RECIPE, model=model).needs_keys
    assert not replace(RECIPE, model=model, augmentation=()).needs_keys


def test_a_visit_sees_another_change_and_a_seed_repeats_them():
    recipe = replace(RECIPE, epochs=2)
    dataset = batches.random_dataset(RECIPE, train=24, test=8)
    first, again = (cnnjax.fit(recipe, dataset, seed=3) for _ in range(2))
    jax.tree.map(np.testing.assert_array_equal, first.params, again.params)
    keys = [example_keys(keys_of(3).dropout, step, batch_size=8) for step in (0, 3)]
    changed = [
        jax.vmap(lambda key: augment(jnp.asarray(IMAGE), key, steps=STEPS))(k)
        for k in keys
    ]
    assert not np.array_equal(*changed)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"augmentation": ("flip",)}, "augmentation of kind RandomFlip or RandomCrop"),
        ({"augmentation": RandomFlip()}, "augmentation to be a tuple"),
    ],
)
def test_what_is_no_augmentation_is_refused(changes, message):
    with pytest.raises(InputError, match=message):
        replace(RECIPE, **changes)


def test_a_crop_that_cannot_be_is_refused():
    with pytest.raises(InputError, match="padding of at least 1, got 0"):
        RandomCrop(0)
    dataset = batches.random_dataset(RECIPE, train=24, test=8)
    height = dataset.train.inputs.shape[1]
    with pytest.raises(InputError, match=r"larger than its padding, got inputs of"):
        prepare(replace(RECIPE, augmentation=(RandomCrop(height),)), dataset)
    housing = get_recipe("tanh_mlp_housing_narrow")
    flipped = replace(housing, augmentation=(RandomFlip(),))
    table = batches.random_dataset(housing, train=24, test=8)
    with pytest.raises(InputError, match="expects images for RandomFlip"):
        prepare(flipped, table)


@pytest.mark.parametrize("most", [1, 2])
def test_every_shift_is_equally_likely_and_zeros_come_in(most):
    found = shares(many(RandomShift(most)))
    expected = set()
    for down in range(-most, most + 1):
        for right in range(-most, most + 1):
            moved = np.zeros_like(IMAGE)
            rows, columns = IMAGE.shape[:2]
            for y in range(rows):
                for x in range(columns):
                    if 0 <= y - down < rows and 0 <= x - right < columns:
                        moved[y, x] = IMAGE[y - down, x - right]
            expected.add(moved.tobytes())
    assert set(found) == expected
    wanted = 1 / (2 * most + 1) ** 2
    assert all(abs(share - wanted) < 0.35 * wanted for share in found.values())


@pytest.mark.parametrize("size", [1, 2, 3, 99])
def test_a_square_is_cut_out_around_any_pixel(size):
    image = IMAGE + 1  # no zeros of its own
    step = functools.partial(Cutout(size), image)
    keys = jax.random.split(jax.random.key(7), COUNT)
    found = shares(np.asarray(jax.jit(jax.vmap(step))(keys)))
    rows, columns = image.shape[:2]
    expected = Counter()
    for y in range(rows):
        for x in range(columns):
            cut = image.copy()
            top, left = y - size // 2, x - size // 2
            cut[
                max(0, top) : max(0, top + size), max(0, left) : max(0, left + size)
            ] = 0
            expected[cut.tobytes()] += 1 / (rows * columns)
    assert set(found) == set(expected)
    for cut, share in expected.items():
        assert found[cut] == pytest.approx(share, abs=0.02)


@pytest.mark.parametrize("make", [RandomShift, Cutout])
@pytest.mark.parametrize("value", [0, -1, 1.5, None])
def test_no_pixels_are_refused(make, value):
    with pytest.raises(InputError):
        make(value)
