"""A run that diverged predicts nothing: that is wrong, is counted, and is told."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from batches import TINY, make_batch, random_dataset
from published_runs import findings_of, image, system, write_job
from strategy_table import DIVIDED

from cnnjax.devices import make_mesh
from cnnjax.experiments.ensembles import SeedRun, run_seeds
from cnnjax.experiments.experiment import prepare
from cnnjax.experiments.judging import make_test
from cnnjax.experiments.overrides import override
from cnnjax.experiments.predictions import predict, predict_test
from cnnjax.experiments.runs import Run, fit, run
from cnnjax.models.stack import Dense, Flatten
from cnnjax.results.outcomes import dead_classes, read_outcome
from cnnjax.strategies import STRATEGIES, Options, make_strategy
from cnnjax.studies.reporting.files import write_report
from cnnjax.studies.reproduction.plan import plan
from cnnjax.telling.divergence import remarks, remarks_of_seeds
from cnnjax.telling.seeds import interval_lines, seed_line
from cnnjax.telling.text import divergence_of_run
from cnnjax.training.records import EpochRecord
from cnnjax.types import NO_PREDICTION, Examples, Metrics

SCRIPTS = Path(__file__).parent.parent / "scripts"
LINE = replace(TINY, model=replace(TINY.model, layers=(Flatten(), Dense(3))))
DATASET = random_dataset(LINE, train=64, test=40)
DIVERGING = override(LINE, learning_rate=1e38, epochs=2)
QUICK = ("eager", "vmap", "factored", "sharded", "shard_map")


@pytest.mark.parametrize(
    "name",
    [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in STRATEGIES],
)
def test_no_strategy_scores_what_is_not_a_number(name):
    """All logits are NaN, and class 0 among the labels."""
    experiment = prepare(override(LINE, strategy=name), DATASET)
    options = Options(make_mesh(2) if name in DIVIDED else None)
    strategy = make_strategy(name, experiment.objective, options)
    batch = make_batch(experiment, 8)
    assert 0 in batch.labels
    of = strategy.value_and_grad
    of = of if strategy.run == "eager" else jax.jit(of)
    lost = jax.tree.map(lambda leaf: jnp.full_like(leaf, jnp.nan), experiment.params)
    metrics, _ = of(strategy.put_state(lost), strategy.put_batch(batch))
    assert metrics.means["accuracy"] == 0
    assert math.isnan(metrics.means["loss"])


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_what_overflows_in_some_examples_is_wrong_there(precision):
    """Large weights overflow, but not on blank images."""
    inputs, labels = (np.copy(part) for part in DATASET.test)
    inputs[::4] = 0
    dataset = replace(DATASET, test=Examples(inputs + (inputs > 0), labels))
    experiment = prepare(override(LINE, precision=precision), dataset)
    kernel = jnp.full_like(experiment.params["dense_1"]["kernel"], 3e38)
    params = {"dense_1": {**experiment.params["dense_1"], "kernel": kernel}}
    predictions = predict_test(experiment, params)
    blank = ~inputs.reshape(len(inputs), -1).any(axis=1)
    assert (predictions[~blank] == NO_PREDICTION).all()
    assert (predictions[blank] != NO_PREDICTION).all()
    assert 0 < blank.sum() < len(blank)
    measured = make_test(experiment)(1, params)
    assert measured["accuracy"] == pytest.approx(np.mean(predictions == labels))
    for index in (0, 1):
        assert predict(experiment, params, inputs[index]) == predictions[index]


@pytest.mark.parametrize(
    ("changes", "evaluate_every", "finite_epochs", "lost"),
    [
        ({}, 1, 0, 40),
        ({}, 0, 0, 40),  # tested at the end only
        # The first of two updates spoils, and the second epoch shows it.
        ({"batch_size": 64}, 0, 1, 40),
        # Only the test shows it, in which some logits overflow.
        ({"batch_size": 64, "epochs": 1}, 0, 1, 12),
        ({"batch_size": 64, "epochs": 1, "precision": "bfloat16"}, 1, 1, 13),
    ],
)
def test_a_run_says_that_it_diverged(changes, evaluate_every, finite_epochs, lost):
    run = fit(override(DIVERGING, **changes), DATASET, evaluate_every=evaluate_every)
    losses = [record.train["loss"] for record in run.records]
    assert sum(map(math.isfinite, losses)) == finite_epochs
    assert run.diverged
    assert run.no_prediction == pytest.approx(lost, abs=0 if lost == 40 else 5)
    assert run.test["accuracy"] == 0
    told = f"no prediction for {run.no_prediction} of 40 test examples"
    assert divergence_of_run(run) == [f"warning: the run has diverged: {told}"]


def record(epoch: int, train: float, test: float | None) -> EpochRecord:
    return EpochRecord(
        epoch=epoch,
        step=epoch,
        learning_rate=0.1,
        train={"loss": train},
        test=None if test is None else {"loss": test},
        seconds=1.0,
        examples_per_second=1.0,
        steps=Metrics({"loss": np.array([train])}, np.ones(1)),
    )


@pytest.mark.parametrize("lost", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("epoch", [0, 1, 2])
@pytest.mark.parametrize("evaluated", [True, False])
def test_a_loss_that_was_not_finite_for_a_time_is_told(lost, epoch, evaluated):
    fine, ended = [(0.7, 0.8 if evaluated else None)] * 3, {"loss": 0.5}

    def run_of(losses):
        records = [record(at, *pair) for at, pair in enumerate(losses, start=1)]
        return Run({}, records, ended, 0)

    assert not run_of(fine).diverged
    assert not run_of([]).diverged
    for of_epoch in ((lost, fine[0][1]), (0.7, lost)):
        losses = [*fine[:epoch], of_epoch, *fine[epoch + 1 :]]
        assert run_of(losses).diverged
    assert run_of(fine)._replace(test={"loss": lost}).diverged


def test_a_run_that_did_not_diverge_says_nothing():
    run = fit(LINE, DATASET)
    assert (run.diverged, run.no_prediction) == (False, 0)
    assert divergence_of_run(run) == []


@pytest.mark.parametrize("group_size", [1, 2])
def test_seeds_that_diverged_say_so(group_size):
    seeds = run_seeds(
        lambda seed: prepare(DIVERGING, DATASET, seed=seed),
        (0, 1),
        group_size=group_size,
    )
    for one in seeds:
        assert one.run.no_prediction == np.sum(one.predictions == NO_PREDICTION) == 40
        assert one.dead_classes == [0, 1, 2]
        assert "diverged: no prediction for 40 of 40 test examples" in seed_line(one)


def test_no_prediction_is_no_class():
    assert dead_classes([0, 1, 2, 2], [NO_PREDICTION, 1, 0, NO_PREDICTION]) == [2]
    labels = np.array([0, 1, 1])
    run = Run({}, [], {"loss": 0.5, "accuracy": 1.0, "examples": 3}, 0)
    assert SeedRun(0, run, labels, labels).dead_classes == []
    assert "diverged" not in seed_line(SeedRun(0, run, labels, labels))


def test_seeds_that_are_left_out_are_named():
    lines = interval_lines("accuracy", None, not_finite=[3, 4], diverged=[1, 3])
    assert lines[0] == "left out because they diverged: seed 1, seed 3"
    assert lines[1] == "left out because their test accuracy is not finite: seed 4"


STEEP = ("--algorithm=sgd", "--schedule=constant", "--learning_rate=1e30")


@pytest.mark.parametrize(("on_nan", "status"), [("stop", 3), ("continue", 0)])
def test_the_script_says_which_seeds_diverged(on_nan, status, tmp_path, forks):
    flags = ("--num_train=64", "--epochs=1", "--num_seeds=2", "--workdir=run")
    flags = (*flags, *STEEP, f"--on_nan={on_nan}")
    done = forks.run(SCRIPTS / "train.py", *flags, cwd=tmp_path)
    assert done.returncode == status, done.stderr
    assert "\nleft out because they diverged: seed 0, seed 1\n" in done.stdout
    assert done.stdout.endswith("test accuracy: no seeds left to average\n")
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["seeds_diverged"] == [0, 1]
    assert result["test_accuracy_over_seeds"] is None
    rows = (tmp_path / "run" / "seeds.jsonl").read_text().splitlines()
    assert [json.loads(row)["test_no_prediction"] for row in rows] == [360, 360]
    predictions = (tmp_path / "run" / "predictions.csv").read_text().splitlines()[1:]
    assert all(line.endswith(",-1") for line in predictions)
    assert read_outcome(str(tmp_path / "run")).diverged == {0: 360, 1: 360}


@pytest.mark.parametrize("strategy", ["jit", "eager", "shard_map"])
def test_the_first_update_that_was_not_finite_is_found(strategy):
    """The rate is finite until update 5, of two epochs of 4 updates."""
    recipe = override(LINE, strategy=strategy, batch_size=16, epochs=2)
    experiment = prepare(recipe, DATASET)

    def rate(step):
        return jnp.where(step < 5, 0.01, jnp.inf)

    experiment = experiment._replace(schedule=rate, optimizer=optax.sgd(rate))
    ended = run(experiment, on_nan="stop")
    found = ended.divergence
    assert (found.epoch, found.step) == (2, 6)
    assert found.tensor.startswith("the parameter dense_1/")
    assert math.isfinite(found.loss)
    assert 0 < found.gradient_norm < math.inf
    assert found.learning_rate == math.inf
    assert [record.epoch for record in ended.records] == [1]
    assert ended.diverged
    assert run(experiment).diverged


def test_a_run_that_only_its_last_update_spoils_has_diverged():
    """No loss shows it: all were measured before."""
    recipe = override(LINE, batch_size=64, epochs=1)
    experiment = prepare(recipe, DATASET)._replace(optimizer=optax.sgd(math.inf))
    ended = run(experiment, evaluate_every=0)
    assert all(math.isfinite(record.train["loss"]) for record in ended.records)
    assert ended.diverged
    assert not ended.finite
    assert run(experiment, on_nan="stop").divergence.step == 1


def test_the_script_stops_at_a_loss_that_is_not_finite(tmp_path, forks):
    flags = ("--num_train=640", "--epochs=3", "--workdir=run", *STEEP)
    done = forks.run(SCRIPTS / "train.py", *flags, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (3, "")
    told = " ".join(done.stdout.split())
    assert "stopped: in update 2 (epoch 1) the loss was not finite; loss " in told
    assert ", norm of the gradient " in told
    assert "learning rate 1e+30; a lower learning rate may help" in told
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["diverged"]
    assert result["divergence"]["step"] == 2
    assert not (tmp_path / "run" / "params.safetensors").exists()
    again = forks.run(SCRIPTS / "train.py", *flags, cwd=tmp_path)
    assert again.returncode == 3
    assert "is finished: diverged" in again.stdout


ROSE = "the training loss rose from 1 to 11: a lower learning rate may help"


@pytest.mark.parametrize(
    ("losses", "said"),
    [((1.0, 11.0), [ROSE]), ((1.0, 9.0), []), ((1.0, 11.0, math.nan), []), ((), [])],
)
def test_a_loss_that_rose_is_told(losses, said):
    records = [record(index + 1, loss, 0.1) for index, loss in enumerate(losses)]
    ended = Run({}, records, {"loss": 0.1})
    assert remarks(ended, np.array([0.5])) == said
    several = [SeedRun(seed, ended, np.array([0.5]), None) for seed in (3, 7)]
    told = " ".join(remarks_of_seeds(several)).replace("\n ", "")
    assert ("its start: seed 3, seed 7; a lower" in told) == bool(said)


def test_a_report_names_the_seeds_that_diverged(tmp_path):
    systems = [system(image("cnn", seeds=3))]
    jobs = plan(systems, scale="full", workdir=tmp_path)
    for job, diverged in zip(jobs, (False, True, False), strict=True):
        score = 0.0 if diverged else 0.95
        lines = [{"epoch": 2, "test_accuracy": score}]
        predicted = [NO_PREDICTION] * 2 if diverged else [0, 1]
        write_job(
            job,
            lines=lines,
            predictions=([0, 1], predicted),
            test_accuracy=score,
            diverged=diverged,
        )
    findings = findings_of(systems, jobs)
    write_report(tmp_path, findings, facts=[], others={})
    report = (tmp_path / "report.md").read_text()
    assert (
        "\nDiverged: 1 of 3 seeds, seed 1. Classes never predicted: in 1 of 3 seeds "
        "(seed 1 never predicts 0, 1).\n"
    ) in report
