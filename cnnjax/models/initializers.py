"""Initializers: one formula with four settings covers all networks here."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, DTypeLike, Float, Key

from cnnjax.base.arguments import named, settle, single

Distribution = Literal["uniform", "normal"]
Fan = Literal["in", "sum", "one"]
Bias = Literal["zero", "uniform"]


@dataclass(frozen=True, kw_only=True)
class Initializer:
    """Draw kernels from U(-s, s) or N(0, s^2), s = sqrt(gain / fan), and biases.

    `fan` is the number of inputs of one unit ("in"), of inputs and outputs ("sum"), or
    1 ("one"). Biases are zero, or U(-1/sqrt(fan_in), 1/sqrt(fan_in)), as in PyTorch.
    """

    distribution: Distribution = "uniform"
    gain: float
    fan: Fan = "in"
    bias: Bias = "zero"

    def __post_init__(self) -> None:
        """Raise InputError for invalid values."""
        settle(
            self,
            distribution=named(get_args(Distribution)),
            gain=single("finite and at least 0", lambda gain: 0.0 <= gain < math.inf),
            fan=named(get_args(Fan)),
            bias=named(get_args(Bias)),
        )


# C programs: W ~ U(+-sqrt(2 / fan_in)).
HE_UNIFORM_BOUND = Initializer(gain=2.0)
# W ~ U(+-sqrt(2 / (fan_in + fan_out))).
GLOROT_UNIFORM_BOUND = Initializer(gain=2.0, fan="sum")
# PyTorch's Linear and Conv2d: W, b ~ U(+-1 / sqrt(fan_in)).
PYTORCH = Initializer(gain=1.0, bias="uniform")
# He et al., Delving Deep into Rectifiers, 2015: W ~ N(0, 2 / fan_in).
HE_NORMAL = Initializer(distribution="normal", gain=2.0)
# W ~ N(0, 0.001^2) for every layer.
NORMAL_001 = Initializer(distribution="normal", gain=1e-6, fan="one")

INITIALIZERS: dict[str, Initializer] = {
    "pytorch": PYTORCH,
    "he_uniform_bound": HE_UNIFORM_BOUND,
    "glorot_uniform_bound": GLOROT_UNIFORM_BOUND,
    "he_normal": HE_NORMAL,
    "normal_0.001": NORMAL_001,
}


def kernel_scale(init: Initializer, shape: tuple[int, ...]) -> float:
    """Return s = sqrt(gain / fan) for a kernel of shape (*taps, inputs, outputs).

    It is the bound of a uniform distribution or the standard deviation of a normal one.

    >>> round(kernel_scale(GLOROT_UNIFORM_BOUND, (5, 5, 1, 32)), 5)
    0.04924
    """
    *taps, fan_in, fan_out = shape
    num_taps = 1
    for size in taps:
        num_taps *= size
    fan = {
        "in": num_taps * fan_in,
        "sum": num_taps * (fan_in + fan_out),
        "one": 1,
    }[init.fan]
    return (init.gain / fan) ** 0.5


def bias_scale(init: Initializer, fan_in: int) -> float:
    """Return the bound of the biases, 1 / sqrt(fan_in), or 0 for zero biases."""
    return fan_in**-0.5 if init.bias == "uniform" else 0.0


def draw(
    key: Key[Array, ""],
    shape: tuple[int, ...],
    dtype: DTypeLike,
    *,
    distribution: Distribution,
    scale: float,
) -> Float[Array, "..."]:
    """Draw an array from U(-scale, scale) or N(0, scale^2); zeros if scale is 0."""
    if scale == 0.0:
        return jnp.zeros(shape, dtype)
    if distribution == "uniform":
        return jax.random.uniform(key, shape, dtype, -scale, scale)
    return scale * jax.random.normal(key, shape, dtype)
