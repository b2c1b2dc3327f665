"""One program for runs with other numbers: each is the run that is trained alone."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from batches import TINY, random_dataset

from cnnjax.base.clock import Clock
from cnnjax.experiments.experiment import Experiment, prepare
from cnnjax.experiments.groups import (
    as_one_program,
    compile_group,
    of_all,
    program_of,
    runs_of,
)
from cnnjax.experiments.overrides import override
from cnnjax.experiments.runs import run, run_group
from cnnjax.laws.comparison import largest_error
from cnnjax.training.loop import take

pytestmark = pytest.mark.xdist_group("own_numbers")
DATASET = random_dataset(TINY, train=50, test=23)
BASE = override(TINY, batch_size=16, epochs=2, l2=1e-3)
OWN = (
    {"learning_rate": 0.01, "l2": 1e-3},
    {"learning_rate": 0.03, "l2": 3e-2},
    {"learning_rate": 0.02, "schedule": "cosine"},
)
ALGORITHMS = {
    "plain": {"algorithm": "sgd", "momentum": 0.0},
    "nesterov": {"algorithm": "sgd", "momentum": 0.9, "nesterov": True},
    "adamw": {"algorithm": "adamw", "eps": 1e-2},  # far from a division by nearly 0
    "muon": {"algorithm": "muon", "weight_decay": 0.1},
    "average": {"algorithm": "sgd", "average_decay": 0.9},
    "clipped": {"algorithm": "sgd", "max_norm": 0.1},
}


def recipes(kind: str) -> list:
    """Return three recipes that one program can train."""
    base = override(BASE, schedule="constant", **ALGORITHMS[kind])
    own = [dict(changes) for changes in OWN]
    if kind in ("adamw", "muon"):
        own[0]["weight_decay"] = 0.5
    return [override(base, **changes) for changes in own]


def grouped(kind: str) -> list[Experiment]:
    return as_one_program(
        [prepare(recipe, DATASET, seed=3) for recipe in recipes(kind)]
    )


@pytest.mark.parametrize("kind", ALGORITHMS)
def test_each_run_of_a_program_is_that_trained_alone(kind):
    """Mistake: all runs have the first one's rate, schedule, L2 or decay."""
    group = grouped(kind)
    ended = run_group(group, compile_group(group), clock=Clock())
    for recipe, mine in zip(recipes(kind), ended, strict=True):
        alone = run(prepare(recipe, DATASET, seed=3))
        assert largest_error(mine.params, alone.params) <= 1e-5
        assert mine.test["accuracy"] == alone.test["accuracy"]
        for record, own in zip(mine.records, alone.records, strict=True):
            assert record.learning_rate == own.learning_rate
            np.testing.assert_allclose(
                record.steps.means["loss"], own.steps.means["loss"], rtol=1e-5
            )
    first, second, third = (one.params for one in ended)
    assert min(largest_error(first, second), largest_error(second, third)) > 1e-3


def first_update(group: list[Experiment]):
    updates = compile_group(group)
    loop = updates.start(of_all([one.params for one in group]))
    keys = of_all([one.keys for one in group])
    feed, order = updates.feed(group[0].train, keys), updates.order_of(keys, 0)
    return updates.run(loop, feed, order, np.int32(0), np.int32(1)).state


def test_the_gradients_and_the_state_are_those_of_a_run_alone():
    """After one update momentum is the gradient, with the run's own L2 in it."""
    state = first_update(grouped("nesterov"))
    for index, recipe in enumerate(recipes("nesterov")):
        alone = first_update([prepare(recipe, DATASET, seed=3)])
        mine = take(state, index)
        same = jax.tree.structure(mine) == jax.tree.structure(alone)
        assert same, "a checkpoint of one could not be read as the other's"
        assert any(
            np.any(np.asarray(leaf)) for leaf in jax.tree.leaves(alone.opt_state)
        )
        assert largest_error(mine.opt_state, alone.opt_state) <= 1e-6


def test_runs_of_one_seed_share_their_examples():
    """A sweep always holds examples out; those of one seed are not stacked."""
    held = override(BASE, validation=0.2)
    own = [override(held, learning_rate=rate) for rate in (0.01, 0.02)]
    alike = [prepare(recipe, DATASET, seed=3) for recipe in own]
    assert runs_of(alike).examples_axis is None
    assert runs_of([alike[0], prepare(held, DATASET, seed=4)]).examples_axis == 0


@pytest.mark.parametrize(
    ("changes", "agree"),
    [
        ({"learning_rate": 0.5}, True),
        ({"schedule": "cosine"}, True),
        ({"l2": 0.1}, True),
        ({"l2": 0.0}, False),
        ({"batch_size": 8}, False),
        ({"epochs": 3}, False),
        ({"momentum": 0.5}, False),
        ({"max_norm": 1.0}, False),
        ({"average_decay": 0.9}, False),
        ({"algorithm": "adam"}, False),
        ({"shuffle": "once"}, False),
        ({"precision": "bfloat16"}, False),
    ],
)
def test_what_one_program_can_train(changes, agree):
    base = override(BASE, algorithm="sgd", momentum=0.9)
    other = override(base, **changes)
    assert (program_of(other) == program_of(base)) == agree


@pytest.mark.parametrize(
    "changes", [{"precision": "float64"}, {"schedule_free": 0.9, "momentum": 0.0}]
)
def test_what_is_trained_alone_agrees_with_nothing_else(changes):
    base = override(BASE, algorithm="sgd", schedule="constant", **changes)
    other = override(base, learning_rate=0.5)
    assert program_of(base) != program_of(other)
    assert program_of(base) == base


def test_decays_are_alike_but_for_none():
    base = override(BASE, algorithm="adamw")
    none, some, more = (
        program_of(override(base, weight_decay=decay)) for decay in (0.0, 0.1, 0.2)
    )
    assert some == more != none
