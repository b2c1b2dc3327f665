"""A recipe made to run: on one dataset, under one strategy, from one seed."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import optax
from jaxtyping import Array, Float, Num

from cnnjax import faults as known_faults
from cnnjax import models, parallel, stack
from cnnjax.data.dataset import Dataset
from cnnjax.data.preprocessing import preprocess
from cnnjax.data.splits import split_dataset
from cnnjax.errors import InputError, expect
from cnnjax.factors import make_factors_fn
from cnnjax.losses import make_loss_fn, make_tapped_loss_fn
from cnnjax.optimizers import make_optimizer, make_schedule
from cnnjax.recipes import Recipe
from cnnjax.strategies import DIVIDED, NO_OPTIONS, Options, make_strategy, mesh_of
from cnnjax.types import Examples, LossFn, Params, Strategy
from cnnjax.updates import LoopConfig, LoopKeys


class Experiment(NamedTuple):
    """Everything that a training run is made of; nothing has run yet."""

    recipe: Recipe
    seed: int
    params: Params
    apply_fn: Callable[..., Float[Array, " classes"]]  # of one raw example
    loss_fn: LossFn
    options: Options  # of the strategy
    strategy: Strategy
    optimizer: optax.GradientTransformation
    schedule: optax.Schedule
    train: Examples
    test: Examples
    loop: LoopConfig
    keys: LoopKeys
    faults: tuple[str, ...] = ()  # switched in on purpose


def prepare(
    recipe: Recipe,
    dataset: Dataset,
    *,
    seed: int = 0,
    options: Options = NO_OPTIONS,
    faults: Sequence[str] = (),
) -> Experiment:
    """Draw the parameters and build loss, strategy, optimizer and loop of a recipe.

    The seed gives four independent keys: parameters, split, order, dropout. `options`
    name the devices, and the examples that each takes at a time. `faults` are names of
    `faults.FAULTS` to switch in.

    Raises:
        InputError: the dataset, the seed or the strategy does not fit the recipe, or a
            fault is not known, or could not matter.
    """
    expect("seed from 0 to 2**32 - 1", seed, 0 <= seed < 2**32)
    params_key, split_key, order_key, dropout_key = jax.random.split(
        jax.random.key(seed), 4
    )
    train_examples, test_examples = split_dataset(
        dataset, recipe.split, key=split_key, num_train=recipe.num_train
    )
    _check_fit(recipe, dataset)
    num_examples = len(train_examples.labels)
    batch_size = num_examples if recipe.batch_size is None else recipe.batch_size
    loop = LoopConfig(
        batch_size=batch_size, epochs=recipe.epochs, shuffle=recipe.shuffle
    )
    loop.check(num_examples)
    network = models.make_apply(recipe.model)
    scale = functools.partial(
        preprocess, config=recipe.preprocessing, dtype=recipe.model.dtype
    )
    loss_fn = make_loss_fn(network, loss=recipe.loss, preprocess=scale)
    tapped_loss_fn = make_tapped_loss_fn(
        models.make_tapped_apply(recipe.model), loss=recipe.loss, preprocess=scale
    )
    taps = models.zero_taps(recipe.model)
    options = options._replace(factors_fn=make_factors_fn(tapped_loss_fn, taps))
    schedule = make_schedule(
        recipe.optimizer, steps_per_epoch=-(-num_examples // batch_size)
    )

    def apply_fn(params: Params, example: Num[Array, "*example"]) -> Array:
        return network(params, scale(example))

    experiment = Experiment(
        recipe=recipe,
        seed=seed,
        params=models.init(params_key, recipe.model),
        apply_fn=apply_fn,
        loss_fn=loss_fn,
        options=options,
        strategy=make_strategy(recipe.strategy, loss_fn, options),
        optimizer=make_optimizer(recipe.optimizer, schedule),
        schedule=schedule,
        train=train_examples,
        test=test_examples,
        loop=loop,
        keys=LoopKeys(order_key, dropout_key if recipe.model.has_dropout else None),
    )
    return with_faults(experiment, faults)


def with_faults(experiment: Experiment, names: Sequence[str]) -> Experiment:
    """Switch known faults into an experiment that has none.

    Raises:
        InputError: a fault is not known, or could not matter there.
    """
    setting = setting_of(experiment)
    faults = [known_faults.get_fault(name) for name in names]
    for fault in faults:
        if (missing := known_faults.unmet(fault, setting)) is not None:
            raise InputError(missing)
    builder = functools.partial(make_strategy, experiment.recipe.strategy)
    builder = known_faults.corrupted(builder, faults)
    return experiment._replace(
        strategy=builder(experiment.loss_fn, experiment.options), faults=tuple(names)
    )


def setting_of(experiment: Experiment) -> known_faults.Setting:
    """Return what decides whether a fault could matter in an experiment."""
    strategy = experiment.recipe.strategy
    mesh = mesh_of(experiment.options) if strategy in DIVIDED else None
    return known_faults.Setting(
        strategy=strategy,
        num_devices=1 if mesh is None else mesh.shape[parallel.AXIS],
        batch_size=experiment.loop.batch_size,
        has_dropout=experiment.keys.dropout is not None,
    )


def _check_fit(recipe: Recipe, dataset: Dataset) -> None:
    """Raise InputError where the dataset's examples are not what the network takes."""
    expected = recipe.model.input_shape
    got = tuple(dataset.train.inputs.shape[1:])
    if got != expected:
        raise InputError(
            f"recipe {recipe.name!r} expects inputs of shape {expected}, got {got} "
            f"from dataset {dataset.name!r}; choose another recipe or dataset"
        )
    outputs = stack.layer_rows(recipe.model)[-1].output_shape
    if recipe.loss == "softmax_cross_entropy":
        if dataset.num_classes != outputs[0]:
            raise InputError(
                f"recipe {recipe.name!r} tells {outputs[0]} classes apart, but dataset "
                f"{dataset.name!r} has {dataset.num_classes or 'none'}"
            )
    elif tuple(dataset.train.labels.shape[1:]) != outputs:
        raise InputError(
            f"recipe {recipe.name!r} regresses targets of shape {outputs}, but dataset "
            f"{dataset.name!r} has {tuple(dataset.train.labels.shape[1:]) or 'classes'}"
        )
