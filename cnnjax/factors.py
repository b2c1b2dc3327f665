"""Norms and clipping of each example's gradient, without a row for each example.

A layer with parameters multiplies: its input, as a matrix X of positions by fan-in (one
position for a dense layer, one for each output pixel for a convolution), by its kernel.
With D the gradient of the loss with respect to the result (positions by features), the
gradient of the kernel is X^T D, and that of the bias is the sum of D over positions.
X and D are the *factors* of the gradient. One backward pass brings them for the whole
batch, and then

    |X^T D|^2               needs no more than X and D of one example, and
    sum_i c_i X_i^T D_i     is ONE matrix product over examples and positions,

whatever the coefficients c are. So the clipped mean costs no second backward pass, and
its memory is that of the batch gradient. For dense layers this is Goodfellow,
"Efficient Per-Example Gradient Computations", 2015 (arXiv:1510.01799).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from cnnjax.errors import expect
from cnnjax.gradients import Means, Share, ShareFn, widen
from cnnjax.reductions import clip_factor
from cnnjax.trees import vary_like
from cnnjax.types import Batch, Params, TappedLossFn


class Factors(NamedTuple):
    """What the gradients of one layer are products of, for each example."""

    inputs: Float[Array, "batch positions fan_in"]
    cotangents: Float[Array, "batch positions features"]  # loss by pre-activation


Values = dict[str, Float[Array, " batch"]]
# factors_fn(params, batch) -> (loss and metrics of each example, {layer: Factors}).
FactorsFn = Callable[[Params, Batch], tuple[Values, dict[str, Factors]]]


def make_factors_fn(
    tapped_loss_fn: TappedLossFn, taps: dict[str, Float[Array, "..."]]
) -> FactorsFn:
    """Build `factors_fn(params, batch)`: one forward and one backward pass.

    `taps` are zeros, added to the pre-activation of each layer: the gradient with
    respect to a tap is the cotangent there.
    """
    tapped = jax.value_and_grad(tapped_loss_fn, argnums=1, has_aux=True)

    def factors_fn(params: Params, batch: Batch) -> tuple[Values, dict[str, Factors]]:
        own_taps = jax.tree.map(lambda tap: vary_like(tap, batch.weights), taps)
        (losses, (metrics, inputs)), cotangents = jax.vmap(
            tapped, in_axes=(None, None, 0, 0, 0)
        )(params, own_taps, batch.inputs, batch.labels, batch.keys)
        factors = {
            layer: Factors(inputs[layer], _by_position(cotangents[layer]))
            for layer in taps
        }
        return {"loss": losses, **metrics}, factors

    return factors_fn


def norms_share(factors_fn: FactorsFn) -> ShareFn:
    """Add the gradients up; keep the norm of each. Equal to `reductions.norms`."""
    return _share(factors_fn, jnp.ones_like)


def clipped_share(factors_fn: FactorsFn, *, max_norm: float) -> ShareFn:
    """Clip each gradient to a norm, then add. Equal to `reductions.clipped`.

    Raises:
        InputError: a `max_norm` that is not positive.
    """
    expect("max_norm above 0", max_norm, max_norm > 0)
    return _share(factors_fn, lambda norms: clip_factor(norms, max_norm=max_norm))


def full_share(factors_fn: FactorsFn) -> ShareFn:
    """Form the gradient of each example and keep it. Equal to `reductions.full`."""

    def share(params: Params, batch: Batch, total: Array) -> Share:
        values, factors = factors_fn(params, batch)
        rows = {
            layer: {"kernel": kernel_rows(f), "bias": widen(f.cotangents).sum(axis=1)}
            for layer, f in factors.items()
        }
        rows = jax.tree.map(
            lambda p, r: r.reshape(-1, *p.shape).astype(p.dtype), params, rows
        )
        fractions = batch.weights / total
        return Share(
            _weighted(values, fractions),
            _grads(params, factors, fractions),
            {"grads": rows},
        )

    return share


def kernel_rows(factors: Factors) -> Float[Array, "batch fan_in features"]:
    """Form X^T D of each example."""
    return _product("bpi,bpf->bif", *factors)


def squared_norms(factors: Factors) -> Float[Array, " batch"]:
    """Return |X^T D|^2 + |sum of D|^2 of each example: its kernel's and its bias's.

    Written out, the first is the sum of (X X^T) * (D D^T) over pairs of positions. That
    is the smaller form where positions are few; for a dense layer, with one, it is the
    product of two norms.
    """
    positions, fan_in = factors.inputs.shape[1:]
    features = factors.cotangents.shape[2]
    if positions**2 <= fan_in * features:
        among_inputs = _product("bpi,bqi->bpq", factors.inputs, factors.inputs)
        among = _product("bpf,bqf->bpq", factors.cotangents, factors.cotangents)
        of_kernel = jnp.sum(among_inputs * among, axis=(1, 2))
    else:
        of_kernel = jnp.sum(jnp.square(kernel_rows(factors)), axis=(1, 2))
    of_bias = jnp.square(widen(factors.cotangents).sum(axis=1)).sum(axis=1)
    return of_kernel + of_bias


def weighted_sum(
    factors: Factors, coefficients: Float[Array, " batch"]
) -> tuple[Float[Array, "fan_in features"], Float[Array, " features"]]:
    """Return sum_i c_i X_i^T D_i and sum_i c_i (sum of D_i): kernel and bias."""
    inputs, cotangents = factors
    scaled = widen(cotangents) * coefficients[:, None, None]
    kernel = jnp.matmul(
        inputs.reshape(-1, inputs.shape[2]).T,
        scaled.astype(inputs.dtype).reshape(-1, scaled.shape[2]),
        precision="highest",
        preferred_element_type=scaled.dtype,
    )
    return kernel, scaled.sum(axis=(0, 1))


def _share(factors_fn: FactorsFn, factor_of: Callable[[Array], Array]) -> ShareFn:
    """Build the share in which the gradient with norm N counts factor_of(N) times."""

    def share(params: Params, batch: Batch, total: Array) -> Share:
        values, factors = factors_fn(params, batch)
        norms = jnp.sqrt(sum(squared_norms(f) for f in factors.values()))
        fractions = batch.weights / total
        values = {**values, "grad_norm": norms}
        return Share(
            _weighted(values, fractions),
            _grads(params, factors, fractions * factor_of(norms)),
            {"grad_norm": norms},
        )

    return share


def _weighted(values: Values, fractions: Array) -> Means:
    return {name: jnp.sum(widen(value) * fractions) for name, value in values.items()}


def _grads(params: Params, factors: dict[str, Factors], coefficients: Array) -> Params:
    """Return sum_i c_i times the gradient of example i, shaped like params."""
    grads = {
        layer: dict(zip(("kernel", "bias"), weighted_sum(f, coefficients), strict=True))
        for layer, f in factors.items()
    }
    return jax.tree.map(lambda p, g: g.reshape(p.shape).astype(p.dtype), params, grads)


def _by_position(cotangents: Array) -> Array:
    return cotangents.reshape(cotangents.shape[0], -1, cotangents.shape[-1])


def _product(spec: str, a: Array, b: Array) -> Array:
    return jnp.einsum(
        spec,
        a,
        b,
        precision="highest",
        preferred_element_type=widen(jnp.zeros((), a.dtype)).dtype,
    )
