"""Many seeds: equal to single runs, whatever the group; what they have in common."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from batches import TINY, random_dataset

from cnnjax.comparison import largest_error
from cnnjax.data.splits import HoldOut
from cnnjax.ensembles import SeedRun, compile_group, run_seeds, stack, take
from cnnjax.errors import InputError
from cnnjax.experiments import prepare
from cnnjax.overrides import override
from cnnjax.runs import Run, run

SCRIPTS = Path(__file__).parent.parent / "scripts"
SEEDS = (3, 4, 5)
RECIPES = {
    "official": override(TINY, batch_size=16, epochs=2),
    "held out": override(TINY, batch_size=16, epochs=2, split=HoldOut(0.3)),
}
DATASET = random_dataset(TINY, train=50, test=23)


def prepare_seed(kind: str, seed: int):
    return prepare(RECIPES[kind], DATASET, seed=seed)


@functools.cache
def singles(kind: str) -> list[Run]:
    return [run(prepare_seed(kind, seed)) for seed in SEEDS]


@pytest.mark.parametrize("group_size", [1, 2, 3])
@pytest.mark.parametrize("kind", RECIPES)
def test_seeds_at_once_are_single_runs(kind, group_size):
    """Group of 2: one program for two seeds, and another for the one left over."""
    prepare_fn = functools.partial(prepare_seed, kind)
    together = list(run_seeds(prepare_fn, SEEDS, group_size=group_size))
    assert [seed_run.seed for seed_run in together] == list(SEEDS)
    for seed_run, alone in zip(together, singles(kind), strict=True):
        assert largest_error(seed_run.run.params, alone.params) <= 1e-4
        for mine, own in zip(seed_run.run.records, alone.records, strict=True):
            np.testing.assert_allclose(
                mine.steps.means["loss"], own.steps.means["loss"], atol=1e-5
            )
            assert mine.to_json().keys() == own.to_json().keys()
            assert mine.test["accuracy"] == own.test["accuracy"]
            assert mine.learning_rate == own.learning_rate
        assert seed_run.run.test["examples"] == alone.test["examples"]
    assert largest_error(together[1].run.params, together[0].run.params) > 0.1


def test_a_group_of_one_is_a_single_run_to_the_bit():
    prepare_fn = functools.partial(prepare_seed, "official")
    for seed_run, alone in zip(
        run_seeds(prepare_fn, SEEDS, group_size=1), singles("official"), strict=True
    ):
        assert largest_error(seed_run.run.params, alone.params) == 0.0


def test_the_gradients_of_a_group_are_those_of_its_runs():
    """After one update, momentum is the gradient."""
    group = [prepare_seed("official", seed) for seed in SEEDS]
    momenta = []
    for experiments in (group, *([experiment] for experiment in group)):
        updates, many = compile_group(experiments), len(experiments) > 1
        params = [experiment.params for experiment in experiments]
        keys = [experiment.keys for experiment in experiments]
        keys = stack(keys) if many else keys[0]
        loop = updates.start(stack(params) if many else params[0], keys)
        order = updates.order_of(keys, np.int32(0))
        one = updates.run(loop, group[0].train, order, np.int32(0), np.int32(1))
        momenta.append(one.state.opt_state)
    for index, alone in enumerate(momenta[1:]):
        leaves = take(momenta[0], index)
        assert any(np.any(np.asarray(leaf)) for leaf in jax.tree.leaves(alone))
        assert largest_error(leaves, alone) <= 1e-5


def test_what_is_never_predicted_is_dead():
    labels = np.array([0, 1, 2, 2])
    nothing = Run({}, [], {})
    alive = SeedRun(0, nothing, labels, np.array([2, 1, 0, 0]))
    assert alive.dead_classes == []
    dead = SeedRun(0, nothing, labels, np.array([1, 1, 3, 1]))
    assert dead.dead_classes == [0, 2]
    assert SeedRun(0, nothing, labels, None).dead_classes == []


@pytest.mark.parametrize(
    ("changes", "group_size", "message"),
    [
        ({}, 0, "group_size of at least 1, got 0"),
        ({"strategy": "eager"}, 2, "'eager' trains one seed at a time; use --group"),
        ({"strategy": "shard_map"}, 2, "'shard_map' trains one seed at a time"),
    ],
)
def test_groups_that_cannot_be_are_refused(changes, group_size, message):
    recipe = override(RECIPES["official"], **changes)
    runs = run_seeds(
        lambda seed: prepare(recipe, DATASET, seed=seed), SEEDS, group_size=group_size
    )
    with pytest.raises(InputError, match=message):
        next(runs)


def test_the_script_trains_seeds_and_two_such_runs_can_be_compared(tmp_path):
    def script(name, *args):
        command = [sys.executable, SCRIPTS / name, *args]
        done = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    flags = ("--num_seeds=3", "--epochs=2", "--num_train=320")
    out = script("train.py", *flags, "--seed=1", "--workdir=a")
    assert "seeds 1 to 3" in out
    assert [s for s in range(9) if f"\nseed   {s}  test accuracy " in out] == [1, 2, 3]
    lines = (tmp_path / "a" / "seeds.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    result = json.loads((tmp_path / "a" / "result.json").read_text())
    accuracies = [row["test_accuracy"] for row in rows]
    assert [row["seed"] for row in rows] == [1, 2, 3]
    assert result["test_accuracy"] == pytest.approx(np.mean(accuracies))
    over_seeds = result["test_accuracy_over_seeds"]
    assert over_seeds["std"] == pytest.approx(np.std(accuracies, ddof=1))
    assert f"test accuracy, 3 seeds: mean {100 * np.mean(accuracies):.2f} %" in out
    predicted = np.genfromtxt(
        tmp_path / "a" / "predictions.csv", delimiter=",", dtype=int, skip_header=1
    )
    for row in rows:
        own = predicted[predicted[:, 0] == row["seed"]]
        assert len(own) == 360
        assert np.mean(own[:, 2] == own[:, 3]) == pytest.approx(row["test_accuracy"])
    script("train.py", *flags, "--group_size=3", "--learning_rate=2e-5", "--workdir=b")
    compared = script("compare_runs.py", "a", "b")
    assert "different" in compared
    assert "not shown to differ" not in compared
