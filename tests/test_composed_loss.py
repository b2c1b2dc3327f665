"""The loss that all strategies differentiate, held against others' arithmetic.

All variants differentiate one function, so they could be wrong together. Here it is
written again, from raw example to loss, in NumPy and, where it is installed, in
PyTorch. The serial reference, which every strategy is held against, has the gradient
that finite differences of NumPy's loss have, and PyTorch's.
"""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from batches import TINY, experiment_of, jitted_serial, make_batch
from scipy.special import log_softmax

from cnnjax import models
from cnnjax.data.augmentation import augment
from cnnjax.data.preprocessing import Identity, MinMaxPerImage, Standardize, preprocess
from cnnjax.experiments.experiment import Experiment
from cnnjax.experiments.recipes import RECIPES, Recipe
from cnnjax.laws.comparison import largest_error
from cnnjax.models.stack import (
    Activation,
    Conv,
    Dense,
    Dropout,
    Flatten,
    MaxPool,
    layer_rows,
)
from cnnjax.types import Batch, Params

SIZE, PADDING = 3, 1
STEP = 1e-8  # of a finite difference: few rectifiers bend within it


def distinct_losses() -> list:
    """List a recipe of each loss; slow are the largest, and all but one of a kind."""
    slow = ("sgd_wide_cnn", "tanh_mlp_housing_wide", "tanh_mlp_cifar10_deep")
    slow += ("tanh_mlp_cifar10_shallow",)
    of_loss = {(r.model, r.preprocessing, r.loss): r for r in RECIPES.values()}
    return [
        pytest.param(
            recipe,
            id=recipe.name,
            marks=[pytest.mark.slow] * (recipe.name in slow),
        )
        for recipe in of_loss.values()
    ]


every_loss = pytest.mark.parametrize("recipe", distinct_losses())


class Composed(NamedTuple):
    """A recipe in float64, a batch of it, and what its dropout keeps."""

    experiment: Experiment
    batch: Batch  # the last example is padding; weights are unequal
    masks: list[dict[str, np.ndarray]]  # of each example, by layer: 0 or 1 / (1 - rate)


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


@functools.cache
def composed(recipe: Recipe) -> Composed:
    experiment = experiment_of(recipe, precision="float64", batch_size=SIZE)
    batch = make_batch(experiment, SIZE, padding=PADDING)
    batch = batch._replace(weights=batch.weights * np.float32([0.5, 2, 1]))
    return Composed(experiment, batch, [masks_of(experiment, batch, i) for i in (0, 1)])


def masks_of(experiment: Experiment, batch: Batch, index: int) -> dict:
    """Look at what each dropout layer makes of its input, without looking inside."""
    masks = {}
    recipe = experiment.recipe

    def seen(next_fun, args, kwargs, context):
        y = next_fun(*args, **kwargs)
        if isinstance(context.module, nn.Dropout) and context.method_name == "__call__":
            # An entry of 0, behind a rectifier, is 0 whatever the mask says.
            x = np.asarray(args[0])
            masks[context.module.name] = np.asarray(y) / np.where(x == 0, 1, x)
        return y

    example = preprocess(
        jnp.asarray(raw_of(recipe, batch, index)),
        config=recipe.preprocessing,
        dtype="float64",
    )
    key = None if batch.keys is None else batch.keys[index]
    with nn.intercept_methods(seen):
        models.make_apply(recipe.model)(experiment.params, example, key=key)
    return masks


def loss_by_numpy(params: dict, case: Composed) -> float:
    """Return the weighted mean loss of the batch's real examples, in float64."""
    recipe, batch = case.experiment.recipe, case.batch
    losses = []
    for index, masks in enumerate(case.masks):
        x = preprocessed(raw_of(recipe, batch, index), recipe.preprocessing)
        label = np.asarray(batch.labels[index])
        for row in layer_rows(recipe.model):
            x = applied(row, params.get(row.name), masks.get(row.name), x)
        if recipe.loss == "mean_squared_error":
            losses.append(np.mean((x - label) ** 2))
        else:
            losses.append(-log_softmax(x)[label])
    return float(np.average(losses, weights=batch.weights[: len(losses)]))


def raw_of(recipe: Recipe, batch: Batch, index: int) -> np.ndarray:
    """Return a raw example as training sees it; test_augmentation has its law."""
    raw = jnp.asarray(batch.inputs[index])
    if recipe.augmentation:
        key = jax.random.fold_in(batch.keys[index], 1)
        raw = augment(raw, key, steps=recipe.augmentation)
    return np.asarray(raw)


def preprocessed(example: np.ndarray, config) -> np.ndarray:
    x = example.astype(np.float64)
    match config:
        case Identity():
            return x
        case Standardize():
            return (x / 255 - np.array(config.mean)) / np.array(config.std)
        case MinMaxPerImage():
            return (x - x.min()) / (x.max() - x.min())
    raise AssertionError(config)


def applied(row, own, mask, x: np.ndarray) -> np.ndarray:
    match row.layer:
        case Conv(_, size, zeros):
            x = np.pad(x, ((zeros, zeros), (zeros, zeros), (0, 0)))
            windows = np.lib.stride_tricks.sliding_window_view(x, (size, size), (0, 1))
            kernel = own["kernel"]  # rows, columns, inputs, outputs
            return np.tensordot(windows, kernel, ((3, 4, 2), (0, 1, 2))) + own["bias"]
        case Dense():
            return x @ own["kernel"] + own["bias"]
        case MaxPool(window):
            height, width = x.shape[0] // window, x.shape[1] // window
            x = x[: height * window, : width * window]
            return x.reshape(height, window, width, window, -1).max(axis=(1, 3))
        case Activation("tanh"):
            return np.tanh(x)
        case Activation(name):
            return np.where(x > 0, x, {"relu": 0, "leaky_relu": 0.001}[name] * x)
        case Dropout():
            return x * mask
        case Flatten():
            return x.ravel()
    raise AssertionError(row)


@functools.cache
def reference(recipe: Recipe) -> tuple[float, Params]:
    """Return the mean loss of the batch, and its gradient."""
    case = composed(recipe)
    value_and_grad = jitted_serial(case.experiment.loss_fn)
    metrics, grads = value_and_grad(case.experiment.params, case.batch)
    return float(metrics.means["loss"]), jax.tree.map(np.asarray, grads)


@every_loss
def test_the_loss_of_every_recipe_is_what_numpy_makes_of_it(recipe):
    case = composed(recipe)
    params = jax.tree.map(np.asarray, case.experiment.params)
    expected = loss_by_numpy(params, case)
    assert reference(recipe)[0] == pytest.approx(expected, rel=1e-12)


@every_loss
def test_its_gradient_is_what_finite_differences_make_of_it(recipe):
    """Along a random direction for each leaf: in any place, an error turns it."""
    case, rng = composed(recipe), np.random.default_rng(0)
    params = jax.tree.map(np.asarray, case.experiment.params)
    flat, tree = jax.tree.flatten(params)
    _, grads = reference(recipe)
    for index, (path, own) in enumerate(jax.tree.leaves_with_path(grads)):
        direction = rng.standard_normal(own.shape)

        def loss_at(step, index=index, direction=direction):
            moved = [*flat[:index], flat[index] + step * direction, *flat[index + 1 :]]
            return loss_by_numpy(jax.tree.unflatten(tree, moved), case)

        slope = (loss_at(STEP) - loss_at(-STEP)) / (2 * STEP)
        error = abs(np.sum(own * direction) - slope) / np.linalg.norm(own)
        assert error <= 1e-6, jax.tree_util.keystr(path)


@every_loss
def test_pytorch_makes_the_same_of_it(recipe):
    """Where PyTorch is: with the same dropout, its autograd has the same gradient."""
    torch = pytest.importorskip("torch")
    from case import Case
    from peers import torch_case
    from reference import case_layers

    case = composed(recipe)
    params = jax.tree.map(np.array, case.experiment.params)  # writable copies
    written = Case(Path(), {}, tuple(case_layers(recipe.model)), params)
    model = torch_case.make_model(written).double().cpu()
    torch_case.set_params(written, model, params)  # in float64
    real = slice(len(case.masks))
    weights, labels, inputs = (
        torch.from_numpy(np.array(a[real]))
        for a in (case.batch.weights, case.batch.labels, case.batch.inputs)
    )
    x = channels_first(torch_preprocessed(inputs.double(), recipe.preprocessing))
    for name, module in model.named_children():
        if isinstance(module, torch.nn.Dropout):
            masks = torch.from_numpy(np.stack([own[name] for own in case.masks]))
            x = x * channels_first(masks)
        else:
            x = module(x)
    if recipe.loss == "mean_squared_error":
        each = torch.nn.functional.mse_loss(x, labels, reduction="none").mean(dim=1)
    else:
        each = torch.nn.functional.cross_entropy(x, labels.long(), reduction="none")
    loss = (each * weights).sum() / weights.sum()
    loss.backward()
    named = {name: p.grad for name, p in model.named_parameters()}
    mean_loss, grads = reference(recipe)
    assert mean_loss == pytest.approx(loss.item(), rel=1e-12)
    assert largest_error(torch_case.from_torch(written, named), grads) <= 1e-11


def channels_first(x):
    return x.permute(0, 3, 1, 2) if x.ndim == 4 else x


def torch_preprocessed(x, config):
    match config:
        case Standardize():
            return (x / 255 - x.new_tensor(config.mean)) / x.new_tensor(config.std)
        case MinMaxPerImage():
            axes = {"dim": (1, 2, 3), "keepdim": True}
            low, high = x.amin(**axes), x.amax(**axes)
            return (x - low) / (high - low)
    return x


# Wrong in one place, it is not the loss of NumPy, nor has it that gradient.
WRONG = {
    "pixels by 256": {"preprocessing": Standardize(std=(256 / 255,))},
    "minus a mean": {"preprocessing": Standardize(mean=(1e-6,))},
    "leaky for relu": {Activation("relu"): Activation("leaky_relu")},
    "tanh for relu": {Activation("relu"): Activation("tanh")},
    "relu for tanh": {Activation("tanh"): Activation("relu")},
    "dropout of less": {Dropout(0.5): Dropout(0.4)},
    "no dropout": {Dropout(0.5): Dropout(0.0)},
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_loss_that_is_wrong_in_one_place_is_seen(wrong):
    case, changes = composed(TINY), dict(WRONG[wrong])
    scaling = changes.pop("preprocessing", TINY.preprocessing)
    stack = tuple(changes.get(layer, layer) for layer in TINY.model.layers)
    model = replace(TINY.model, layers=stack)
    params = jax.tree.map(np.asarray, case.experiment.params)
    expected = loss_by_numpy(params, case)
    assert reference(TINY)[0] == pytest.approx(expected, rel=1e-12)
    other = reference(replace(TINY, model=model, preprocessing=scaling))
    assert other[0] != pytest.approx(expected, rel=1e-9)
    assert largest_error(other[1], reference(TINY)[1]) > 1e-9
