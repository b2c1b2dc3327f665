"""An experiment: a recipe on one dataset, with one strategy and one seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import jax
import optax
from jaxtyping import Array, Float, Key

from cnnjax import models, strategies
from cnnjax.base.arguments import instance_of, whole_number
from cnnjax.base.settings import check_settings, new_key
from cnnjax.data.checks import check_dataset
from cnnjax.data.dataset import Dataset
from cnnjax.data.splits import divided
from cnnjax.experiments.fastest import Form, form_of
from cnnjax.experiments.matching import check_pixels, check_shapes
from cnnjax.experiments.objectives import objective_of, settled
from cnnjax.experiments.recipe import Recipe
from cnnjax.gradients.objective import Objective
from cnnjax.strategies import NO_OPTIONS, Options, make_strategy
from cnnjax.training.loop import LoopConfig, LoopKeys
from cnnjax.training.optimizers import make_optimizer, make_schedule
from cnnjax.training.records import MeansFn, epoch_means
from cnnjax.types import Examples, LossFn, Params, Strategy

LAST_SEED = 2**32 - 1


class Experiment(NamedTuple):
    """Everything that a training run needs; nothing has run yet."""

    recipe: Recipe
    seed: int
    params: Params
    apply_fn: Callable[..., Float[Array, " classes"]]  # of one raw example
    objective: Objective  # without faults, even if some are switched in
    test_loss_fn: LossFn  # the loss and metrics of the test
    options: Options  # as given: they fit other strategies, too
    form: Form  # the options it is trained with, and why this strategy
    strategy: Strategy
    optimizer: optax.GradientTransformation
    schedule: optax.Schedule
    train: Examples
    test: Examples
    loop: LoopConfig
    keys: LoopKeys
    means_fn: MeansFn = epoch_means  # what is reported for an epoch
    # Set by `faults.switch_in` only: the names of the faults, and a function that
    # returns the test examples after an epoch (None: always `test`).
    faults: tuple[str, ...] = ()
    test_of_epoch: Callable[[int], Examples] | None = None
    validation: Examples | None = None  # None: the test examples are looked at instead

    @property
    def loss_fn(self) -> LossFn:
        """Return the loss of one example, without faults: the objective itself."""
        return self.objective

    @property
    def examples_per_epoch(self) -> int:
        """Return the number of training examples per epoch."""
        return self.loop.visited(len(self.train.labels))


class Keys(NamedTuple):
    """The independent keys of everything that is random in a run."""

    params: Key[Array, ""]
    split: Key[Array, ""]
    order: Key[Array, ""]
    dropout: Key[Array, ""]  # and of augmentation: of what is random in an example


def keys_of(seed: int) -> Keys:
    """Return the independent keys of a seed.

    Raises:
        InputError: the seed is not from 0 to 2**32 - 1, or a JAX setting under which
            nothing here can run.
    """
    check_settings()
    seed = whole_number("seed from 0 to 2**32 - 1", seed, least=0, most=LAST_SEED)
    return Keys(*jax.random.split(new_key(seed), len(Keys._fields)))


def prepare(
    recipe: Recipe,
    dataset: Dataset,
    *,
    seed: int = 0,
    options: Options = NO_OPTIONS,
) -> Experiment:
    """Draw the parameters and build loss, strategy, optimizer and loop of a recipe.

    The arrays of the dataset are not copied: do not change them before the run is over.
    All random numbers come from `keys_of(seed)`. `options` are those of the strategy:
    the devices and the microbatch size. If the recipe names no strategy, the experiment
    has the fastest form known for the network on these devices.

    Raises:
        InputError: the dataset, the seed or the strategy does not fit the recipe.
    """
    instance_of(Recipe)("recipe (see get_recipe)", recipe)
    instance_of(Dataset)("dataset (see load_dataset)", dataset)
    keys, options = keys_of(seed), strategies.checked(options)
    dataset = check_dataset(dataset)
    train_examples, test_examples, validation = divided(
        dataset,
        recipe.split,
        recipe.validation,
        key=keys.split,
        num_train=recipe.num_train,
    )
    check_shapes(recipe, dataset)
    check_pixels(recipe, train_examples.inputs, part="training")
    check_pixels(recipe, test_examples.inputs, part="test")
    if validation is not None:
        check_pixels(recipe, validation.inputs, part="validation")
    num_examples = len(train_examples.labels)
    batch_size = num_examples if recipe.batch_size is None else recipe.batch_size
    loop = LoopConfig(
        batch_size=batch_size,
        epochs=recipe.epochs,
        shuffle=recipe.shuffle,
        part="test" if validation is None else "validation",
        patience=recipe.patience,
    )
    loop.check(num_examples)
    form = form_of(recipe, batch_size, options)
    recipe = replace(recipe, strategy=form.strategy)
    objective = objective_of(settled(recipe, train_examples))
    assert objective.apply_fn is not None
    assert objective.test_loss_fn is not None
    schedule = make_schedule(
        recipe.optimizer,
        steps_per_epoch=-(-num_examples // batch_size),
        epochs=recipe.epochs,
    )
    experiment = Experiment(
        recipe=recipe,
        seed=int(seed),
        params=models.init(keys.params, recipe.model),
        apply_fn=objective.apply_fn,
        objective=objective,
        test_loss_fn=objective.test_loss_fn,
        options=options,
        form=form,
        strategy=make_strategy(form.strategy, objective, form.options),
        optimizer=make_optimizer(recipe.optimizer, schedule),
        schedule=schedule,
        train=train_examples,
        test=test_examples,
        loop=loop,
        keys=LoopKeys(keys.order, keys.dropout if recipe.needs_keys else None),
        validation=validation,
    )
    check_division_of(experiment)
    return experiment


def with_strategy(experiment: Experiment, name: str, options: Options) -> Experiment:
    """Return the same experiment, without faults, trained by another strategy.

    Raises:
        InputError: the strategy is unknown, or the options do not fit it.
    """
    recipe = replace(experiment.recipe, strategy=name)
    form = form_of(recipe, experiment.loop.batch_size, options)
    return experiment._replace(
        recipe=replace(recipe, strategy=form.strategy),
        options=options,
        form=form,
        strategy=make_strategy(form.strategy, experiment.objective, form.options),
    )


def check_division_of(experiment: Experiment) -> None:
    """Check the options of an experiment by `strategies.check_division`."""
    form, size = experiment.form, experiment.loop.batch_size
    strategies.check_division(
        form.strategy, form.options, params=experiment.params, batch_size=size
    )
