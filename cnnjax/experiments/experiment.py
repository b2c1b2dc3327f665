"""A recipe made to run: on one dataset, under one strategy, from one seed."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import optax
from jaxtyping import Array, Float, Key, Num

from cnnjax import devices, models, strategies
from cnnjax import faults as known_faults
from cnnjax.base.arguments import instance_of, whole_number
from cnnjax.base.errors import InputError
from cnnjax.base.settings import check_settings, new_key
from cnnjax.data.checks import check_dataset
from cnnjax.data.dataset import Dataset
from cnnjax.data.preprocessing import preprocess
from cnnjax.data.splits import HoldOut, split_dataset
from cnnjax.experiments.matching import check_pixels, check_shapes
from cnnjax.experiments.recipes import Recipe
from cnnjax.faults import Fault
from cnnjax.gradients.factors import make_factors_fn
from cnnjax.gradients.objective import Objective
from cnnjax.models.losses import LOSSES, make_loss_fn, make_tapped_loss_fn
from cnnjax.strategies import NO_OPTIONS, STRATEGIES, Options, make_strategy, mesh_of
from cnnjax.training.optimizers import make_optimizer, make_schedule
from cnnjax.training.records import MeansFn, epoch_means
from cnnjax.training.updates import LoopConfig, LoopKeys
from cnnjax.types import Examples, LossFn, Params, Strategy

LAST_SEED = 2**32 - 1


class Experiment(NamedTuple):
    """Everything that a training run is made of; nothing has run yet."""

    recipe: Recipe
    seed: int
    params: Params
    apply_fn: Callable[..., Float[Array, " classes"]]  # of one raw example
    objective: Objective  # the right one, whatever faults are switched in
    test_loss_fn: LossFn  # of an evaluation: faults of the loss are not in it
    options: Options  # of the strategy
    strategy: Strategy
    optimizer: optax.GradientTransformation
    schedule: optax.Schedule
    train: Examples
    test: Examples
    loop: LoopConfig
    keys: LoopKeys
    # test_of_epoch(epochs done): what it is tested on then; None: always on `test`.
    test_of_epoch: Callable[[int], Examples] | None = None
    means_fn: MeansFn = epoch_means
    faults: tuple[str, ...] = ()  # switched in on purpose

    @property
    def loss_fn(self) -> LossFn:
        """Return the loss of one example, the right one: the objective, called."""
        return self.objective

    @property
    def examples_per_epoch(self) -> int:
        """Return how many training examples an epoch sees."""
        return self.loop.visited(len(self.train.labels))


class Keys(NamedTuple):
    """What is random in a run, each from a key of its own."""

    params: Key[Array, ""]
    split: Key[Array, ""]
    order: Key[Array, ""]
    dropout: Key[Array, ""]


def keys_of(seed: int) -> Keys:
    """Return the independent keys that a seed gives.

    Raises:
        InputError: the seed is not from 0 to 2**32 - 1, or a JAX setting is in the way.
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
    faults: Sequence[str] = (),
) -> Experiment:
    """Draw the parameters and build loss, strategy, optimizer and loop of a recipe.

    The dataset's arrays are not copied: leave them as they are until all has run. All
    that is random comes from `keys_of(seed)`. `options` name the devices, and how
    many examples each takes at a time; `faults` are of `faults.FAULTS`, to switch in.

    Raises:
        InputError: the dataset, the seed or the strategy does not fit the recipe, or a
            fault is not known, could not matter, or would be lost beside another.
    """
    instance_of(Recipe)("recipe (see get_recipe)", recipe)
    instance_of(Dataset)("dataset (see load_dataset)", dataset)
    keys, options = keys_of(seed), strategies.checked(options)
    dataset = check_dataset(dataset)
    train_examples, test_examples = split_dataset(
        dataset, recipe.split, key=keys.split, num_train=recipe.num_train
    )
    check_shapes(recipe, dataset)
    check_pixels(recipe, train_examples.inputs, part="training")
    check_pixels(recipe, test_examples.inputs, part="test")
    num_examples = len(train_examples.labels)
    batch_size = num_examples if recipe.batch_size is None else recipe.batch_size
    loop = LoopConfig(
        batch_size=batch_size, epochs=recipe.epochs, shuffle=recipe.shuffle
    )
    loop.check(num_examples)
    objective = make_objective(recipe)
    assert objective.apply_fn is not None
    assert objective.test_loss_fn is not None
    schedule = make_schedule(
        recipe.optimizer, steps_per_epoch=-(-num_examples // batch_size)
    )
    experiment = Experiment(
        recipe=recipe,
        seed=int(seed),
        params=models.init(keys.params, recipe.model),
        apply_fn=objective.apply_fn,
        objective=objective,
        test_loss_fn=objective.test_loss_fn,
        options=options,
        strategy=make_strategy(recipe.strategy, objective, options),
        optimizer=make_optimizer(recipe.optimizer, schedule),
        schedule=schedule,
        train=train_examples,
        test=test_examples,
        loop=loop,
        keys=LoopKeys(keys.order, keys.dropout if recipe.model.has_dropout else None),
    )
    _check_division(experiment)
    return with_faults(experiment, faults) if faults else experiment


def make_objective(recipe: Recipe, faults: Sequence[Fault] = ()) -> Objective:
    """Build the network and the losses of a recipe, with faults of them switched in.

    A fault of the network is in all of them; one of the loss, in training alone; one of
    what is measured, in training and test.
    """
    around = known_faults.corrupted("layer", models.as_it_is, faults)
    network = models.make_apply(recipe.model, around=around)
    tapped_network = models.make_tapped_apply(recipe.model, around=around)
    scale = functools.partial(
        preprocess, config=recipe.preprocessing, dtype=recipe.model.dtype
    )
    loss = LOSSES[recipe.loss]
    measured = known_faults.corrupted("metric", loss.of_output, faults)
    trained = known_faults.corrupted("loss", measured, faults)

    def used(params: Params) -> Params:
        return known_faults.corrupted("parameters", params, faults)

    def applied(params: Params, example: Array, **key: Any) -> Array:
        return network(used(params), example, **key)

    def tapped(params: Params, taps: dict, example: Array, **key: Any) -> Any:
        return tapped_network(used(params), taps, example, **key)

    def apply_fn(params: Params, example: Num[Array, "*example"]) -> Array:
        return applied(params, scale(example))

    return Objective(
        loss_fn=make_loss_fn(applied, loss_of_output=trained, preprocess=scale),
        factors_fn=make_factors_fn(
            make_tapped_loss_fn(tapped, loss_of_output=trained, preprocess=scale),
            models.zero_taps(recipe.model),
        ),
        test_loss_fn=make_loss_fn(applied, loss_of_output=measured, preprocess=scale),
        apply_fn=apply_fn,
        predict=loss.predict,
    )


def with_faults(experiment: Experiment, names: Sequence[str]) -> Experiment:
    """Switch known faults into an experiment that has none.

    Raises:
        InputError: a fault is not known, could not matter there, or would be lost
            beside another.
    """
    _check_division(experiment)
    setting = setting_of(experiment)
    faults = [known_faults.get_fault(name) for name in names]
    for fault in faults:
        if (missing := known_faults.unmet(fault, setting)) is not None:
            raise InputError(missing)
    if (lost := known_faults.clash(faults)) is not None:
        raise InputError(lost)
    wrong = make_objective(experiment.recipe, faults)
    name = experiment.recipe.strategy
    row = known_faults.corrupted("device map", STRATEGIES[name], faults)
    build = known_faults.corrupted("strategy", row, faults)
    feed = known_faults.Feed(
        experiment.train, experiment.test, experiment.loop, experiment.keys
    )
    feed = known_faults.corrupted("data", feed, faults)
    return experiment._replace(
        apply_fn=wrong.apply_fn,
        test_loss_fn=wrong.test_loss_fn,
        strategy=build(wrong, experiment.options),
        optimizer=known_faults.corrupted("optimizer", experiment.optimizer, faults),
        **feed._asdict(),
        means_fn=known_faults.corrupted("report", experiment.means_fn, faults),
        faults=tuple(names),
    )


def setting_of(experiment: Experiment) -> known_faults.Setting:
    """Return what decides whether a fault could matter in an experiment."""
    recipe = experiment.recipe
    divides = STRATEGIES[recipe.strategy].divides
    mesh = mesh_of(experiment.options) if divides else None
    return known_faults.Setting(
        strategy=recipe.strategy,
        num_devices=1 if mesh is None else mesh.shape[devices.AXIS],
        model=recipe.model,
        loss=recipe.loss,
        loop=experiment.loop,
        num_train=len(experiment.train.labels),
        num_test=len(experiment.test.labels),
        holds_out=isinstance(recipe.split, HoldOut),
        microbatch_size=experiment.options.microbatch_size,
    )


def _check_division(experiment: Experiment) -> None:
    name, size = experiment.recipe.strategy, experiment.loop.batch_size
    strategies.check_division(
        name, experiment.options, params=experiment.params, batch_size=size
    )
