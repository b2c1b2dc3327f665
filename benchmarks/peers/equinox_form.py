"""Equinox's ordinary form: a Module of one example, vmapped, under filter_jit.

As its convolutional example: `filter_value_and_grad` of the mean loss, and Optax.
`loop` is "python" (one compiled update a call, as there) or "scan" (many updates in one
compiled loop over the arrays of the state).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from case import Case, Layer, Tree
from contenders import Contender, Task

from peers.channels_first import from_channels_first, to_channels_first
from peers.jax_case import (
    ACTIVATIONS,
    loop_over,
    make_optimizer,
    make_run,
    put_examples,
)


class Network(eqx.Module):
    """The same stack of layers, of one example: [channels, height, width]."""

    layers: list[Callable]

    def __call__(self, x: jax.Array, key: jax.Array | None) -> jax.Array:
        """Apply the layers in order; the key is of the dropout."""
        for layer in self.layers:
            x = layer(x, key=key) if isinstance(layer, eqx.nn.Dropout) else layer(x)
        return x


def make(case: Case, task: Task, *, loop: str) -> Contender:
    """Build a training loop; the task is "mean"."""
    del task
    model = Network([_layer(case, layer) for layer in case.layers])
    optimizer, examples = make_optimizer(case), put_examples(case)
    if examples.inputs.ndim == 4:
        inputs = jnp.array(examples.inputs.transpose(0, 3, 1, 2))
        examples = examples._replace(inputs=inputs)

    @eqx.filter_value_and_grad
    def loss_fn(
        model: Network, inputs: jax.Array, labels: jax.Array, key: jax.Array | None
    ) -> jax.Array:
        keys = None if key is None else jax.random.split(key, len(labels))
        logits = jax.vmap(model)(inputs, keys)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    def update(state: Any, inputs: jax.Array, labels: jax.Array, rows: Any) -> Any:
        model, opt_state, key = state
        key, own = jax.random.split(key)
        _, grads = loss_fn(model, inputs[rows], labels[rows], own)
        params = eqx.filter(model, eqx.is_array)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return eqx.apply_updates(model, updates), opt_state, key

    @eqx.filter_jit
    def many(state: Any, *args: Any) -> Any:
        arrays, static = eqx.partition(state, eqx.is_array)

        def of_arrays(arrays: Any, *args: Any) -> Any:
            return eqx.filter(update(eqx.combine(arrays, static), *args), eqx.is_array)

        return eqx.combine(loop_over(of_arrays, arrays, *args), static)

    def result() -> Tree:
        first = examples.batches[0]
        batch = examples.inputs[first], examples.labels[first]
        _, grads = eqx.filter_jit(loss_fn)(eqx.nn.inference_mode(model), *batch, None)
        return {
            layer.name: {
                "kernel": from_channels_first(case, layer.name, np.asarray(own.weight)),
                "bias": np.asarray(own.bias).reshape(-1),
            }
            for layer, own in zip(case.layers, grads.layers, strict=True)
            if layer.name in case.params
        }

    opt_state = optimizer.init(eqx.filter(model, eqx.is_array))
    state = model, opt_state, jax.random.key(0)
    one = eqx.filter_jit(update)
    run = make_run(state, examples, one=one, many=many, loop=loop)
    return Contender(run, result, {"version": eqx.__version__})


def _layer(case: Case, layer: Layer) -> Callable:
    value, key = layer.value, jax.random.key(0)  # its parameters are replaced
    match layer.kind:
        case "conv":
            conv = eqx.nn.Conv2d(
                layer.input_shape[-1],
                value["features"],
                value["kernel_size"],
                padding=value["padding"],
                key=key,
            )
            return _with_params(case, layer.name, conv)
        case "maxpool":
            return eqx.nn.MaxPool2d(value["window"], stride=value["window"])
        case "activation":
            return ACTIVATIONS[value["name"]]
        case "flatten":
            return jnp.ravel
        case "dense":
            dense = eqx.nn.Linear(layer.input_shape[0], value["features"], key=key)
            return _with_params(case, layer.name, dense)
        case "dropout":
            return eqx.nn.Dropout(value["rate"])
    raise ValueError(f"expected a layer that Equinox has, got {layer}")


def _with_params(case: Case, name: str, module: Any) -> Any:
    """Put our parameters into a layer, in its layout."""
    kernel, bias = case.params[name]["kernel"], case.params[name]["bias"]
    weight = jnp.array(to_channels_first(case, name, kernel))
    own = weight, jnp.array(bias).reshape(module.bias.shape)
    return eqx.tree_at(lambda m: (m.weight, m.bias), module, own)
