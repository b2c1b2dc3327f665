"""Pools and the normalization of ONE example: functions without parameters."""

from __future__ import annotations

import functools

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from cnnjax.base.arguments import at_least
from cnnjax.base.errors import expect
from cnnjax.base.trees import widen


def max_pool2d(
    image: Float[Array, "height width channels"], *, window: int
) -> Float[Array, "out_height out_width channels"]:
    """Take the maximum of each window x window block; drop rows and columns left over.

        out[y, x, c] = max over i, j < window of image[y window + i, x window + j, c]

    If several entries of a block are equal, the first in row order receives all of the
    gradient, on every platform: the form below is elementwise, so it does not depend on
    a platform's own reduction. If a block has a NaN, its maximum is NaN.

    Raises:
        InputError: not an image, or a window that does not fit in it.
    """
    blocks = _blocks(image, window)
    sides = range(blocks.shape[1])
    entries = [blocks[:, i, :, j] for i in sides for j in sides]
    # jnp.maximum would split the gradient of a tie between the two.
    return functools.reduce(
        lambda best, new: jnp.where((new > best) | jnp.isnan(new), new, best), entries
    )


def avg_pool2d(
    image: Float[Array, "height width channels"], *, window: int
) -> Float[Array, "out_height out_width channels"]:
    """Take the mean of each window x window block; drop rows and columns left over.

    Raises:
        InputError: not an image, or a window that does not fit in it.
    """
    return jnp.mean(_blocks(image, window), axis=(1, 3))


def mean_over_positions(
    image: Float[Array, "height width channels"],
) -> Float[Array, " channels"]:
    """Return the mean of each channel."""
    return jnp.mean(image, axis=(0, 1))


def _blocks(image: Array, window: int) -> Array:
    """Return an image as blocks: [out_height, window, out_width, window, channels]."""
    height, width, channels = axes_of(image, "height", "width", "channels")
    window = at_least(1)("window", window)
    expect(f"window to fit in {height} x {width}", window, window <= min(height, width))
    rows, columns = height // window, width // window
    whole = image[: rows * window, : columns * window]
    return whole.reshape(rows, window, columns, window, channels)


def group_norm(
    x: Float[Array, "*positions channels"], *, groups: int, eps: float
) -> Float[Array, "*positions channels"]:
    """Return one example with mean 0 and variance 1 in each group of its channels.

        out = (x - mean) / sqrt(variance + eps)

    A group is `channels / groups` channels side by side, with all their positions; the
    variance is the mean square, without Bessel's correction. Sums are in float32 or
    wider.
    """
    wide = widen(x).reshape(-1, groups, x.shape[-1] // groups)
    mean = jnp.mean(wide, axis=(0, 2), keepdims=True)
    variance = jnp.mean(jnp.square(wide - mean), axis=(0, 2), keepdims=True)
    return ((wide - mean) * lax.rsqrt(variance + eps)).reshape(x.shape).astype(x.dtype)


def axes_of(array: Array, *names: str) -> tuple[int, ...]:
    """Return the shape of an array with these axes. Raise InputError for another."""
    shape = getattr(array, "shape", None)  # a list has none
    axes = () if shape is None else shape
    got = array if shape is None else shape
    expect(f"an array [{', '.join(names)}]", got, len(axes) == len(names))
    return axes
