"""Groups of experiments that are trained as one program: of shapes that agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from cnnjax.base.errors import InputError, expect
from cnnjax.data.splits import HoldOut
from cnnjax.experiments.experiment import Experiment
from cnnjax.experiments.recipe import Recipe
from cnnjax.strategies import STRATEGIES
from cnnjax.training.loop import ONE_RUN, Runs
from cnnjax.training.own_numbers import make_optimizer_of_runs, without_numbers
from cnnjax.training.updates import Updates, compile_updates
from cnnjax.types import Examples


def check_group(experiment: Experiment, size: int) -> None:
    """Refuse a group of several runs if the strategy cannot be mapped over runs.

    Raises:
        InputError: examples are streamed; each run may end early; the strategy divides
            a batch over devices or is not compiled; or a fault makes each update run
            from Python.
    """
    if size == 1:
        return
    own = experiment.recipe.class_weights  # counted from each seed's own examples
    expect("one seed at a time with class_weights", own, own != "balanced")
    for flag in ("stream", "patience"):
        alone = getattr(experiment.loop, flag) is None
        expect(f"one seed at a time, --group_size=1, with --{flag}", size, alone)
    row = STRATEGIES[experiment.recipe.strategy]
    if row.divides or row.device_map.run != "loop":
        raise InputError(
            f"strategy {experiment.recipe.strategy!r} trains one seed at a time; use "
            "--group_size=1, or jit"
        )
    if experiment.strategy.run != "loop":
        raise InputError(
            f"with {', '.join(map(repr, experiment.faults))} each update is run from "
            "Python, one seed at a time; use --group_size=1"
        )


def compile_group(group: Sequence[Experiment]) -> Updates:
    """Compile the updates of one experiment, or of several at once.

    Raises:
        InputError: a group that `check_group` refuses.
    """
    one = group[0]
    check_group(one, len(group))
    return compile_updates(
        of_all([experiment.params for experiment in group]),
        examples_of(group),
        strategy=one.strategy,
        optimizer=one.optimizer,
        config=one.loop,
        keys=of_all([experiment.keys for experiment in group]),
        runs=runs_of(group),
    )


def runs_of(group: Sequence[Experiment]) -> Runs:
    """Return the number of runs in a group, and whether they share their examples."""
    if len(group) == 1:
        return ONE_RUN
    one = group[0].recipe  # what is held out differs between seeds
    holds_out = isinstance(one.split, HoldOut) or one.validation > 0.0
    differ = holds_out and len({experiment.seed for experiment in group}) > 1
    return Runs(count=len(group), examples_axis=0 if differ else None)


def program_of(recipe: Recipe) -> Recipe:
    """Return what recipes have in common that one program can train at once.

    They may differ in numbers of their optimizer: see `training.own_numbers`. A group
    is trained in float32.
    """
    if recipe.model.param_dtype != "float32" or recipe.optimizer.schedule_free:
        return recipe
    return replace(recipe, optimizer=without_numbers(recipe.optimizer))


def as_one_program(group: Sequence[Experiment]) -> list[Experiment]:
    """Return experiments of one seed and one `program_of` as a group.

    Each keeps its recipe and its schedule; they share an optimizer, which has the
    numbers of all.
    """
    if len(group) == 1:
        return list(group)
    configs = [experiment.recipe.optimizer for experiment in group]
    schedules = [experiment.schedule for experiment in group]
    optimizer = make_optimizer_of_runs(configs, schedules)
    return [experiment._replace(optimizer=optimizer) for experiment in group]


def of_all(trees: Sequence[PyTree]) -> PyTree:
    """Stack trees of arrays along a new first axis; return a single tree unchanged."""
    if len(trees) == 1:
        return trees[0]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def examples_of(group: Sequence[Experiment]) -> Examples:
    """Return the training examples of a group: shared, or stacked, one set per run."""
    if runs_of(group).examples_axis is None:
        return Examples(*group[0].train)
    own = zip(*(experiment.train for experiment in group), strict=True)
    return Examples(*map(np.stack, own))
