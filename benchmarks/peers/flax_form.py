"""Flax as its examples use it: a batched module of nn.Conv and nn.max_pool.

`loop` is "python" (one jitted update per call, like its MNIST example) or "scan" (many
updates in one compiled loop, like cnnjax).
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import flax.linen as nn
import jax
import optax
from case import Case, Layer, Tree
from contenders import Contender, Task

from peers.jax_case import ACTIVATIONS, contender_of_gradients, frozen_layers


class Ordinary(nn.Module):
    """The same stack of layers, applied to a batch."""

    layers: tuple[Layer, ...]

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Apply the layers in order."""
        for layer in self.layers:
            value = layer.value
            match layer.kind:
                case "conv":
                    size, zeros = value["kernel_size"], value["padding"]
                    padding = [(zeros, zeros)] * 2
                    conv = nn.Conv(
                        value["features"],
                        (size, size),
                        padding=padding,
                        name=layer.name,
                    )
                    x = conv(x)
                case "maxpool":
                    window = (value["window"],) * 2
                    x = nn.max_pool(x, window_shape=window, strides=window)
                case "activation":
                    x = ACTIVATIONS[value["name"]](x)
                case "flatten":
                    x = x.reshape((x.shape[0], -1))
                case "dense":
                    x = nn.Dense(value["features"], name=layer.name)(x)
                case "dropout":
                    x = nn.Dropout(value["rate"], deterministic=not train)(x)
        return x


def make(case: Case, task: Task, *, loop: str) -> Contender:
    """Build a training loop; the task is "mean"."""
    del task
    grad_fn = jax.grad(make_loss(case))

    def grads_of(*args: Any) -> tuple[Any, Any]:
        return grad_fn(*args), {}

    facts = {"version": version("flax")}
    return contender_of_gradients(case, grads_of, loop=loop, facts=facts)


def make_loss(case: Case) -> Callable[..., jax.Array]:
    """Return the mean loss of a batch: (params, inputs, labels, key) -> a scalar.

    Parameters are in our layout; without a key, dropout is off.
    """
    model = Ordinary(frozen_layers(case))

    def loss_fn(
        params: Tree, inputs: jax.Array, labels: jax.Array, key: jax.Array | None
    ) -> jax.Array:
        rngs = {} if key is None else {"dropout": key}
        logits: Any = model.apply(
            {"params": params}, inputs, train=key is not None, rngs=rngs
        )
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    return loss_fn
