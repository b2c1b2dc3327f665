"""The order of examples, short batches, keys, splits, and preprocessing."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.data import Dataset
from cnnjax.data.order import epoch_order, example_keys, num_batches, take_batch
from cnnjax.data.preprocessing import (
    Identity,
    MinMaxPerImage,
    Standardize,
    preprocess,
)
from cnnjax.data.splits import OFFICIAL, HoldOut, count_train, split_dataset
from cnnjax.errors import InputError
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
