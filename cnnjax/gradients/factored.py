"""The shares of the factored rule: mean, norms, clipping, per-example gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array

from cnnjax.gradients.factors import (
    FactorsFn,
    Values,
    added_up,
    flat_sum,
    layer_gradients,
    squared_norms,
    weighted_sum,
)
from cnnjax.gradients.shares import Means, Share, ShareFn, weighted
from cnnjax.types import Batch, Params

Pairs = Mapping[str, tuple[Array, Array]]


def mean_share(factors_fn: FactorsFn) -> ShareFn:
    """Sum the gradients with one product per layer. Equal to `gradients.batch_share`.

    The gradient of a layer is X^T D, over examples and positions together. The weights
    are in the loss, so D contains them already. Differentiating the loss of the batch
    gives the same product, but contracts two axes, examples and positions, for which
    XLA's CPU compiler first makes a transposed copy of an operand. Here the two axes
    are flattened into one.
    """

    def share(params: Params, batch: Batch, total: Array) -> Share:
        fractions = batch.weights / total
        values, factors = factors_fn(params, batch, fractions)
        sums = {layer: flat_sum(f) for layer, f in factors.items()}
        return Share(_weighted(values, fractions), _shaped_like(params, sums), {})

    return share


def scaled_share(factors_fn: FactorsFn, factor_of: Callable[[Array], Array]) -> ShareFn:
    """Sum factor_of(|g_i|) g_i over the examples; keep the norms |g_i|.

    If `factor_of` returns ones, this is `reductions.norms`; if it is `clip_factor`, it
    is `reductions.clipped`.
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
    """Form the per-example gradients and keep them. Equal to `reductions.full`."""

    def share(params: Params, batch: Batch, total: Array) -> Share:
        values, factors = factors_fn(params, batch, jnp.ones_like(batch.weights))
        each = {layer: layer_gradients(f) for layer, f in factors.items()}
        rows = jax.tree.map(
            lambda p, r: r.reshape(-1, *p.shape).astype(p.dtype),
            params,
            _named_like(params, each),
        )
        fractions = batch.weights / total
        sums = {layer: weighted_sum(f, fractions) for layer, f in factors.items()}
        return Share(
            _weighted(values, fractions), _shaped_like(params, sums), {"grads": rows}
        )

    return share


def _weighted(values: Values, fractions: Array) -> Means:
    return {name: jnp.sum(weighted(value, fractions)) for name, value in values.items()}


def _shaped_like(params: Params, sums: Pairs) -> Params:
    """Return sums for weights and biases as gradients, shaped and typed like params."""
    grads = _named_like(params, sums)
    return jax.tree.map(lambda p, g: g.reshape(p.shape).astype(p.dtype), params, grads)


def _named_like(params: Params, pairs: Pairs) -> Params:
    """Return (of the weights, of the bias) of each layer under the names of its leaves.

    The weights are the kernel, or the scale of a normalization.
    """
    return {
        layer: {leaf: bias if leaf == "bias" else weights for leaf in params[layer]}
        for layer, (weights, bias) in pairs.items()
    }
