"""Batches for the laws: random examples of any recipe, with keys and weights."""

from __future__ import annotations

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.data import Dataset
from cnnjax.data.order import example_keys
from cnnjax.experiments.experiment import Experiment, prepare
from cnnjax.experiments.overrides import override
from cnnjax.experiments.recipes import Recipe
from cnnjax.gradients.shares import serial_value_and_grad
from cnnjax.models.initializers import PYTORCH
from cnnjax.models.stack import (
    Activation,
    Conv,
    Dense,
    Dropout,
    Flatten,
    MaxPool,
    ModelConfig,
    layer_rows,
)
from cnnjax.training.algorithms import Sgd
from cnnjax.training.optimizers import OptimizerConfig
from cnnjax.types import Batch, Examples, LossFn, ValueAndGradFn

# Small, but with every kind of layer: dropout, a pool, two kinds of kernel.
TINY = Recipe(
    name="tiny",
    summary="for the laws",
    model=ModelConfig(
        input_shape=(8, 8, 1),
        layers=(
            Conv(4, kernel_size=3, padding=1),
            Activation("relu"),
            MaxPool(2),
            Flatten(),
            Dense(12),
            Activation("tanh"),
            Dropout(0.5),
            Dense(3),
        ),
        initializer=PYTORCH,
    ),
    loss="softmax_cross_entropy",
    optimizer=OptimizerConfig(algorithm=Sgd(momentum=0.9), learning_rate=0.1),
    dataset="random",
    batch_size=16,
    epochs=1,
)

# For the faults that several input channels are needed to see.
TWO_CHANNELS = replace(TINY, model=replace(TINY.model, input_shape=(8, 8, 2)))


def random_dataset(recipe: Recipe, *, train: int = 320, test: int = 64) -> Dataset:
    """Make a data set that fits a recipe: smooth random images, or random rows."""
    rng = np.random.default_rng(0)
    shape = recipe.model.input_shape
    outputs = layer_rows(recipe.model)[-1].output_shape[0]

    def examples(count: int) -> Examples:
        if recipe.loss == "softmax_cross_entropy":
            blocks = (count, -(-shape[0] // 4), -(-shape[1] // 4), shape[2])
            coarse = rng.integers(0, 256, blocks)
            fine = coarse.repeat(4, axis=1).repeat(4, axis=2)[:, : shape[0], : shape[1]]
            noisy = np.clip(fine + rng.integers(-20, 21, fine.shape), 0, 255)
            labels = coarse[:, 0, 0, 0] * outputs // 256  # so that it can be learned
            return Examples(noisy.astype(np.uint8), labels.astype(np.int32))
        inputs = rng.random((count, *shape)).astype(np.float32)
        return Examples(inputs, rng.random((count, outputs)).astype(np.float32))

    classes = outputs if recipe.loss == "softmax_cross_entropy" else 0
    return Dataset(
        name="random",
        train=examples(train),
        test=examples(test),
        class_names=tuple(map(str, range(classes))),
    )


def make_batch(
    experiment: Experiment, size: int, *, padding: int = 0, seed: int = 0
) -> Batch:
    """Take `size` training examples, the last `padding` of them at weight 0."""
    dropout = experiment.keys.dropout
    return Batch(
        inputs=jnp.asarray(experiment.train.inputs[:size]),
        labels=jnp.asarray(experiment.train.labels[:size]),
        weights=(jnp.arange(size) < size - padding).astype(jnp.float32),
        keys=None if dropout is None else example_keys(dropout, seed, batch_size=size),
    )


def experiment_of(recipe: Recipe, **changes: object) -> Experiment:
    """Prepare a recipe on random data."""
    recipe = override(recipe, **changes)
    return prepare(recipe, random_dataset(recipe))


@functools.cache
def jitted_serial(loss_fn: LossFn) -> ValueAndGradFn:
    """Return the serial reference, traced once for each size of a batch."""
    return jax.jit(serial_value_and_grad(loss_fn))


def distinct_weights(size: int) -> jax.Array:
    """Return unequal weights that sum to no round number."""
    return jnp.linspace(0.25, 1.75, size).astype(jnp.float32)
