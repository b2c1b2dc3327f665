"""The network of a config, as pure functions of ONE example."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Iterator
from typing import cast

import flax.errors
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, Num

from cnnjax.base.arguments import instance_of, random_key
from cnnjax.base.errors import InputError, expect
from cnnjax.base.trees import at_least_float32
from cnnjax.models import initializers, layers
from cnnjax.models.stack import (
    Activation,
    Conv,
    Dense,
    Dropout,
    Flatten,
    Layer,
    LayerRow,
    MaxPool,
    ModelConfig,
    Shape,
    layer_rows,
)
from cnnjax.types import Params

# layer_fn(x) -> what a layer computes of it, of ONE example.
LayerFn = Callable[[Float[Array, "..."]], Float[Array, "..."]]
# around(row, layer_fn) -> layer_fn: put around each layer of a network.
Around = Callable[[LayerRow, LayerFn], LayerFn]


def as_it_is(row: LayerRow, layer_fn: LayerFn) -> LayerFn:
    """Put nothing around a layer."""
    del row
    return layer_fn


class Network(nn.Module):
    """The Flax module of a config: the same stack, one example in, logits out."""

    config: ModelConfig
    around: Around = as_it_is

    @nn.compact
    def __call__(
        self, example: Num[Array, "*example"], *, deterministic: bool
    ) -> Float[Array, " classes"]:
        """Apply the layers in order; `deterministic` switches dropout off.

        Raises:
            InputError: while it is traced, for an example of another shape.
        """
        shape, expected = np.shape(example), self.config.input_shape
        what = f"one example of the network's input_shape {expected} (jax.vmap maps it)"
        expect(what, shape, shape == expected)
        x = example.astype(self.config.dtype)
        for row in layer_rows(self.config):
            if row.parameters and self.is_mutable_collection("inputs"):
                self.sow("inputs", f"{row.name}_in", _as_matrix(row.layer, x))
            x = self.around(row, self._module(row, deterministic))(x)
            if row.parameters:
                x = self.perturb(f"{row.name}_tap", x, collection="taps")
        return x.astype(self.config.param_dtype)

    def _module(self, row: LayerRow, deterministic: bool) -> LayerFn:
        precision = self.config.matmul_precision
        if self.config.dtype == "bfloat16":  # exact in whatever a GPU or TPU takes
            precision = "default"
        match row.layer:
            case Conv(features, size, padding):
                multiply = functools.partial(
                    layers.conv2d,
                    padding=((padding, padding), (padding, padding)),
                    precision=precision,
                )
                shape = (size, size, row.input_shape[-1], features)
                return Affine(self.config, shape, multiply, name=row.name)
            case Dense(features):
                multiply = functools.partial(jnp.dot, precision=precision)
                shape = (row.input_shape[0], features)
                return Affine(self.config, shape, multiply, name=row.name)
            case Dropout(rate):
                return nn.Dropout(rate, deterministic=deterministic, name=row.name)
            case MaxPool(window):
                return functools.partial(layers.max_pool2d, window=window)
            case Activation(name):
                return layers.ACTIVATIONS[name]
            case Flatten():
                return jnp.ravel


class Affine(nn.Module):
    """What conv and dense layers share: multiply by a kernel, then add a bias.

    They differ in `multiply(input, kernel)`. Parameters are those of `flax.linen.Conv`
    and `Dense`, which would multiply and add the bias in bfloat16, too: but gradients
    are summed, over positions and examples, in the type of the product. Here that is
    float32 at least, of factors that are rounded to bfloat16.
    """

    config: ModelConfig
    kernel_shape: Shape  # the last axis: features
    multiply: Callable[[Array, Array], Array]

    @nn.compact
    def __call__(self, x: Float[Array, "..."]) -> Float[Array, "... features"]:
        """Compute in `config.dtype`, but for the sum."""
        shape, init = self.kernel_shape, self.config.initializer
        dtype, param_dtype = self.config.dtype, self.config.param_dtype
        draw = functools.partial(initializers.draw, dtype=param_dtype)
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
        kernel = self.param("kernel", draw_kernel)
        bias = self.param("bias", draw_bias)
        # Rounded to the arithmetic's type, then multiplied and added up in a wider one.
        added_in = at_least_float32(dtype)
        factors = (v.astype(dtype).astype(added_in) for v in (x, kernel))
        product = self.multiply(*factors)
        wide = at_least_float32(np.promote_types(dtype, param_dtype))
        biases = jnp.broadcast_to(bias.astype(wide), product.shape)
        return (product.astype(wide) + biases).astype(dtype)


def _as_matrix(layer: Layer, x: Array) -> Float[Array, "positions fan_in"]:
    """Return the input of a layer as what its kernel multiplies: a row a position."""
    if isinstance(layer, Conv):
        side, zeros = layer.kernel_size, (layer.padding, layer.padding)
        return layers.patches(x, kernel_size=(side, side), padding=(zeros, zeros))[0]
    return x[None]


def init(key: Key[Array, ""], config: ModelConfig) -> Params:
    """Draw the parameters of a network: {layer: {"kernel": ..., "bias": ...}}.

    Raises:
        InputError: no key, or no config; a layer that does not fit the shape that it is
            given; or float64 asked for where JAX has it switched off, and would draw
            float32.
    """
    random_key("key", key)
    instance_of(ModelConfig)("config", config)
    for dtype in (config.dtype, config.param_dtype):
        if jax.dtypes.canonicalize_dtype(dtype) != dtype:
            raise InputError(
                f"expected a JAX that has {dtype}, got one that has only "
                f"{jax.dtypes.canonicalize_dtype(dtype)}; call "
                'jax.config.update("jax_enable_x64", True) first'
            )
    example = jnp.zeros(config.input_shape, config.dtype)
    return Network(config).init(key, example, deterministic=True)["params"]


def make_apply(
    config: ModelConfig, *, around: Around = as_it_is
) -> Callable[..., Float[Array, " classes"]]:
    """Build `apply(params, example, *, key=None) -> logits` of one example.

    `example` has shape `config.input_shape`; logits have `config.param_dtype`. With
    `key=None` the network is evaluated; a key drives the dropout of training.
    `around(row, layer_fn)` may put something around each layer.

    Raises:
        InputError: no config; or, while `apply` is traced, an example of another shape,
            or the parameters of another network.
    """
    instance_of(ModelConfig)("config", config)
    network = Network(config, around)

    def apply(
        params: Params,
        example: Num[Array, "*example"],
        *,
        key: Key[Array, ""] | None = None,
    ) -> Float[Array, " classes"]:
        rngs = {} if key is None else {"dropout": key}
        with _told_of_parameters():
            logits = network.apply(
                {"params": params}, example, deterministic=key is None, rngs=rngs
            )
        return cast(Array, logits)  # a pair only where other collections are asked for

    return apply


@contextlib.contextmanager
def _told_of_parameters() -> Iterator[None]:
    """Turn Flax's refusal of parameters into one clear line."""
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


def make_tapped_apply(
    config: ModelConfig, *, around: Around = as_it_is
) -> Callable[..., tuple[Float[Array, " classes"], dict[str, Array]]]:
    """Build `apply(params, taps, example, *, key=None) -> (logits, inputs)`.

    `taps` (`zero_taps` has them) are added to what each layer with parameters computes:
    the gradient with respect to a tap is the cotangent there. `inputs` are what each of
    these layers multiplies by its kernel, {layer: (positions, fan_in)}.
    """
    network = Network(config, around)

    def apply(
        params: Params,
        taps: dict[str, Float[Array, "..."]],
        example: Num[Array, "*example"],
        *,
        key: Key[Array, ""] | None = None,
    ) -> tuple[Float[Array, " classes"], dict[str, Array]]:
        logits, sown = network.apply(
            {"params": params, "taps": {f"{name}_tap": taps[name] for name in taps}},
            example,
            deterministic=key is None,
            rngs={} if key is None else {"dropout": key},
            mutable=["inputs"],
        )
        inputs = {name: cast(Array, sown["inputs"][f"{name}_in"][0]) for name in taps}
        return cast(Array, logits), inputs

    return apply


def zero_taps(config: ModelConfig) -> dict[str, Float[Array, "..."]]:
    """Return zeros shaped like what each layer with parameters computes."""
    return {
        row.name: jnp.zeros(row.output_shape, config.dtype)
        for row in layer_rows(config)
        if row.parameters
    }
