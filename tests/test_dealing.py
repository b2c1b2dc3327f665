"""Who takes which example: microbatches, devices, and what a batch is filled up with.

A loss that costs nothing, and whose mean tells the examples that are in it: example i
counts 2^i, so the sum is one whole number for each set of examples.
"""

from __future__ import annotations

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from strategy_table import DIVIDED

from cnnjax import devices
from cnnjax.data.order import example_keys
from cnnjax.gradients import reductions
from cnnjax.gradients.microbatches import CONTIGUOUS, STRIDED, microbatched
from cnnjax.gradients.padding import pad_batch
from cnnjax.gradients.per_example import per_example_share
from cnnjax.gradients.rules import factored
from cnnjax.gradients.shares import Share, batch_share, serial_share, with_per_example
from cnnjax.strategies import STRATEGIES, Options
from cnnjax.types import Batch

CUTS = {"neighbours": CONTIGUOUS, "dealt": STRIDED}
PARAMS = {"w": jnp.array([0.5, -1.0, 2.0])}


def loss_fn(params, example, label, key):
    """Return a loss that needs the example's own key, and its bit as a metric."""
    value = jnp.tanh(params["w"] @ example) * jax.random.uniform(key)
    return value, {"seen": 2.0**label}


def make_batch(size: int, *, padding: int = 0) -> Batch:
    """Make a batch of distinct examples, the last of them at weight 0."""
    inputs = np.random.default_rng(0).standard_normal((size, 3)).astype(np.float32)
    return Batch(
        inputs=jnp.asarray(inputs),
        labels=jnp.arange(size, dtype=jnp.int32),
        weights=(jnp.arange(size) < size - padding).astype(jnp.float32),
        keys=example_keys(jax.random.key(5), 3, batch_size=size),
    )


def by_hand(batch: Batch) -> tuple[float, np.ndarray]:
    """Return the mean loss and its gradient, one example after another, in NumPy."""
    w, loss, grad = np.asarray(PARAMS["w"], np.float64), 0.0, np.zeros(3)
    for i, weight in enumerate(np.asarray(batch.weights, np.float64)):
        x = np.asarray(batch.inputs[i], np.float64)
        factor = weight * float(jax.random.uniform(batch.keys[i]))
        loss += factor * np.tanh(w @ x)
        grad += factor * (1 - np.tanh(w @ x) ** 2) * x
    total = float(batch.weights.sum())
    return loss / total, grad / total


def seen(means: dict, batch: Batch) -> int:
    """Return the examples that a mean is of: bit i is example i."""
    return round(float(means["seen"]) * float(batch.weights.sum()))


# The parts themselves.


@pytest.mark.parametrize("size", [1, 2, 3, 4, 6, 12])
@pytest.mark.parametrize("cut", CUTS)
def test_every_row_is_in_one_part_and_comes_back_to_its_place(cut, size):
    apart, together = CUTS[cut]
    rows = np.arange(12 * 2).reshape(12, 2)
    parts = np.asarray(apart(rows, size))
    assert parts.shape == (12 // size, size, 2)
    assert sorted(parts[..., 0].ravel()) == sorted(rows[:, 0])
    np.testing.assert_array_equal(parts[..., 1], parts[..., 0] + 1)  # rows stay whole
    np.testing.assert_array_equal(together(parts), rows)


def test_neighbours_stay_and_dealt_rows_go_round():
    rows = np.arange(12)
    np.testing.assert_array_equal(
        CONTIGUOUS.split(rows, 4), [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    )
    np.testing.assert_array_equal(
        STRIDED.split(rows, 4), [[0, 3, 6, 9], [1, 4, 7, 10], [2, 5, 8, 11]]
    )


@pytest.mark.parametrize(("devices", "size"), [(2, 2), (2, 6), (3, 3), (4, 4), (4, 12)])
def test_a_dealt_part_has_as_much_of_every_device(devices, size):
    """Each device holds one piece of the batch; a part takes alike of every piece."""
    rows = np.arange(24)
    for part in np.asarray(STRIDED.split(rows, size)):
        held_by = part // (24 // devices)
        assert np.bincount(held_by, minlength=devices).tolist() == (
            [size // devices] * devices
        )


def telling(params, batch: Batch, total) -> Share:
    """Share out nothing but the news: of each example, the labels of its part."""
    part = jnp.sum(jnp.where(batch.weights > 0, 2.0**batch.labels, 0.0))
    of_each = jnp.broadcast_to(part, batch.weights.shape)
    real = jnp.sum(batch.weights * 2.0**batch.labels) / total
    return Share({"seen": real}, params, {"part": of_each, "label": batch.labels})


def expected_parts(size: int, num_examples: int, *, dealt: bool) -> list[float]:
    num_parts = -(-num_examples // size)
    part_of = [i % num_parts if dealt else i // size for i in range(num_examples)]
    return [
        sum(2.0**j for j in range(num_examples) if part_of[j] == part_of[i])
        for i in range(num_examples)
    ]


@pytest.mark.parametrize("size", [1, 4, 5, 13])
@pytest.mark.parametrize("cut", CUTS)
def test_a_microbatch_has_the_examples_that_are_its_own(cut, size):
    batch = make_batch(13)
    share = microbatched(telling, size=size, grouping=CUTS[cut])
    metrics, _, each = jax.jit(with_per_example(share))(PARAMS, batch)
    np.testing.assert_array_equal(each["label"], batch.labels)
    expected = expected_parts(size, 13, dealt=cut == "dealt")
    np.testing.assert_array_equal(each["part"], expected)
    assert seen(metrics.means, batch) == 2**13 - 1


@pytest.mark.parametrize("multiple", [5, 13, 20])
def test_a_batch_is_filled_up_with_copies_that_do_not_count(multiple):
    batch = make_batch(13)._replace(weights=jnp.linspace(0.5, 2.0, 13))
    padded = pad_batch(batch, multiple)
    size = padded.weights.size
    assert size % multiple == 0
    assert size - 13 < multiple
    rows = np.minimum(np.arange(size), 12)
    for got, whole in zip(padded[:2], batch[:2], strict=True):
        np.testing.assert_array_equal(got, np.asarray(whole)[rows])
    got, whole = (jax.random.key_data(b.keys) for b in (padded, batch))
    np.testing.assert_array_equal(got, np.asarray(whole)[rows])
    np.testing.assert_array_equal(padded.weights[:13], batch.weights)
    assert not padded.weights[13:].any()


# What strategies make of them.


@functools.cache
def compiled(name: str, num_devices: int, microbatch_size: int | None):
    """Return a strategy and its program, for batches of every size."""
    mesh = devices.make_mesh(num_devices) if name in DIVIDED else None
    strategy = STRATEGIES[name](loss_fn, Options(mesh, microbatch_size=microbatch_size))
    return strategy, jax.jit(strategy.value_and_grad)


def cases() -> list:
    """List (strategy, devices, microbatch size); no batch below divides by them."""
    listed = [("jit", 1, 4), ("serial", 1, 5), ("vmap", 1, 3), ("vmap_norms", 1, None)]
    for name in DIVIDED:
        if STRATEGIES[name].rule is factored:
            continue  # the loss here has no factors
        quick = {(4, 3)} if "vmap" in name else {(2, None), (4, 3)}
        for how in itertools.product((1, 2, 3, 4), (None, 2, 3)):
            marks = [] if how in quick else [pytest.mark.slow]
            listed.append(pytest.param(name, *how, marks=marks))
    return listed


@pytest.mark.parametrize(("name", "num_devices", "microbatch_size"), cases())
def test_every_example_counts_once_with_its_own_weight_and_key(
    name, num_devices, microbatch_size
):
    """A short batch of 13: with its end at weight 0, all real, and all unequal."""
    strategy, run = compiled(name, num_devices, microbatch_size)
    params = strategy.put_state(PARAMS)
    for padding in (0, 6, 12):
        batch = make_batch(13, padding=padding)
        metrics, _ = run(params, strategy.put_batch(batch))
        assert seen(metrics.means, batch) == 2 ** (13 - padding) - 1
        assert metrics.weight == 13 - padding
    batch = batch._replace(weights=jnp.linspace(0.25, 1.75, 13))
    metrics, grads = run(params, strategy.put_batch(batch))
    loss, grad = by_hand(batch)
    assert metrics.means["loss"] == pytest.approx(loss, rel=1e-5)
    np.testing.assert_allclose(grads["w"], grad, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("num_devices", [3, 4])
def test_pmap_fills_up_a_batch_that_nobody_placed(num_devices):
    batch = make_batch(13)._replace(weights=jnp.linspace(0.25, 1.75, 13))
    mesh = devices.make_mesh(num_devices)
    _, grads = devices.over_pmap(batch_share(loss_fn), mesh)(PARAMS, batch)
    np.testing.assert_allclose(grads["w"], by_hand(batch)[1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("num_devices", [2, 3, 4])
def test_each_device_holds_its_own_piece_of_a_batch(num_devices):
    """In the order of the batch, as much as the others, and every array alike."""
    placed = devices.split(devices.make_mesh(num_devices))(make_batch(13))
    size = -(-13 // num_devices)
    assert placed.weights.size == size * num_devices
    for array in (placed.inputs, placed.labels, placed.weights, placed.keys):
        for device, shard in enumerate(array.addressable_shards):
            assert shard.index[0] == slice(device * size, (device + 1) * size)
    labels = np.concatenate([s.data for s in placed.labels.addressable_shards])
    np.testing.assert_array_equal(labels, np.minimum(np.arange(labels.size), 12))


@pytest.mark.parametrize(
    ("rule", "cut"), [(serial_share, "dealt"), (per_example_share, "neighbours")]
)
def test_what_is_kept_of_each_example_stays_in_its_place(rule, cut):
    batch = make_batch(13)
    share = rule(loss_fn, reductions.full)
    parts = microbatched(share, size=4, grouping=CUTS[cut])
    _, _, each = jax.jit(with_per_example(parts))(PARAMS, batch)
    for i in range(13):
        one = jax.tree.map(lambda a, i=i: a[i : i + 1], batch)
        np.testing.assert_allclose(
            each["grads"]["w"][i], by_hand(one)[1], rtol=1e-5, atol=1e-6
        )
