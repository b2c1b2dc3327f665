"""Checks of a batch, and its padding: examples at weight 0, which have no effect."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Shaped

from cnnjax.base.errors import InputError, expect
from cnnjax.types import Batch


def check_batch(batch: Batch) -> Batch:
    """Return the batch with its weights as an array of floats.

    A weight is 0 or a positive normal number of float32 (of float64 with
    jax_enable_x64), in any unit.

    Raises:
        InputError: no examples; not one label, weight and key per input; weights that
            are not real numbers; or, unless they are traced, a weight that is negative,
            subnormal or not finite.
    """
    weights = _as_floats(batch.weights)
    sizes = {
        name: {np.shape(leaf)[:1] for leaf in jax.tree.leaves(part)}
        for name, part in batch._replace(weights=weights)._asdict().items()
    }
    shape = next(iter(sizes["inputs"]), ())
    expect("a batch of at least one example", shape, sum(shape) > 0)
    what = f"weights of shape {shape}: one per input"
    expect(what, weights.shape, weights.shape == shape)
    for name, own in sizes.items():
        what = f"{name} of {sum(shape)} examples, as the inputs are"
        expect(what, sorted(own), own <= {shape})
    known = isinstance(weights, np.ndarray) or (
        not isinstance(weights, Tracer) and weights.is_fully_addressable
    )
    if known:
        _check_values(np.asarray(weights))
    return batch._replace(weights=weights)


def _as_floats(weights: Any) -> Array | np.ndarray:
    """Return weights as an array; JAX would truncate int64, so others stay NumPy's."""
    if not isinstance(weights, jax.Array):
        try:
            weights = np.asarray(weights)
        except ValueError as error:
            raise InputError(f"expected an array of weights: {error}") from error
    real = jnp.issubdtype(weights.dtype, jnp.floating) or weights.dtype.kind in "biu"
    expect("weights that are real numbers", weights.dtype, real)
    if isinstance(weights, jax.Array):
        return weights
    with np.errstate(over="ignore", under="ignore"):
        return weights.astype(_widest())


def _check_values(weights: np.ndarray) -> None:
    own = weights.astype(np.float64)
    limits = np.finfo(_widest())
    least, most = float(limits.tiny), float(limits.max)
    wrong = ~((own == 0) | ((own >= least) & (own <= most)))
    if wrong.any():
        first = int(np.argmax(wrong))
        raise InputError(
            f"expected weights of 0, or from {least:.3g} to {most:.3g}, got "
            f"{weights[first]} for example {first}"
        )


def _widest() -> np.dtype:
    """Return float64 if jax_enable_x64 is set, else float32."""
    return np.dtype(jax.dtypes.canonicalize_dtype("float64"))


def near_one(batch: Batch) -> tuple[Batch, Float[Array, ""]]:
    """Divide the weights by a power of 2 so that the largest is near 1.

    Return the batch and that power. The sum of the weights and its inverse then neither
    overflow nor underflow, whatever the unit of the weights, and no bit is lost.
    """
    weights = batch.weights.astype(_widest())
    limit = int(np.finfo(weights.dtype).maxexp) - 2  # whose inverse is normal, too
    one = jnp.ones((), weights.dtype)
    with jax.numpy_dtype_promotion("standard"):  # frexp and ldexp rely on it
        exponent = jnp.clip(jnp.frexp(jnp.max(weights))[1] - 1, -limit, limit)
        unit, inverse = jnp.ldexp(one, exponent), jnp.ldexp(one, -exponent)
    return batch._replace(weights=weights * inverse), unit


def total_weight(batch: Batch) -> Float[Array, ""]:
    """Return the sum of the weights, in float64 if jax_enable_x64 is set.

    If a weight is negative it is NaN, and so is everything computed from it.
    """
    weights = batch.weights.astype(_widest())
    allowed = jnp.all(weights >= 0)
    return jnp.where(allowed, weights.sum(), jnp.full((), jnp.nan, weights.dtype))


def pad_batch(batch: Batch, multiple: int) -> Batch:
    """Pad a batch to a multiple of a size with its last example, at weight 0."""
    size = batch.weights.shape[0]
    missing = -size % multiple
    if missing == 0:
        return batch
    rows = jnp.minimum(jnp.arange(size + missing), size - 1)
    padded = jax.tree.map(lambda a: a[rows], batch)
    real = jnp.arange(size + missing) < size
    return padded._replace(weights=jnp.where(real, padded.weights, 0))


def harmless(batch: Batch) -> Batch:
    """Replace the values of padded examples by values that are safe for any loss.

    Weight 0 alone is not enough: 0 times NaN is NaN, and a label such as -1, which
    marks padding, may not be a class. Floats become those of the first real example
    (zeros if there is none), and integers become 0; uint8 arrays are pixels, safe
    whatever their value, and stay. Real examples do not change.
    """
    real = batch.weights != 0
    first = jnp.argmax(real)

    def fill(array: Shaped[Array, "batch *rest"]) -> Shaped[Array, "batch *rest"]:
        if array.dtype == jnp.uint8:
            return array
        stand_in = jnp.zeros((), array.dtype)
        if not jnp.issubdtype(array.dtype, jnp.integer):
            stand_in = jnp.where(real.any(), array[first], stand_in)
        is_real = real.reshape(-1, *(1,) * (array.ndim - 1))
        return jnp.where(is_real, array, stand_in)

    return batch._replace(
        inputs=jax.tree.map(fill, batch.inputs), labels=jax.tree.map(fill, batch.labels)
    )


def nonzero(total: Float[Array, ""]) -> Float[Array, ""]:
    """Return a batch's total weight as a divisor: 1 if the batch is all padding.

    Such a batch then has loss 0, gradient 0 and weight 0.
    """
    return jnp.where(total == 0, jnp.ones_like(total), total)
