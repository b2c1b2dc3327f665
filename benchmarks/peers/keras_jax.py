"""Keras on the JAX backend, as its users write it: a Sequential model and `fit`."""

from __future__ import annotations

import jax
import keras
import numpy as np
from case import Case, Layer, Tree
from contenders import Contender, Task


def make(case: Case, task: Task) -> Contender:
    """Build a compiled model; the task is "mean"."""
    del task
    model = keras.Sequential([keras.Input(case.layers[0].input_shape)])
    for layer in case.layers:
        model.add(_layer(layer))
    set_params(case, model)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=make_optimizer(case), loss=loss, jit_compile=True)
    order = case.array("order")[0]
    inputs, labels = (
        case.array("train_inputs")[order],
        case.array("train_labels")[order],
    )

    def run(steps: int) -> None:
        """Fit on this many batches, starting over when the examples run out."""
        rows = np.arange(steps * case.batch_size) % len(labels)
        model.fit(
            inputs[rows],
            labels[rows],
            batch_size=case.batch_size,
            shuffle=False,
            verbose=0,
        )

    def result() -> Tree:
        set_params(case, model)
        size = case.batch_size

        def loss_fn(variables):
            logits, _ = model.stateless_call(
                variables, model.non_trainable_variables, inputs[:size], training=False
            )
            return loss(labels[:size], logits)

        variables = [v.value for v in model.trainable_variables]
        grads = iter(jax.jit(jax.grad(loss_fn))(variables))
        return {
            layer.name: {"kernel": next(grads), "bias": next(grads)}
            for layer in case.layers
            if layer.name in case.params
        }

    facts = {"version": keras.__version__, "backend": keras.backend.backend()}
    return Contender(run, result, facts)


def _layer(layer: Layer) -> keras.Layer:
    value, layers = layer.value, keras.layers
    match layer.kind:
        case "conv":
            if value["padding"] not in (0, value["kernel_size"] // 2):
                raise ValueError(f"expected padding valid or same, got {layer}")
            padding = "same" if value["padding"] else "valid"
            return layers.Conv2D(
                value["features"], value["kernel_size"], padding=padding
            )
        case "maxpool":
            return layers.MaxPooling2D(value["window"])
        case "activation" if value["name"] == "leaky_relu":
            return layers.LeakyReLU(negative_slope=0.001)
        case "activation":
            return layers.Activation(value["name"])
        case "flatten":
            return layers.Flatten()
        case "dense":
            return layers.Dense(value["features"])
        case "dropout":
            return layers.Dropout(value["rate"])
    raise ValueError(f"expected a layer that Keras has, got {layer}")


def make_optimizer(case: Case) -> keras.Optimizer:
    """Build the same algorithm, without L2: Keras has no coupled L2."""
    config = case.facts["optimizer"]
    algorithm, rate = config["algorithm"], config["learning_rate"]
    if algorithm["type"] == "Adam":
        return keras.optimizers.Adam(
            rate, algorithm["b1"], algorithm["b2"], epsilon=algorithm["eps"]
        )
    return keras.optimizers.SGD(rate, momentum=algorithm["momentum"])


def set_params(case: Case, model: keras.Model) -> None:
    """Copy our parameters into the model; Keras uses the same layout."""
    leaves = [
        case.params[layer.name][leaf]
        for layer in case.layers
        if layer.name in case.params
        for leaf in ("kernel", "bias")
    ]
    model.set_weights(leaves)
