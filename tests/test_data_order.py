"""The order of examples, short batches, keys, splits, and preprocessing."""

from __future__ import annotations

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from batches import TINY, random_dataset

from cnnjax import models
from cnnjax.base.errors import InputError
from cnnjax.data import Dataset
from cnnjax.data.order import epoch_order, example_keys, num_batches, take_batch
from cnnjax.data.preprocessing import (
    Identity,
    MinMaxPerImage,
    Standardize,
    preprocess,
)
from cnnjax.data.splits import OFFICIAL, HoldOut, count_train, split_dataset
from cnnjax.experiments.experiment import keys_of, prepare
from cnnjax.experiments.overrides import override
from cnnjax.laws.comparison import largest_error
from cnnjax.strategies import STRATEGIES
from cnnjax.training.algorithms import Sgd
from cnnjax.training.epochs import train
from cnnjax.training.optimizers import OptimizerConfig, make_optimizer, make_schedule
from cnnjax.training.updates import LoopConfig, LoopKeys
from cnnjax.types import Examples

KEY = jax.random.key(0)


def order(epoch, *, shuffle="every_epoch", key=KEY, count=50):
    return np.asarray(epoch_order(key, epoch, num_examples=count, shuffle=shuffle))


def test_an_epoch_visits_every_example_once():
    for epoch in range(3):
        assert sorted(order(epoch)) == list(range(50))
        assert order(epoch).dtype == np.int32


def test_the_order_is_a_function_of_key_and_epoch():
    np.testing.assert_array_equal(order(3), order(3))
    np.testing.assert_array_equal(order(3), order(jnp.int32(3)))
    assert not np.array_equal(order(3), order(4))
    assert not np.array_equal(order(3), order(3, key=jax.random.key(1)))


def test_other_orders_do_not_change():
    np.testing.assert_array_equal(order(5, shuffle="never"), np.arange(50))
    np.testing.assert_array_equal(order(5, shuffle="once"), order(0, shuffle="once"))
    assert not np.array_equal(order(0, shuffle="once"), np.arange(50))


def z_scores(orders: np.ndarray) -> dict[str, np.ndarray]:
    """Return by how many deviations random orders are not independent and uniform.

    Of [epochs, examples]: how often each example comes at each place, and how often it
    stays at its place, or comes right after the same one, from one epoch to another.
    """
    epochs, count = orders.shape
    places = np.argsort(orders, axis=1)
    seen = (orders[..., None] == np.arange(count)).sum(axis=0)
    apart = 1 + np.arange(epochs // 2)
    same_place = np.array([(places[:-d] == places[d:]).sum() for d in apart])
    after = np.full((epochs, count), -1)
    np.put_along_axis(after, orders[:, 1:], orders[:, :-1], axis=1)
    same_before = np.array(
        [((after[:-d] == after[d:]) & (after[d:] >= 0)).sum() for d in apart]
    )
    pairs = epochs - apart
    return {
        "example at a place": (seen - epochs / count) / math.sqrt(epochs / count),
        "same place": (same_place - pairs) / np.sqrt(pairs),
        "same neighbour": (same_before - pairs) / np.sqrt(pairs),
    }


@pytest.fixture(scope="module")
def orders_of_a_run():
    """Return the examples that 200 epochs of training visited, one an update."""

    def loss_fn(params, example, label, key):
        return params["w"] * example[0], {"example": jnp.float32(label)}

    config = LoopConfig(batch_size=1, epochs=200)
    constant = OptimizerConfig(algorithm=Sgd(), learning_rate=0.0)
    schedule = make_schedule(constant, steps_per_epoch=20)
    order = keys_of(0).order
    _, records = train(
        {"w": jnp.ones(())},
        Examples(np.ones((20, 1), np.float32), np.arange(20, dtype=np.int32)),
        strategy=STRATEGIES["jit"](loss_fn),
        optimizer=make_optimizer(constant, schedule),
        schedule=schedule,
        config=config,
        keys=LoopKeys(order, None),
    )
    visited = [record.steps.means["example"] for record in records]
    return order, np.array(visited, int)


def test_no_order_comes_back_in_200_epochs(orders_of_a_run):
    key, visited = orders_of_a_run
    assert (np.sort(visited, axis=1) == np.arange(20)).all()
    assert len({tuple(epoch) for epoch in visited}) == 200
    for epoch in (0, 1, 37, 199):
        expected = epoch_order(key, epoch, num_examples=20, shuffle="every_epoch")
        np.testing.assert_array_equal(visited[epoch], expected)


def test_orders_are_independent_of_each_other(orders_of_a_run):
    _, visited = orders_of_a_run
    for what, scores in z_scores(visited).items():
        assert np.abs(scores).max() < 5, what
    steps = [tuple(np.argsort(a)[b]) for a, b in itertools.pairwise(visited)]
    assert len(set(steps)) == 199  # nor is one made from the one before, always alike


def rolled(first: np.ndarray, epoch: int) -> np.ndarray:
    return np.roll(first, epoch)


def turned_round(first: np.ndarray, epoch: int) -> np.ndarray:
    own = np.random.default_rng(epoch // 2).permutation(first)
    return own[::-1] if epoch % 2 else own


def swapped(first: np.ndarray, epoch: int) -> np.ndarray:
    own = first.copy()
    own[:4] = np.random.default_rng(epoch).permutation(own[:4])
    return own


@pytest.mark.parametrize("mutant", [rolled, turned_round, swapped])
def test_orders_that_follow_from_each_other_would_be_caught(mutant):
    first = np.random.default_rng(0).permutation(20)
    visited = np.stack([mutant(first, epoch) for epoch in range(200)])
    assert max(np.abs(scores).max() for scores in z_scores(visited).values()) > 5


def test_seeds_and_what_they_draw_are_independent():
    """No two keys of a hundred seeds are equal, whatever they are for."""
    keys = [key for seed in range(100) for key in keys_of(seed)]
    assert len({tuple(jax.random.key_data(key).tolist()) for key in keys}) == 400
    firsts = [order(0, key=keys_of(seed).order) for seed in range(100)]
    assert len({tuple(first) for first in firsts}) == 100


def test_an_experiment_draws_each_thing_from_its_own_key():
    """Two seeds have nothing in common, and one of them nothing with itself."""
    recipe = override(TINY, split=HoldOut(0.25))
    dataset = random_dataset(TINY, train=80)
    one, other = (prepare(recipe, dataset, seed=seed) for seed in (4, 5))
    for made, seed in ((one, 4), (other, 5)):
        keys = keys_of(seed)
        drawn = (made.keys.order, keys.order), (made.keys.dropout, keys.dropout)
        assert all(bool(got == expected) for got, expected in drawn)
        params = models.init(keys.params, recipe.model)
        assert largest_error(made.params, params) == 0.0
        train, test = split_dataset(dataset, recipe.split, key=keys.split)
        np.testing.assert_array_equal(made.train.inputs, train.inputs)
        np.testing.assert_array_equal(made.test.inputs, test.inputs)
    assert not np.array_equal(one.test.inputs, other.test.inputs)
    kernels = (e.params["conv_0"]["kernel"] for e in (one, other))
    assert not np.array_equal(*kernels)


def make_examples(count: int) -> Examples:
    numbers = np.arange(count)
    return Examples(numbers[:, None].astype(np.uint8), numbers.astype(np.int32))


def test_the_last_short_batch_is_padded_with_weight_zero():
    examples, visits = make_examples(10), order(0, count=10)
    batches = [
        take_batch(examples, jnp.asarray(visits), index, batch_size=4)
        for index in range(num_batches(10, 4))
    ]
    assert [batch.weights.tolist() for batch in batches] == [
        [1] * 4,
        [1] * 4,
        [1, 1, 0, 0],
    ]
    seen = np.concatenate(
        [np.asarray(b.labels)[np.asarray(b.weights) > 0] for b in batches]
    )
    np.testing.assert_array_equal(seen, visits)
    np.testing.assert_array_equal(batches[1].inputs[:, 0], visits[4:8])


def test_an_epoch_of_mnist_has_938_updates():
    assert num_batches(60_000, 64) == 938
    assert num_batches(64, 64) == 1


def test_keys_belong_to_step_and_position():
    def data(keys):
        return jax.random.key_data(keys).tolist()

    assert data(example_keys(KEY, 7, batch_size=8))[:4] == data(
        example_keys(KEY, 7, batch_size=4)
    )
    drawn = data(example_keys(KEY, 7, batch_size=8)) + data(
        example_keys(KEY, 8, batch_size=8)
    )
    assert len({tuple(key) for key in drawn}) == 16


def make_dataset(*, test: Examples | None) -> Dataset:
    classes = tuple("0123456789")
    return Dataset(
        name="made", train=make_examples(100), test=test, class_names=classes
    )


def test_hold_out_parts_the_training_set():
    dataset = make_dataset(test=make_examples(5))
    train, test = split_dataset(dataset, HoldOut(0.2), key=KEY)
    assert (len(train.labels), len(test.labels)) == (80, 20)
    assert sorted([*train.labels, *test.labels]) == list(range(100))
    np.testing.assert_array_equal(train.inputs[:, 0], train.labels)
    other, _ = split_dataset(dataset, HoldOut(0.2), key=jax.random.key(1))
    assert not np.array_equal(train.labels, other.labels)


@pytest.mark.parametrize(
    ("fraction", "held_out"), [(0.014, 1), (0.016, 2), (0.2, 20), (0.996, None)]
)
def test_what_is_held_out_is_rounded_to_the_nearest(fraction, held_out):
    dataset = make_dataset(test=None)
    if held_out is None:
        with pytest.raises(InputError, match="enough examples to hold out"):
            split_dataset(dataset, HoldOut(fraction), key=KEY)
        return
    _, test = split_dataset(dataset, HoldOut(fraction), key=KEY)
    assert len(test.labels) == held_out


def test_official_and_first_examples():
    dataset = make_dataset(test=make_examples(5))
    train, test = split_dataset(dataset, OFFICIAL, key=KEY)
    assert (len(train.labels), len(test.labels)) == (100, 5)
    train, test = split_dataset(dataset, OFFICIAL, key=KEY, num_train=7)
    assert (train.labels.tolist(), len(test.labels)) == (list(range(7)), 5)


@pytest.mark.parametrize(
    ("split", "num_train"), [(OFFICIAL, None), (OFFICIAL, 7), (HoldOut(0.3), None)]
)
def test_how_many_are_trained_on_is_known_without_a_split(split, num_train):
    examples = Examples(np.zeros((15, 2)), np.zeros(15, np.int32))
    dataset = Dataset(name="d", train=examples, test=examples, class_names=())
    kept, _ = split_dataset(dataset, split, key=KEY, num_train=num_train)
    assert count_train(dataset, split, num_train=num_train) == len(kept.labels)


def test_splits_that_cannot_be_made_are_refused():
    with pytest.raises(InputError, match="'made' has no test set"):
        split_dataset(make_dataset(test=None), OFFICIAL, key=KEY)
    with pytest.raises(InputError, match="the 100 training examples of 'made'"):
        split_dataset(
            make_dataset(test=make_examples(5)), OFFICIAL, key=KEY, num_train=101
        )


IMAGE = np.array([[[0, 51]], [[255, 102]]], np.uint8)


def test_preprocessing_is_as_stated():
    def process(config, image=IMAGE):
        return np.asarray(
            preprocess(jnp.asarray(image), config=config, dtype="float32")
        )

    np.testing.assert_allclose(process(Standardize()).ravel(), [0, 0.2, 1, 0.4])
    per_channel = process(Standardize(mean=(0.5, 0.2), std=(0.5, 0.1)))
    np.testing.assert_allclose(per_channel.ravel(), [-1, 0, 1, 2], atol=1e-6)
    np.testing.assert_array_equal(process(Identity()), IMAGE.astype(np.float32))
    min_max = process(MinMaxPerImage(), IMAGE[:, :, 1:])
    np.testing.assert_array_equal(min_max.ravel(), [0, 1])
    np.testing.assert_array_equal(process(MinMaxPerImage(), IMAGE * 0), IMAGE * 0.0)
