"""Early stopping: by the held-out loss alone, the best parameters kept, resumed."""

from __future__ import annotations

import json
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from batches import TINY, random_dataset

from cnnjax.base.errors import InputError
from cnnjax.data.splits import HoldOut, divided
from cnnjax.devices import to_host
from cnnjax.experiments import groups
from cnnjax.experiments.ended import state_like
from cnnjax.experiments.experiment import keys_of, prepare
from cnnjax.experiments.judging import make_test
from cnnjax.experiments.overrides import override
from cnnjax.experiments.runs import run
from cnnjax.results.checkpoints.snapshot import named, restore, take
from cnnjax.training.stopping import Best, better, is_over
from cnnjax.types import Examples

TRAIN = Path(__file__).parent.parent / "scripts" / "train.py"
DATASET = random_dataset(TINY, train=60, test=23)
SETTINGS = {"batch_size": 8, "epochs": 12, "learning_rate": 1.0, "strategy": "jit"}
PARAMS = {"a": jnp.ones(2)}


def experiment_of(**changes):
    held = {"validation": 0.25, "patience": 2, **SETTINGS, **changes}
    return prepare(override(TINY, **held), DATASET)


# -- the rule ------------------------------------------------------------------------


def rule(losses, patience):
    """Return (epochs made, best epoch) of a run with these held-out losses."""
    best, epoch = None, 0
    for epoch, loss in enumerate(losses, start=1):
        best = better(best, PARAMS, epoch, {"loss": float(loss)})
        if is_over(best, epoch, patience):
            break
    return epoch, best and best.epoch


@pytest.mark.parametrize(
    ("losses", "patience", "ended"),
    [
        ([5, 4, 3, 2, 1], 1, (5, 5)),
        ([1, 2, 3, 4, 5], 1, (2, 1)),
        ([1, 2, 3, 4, 5], 3, (4, 1)),
        ([3, 2, 2, 2, 1], 2, (4, 2)),  # as low is no lower
        ([3, 4, 2, 4, 1], 2, (5, 5)),
        ([math.nan, math.nan, 1], 2, (2, None)),
        ([math.nan, 1, math.nan, 2, 0], 2, (4, 2)),
        ([math.inf, math.inf], 9, (2, None)),
        ([1, 2, 3], None, (3, 1)),
    ],
)
def test_the_rule(losses, patience, ended):
    assert rule(losses, patience) == ended


def test_the_best_parameters_are_a_copy():
    """Mistake: the next update deletes the array that was kept."""
    params = {"a": jnp.ones(2)}
    best = better(None, params, 1, {"loss": 1.0})
    params["a"].delete()
    np.testing.assert_array_equal(best.params["a"], [1, 1])
    assert better(best, {"a": jnp.zeros(2)}, 2, None) is best


# -- training ------------------------------------------------------------------------


def test_training_stops_where_the_rule_says_and_keeps_the_best():
    experiment = experiment_of()
    seen = {}

    def keep(at):
        if at.update == 0:
            seen[at.epoch] = to_host(at.params)

    ended = run(experiment, on_state=keep)
    losses = [record.test["loss"] for record in ended.records]
    assert (len(losses), ended.best_epoch) == rule(losses, 2)
    assert len(losses) < 12
    assert ended.best_epoch == 1 + int(np.argmin(losses))
    best = seen[ended.best_epoch]
    jax.tree.map(np.testing.assert_array_equal, ended.params, best)
    assert ended.test == make_test(experiment)(0, ended.params)
    validation = experiment._replace(test=experiment.validation)
    looked = make_test(validation)(0, ended.params)
    assert looked["loss"] == min(losses)


def test_all_epochs_are_made_without_patience():
    """The same updates as with it, as far as it goes; the last parameters are kept."""
    early, whole = run(experiment_of()), run(experiment_of(patience=None))
    assert len(whole.records) == 12
    assert whole.best_epoch is None
    for a, b in zip(early.records, whole.records, strict=False):
        assert a.test == b.test
        jax.tree.map(np.testing.assert_array_equal, a.steps, b.steps)


def test_the_test_examples_have_no_part_in_it():
    """Mistake: to stop by what the run is judged by."""
    experiment = experiment_of()
    labels = 1 - np.minimum(experiment.test.labels, 1)
    other = experiment._replace(test=Examples(experiment.test.inputs, labels))
    a, b = run(experiment), run(other)
    assert a.test != b.test
    assert a.best_epoch == b.best_epoch
    jax.tree.map(np.testing.assert_array_equal, a.params, b.params)


def test_no_example_is_in_two_parts():
    numbers = np.arange(60)
    train = Examples(numbers[:, None].astype(np.float32), numbers[:, None])
    dataset = random_dataset(TINY, train=60, test=23)
    dataset = type(dataset)(name="n", train=train, test=train, class_names=())
    key = keys_of(0).split
    parts = divided(dataset, HoldOut(0.2), 0.25, key=key)
    rows = [set(part.labels.ravel().tolist()) for part in parts]
    assert sum(map(len, rows)) == len(set.union(*rows)) == 60
    assert list(map(len, rows)) == [36, 12, 12]


def test_a_run_resumed_after_its_best_epoch_keeps_it():
    """Mistake: a checkpoint without the best parameters so far."""
    experiment = experiment_of(patience=3)
    states = {}

    def keep(at):
        best = at.best and Best(to_host(at.best.params), at.best.epoch, at.best.loss)
        states[at.epoch, at.update] = at._replace(
            state=to_host(at.state), steps=to_host(at.steps), best=best
        )

    whole = run(experiment, on_state=keep)
    assert 1 <= whole.best_epoch < len(whole.records)
    after = states[whole.best_epoch + 1, 3]
    again = run(experiment, resume=after)
    jax.tree.map(np.testing.assert_array_equal, again.params, whole.params)
    assert (again.best_epoch, again.test) == (whole.best_epoch, whole.test)
    assert len(again.records) == len(whole.records)
    ended = run(experiment, resume=states[len(whole.records), 0])
    assert len(ended.records) == len(whole.records)  # it is not trained on
    jax.tree.map(np.testing.assert_array_equal, ended.params, whole.params)


@pytest.mark.parametrize("every", [0, 3])
def test_patience_needs_tests_that_are_frequent_enough(every):
    """Mistake: to stop after epochs in which nobody looked."""
    with pytest.raises(InputError, match="evaluate_every from 1 to 2, patience"):
        run(experiment_of(), evaluate_every=every)


@pytest.mark.parametrize(
    "changes", [{}, {"schedule": "constant", "schedule_free": 0.9}]
)
def test_the_best_so_far_is_in_a_checkpoint(changes):
    """Also where what is kept is computed from what is trained."""
    experiment = experiment_of(epochs=3, **changes)
    states = []
    run(experiment, on_state=lambda at: states.append(take(at, experiment.keys)))
    last = states[-1]
    at = restore(last, like=state_like([experiment]), keys=experiment.keys)
    assert at.best.epoch == last.facts["best"]["epoch"]
    named_best = {f"best/{name}" for name in named(experiment.params)}
    assert named_best == {name for name in last.arrays if name.startswith("best/")}


def test_seeds_at_once_have_no_patience():
    with pytest.raises(InputError, match="one seed at a time.*--patience"):
        groups.check_group(experiment_of(), 2)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"patience": 0}, "patience"),
        ({"validation": 0.0}, "validation above 0 with patience"),
        ({"validation": 1.0}, "validation"),
        ({"validation": -0.1}, "validation"),
        ({"validation": 0.001}, "enough examples to hold out"),
    ],
)
def test_what_cannot_be_is_refused(changes, told):
    with pytest.raises(InputError, match=told):
        experiment_of(**changes)


# -- the script ----------------------------------------------------------------------

FLAGS = ("--dataset=digits", "--recipe=momentum_mlp_per_sample", "--strategy=jit")
FLAGS += ("--num_train=200", "--batch_size=20", "--epochs=30", "--learning_rate=0.2")
FLAGS += ("--validation=0.3", "--patience=2")


def test_the_script_says_what_was_kept(forks, tmp_path):
    done = forks.run(TRAIN, *FLAGS, "--workdir=run", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    rows = list(map(json.loads, lines))
    losses = [row["validation_loss"] for row in rows]
    assert not any("test_loss" in row for row in rows)
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["epochs"] == len(rows) < 30
    assert result["best_epoch"] == 1 + int(np.argmin(losses))
    said = " ".join(done.stdout.split())
    assert f"stopped after {len(rows)} of 30 epochs: the validation loss was" in said
    assert f"least after epoch {result['best_epoch']}" in said
    again = forks.run(TRAIN, *FLAGS, "--workdir=run", cwd=tmp_path)
    assert again.returncode == 0
    assert "is finished" in again.stdout
    evaluate = TRAIN.with_name("evaluate.py")
    for part, wanted in (("test", result["test_loss"]), ("validation", min(losses))):
        done = forks.run(evaluate, "run", f"--part={part}", "--json", cwd=tmp_path)
        assert json.loads(done.stdout)["loss"] == pytest.approx(wanted, abs=1e-6)


def test_seeds_stop_each_at_its_own_time(forks, tmp_path):
    done = forks.run(TRAIN, *FLAGS, "--num_seeds=2", "--workdir=run", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    rows = map(
        json.loads, (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    )
    losses = {0: [], 1: []}
    for row in rows:
        losses[row["seed"]].append(row["validation_loss"])
    for own in losses.values():
        assert rule(own, 2)[0] == len(own)
    refused = forks.run(TRAIN, *FLAGS, "--num_seeds=2", "--group_size=2", cwd=tmp_path)
    assert refused.returncode == 2
    assert "with --patience" in refused.stderr


def test_a_part_that_was_not_held_out_is_refused(forks, tmp_path):
    plain = [flag for flag in FLAGS if "validation" not in flag and "pat" not in flag]
    brief = [*plain, "--epochs=1", "--workdir=run"]
    assert forks.run(TRAIN, *brief, cwd=tmp_path).returncode == 0
    words = ("run", "--part=validation")
    done = forks.run(TRAIN.with_name("evaluate.py"), *words, cwd=tmp_path)
    assert done.returncode == 2
    assert "trained without --validation" in done.stderr
