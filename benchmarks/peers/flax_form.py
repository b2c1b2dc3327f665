"""Flax as its examples use it: a batched module of nn.Conv and nn.max_pool.

`loop` is "python" (one jitted update per call, like its MNIST example) or "scan" (many
updates in one compiled loop, like cnnjax).
"""

from __future__ import annotations

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from case import Case, Layer, Tree
from contenders import Contender, Task
from jax import lax

ACTIVATIONS = {
    "relu": nn.relu,
    "tanh": nn.tanh,
    # nn.leaky_relu has a different derivative at 0, the value of a blank background.
    "leaky_relu": lambda x: jnp.where(x > 0, x, 0.001 * x),
}


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
    # Flax hashes a module's fields, so the layers must be hashable.
    model = Ordinary(
        tuple(layer._replace(value=_Frozen(layer.value)) for layer in case.layers)
    )
    optimizer = make_optimizer(case)
    inputs = jnp.asarray(case.array("train_inputs"))
    labels = jnp.asarray(case.array("train_labels"))
    batches = case.batches()

    def loss_fn(params: Tree, batch: tuple, key: jax.Array | None) -> jax.Array:
        rngs = {} if key is None else {"dropout": key}
        logits: Any = model.apply(
            {"params": params}, batch[0], train=key is not None, rngs=rngs
        )
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch[1]).mean()

    def update(state, inputs, labels, rows):
        params, opt_state, key = state
        key, own = jax.random.split(key)
        grads = jax.grad(loss_fn)(params, (inputs[rows], labels[rows]), own)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, key

    @jax.jit
    def many(state, inputs, labels, batches, first, stop):
        def step(at, state):
            return update(state, inputs, labels, batches[at % len(batches)])

        return lax.fori_loop(first, stop, step, state)

    params = jax.tree.map(jnp.asarray, case.params)
    state = (params, optimizer.init(params), jax.random.key(0))
    one = jax.jit(update)
    at = 0

    def run(steps: int) -> None:
        nonlocal state, at
        if loop == "scan":
            state = many(state, inputs, labels, batches, at, at + steps)
        else:
            for index in range(at, at + steps):
                state = one(state, inputs, labels, batches[index % len(batches)])
        at += steps
        jax.block_until_ready(state)

    def result() -> Tree:
        first = (inputs[batches[0]], labels[batches[0]])
        return jax.jit(jax.grad(loss_fn))(params, first, None)

    return Contender(run, result, {"version": _version()})


class _Frozen(dict):
    """A dictionary that is never changed, so it can be hashed."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(tuple(sorted(self.items())))


def make_optimizer(case: Case) -> optax.GradientTransformation:
    """Build the same optimizer from Optax, with a constant learning rate."""
    config = case.facts["optimizer"]
    algorithm, rate = config["algorithm"], config["learning_rate"]
    if algorithm["type"] == "Adam":
        rule = optax.adam(
            rate, b1=algorithm["b1"], b2=algorithm["b2"], eps=algorithm["eps"]
        )
    else:
        rule = optax.sgd(rate, momentum=algorithm["momentum"] or None)
    kernels = partial(
        jax.tree_util.tree_map_with_path, lambda p, _: p[-1].key == "kernel"
    )
    return optax.chain(optax.add_decayed_weights(config["l2"], mask=kernels), rule)


def _version() -> str:
    from importlib.metadata import version

    return version("flax")
