"""Convolution of ONE image: one formula, lowered per platform; activations.

There is no batch axis; `jax.vmap` adds it. The layout is (height, width, channels) for
images, and (height, width, in_channels, features) for kernels.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from cnnjax.base.arguments import at_least, named, optional, several
from cnnjax.base.errors import expect
from cnnjax.models.pools import (
    avg_pool2d,
    axes_of,
    group_norm,
    max_pool2d,
    mean_over_positions,
)

__all__ = [
    "ACTIVATIONS",
    "Padding",
    "Precision",
    "PrecisionName",
    "avg_pool2d",
    "conv2d",
    "conv2d_im2col",
    "conv2d_xla",
    "group_norm",
    "leaky_relu",
    "max_pool2d",
    "mean_over_positions",
    "patches",
]
Padding = Sequence[tuple[int, int]]
# Of matrix products: "highest" is full float32; GPUs and TPUs use less by default.
PrecisionName = Literal["default", "high", "highest"]
Precision = PrecisionName | lax.Precision | None


def conv2d(
    image: Float[Array, "height width channels"],
    kernel: Float[Array, "kernel_height kernel_width channels features"],
    *,
    padding: Padding = ((0, 0), (0, 0)),
    precision: Precision = "highest",
    stride: int = 1,
) -> Float[Array, "out_height out_width features"]:
    """Correlate one image with each kernel.

        out[y, x, f] = sum over i, j, c of
            padded[stride y + i, stride x + j, c] * kernel[i, j, c, f]

    On a CPU it runs as im2col and one matrix product; elsewhere as XLA's convolution.
    The choice is made when the program is compiled for its platform, not while it is
    traced, so an exported program contains both.

    Raises:
        InputError: shapes or types that do not match, or integers, which overflow; a
            kernel that is larger than the padded image; an invalid precision or stride.
    """
    stride = at_least(1)("stride", stride)
    padding = _plain_padding(image, kernel, padding)
    if not isinstance(precision, lax.Precision):
        precision = optional(named(get_args(PrecisionName)))("precision", precision)
    how: Any = {"padding": padding, "precision": precision, "stride": stride}
    return lax.platform_dependent(
        image,
        kernel,
        cpu=functools.partial(conv2d_im2col, **how),
        default=functools.partial(conv2d_xla, **how),
    )


def conv2d_xla(
    image: Array,
    kernel: Array,
    *,
    padding: Padding,
    precision: Precision = "highest",
    stride: int = 1,
) -> Array:
    """Compute `conv2d` by XLA's convolution: the fast form on a GPU or TPU."""
    return lax.conv_general_dilated(
        image[None],
        kernel,
        window_strides=(stride, stride),
        padding=padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=precision,
    )[0]


def conv2d_im2col(
    image: Array,
    kernel: Array,
    *,
    padding: Padding,
    precision: Precision = "highest",
    stride: int = 1,
) -> Array:
    """Compute `conv2d` by im2col and a matrix product: the fast form on a CPU.

    Inside a loop on a CPU, XLA's own convolution is 5 to 15 times slower than this (as
    of JAX 0.12): see jax-ml/jax issue 12868.
    """
    kernel_height, kernel_width, _, features = kernel.shape
    rows, (out_height, out_width) = patches(
        image,
        kernel_size=(kernel_height, kernel_width),
        padding=padding,
        stride=stride,
    )
    # Two-dimensional operands: under vmap this stays one large matrix product.
    products = jnp.matmul(rows, kernel.reshape(-1, features), precision=precision)
    return products.reshape(out_height, out_width, features)


def patches(
    image: Float[Array, "height width channels"],
    *,
    kernel_size: tuple[int, int],
    padding: Padding,
    stride: int = 1,
) -> tuple[Float[Array, "positions fan_in"], tuple[int, int]]:
    """Return the patches of an image as rows of a matrix (im2col), and their grid.

    There is one patch per position of the kernel. The entries of a patch are in the
    order of the entries of a kernel: (i, j, channel).
    """
    padded = jnp.pad(image, (*padding, (0, 0)))
    out_height = (padded.shape[0] - kernel_size[0]) // stride + 1
    out_width = (padded.shape[1] - kernel_size[1]) // stride + 1
    reach = stride * (out_height - 1) + 1, stride * (out_width - 1) + 1
    shifted = [
        padded[i : i + reach[0] : stride, j : j + reach[1] : stride]
        for i in range(kernel_size[0])
        for j in range(kernel_size[1])
    ]
    rows = jnp.concatenate(shifted, axis=-1).reshape(out_height * out_width, -1)
    return rows, (out_height, out_width)


def _plain_padding(image: Array, kernel: Array, padding: Padding) -> Padding:
    """Return the padding as Python ints; raise InputError for an invalid convolution.

    XLA would raise a different error for each mistake, or return an empty image.
    """
    *sides, channels = axes_of(image, "height", "width", "channels")
    *kernel_sides, inputs, _ = axes_of(
        kernel, "kernel_height", "kernel_width", "channels", "features"
    )
    expect(
        f"a kernel of {channels} channels, as the image has", inputs, inputs == channels
    )
    same = image.dtype == kernel.dtype
    expect(f"a kernel of {image.dtype}, as the image is", kernel.dtype, same)
    floats = jnp.issubdtype(image.dtype, jnp.inexact)
    expect("an image and a kernel of floats", image.dtype, floats)
    pairs = several(several(at_least(0)))("padding", padding)
    four = [len(pair) for pair in pairs] == [2, 2]
    expect("padding as ((top, bottom), (left, right))", pairs, four)
    room = tuple(n + sum(pair) for n, pair in zip(sides, pairs, strict=True))
    fits = all(k <= n for k, n in zip(kernel_sides, room, strict=True))
    expect(f"a kernel that fits in {room}, padded", tuple(kernel_sides), fits)
    return pairs


def leaky_relu(x: Float[Array, "*shape"], *, slope: float) -> Float[Array, "*shape"]:
    """Return x if x > 0, else slope * x. The derivative at 0 is the slope."""
    return jnp.where(x > 0, x, slope * x)


# Derivatives at 0: relu 0, tanh 1, leaky_relu the slope. NaN stays NaN.
ACTIVATIONS = {
    "relu": jax.nn.relu,
    "tanh": jnp.tanh,
    "leaky_relu": functools.partial(leaky_relu, slope=0.001),
}
