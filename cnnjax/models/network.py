"""The network that a config describes, as pure functions of ONE example."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Iterator
from typing import Any, cast

import flax.errors
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, Num

from cnnjax.base.arguments import instance_of, random_key
from cnnjax.base.errors import InputError, expect
from cnnjax.base.trees import at_least_float32
from cnnjax.models import initializers
from cnnjax.models.kinds import Dropout, Residual, Shape, scales
from cnnjax.models.stack import ModelConfig, layer_rows
from cnnjax.types import Params


class Network(nn.Module):
    """The Flax module of a config: one example in, logits out.

    Dense layers and convolutions compute x W + b. W and b have `config.param_dtype`; x
    and W are rounded to `config.dtype`, and the product is accumulated in at least
    float32. Gradients are summed over positions and examples in the type of the
    product, so these sums are in float32, too. (`flax.linen.Conv` and `Dense`, which
    have the same parameters, would accumulate in bfloat16.)
    """

    config: ModelConfig

    @nn.compact
    def __call__(
        self, example: Num[Array, "*example"], *, deterministic: bool
    ) -> Float[Array, " classes"]:
        """Apply the layers in order; `deterministic` switches dropout off.

        Raises:
            InputError: while it is traced, an example of the wrong shape.
        """
        shape, expected = np.shape(example), self.config.input_shape
        what = f"one example of the network's input_shape {expected} (jax.vmap maps it)"
        expect(what, shape, shape == expected)
        dtype, param_dtype = self.config.dtype, self.config.param_dtype
        added_in = at_least_float32(dtype)
        wide = at_least_float32(np.promote_types(dtype, param_dtype))
        precision = self.config.matmul_precision
        if dtype == "bfloat16":  # products of bfloat16 are exact at any precision
            precision = "default"
        x, seen = example.astype(dtype), []  # the input of each layer
        for row in layer_rows(self.config):
            layer: Any = row.layer
            seen.append(x)
            if row.kernel_shape:
                if self.is_mutable_collection("inputs"):
                    self.sow("inputs", f"{row.name}_in", matrix_of(layer, x))
                own = Scales if scales(layer) else Weights
                kernel, bias = own(self.config, row.kernel_shape, name=row.name)()
                factors = (v.astype(dtype).astype(added_in) for v in (x, kernel))
                product = layer.multiply(precision)(*factors)
                biases = jnp.broadcast_to(bias.astype(wide), product.shape)
                x = (product.astype(wide) + biases).astype(dtype)
                x = self.perturb(f"{row.name}_tap", x, collection="taps")
            elif isinstance(layer, Residual):
                x = x + seen[-1 - layer.over]
            elif isinstance(layer, Dropout):
                drop = nn.Dropout(layer.rate, name=row.name)
                x = drop(x, deterministic=deterministic)
            else:
                x = layer.function(x)
        return x.astype(param_dtype)


class Scales(nn.Module):
    """The scale and bias of one normalization, named as those of `flax.linen`."""

    config: ModelConfig
    kernel_shape: Shape  # (features,)

    @nn.compact
    def __call__(self) -> tuple[Float[Array, " features"], Float[Array, " features"]]:
        """Return scale and bias; in `init`, ones and zeros."""
        dtype, shape = self.config.param_dtype, self.kernel_shape
        scale = self.param("scale", lambda _: jnp.ones(shape, dtype))
        return scale, self.param("bias", lambda _: jnp.zeros(shape, dtype))


def matrix_of(layer: Any, x: Array) -> Array:
    """Return what a layer multiplies by its weights, as `gradients.factors` takes it.

    It is [positions, fan_in]; of a layer that scales entry by entry [positions, 1,
    features]: of each feature its own input.
    """
    matrix = layer.as_matrix(x)
    return matrix[:, None] if scales(layer) else matrix


class Weights(nn.Module):
    """The kernel and bias of one layer, named as those of `flax.linen.Dense`."""

    config: ModelConfig
    kernel_shape: Shape  # the last axis is features

    @nn.compact
    def __call__(self) -> tuple[Float[Array, "*kernel"], Float[Array, " features"]]:
        """Return kernel and bias; in `init`, draw them."""
        shape, init = self.kernel_shape, self.config.initializer
        draw = functools.partial(initializers.draw, dtype=self.config.param_dtype)
        draw_kernel = functools.partial(
            draw,
            shape=shape,
            distribution=init.distribution,
            scale=initializers.kernel_scale(init, shape),
        )
        draw_bias = functools.partial(
            draw,
            shape=shape[-1:],
            distribution="uniform",
            scale=initializers.bias_scale(init, math.prod(shape[:-1])),
        )
        return self.param("kernel", draw_kernel), self.param("bias", draw_bias)


def init(key: Key[Array, ""], config: ModelConfig) -> Params:
    """Draw the parameters of a network: {layer: {"kernel": ..., "bias": ...}}.

    Raises:
        InputError: not a key, or not a config; a layer that does not fit the shape of
            its input; or a config with float64 without jax_enable_x64.
    """
    random_key("key", key)
    instance_of(ModelConfig)("config", config)
    for dtype in (config.dtype, config.param_dtype):
        if jax.dtypes.canonicalize_dtype(dtype) != dtype:
            raise InputError(
                f"expected JAX with {dtype}, got JAX with only "
                f"{jax.dtypes.canonicalize_dtype(dtype)}; call "
                'jax.config.update("jax_enable_x64", True) first'
            )
    example = jnp.zeros(config.input_shape, config.dtype)
    return Network(config).init(key, example, deterministic=True)["params"]


def make_apply(config: ModelConfig) -> Callable[..., Float[Array, " classes"]]:
    """Build `apply(params, example, *, key=None) -> logits` of one example.

    `example` has shape `config.input_shape`; logits have `config.param_dtype`. With a
    key, dropout is on, as in training; with `key=None` it is off.

    Raises:
        InputError: not a config; or, while `apply` is traced, an example of the wrong
            shape, or the parameters of another network.
    """
    instance_of(ModelConfig)("config", config)
    network = Network(config)

    def apply(
        params: Params,
        example: Num[Array, "*example"],
        *,
        key: Key[Array, ""] | None = None,
    ) -> Float[Array, " classes"]:
        with clear_about_parameters():
            logits = network.apply({"params": params}, example, **mode(key))
        return cast(Array, logits)  # Flax returns a pair only with mutable collections

    return apply


def mode(key: Key[Array, ""] | None) -> dict[str, Any]:
    """Return Flax's arguments for training (with a key) or evaluation (without)."""
    return {
        "deterministic": key is None,
        "rngs": {} if key is None else {"dropout": key},
    }


@contextlib.contextmanager
def clear_about_parameters() -> Iterator[None]:
    """Turn Flax's errors about wrong parameters into one clear line.

    Raises:
        InputError: the code inside uses the parameters of another network.
    """
    try:
        yield
    except (
        flax.errors.ScopeCollectionNotFound,
        flax.errors.ScopeParamNotFoundError,
        flax.errors.ScopeParamShapeError,
    ) as error:
        said = str(error).partition(" (https:")[0]
        raise InputError(
            f"expected the parameters of this network, as init draws them: {said}"
        ) from error


def zero_taps(config: ModelConfig) -> dict[str, Float[Array, "..."]]:
    """Return zeros with the shape of the output of each layer with parameters."""
    return {
        row.name: jnp.zeros(row.output_shape, config.dtype)
        for row in layer_rows(config)
        if row.parameters
    }
