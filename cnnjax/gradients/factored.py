"""The shares of the factored rule: mean, norms, clipping, and all gradients."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array

from cnnjax.gradients.factors import (
    FactorsFn,
    Values,
    added_up,
    flat_sum,
    rows_of,
    squared_norms,
    weighted_sum,
)
from cnnjax.gradients.shares import Means, Share, ShareFn, weighted
from cnnjax.types import Batch, Params


def mean_share(factors_fn: FactorsFn) -> ShareFn:
    """Add the gradients up, a product a layer. Equal to `gradients.batch_share`.

    The weights are in the loss, so that D has them already. Differentiating the batch's
    loss gives this product, too, but summed over two axes, examples and positions; for
    that XLA's CPU compiler first copies an operand, transposed. Here the two are one.
    """

    def share(params: Params, batch: Batch, total: Array) -> Share:
        fractions = batch.weights / total
        values, factors = factors_fn(params, batch, fractions)
        sums = {layer: flat_sum(f) for layer, f in factors.items()}
        return Share(_weighted(values, fractions), _shaped_like(params, sums), {})

    return share


def scaled_share(factors_fn: FactorsFn, factor_of: Callable[[Array], Array]) -> ShareFn:
    """Add factor_of(norm) times each gradient up; keep the norms.

    With ones it is `reductions.norms`, with `clip_factor` it is `reductions.clipped`.
    """

    def share(params: Params, batch: Batch, total: Array) -> Share:
        values, factors = factors_fn(params, batch, jnp.ones_like(batch.weights))
        gradients = {layer: added_up(f) for layer, f in factors.items()}
        norms = jnp.sqrt(sum(squared_norms(g) for g in gradients.values()))
        fractions = batch.weights / total
        coefficients = weighted(factor_of(norms), fractions)
        sums = {layer: weighted_sum(g, coefficients) for layer, g in gradients.items()}
        return Share(
            _weighted({**values, "grad_norm": norms}, fractions),
            _shaped_like(params, sums),
            {"grad_norm": norms},
        )

    return share


def full_share(factors_fn: FactorsFn) -> ShareFn:
    """Form the gradient of each example and keep it. Equal to `reductions.full`."""

    def share(params: Params, batch: Batch, total: Array) -> Share:
        values, factors = factors_fn(params, batch, jnp.ones_like(batch.weights))
        rows = {layer: rows_of(f)._asdict() for layer, f in factors.items()}
        rows = jax.tree.map(
            lambda p, r: r.reshape(-1, *p.shape).astype(p.dtype), params, rows
        )
        fractions = batch.weights / total
        sums = {layer: weighted_sum(f, fractions) for layer, f in factors.items()}
        return Share(
            _weighted(values, fractions), _shaped_like(params, sums), {"grads": rows}
        )

    return share


def _weighted(values: Values, fractions: Array) -> Means:
    return {name: jnp.sum(weighted(value, fractions)) for name, value in values.items()}


def _shaped_like(params: Params, sums: dict[str, tuple[Array, Array]]) -> Params:
    """Return sums of kernels and biases as gradients, shaped and typed like params."""
    grads = {layer: {"kernel": k, "bias": b} for layer, (k, b) in sums.items()}
    return jax.tree.map(lambda p, g: g.reshape(p.shape).astype(p.dtype), params, grads)
