"""Examples at weight 0 count for nothing; weights of any unit weigh right."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from forms import BATCH, PARAMS, forms_of, mean_of_losses, returning

from cnnjax.gradients.padding import harmless
from cnnjax.laws.comparison import largest_error

pytestmark = pytest.mark.xdist_group("padding")  # its programs serve all tests
LOSS = returning(lambda loss, *_: loss)
# On the first device some examples are real; on the second none is.
PADDED = np.r_[np.ones(5), np.zeros(7)].astype(np.float32)
NAN, INF = np.float32("nan"), np.float32("inf")


def padding_of(value, label):
    """Return a batch whose padded examples hold this value and this label."""
    real = PADDED[:, None] > 0
    return BATCH._replace(
        inputs=jnp.where(real, BATCH.inputs, value),
        labels=jnp.where(PADDED > 0, BATCH.labels, label),
        weights=jnp.asarray(PADDED),
    )


@pytest.mark.parametrize("microbatch_size", [None, 2])
@pytest.mark.parametrize(
    ("value", "label"), [(NAN, 0), (INF, 1), (-INF, 2), (3e38, 0), (0.0, -1), (NAN, 99)]
)
def test_padding_counts_for_nothing_whatever_it_holds(value, label, microbatch_size):
    expected = jax.grad(mean_of_losses)(PARAMS, PADDED)
    batch = padding_of(value, label)
    for name, run in forms_of(LOSS, microbatch_size=microbatch_size).items():
        metrics, grads = run(batch)
        assert largest_error(grads, expected) <= 1e-5, name
        assert metrics.weight == 5, name
        assert np.isfinite(metrics.means["loss"]), name


@pytest.mark.parametrize("place", ["first", "mixed", "all but the last"])
def test_it_does_not_matter_where_padding_stands(place):
    real = {
        "first": np.arange(12) >= 7,
        "mixed": np.arange(12) % 3 == 1,
        "all but the last": np.arange(12) == 11,
    }[place]
    expected = jax.grad(mean_of_losses)(PARAMS, jnp.float32(real))
    batch = BATCH._replace(
        inputs=jnp.where(real[:, None], BATCH.inputs, NAN),
        labels=jnp.where(real, BATCH.labels, -1),
        weights=jnp.float32(real),
    )
    for name, run in forms_of(LOSS).items():
        metrics, grads = run(batch)
        assert largest_error(grads, expected) <= 1e-5, name
        assert np.isfinite(metrics.means["loss"]), name


@pytest.mark.parametrize("value", [1.0, NAN])
def test_a_batch_of_padding_alone_has_a_gradient_of_zero(value):
    batch = BATCH._replace(
        inputs=jnp.full_like(BATCH.inputs, value), weights=jnp.zeros(12)
    )
    for name, run in forms_of(LOSS).items():
        metrics, grads = run(batch)
        assert all(not leaf.any() for leaf in jax.tree.leaves(grads)), name
        assert (metrics.means["loss"], metrics.weight) == (0, 0), name


@pytest.mark.parametrize("scale", [1e-37, 1e-20, 1e20, 1e36])
def test_the_unit_of_the_weights_does_not_matter(scale):
    weights = np.linspace(0.5, 1.75, 12).astype(np.float32)
    expected = jax.grad(mean_of_losses)(PARAMS, weights)
    batch = BATCH._replace(weights=jnp.asarray(weights * np.float32(scale)))
    for name, run in forms_of(LOSS).items():
        assert largest_error(run(batch)[1], expected) <= 1e-5, name


def test_a_nan_that_counts_is_seen():
    batch = BATCH._replace(inputs=BATCH.inputs.at[0, 0].set(NAN))
    for name, run in forms_of(LOSS).items():
        metrics, grads = run(batch)
        assert np.isnan(metrics.means["loss"]), name
        assert np.isnan(grads["head"]["bias"]).all(), name


def test_real_examples_and_pixels_are_not_touched():
    pixels = jnp.arange(24, dtype=jnp.uint8).reshape(6, 4)
    weights = jnp.asarray([1, 0, 2, 0, 0.5, 1], jnp.float32)
    batch = BATCH._replace(
        inputs=pixels, labels=jnp.asarray([1, -1, 2, 7, 0, 1]), weights=weights
    )
    same = harmless(batch)
    np.testing.assert_array_equal(same.inputs, pixels)
    np.testing.assert_array_equal(same.labels, [1, 0, 2, 0, 0, 1])
    numbers = batch._replace(inputs=pixels.astype(jnp.float32))
    filled = harmless(numbers).inputs
    np.testing.assert_array_equal(filled[1], pixels[0])
    np.testing.assert_array_equal(filled[weights > 0], pixels[weights > 0])
