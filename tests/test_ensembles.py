"""Many seeds: equal to single runs, whatever the group; what they have in common."""

from __future__ import annotations

import functools
import itertools
import json
import signal
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from batches import TINY, random_dataset
from forked import Forks

from cnnjax.base.errors import InputError
from cnnjax.data.splits import HoldOut
from cnnjax.experiments.ensembles import SeedRun, run_seeds
from cnnjax.experiments.experiment import prepare
from cnnjax.experiments.groups import compile_group, of_all
from cnnjax.experiments.overrides import override
from cnnjax.experiments.runs import Run, run
from cnnjax.faults import switch_in
from cnnjax.laws.comparison import largest_error
from cnnjax.statistics import mean_interval
from cnnjax.telling.seeds import interval_lines
from cnnjax.training.loop import take

pytestmark = pytest.mark.xdist_group("ensembles")
SCRIPTS = Path(__file__).parent.parent / "scripts"
SEEDS = (3, 4, 5)
BASE = override(TINY, batch_size=16, epochs=2)
RECIPES = {
    "official": BASE,
    "held out": override(BASE, split=HoldOut(0.3)),
    "average": override(BASE, average_decay=0.9),
    "no schedule": override(
        BASE, algorithm="sgd", schedule="constant", schedule_free=0.9
    ),
}
DATASET = random_dataset(TINY, train=50, test=23)


def prepare_seed(kind: str, seed: int):
    return prepare(RECIPES[kind], DATASET, seed=seed)


@functools.cache
def singles(kind: str) -> list[Run]:
    return [run(prepare_seed(kind, seed)) for seed in SEEDS]


def group_cases() -> list:
    """List (kind, group size): the default, and two, which leave one seed over."""
    quick = tuple((kind, 2) for kind in RECIPES)
    return [
        pytest.param(*case, marks=[] if case in quick else [pytest.mark.slow])
        for case in itertools.product(RECIPES, (1, 2, 3))
    ]


@pytest.mark.parametrize(("kind", "group_size"), group_cases())
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
        updates = compile_group(experiments)
        loop = updates.start(of_all([one.params for one in experiments]))
        keys = of_all([one.keys for one in experiments])
        feed, order = updates.feed(group[0].train, keys), updates.order_of(keys, 0)
        one = updates.run(loop, feed, order, np.int32(0), np.int32(1))
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


def test_a_fault_that_a_group_cannot_have_is_named():
    """The strategy could: the message must not send the reader to another."""
    faults = ["reversed_gradient", "batch_on_the_host"]
    runs = run_seeds(
        lambda seed: switch_in(
            prepare(RECIPES["official"], DATASET, seed=seed), faults
        ),
        SEEDS,
        group_size=2,
    )
    message = "'batch_on_the_host' each update is run from Python, one seed at a time"
    with pytest.raises(InputError, match=message):
        next(runs)


def test_the_script_trains_seeds_and_two_such_runs_can_be_compared(tmp_path, forks):
    def script(name, *args):
        done = forks.run(SCRIPTS / name, *args, cwd=tmp_path)
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


def regressions(
    forks: Forks, folder: Path, *flags: str
) -> tuple[str, dict, list[dict]]:
    """Train six seeds of a regression: what is printed, result.json, seeds.jsonl."""
    rows = np.random.default_rng(0).integers(1, 100, (60, 6))
    names = "price,area,bedrooms,bathrooms,stories,parking"
    np.savetxt(
        folder / "Housing.csv", rows, "%d", delimiter=",", header=names, comments=""
    )
    recipe = ("--recipe=tanh_mlp_housing_narrow", "--data_dir=.", "--num_seeds=6")
    flags = (*recipe, *flags, "--workdir=run")
    done = forks.run(SCRIPTS / "train.py", *flags, cwd=folder)
    assert done.stderr == ""
    result = json.loads((folder / "run" / "result.json").read_text())
    lines = (folder / "run" / "seeds.jsonl").read_text().splitlines()
    return done.stdout, result, [json.loads(line) for line in lines]


def test_seeds_that_are_not_finite_are_told_and_left_out(tmp_path, forks):
    """The cheapest house is 0 in our units: to divide by it is no accuracy."""
    out, result, rows = regressions(
        forks, tmp_path, "--fault=reflected_ratio_accuracy", "--epochs=1"
    )
    finite = [row["test_accuracy"] for row in rows if row["test_accuracy"] is not None]
    left_out = [row["seed"] for row in rows if row["test_accuracy"] is None]
    assert finite
    assert left_out
    assert result["seeds_not_finite"] == left_out
    assert result["test_accuracy"] == pytest.approx(np.mean(finite))
    assert result["test_accuracy_over_seeds"]["n"] == len(finite)
    told = ", ".join(f"seed {seed}" for seed in left_out)
    assert f"left out because their test accuracy is not finite: {told}\n" in out
    assert f"test accuracy, {len(finite)} seeds: mean " in out


def test_where_no_seed_is_finite_the_run_still_ends(tmp_path, forks):
    diverge = ("--algorithm=sgd", "--schedule=constant", "--learning_rate=1e30")
    out, result, _ = regressions(forks, tmp_path, *diverge, "--epochs=2")
    assert result["test_loss"] is result["test_loss_over_seeds"] is None
    assert result["seeds_not_finite"] == list(range(6))
    assert out.endswith("test loss: no seeds left to average\n")


def test_without_such_seeds_nothing_is_said_of_them():
    (line,) = interval_lines("loss", mean_interval([0.5]))
    assert line == "test loss, 1 seed: mean 0.5000"


def test_seeds_that_ended_outlive_an_interrupt(tmp_path):
    flags = ("--num_seeds=200", "--epochs=1", "--num_train=128")
    # Tests in the background of a shell ignore it, and what they start would, too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    running = subprocess.Popen(
        [sys.executable, SCRIPTS / "train.py", *flags, "--workdir=run"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not running.stdout.readline().startswith("seed   1 "):
        assert running.poll() is None, running.stderr.read()
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=300)
    assert running.returncode == 130
    kept = {path.name for path in (tmp_path / "run" / "checkpoints").iterdir()}
    assert {"0000000-ended", "0000001-ended"} <= kept
    assert not (tmp_path / "run" / "result.json").exists()
