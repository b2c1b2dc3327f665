"""Write the case of a recipe, and compute the serial reference for its first batch."""

from __future__ import annotations

import functools
from pathlib import Path

import jax
import numpy as np
from case import MAX_NORM, Layer, Tree, save_arrays, save_tree, write_case
from contenders import OF_A_BATCH, Task
from peers.ours import each_of, first_batch

from cnnjax import data, experiments, models
from cnnjax.base.errors import expect
from cnnjax.data.dataset import Dataset
from cnnjax.data.order import epoch_order
from cnnjax.data.preprocessing import preprocess
from cnnjax.experiments import recipes
from cnnjax.experiments.experiment import Experiment
from cnnjax.experiments.overrides import override
from cnnjax.gradients import reductions, rules
from cnnjax.gradients.shares import with_per_example
from cnnjax.models.losses import LOSSES
from cnnjax.models.stack import ModelConfig, layer_rows
from cnnjax.results.plain import plain
from cnnjax.training.optimizers import make_schedule


def prepare(
    recipe_name: str,
    *,
    batch_size: int | None,
    dataset: str | None,
    data_dir: str | None,
    seed: int = 0,
    epochs: int | None = None,
    learning_rate: float | None = None,
) -> Experiment:
    """Prepare a recipe for timing: a classifier on one device.

    Raises:
        InputError: the recipe, the dataset or the batch size is not suitable.
    """
    recipe = recipes.get_recipe(recipe_name)
    told = f"a classifier, which the peers can train, not {recipe_name!r}"
    expect(told, recipe.loss, LOSSES[recipe.loss].classifies)
    if dataset is None:
        dataset = recipe.dataset if data_dir else recipes.default_dataset(recipe)
    recipe = override(
        recipe,
        batch_size=batch_size,
        dataset=dataset,
        epochs=epochs,
        learning_rate=learning_rate,
        strategy="jit",
    )
    loaded: Dataset = data.load_dataset(recipe.dataset, data_dir=data_dir)
    return experiments.prepare(recipe, loaded, seed=seed)


def case_layers(model: ModelConfig) -> list[Layer]:
    """Return the layers of a network as a case has them."""
    return [
        Layer(
            row.name, type(row.layer).__name__.lower(), row.input_shape, vars(row.layer)
        )
        for row in layer_rows(model)
    ]


def write(experiment: Experiment, folder: Path, *, data_dir: str | None) -> None:
    """Write the case of an experiment, without its examples: cnnjax reads its own."""
    recipe = experiment.recipe
    num_train = len(experiment.train.labels)
    steps = -(-num_train // experiment.loop.batch_size)
    schedule = make_schedule(
        recipe.optimizer, steps_per_epoch=steps, epochs=recipe.epochs
    )
    facts = {
        "recipe": recipe.name,
        "dataset": recipe.dataset,
        "data_dir": data_dir,
        "seed": experiment.seed,
        "batch_size": experiment.loop.batch_size,
        "num_train": recipe.num_train,
        "epochs": recipe.epochs,
        "shuffle": recipe.shuffle,
        "learning_rate": recipe.optimizer.learning_rate,
        "optimizer": plain(recipe.optimizer),
    }
    write_case(
        folder, facts=facts, layers=case_layers(recipe.model), params=experiment.params
    )
    every = np.arange(recipe.epochs * steps).reshape(recipe.epochs, steps)
    rates = np.broadcast_to(jax.vmap(jax.vmap(schedule))(every), every.shape)
    save_arrays(folder, {"learning_rates": rates})


def write_examples(experiment: Experiment, folder: Path, *, with_test: bool) -> None:
    """Write the scaled examples and the order of the first epoch, for the peers.

    All training examples are written, however few are timed, because the amount of data
    that a peer has read affects glibc's allocator later.
    """
    recipe = experiment.recipe
    scale = jax.jit(
        jax.vmap(
            functools.partial(
                preprocess, config=recipe.preprocessing, dtype=recipe.model.dtype
            )
        )
    )
    order = epoch_order(
        experiment.keys.order,
        0,
        num_examples=len(experiment.train.labels),
        shuffle=recipe.shuffle,
    )
    arrays = {
        "train_inputs": np.asarray(scale(experiment.train.inputs)),
        "train_labels": np.asarray(experiment.train.labels),
        "order": np.asarray(order)[None],
    }
    if with_test:
        arrays["test_inputs"] = np.asarray(scale(experiment.test.inputs))
        arrays["test_labels"] = np.asarray(experiment.test.labels)
    save_arrays(folder, arrays)


def write_seed(experiment: Experiment, folder: Path, seed: int) -> None:
    """Write the parameters that another seed starts from."""
    params = models.init(experiments.keys_of(seed).params, experiment.recipe.model)
    save_tree(folder / f"params_{seed}.npz", params)


def results(experiment: Experiment, tasks: set[Task]) -> dict[Task, Tree]:
    """Compute the expected result of each task, one example after another.

    That of bfloat16, too, is in float32.
    """
    batch = first_batch(experiment)
    found: dict[Task, Tree] = {}
    for task in sorted(tasks - {"peak"}):
        reduction = reductions.mean
        if task not in OF_A_BATCH:
            reduction = reductions.REDUCTIONS[task](MAX_NORM)
        share = rules.serial(experiment.objective, reduction)
        _, grads, each = jax.jit(with_per_example(share))(experiment.params, batch)
        own = grads if task in OF_A_BATCH else each_of(task, grads, each)
        found[task] = jax.tree.map(np.asarray, own)
    return found


def flops_per_example(experiment: Experiment) -> float:
    """Return the operations per example in the forward and backward pass.

    A multiply-add counts as two operations. The backward pass takes twice as many as
    the forward pass, except for the first layer, whose input needs no gradient.
    """
    macs = [row.macs for row in layer_rows(experiment.recipe.model) if row.macs]
    return float(2 * (3 * sum(macs) - macs[0]))
