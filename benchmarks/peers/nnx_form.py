"""Flax NNX's ordinary form: an nnx.Module of a batch, nnx.Optimizer, nnx.jit.

`loop` is "python" (one compiled update a call, as its MNIST example, with the modules'
traversal cached, as its page on performance advises) or "scan" (many updates in one
`nnx.fori_loop`).
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import jax
import jax.numpy as jnp
import optax
from case import Case, Layer, Tree
from contenders import Contender, Task
from flax import nnx

from peers.jax_case import (
    ACTIVATIONS,
    Update,
    frozen_layers,
    make_optimizer,
    make_run,
    put_examples,
)

Modules = tuple["Network", nnx.Optimizer]


class Network(nnx.Module):
    """The same stack of layers, of a batch."""

    def __init__(self, layers: tuple[Layer, ...], *, rngs: nnx.Rngs) -> None:
        """Make the layers that have a state, each an attribute of its name."""
        self.layers = layers
        for layer in layers:
            value, inputs = layer.value, layer.input_shape[-1]
            match layer.kind:
                case "conv":
                    size, zeros = value["kernel_size"], value["padding"]
                    conv = nnx.Conv(
                        inputs,
                        value["features"],
                        (size, size),
                        padding=[(zeros, zeros)] * 2,
                        rngs=rngs,
                    )
                    setattr(self, layer.name, conv)
                case "dense":
                    dense = nnx.Linear(inputs, value["features"], rngs=rngs)
                    setattr(self, layer.name, dense)
                case "dropout":
                    setattr(self, layer.name, nnx.Dropout(value["rate"], rngs=rngs))

    def __call__(self, x: jax.Array) -> jax.Array:
        """Apply the layers in order."""
        for layer in self.layers:
            value = layer.value
            match layer.kind:
                case "maxpool":
                    window = (value["window"],) * 2
                    x = nnx.max_pool(x, window_shape=window, strides=window)
                case "activation":
                    x = ACTIVATIONS[value["name"]](x)
                case "flatten":
                    x = x.reshape((x.shape[0], -1))
                case _:
                    x = getattr(self, layer.name)(x)
        return x


def make(case: Case, task: Task, *, loop: str) -> Contender:
    """Build a training loop; the task is "mean"."""
    del task
    model, examples = _model(case), put_examples(case)
    optimizer = nnx.Optimizer(model, make_optimizer(case), wrt=nnx.Param)
    model.train()

    def update(
        model: Network,
        optimizer: nnx.Optimizer,
        inputs: jax.Array,
        labels: jax.Array,
        rows: Any,
    ) -> None:
        grads = nnx.grad(_loss)(model, inputs[rows], labels[rows])
        optimizer.update(model, grads)

    @nnx.jit
    def many_updates(
        model: Network,
        optimizer: nnx.Optimizer,
        inputs: jax.Array,
        labels: jax.Array,
        batches: jax.Array,
        first: Any,
        stop: Any,
    ) -> None:
        def step(at: Any, modules: Modules) -> Modules:
            update(*modules, inputs, labels, batches[at % len(batches)])
            return modules

        nnx.fori_loop(first, stop, step, (model, optimizer))

    modules = model, optimizer
    run = make_run(
        modules,
        examples,
        one=_in_place(modules, nnx.jit(update)),
        many=_in_place(modules, many_updates),
        loop=loop,
    )

    def result() -> Tree:
        fresh = _model(case)
        fresh.eval()
        first = examples.batches[0]
        batch = examples.inputs[first], examples.labels[first]
        return nnx.to_pure_dict(nnx.jit(nnx.grad(_loss))(fresh, *batch))

    return Contender(run, result, {"version": version("flax")})


def _loss(model: Network, inputs: jax.Array, labels: jax.Array) -> jax.Array:
    logits = model(inputs)
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def _in_place(modules: tuple, update: Callable[..., None]) -> Update:
    """Return an update of the modules themselves, which are traversed only once."""
    cached = nnx.cached_partial(update, *modules)

    def updated(state: tuple, *args: Any) -> tuple:
        cached(*args)
        return state

    return updated


def _model(case: Case) -> Network:
    """Build the module with our parameters: Flax lays them out as we do."""
    model = Network(frozen_layers(case), rngs=nnx.Rngs(0))
    for name, leaves in case.params.items():
        for leaf, array in leaves.items():
            getattr(getattr(model, name), leaf)[...] = jnp.array(array)
    return model
