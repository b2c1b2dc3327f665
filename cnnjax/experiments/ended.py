"""Checkpoints of seeds: where a group of them is, and what it has ended with."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import numpy as np

from cnnjax.devices import to_host
from cnnjax.experiments.experiment import Experiment
from cnnjax.experiments.groups import of_all, runs_of
from cnnjax.experiments.runs import Run
from cnnjax.experiments.seed_run import SeedRun
from cnnjax.results.checkpoints.snapshot import (
    Snapshot,
    like_tree,
    named,
    restore_records,
    take_records,
)
from cnnjax.training.divergence import Divergence
from cnnjax.training.loop import LoopKeys
from cnnjax.training.step import init_state
from cnnjax.types import Params, TrainState


def keys_of_group(group: Sequence[Experiment]) -> LoopKeys:
    """Return the keys of a group, with a leading axis of runs if there are several."""
    return of_all([experiment.keys for experiment in group])


def state_like(group: Sequence[Experiment]) -> TrainState:
    """Return the shapes and types of the train state of a group."""
    optimizer = group[0].optimizer
    init = runs_of(group).over(lambda params: init_state(params, optimizer), (0,))
    return jax.eval_shape(init, of_all([experiment.params for experiment in group]))


def snapshot_of(ended: Sequence[SeedRun]) -> Snapshot:
    """Copy the results of seeds: parameters, predictions and records."""
    trees, facts = {}, []
    for index, one in enumerate(ended):
        own = {"params": to_host(one.run.params), "labels": np.asarray(one.test_labels)}
        if one.predictions is not None:
            own["predictions"] = np.asarray(one.predictions)
        trees[f"run_{index}"] = own
        facts.append(
            {
                "seed": one.seed,
                "test": dict(one.run.test),
                "no_prediction": one.run.no_prediction,
                "finite": one.run.finite,
                "divergence": one.run.divergence and one.run.divergence._asdict(),
                "best_epoch": one.run.best_epoch,
            }
        )
    noted = take_records([one.run.records for one in ended])
    arrays = {**named(trees), **noted.arrays}
    return Snapshot(arrays, {**noted.facts, "ended": facts})


def ended_of(snapshot: Snapshot, like: Params) -> list[SeedRun]:
    """Return the results of seeds; `like` are parameters of the same network.

    Raises:
        InputError: they are those of another network.
    """
    arrays = snapshot.arrays
    ended = []
    for index, (fact, records) in enumerate(
        zip(snapshot.facts["ended"], restore_records(snapshot), strict=True)
    ):
        run = Run(
            like_tree(like, arrays, f"run_{index}/params"),
            list(records),
            fact["test"],
            fact["no_prediction"],
            fact["finite"],
            fact["divergence"] and Divergence(**fact["divergence"]),
            fact.get("best_epoch"),
        )
        own = f"run_{index}"
        labels, predicted = arrays[f"{own}/labels"], arrays.get(f"{own}/predictions")
        ended.append(SeedRun(fact["seed"], run, labels, predicted))
    return ended
