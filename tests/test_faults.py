"""The catalogue of faults: its table in the docs, what it refuses, that it trains."""

from __future__ import annotations

import re
from pathlib import Path

import jax
import pytest
from batches import TINY, experiment_of, make_batch, random_dataset
from test_strategy_laws import OF_STRATEGIES, options_of, row_of

from cnnjax.comparison import largest_error
from cnnjax.errors import InputError
from cnnjax.experiments import prepare, with_faults
from cnnjax.faults import (
    FAULTS,
    Setting,
    of_batches,
    of_devices,
    of_gradients,
    of_rules,
    of_steps,
    unmet,
)
from cnnjax.overrides import override
from cnnjax.runs import run
from cnnjax.strategies import DIVIDED

DOCS = Path(__file__).parent.parent / "docs" / "faults.md"


def test_the_docs_list_the_catalogue():
    rows = re.findall(
        r"^\| `(\w+)` \| (.*) \| (.*) \| (.*) \|$", DOCS.read_text(), re.M
    )
    faults = list(FAULTS.values())
    assert [row[:3] for row in rows] == [(f.name, f.summary, f.seen) for f in faults]
    for (*_, needs), fault in zip(rows, faults, strict=True):
        assert ("devices" in needs) == (fault.needs.num_devices > 1)
        assert ("dropout" in needs) == fault.needs.dropout
        assert ("examples" in needs) == (fault.needs.batch_size > 1)


def test_no_two_faults_share_a_name():
    modules = (of_batches, of_gradients, of_rules, of_devices, of_steps)
    assert len(FAULTS) == sum(len(module.FAULTS) for module in modules)


@pytest.mark.parametrize(
    ("fault", "changes", "message"),
    [
        (
            "missing_psum",
            {"strategy": "jit", "num_devices": 1},
            "fault 'missing_psum' needs a strategy that divides over at least 2 "
            "devices (shard_map, shard_map_vmap): --strategy=shard_map --num_devices=2,"
            " got strategy 'jit' on 1 device",
        ),
        ("missing_psum", {"num_devices": 1}, "got strategy 'shard_map' on 1 device"),
        ("missing_psum", {"strategy": "pmap"}, "got strategy 'pmap' on 2 devices"),
        ("batch_on_the_host", {"strategy": "eager"}, "needs a strategy that is comp"),
        (
            "weights_ignored",
            {"batch_size": 1},
            "at least 2 examples: --batch_size=2, g",
        ),
        ("keys_by_position", {"has_dropout": False}, "needs a recipe with dropout: --"),
    ],
)
def test_a_fault_that_could_not_matter_is_told(fault, changes, message):
    setting = Setting("shard_map", 2, 8, has_dropout=True)
    assert unmet(FAULTS[fault], setting) is None
    assert message in unmet(FAULTS[fault], setting._replace(**changes))


def test_an_experiment_refuses_what_could_not_matter():
    with pytest.raises(InputError, match="needs a strategy that divides over"):
        prepare(TINY, random_dataset(TINY), faults=["missing_psum"])
    with pytest.raises(InputError, match="unknown fault 'missing_sum'; did you mean"):
        prepare(TINY, random_dataset(TINY), faults=["missing_sum"])


@pytest.mark.slow
@pytest.mark.parametrize("name", OF_STRATEGIES)
def test_every_fault_trains(name):
    row = row_of(name)
    recipe = override(TINY, batch_size=24, strategy=row)
    options = options_of(4 if row in DIVIDED else None)
    experiment = prepare(recipe, random_dataset(recipe), options=options, faults=[name])
    assert experiment.faults == (name,)
    assert run(experiment).test["examples"] == 64


def test_faults_can_be_combined():
    experiment = experiment_of(TINY)
    batch = make_batch(experiment, 8)
    _, expected = experiment.strategy.value_and_grad(experiment.params, batch)
    names = ["reversed_gradient", "gradients_in_half_precision"]
    both = with_faults(experiment, names).strategy
    _, grads = both.value_and_grad(experiment.params, batch)
    negated = jax.tree.map(lambda g: -g.astype("bfloat16"), expected)
    assert largest_error(grads, negated) == 0.0
