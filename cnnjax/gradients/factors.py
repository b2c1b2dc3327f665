"""Mean, norms and clipped mean from the factors of per-example gradients.

A layer with parameters multiplies its input, as a matrix X of positions by fan-in, by
its kernel. (A dense layer has one position, a convolution one per output pixel.) With D
the gradient of the loss with respect to the product (positions by features), the
gradient of the kernel is X^T D, and that of the bias is the sum of D over positions.
X and D are the *factors* of the gradient. One backward pass yields them for all
examples of a batch, and then

    sum_i c_i X_i^T D_i     is ONE matrix product over examples and positions,

for any coefficients c. A dense layer has one position, so X^T D is an outer product
with norm |X| |D|: no per-example gradient is formed, the clipped mean needs no second
backward pass, and its memory is that of the batch gradient. Source: Goodfellow,
"Efficient Per-Example Gradient Computations", 2015 (arXiv:1510.01799).

The gradient of a convolution is a sum over positions, whose terms may cancel. So it is
formed once, and used for both the norm and the mean: the gradient that is clipped is
exactly the one whose norm was computed. (The norm could be computed without it, since
|X^T D|^2 is the sum of the entries of (X X^T) * (D D^T). But that is a sum of squares:
if the terms cancel to one part in 4,000, no digit of it is right in float32.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from cnnjax.base.trees import at_least_float32, vary_like, widen
from cnnjax.gradients.shares import weighted
from cnnjax.models.contract import alone, checked_values
from cnnjax.types import Batch, Params, TappedLossFn


class Factors(NamedTuple):
    """The two factors of the gradient of one layer, for each example."""

    # Of a layer that scales entry by entry [batch, positions, 1, features].
    inputs: Float[Array, "batch positions ..."]
    cotangents: Float[Array, "batch positions features"]  # loss by pre-activation


class LayerGradients(NamedTuple):
    """The per-example gradients of one layer: the products of its factors."""

    kernel: Float[Array, "batch fan_in features"]
    bias: Float[Array, "batch features"]


Values = dict[str, Float[Array, " batch"]]
# factors_fn(params, batch, weights) -> (loss and metrics of each example, unweighted;
# {layer: Factors} of the gradient of weights[i] times the loss of example i).
# The weights in the batch are ignored.
FactorsFn = Callable[
    [Params, Batch, Float[Array, " batch"]], tuple[Values, dict[str, Factors]]
]


def make_factors_fn(
    tapped_loss_fn: TappedLossFn, taps: dict[str, Float[Array, "..."]]
) -> FactorsFn:
    """Build `factors_fn(params, batch, weights)`: one forward and one backward pass.

    `taps` are zeros that are added to the pre-activation of each layer: the gradient
    with respect to a tap is the cotangent of that pre-activation.
    """

    def weighted_loss(
        taps: dict[str, Array], params: Params, example: Batch
    ) -> tuple[Array, tuple[dict, dict[str, Array]]]:
        own = params, taps, example.inputs, example.labels, example.keys
        with alone():
            loss, (metrics, inputs) = tapped_loss_fn(*own)
        loss, values = checked_values(loss, metrics)
        return weighted(loss, example.weights), (values, inputs)

    factors_of = jax.vmap(jax.grad(weighted_loss, has_aux=True), (None, None, 0))

    def factors_fn(
        params: Params, batch: Batch, weights: Array
    ) -> tuple[Values, dict[str, Factors]]:
        own_taps = jax.tree.map(lambda tap: vary_like(tap, batch.weights), taps)
        cotangents, (values, inputs) = factors_of(
            own_taps, params, batch._replace(weights=weights)
        )
        factors = {
            layer: Factors(inputs[layer], _by_position(cotangents[layer]))
            for layer in taps
        }
        return values, factors

    return factors_fn


def layer_gradients(factors: Factors) -> LayerGradients:
    """Form X^T D, and the sum of D over positions, for each example.

    Of a layer that scales entry by entry, it is the sum of X * D over positions.
    """
    spec = "bpif,bpf->bif" if _scales(factors) else "bpi,bpf->bif"
    return LayerGradients(
        _product(spec, *factors), widen(factors.cotangents).sum(axis=1)
    )


def added_up(factors: Factors) -> Factors | LayerGradients:
    """Form the per-example gradients if there are several positions; else keep factors.

    With several positions each gradient is a sum, whose norm needs the sum itself.
    """
    several = factors.inputs.shape[1] > 1
    return layer_gradients(factors) if several or _scales(factors) else factors


def squared_norms(gradients: Factors | LayerGradients) -> Float[Array, " batch"]:
    """Return |X^T D|^2 + |sum of D|^2 for each example: of kernel and bias together.

    `Factors` have one position. With rows x and d of X and D, the gradients of kernel
    and bias together are the outer product of (x, 1) and d. Its norm is that of the
    vector |(x, 1)| d, whose entries do not exceed the norm; |x|^2 and |d|^2 alone could
    be out of float32's range.
    """
    if isinstance(gradients, LayerGradients):
        return _squares(gradients.kernel) + _squares(gradients.bias)
    inputs, cotangents = map(widen, gradients)
    squares = _squares(inputs)

    def in_units_of_the_largest() -> Array:
        unit = jnp.max(jnp.abs(inputs), axis=(1, 2), initial=1)
        return unit * jnp.sqrt(_squares(inputs / _column(unit)) + 1 / jnp.square(unit))

    # A branch, because a second pass over the inputs takes 10 % of the time on a CPU.
    length = lax.cond(
        jnp.all(squares < jnp.inf),
        lambda: jnp.sqrt(squares + 1),
        in_units_of_the_largest,
    )
    return _squares(_column(length) * cotangents)


def weighted_sum(
    gradients: Factors | LayerGradients, coefficients: Float[Array, " batch"]
) -> tuple[Float[Array, "fan_in features"], Float[Array, " features"]]:
    """Return sum_i c_i g_i, for the gradients g_i of the kernel and of the bias."""
    if isinstance(gradients, LayerGradients):
        coefficients = coefficients.astype(gradients.kernel.dtype)
        kernel = _product("b,bif->if", coefficients, gradients.kernel)
        return kernel, _product("b,bf->f", coefficients, gradients.bias)
    # Widened first: rounded to bfloat16 again, a clipped gradient could be too long.
    inputs, cotangents = map(widen, gradients)
    scaled = (cotangents * _column(coefficients)).astype(inputs.dtype)
    return flat_sum(Factors(inputs, scaled))


def flat_sum(
    factors: Factors,
) -> tuple[Float[Array, "fan_in features"], Float[Array, " features"]]:
    """Return sum_i X_i^T D_i and the sum of all D_i, as products of flat matrices."""
    inputs, cotangents = (f.reshape(-1, *f.shape[2:]) for f in factors)
    spec = "pif,pf->if" if _scales(factors) else "pi,pf->if"
    kernel = _product(spec, inputs, cotangents)
    return kernel, widen(cotangents).sum(axis=0)


def _scales(factors: Factors) -> bool:
    return factors.inputs.ndim == 4


def _squares(values: Float[Array, "batch ..."]) -> Float[Array, " batch"]:
    """Return the sum of squares of all entries, for each example."""
    flat = values.reshape(values.shape[0], -1)
    return _product("bi,bi->b", flat, flat)


def _column(of_each: Float[Array, " batch"]) -> Float[Array, "batch 1 1"]:
    return of_each[:, None, None]


def _by_position(cotangents: Array) -> Array:
    return cotangents.reshape(cotangents.shape[0], -1, cotangents.shape[-1])


def _product(spec: str, a: Array, b: Array) -> Array:
    """Compute an einsum in full precision, accumulated in float32 or wider."""
    dtype = at_least_float32(a.dtype)
    return jnp.einsum(spec, a, b, precision="highest", preferred_element_type=dtype)
