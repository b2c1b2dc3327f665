"""A batch made ready: what it must be, and how its padding counts for nothing.

Padding is examples at weight 0, which fill a batch up.
"""

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

    A weight is 0 or a normal number of float32 (of float64, where JAX has it), and
    above 0; its unit does not matter.

    Raises:
        InputError: no example; not one label, weight and key per input; weights that
            are no real numbers; or, where their values are known, which they are not
            while it is traced, one that no example could have.
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
    """Return weights as an array; on the host, where int64 would be cut off."""
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
    """Return float64 where JAX has it, else float32."""
    return np.dtype(jax.dtypes.canonicalize_dtype("float64"))


def near_one(batch: Batch) -> tuple[Batch, Float[Array, ""]]:
    """Divide the weights by a power of 2 that brings the largest near 1.

    Their sum and its inverse are then neither too large nor too small, whatever their
    unit, and no bit of them is lost. Return that power, too.
    """
    weights = batch.weights.astype(_widest())
    limit = int(np.finfo(weights.dtype).maxexp) - 2  # whose inverse is normal, too
    one = jnp.ones((), weights.dtype)
    with jax.numpy_dtype_promotion("standard"):  # frexp and ldexp rely on it
        exponent = jnp.clip(jnp.frexp(jnp.max(weights))[1] - 1, -limit, limit)
        unit, inverse = jnp.ldexp(one, exponent), jnp.ldexp(one, -exponent)
    return batch._replace(weights=weights * inverse), unit


def total_weight(batch: Batch) -> Float[Array, ""]:
    """Add up the weights of a batch, in float64 where JAX has it.

    It is NaN, and with it all that is computed from it, where a weight is negative.
    """
    weights = batch.weights.astype(_widest())
    allowed = jnp.all(weights >= 0)
    return jnp.where(allowed, weights.sum(), jnp.full((), jnp.nan, weights.dtype))


def pad_batch(batch: Batch, multiple: int) -> Batch:
    """Fill a batch up to a multiple with copies of its last example, at weight 0."""
    size = batch.weights.shape[0]
    missing = -size % multiple
    if missing == 0:
        return batch
    rows = jnp.minimum(jnp.arange(size + missing), size - 1)
    padded = jax.tree.map(lambda a: a[rows], batch)
    real = jnp.arange(size + missing) < size
    return padded._replace(weights=jnp.where(real, padded.weights, 0))


def harmless(batch: Batch) -> Batch:
    """Put values that no loss stumbles over in the place of padded examples' own.

    Weight 0 alone is not enough: 0 times NaN is NaN, and a label that marks padding,
    as -1 does, may be no class. Numbers become those of the first real example (zeros
    where there is none), whole numbers 0; bytes are pixels, whatever their value, and
    stay. Real examples are not touched, and no value of them changes.
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
    """Return a batch's weight to divide by: 1 where all of it is padding.

    Such a batch has a mean loss of 0 and a gradient of 0, at weight 0.
    """
    return jnp.where(total == 0, jnp.ones_like(total), total)
