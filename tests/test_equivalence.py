"""The comparison of strategies, as a library and as a script."""

from __future__ import annotations

import functools
import json
from dataclasses import replace
from pathlib import Path

import jax
import pytest
from batches import TINY, TWO_CHANNELS, experiment_of
from strategy_table import DIVIDED
from test_strategy_laws import GRADIENT_FAULTS, row_of

from cnnjax import devices
from cnnjax.base.errors import InputError
from cnnjax.experiments.experiment import Experiment, with_strategy
from cnnjax.faults import FAULTS, corrupted_routes, setting_of, switch_in
from cnnjax.gradients.reductions import REDUCTIONS
from cnnjax.gradients.rules import ROUTES
from cnnjax.laws import references
from cnnjax.laws.comparison import largest_error
from cnnjax.laws.equivalence import assess, assess_rule
from cnnjax.laws.references import first_batches, make_reference
from cnnjax.models.initializers import PYTORCH
from cnnjax.models.stack import Activation, Dense, Dropout, Flatten, ModelConfig
from cnnjax.strategies import STRATEGIES

pytestmark = pytest.mark.xdist_group("equivalence")
SCRIPT = Path(__file__).parent.parent / "scripts" / "compare_strategies.py"

# Quick to compile, with dropout.
MLP = replace(
    TINY,
    model=ModelConfig(
        input_shape=(8, 8, 1),
        layers=(Flatten(), Dense(12), Activation("tanh"), Dropout(0.5), Dense(3)),
        initializer=PYTORCH,
    ),
)


@pytest.fixture(scope="module")
def mlp():
    experiment = experiment_of(MLP)
    return experiment, make_reference(experiment, batch_size=14, num_steps=2)


@pytest.fixture(scope="module")
def cnn():
    """Slower to compile: for the faults of what an MLP has not."""
    experiment = experiment_of(TWO_CHANNELS)
    return experiment, make_reference(experiment, batch_size=14, num_steps=2)


def row_with(experiment: Experiment, strategy: str, *faults: str) -> Experiment:
    mesh = devices.make_mesh(4) if strategy in DIVIDED else None
    options = experiment.options._replace(mesh=mesh)
    return switch_in(with_strategy(experiment, strategy, options), faults)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_right_strategy_agrees(strategy, mlp):
    experiment, reference = mlp
    agreement = assess(row_with(experiment, strategy), reference)
    assert agreement.objections == ()
    assert agreement.agrees
    assert agreement.traces == (strategy != "eager")
    assert agreement.params_error < 1e-4


@pytest.mark.parametrize("strategy", ["jit", "factored", "shard_map", "pmap"])
def test_the_reference_may_be_of_another_device(strategy, mlp, monkeypatch):
    """As a GPU's strategies are held against the CPU: another device stands in."""
    asked = []

    def local_devices(backend):
        asked.append(backend)
        return jax.devices()[-1:]

    monkeypatch.setattr(references.jax, "local_devices", local_devices)
    experiment, here = mlp
    there = make_reference(experiment, batch_size=14, num_steps=2, platform="cpu")
    assert asked == ["cpu"]
    (metrics, grads), _ = there.values
    for leaf in jax.tree.leaves((metrics, grads, there.params)):
        assert leaf.devices() == set(jax.devices()[-1:])
    monkeypatch.undo()
    agreement = assess(row_with(experiment, strategy), there)
    assert agreement.objections == ()
    assert largest_error(grads, here.values[0][1]) == 0


def test_a_reference_on_a_platform_that_is_not_there_is_refused(mlp):
    with pytest.raises(InputError, match=r"'tpu'; it has started cpu; unset JAX_PLAT"):
        make_reference(mlp[0], batch_size=14, num_steps=2, platform="tpu")


OBJECTIONS = {
    "gradients_in_half_precision": "gradient of another kind, or not finite",
    "batch_on_every_device": "1.00 of the work on each of 4 devices",
    "state_is_not_copied": "deletes the caller's parameters",
    "state_on_one_device": "gradient placed unlike parameters",
    "shape_follows_the_padding": "traced 2 times",
    "batch_on_the_host": "copies from the host in the step",
    "callback_in_the_step": "calls Python in the step",
    "mean_of_local_means": "gradient off by ",
    "sum_of_local_means": "gradient off by ",
    "entropy_reported_as_loss": "metrics off by ",
}


def fault_cases() -> list:
    """List the faults; those that show as a wrong gradient alone are slow but one."""
    quick = {*OBJECTIONS, "sum_instead_of_mean"}
    slow = [pytest.mark.slow]
    return [pytest.param(f, marks=() if f in quick else slow) for f in GRADIENT_FAULTS]


@pytest.mark.parametrize("fault", fault_cases())
def test_no_fault_agrees(fault, mlp, request):
    needed, setting = FAULTS[fault].needs.recipe, setting_of(mlp[0])
    fits = all(requirement.holds(setting) for requirement in needed)
    experiment, reference = mlp if fits else request.getfixturevalue("cnn")
    agreement = assess(row_with(experiment, row_of(fault), fault), reference)
    assert not agreement.agrees
    expected = OBJECTIONS.get(fault, "gradient off by ")
    assert any(o.startswith(expected) for o in agreement.objections)
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(experiment.params))


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("name", REDUCTIONS)
def test_a_right_rule_agrees(name, route, mlp):
    how = {"rule": ROUTES[route], "reduction": REDUCTIONS[name]}
    assert assess_rule(*mlp, **how).agrees


@pytest.mark.parametrize("route", ROUTES)
def test_a_wrong_clipping_does_not_agree(route, mlp):
    rule = corrupted_routes([FAULTS["clip_after_the_mean"]])[route]
    assert not assess_rule(*mlp, rule=rule, reduction=REDUCTIONS["clipped"]).agrees


def test_how_far_a_fault_is_off(mlp):
    experiment, reference = mlp
    batch, short = first_batches(experiment, batch_size=14)
    assert batch.keys is not None  # dropout is on
    assert (short.weights == 0).sum() == 4
    agreement = assess(row_with(experiment, "jit", "sum_instead_of_mean"), reference)
    largest = float(batch.weights.sum()) - 1
    assert agreement.relative_error == pytest.approx(largest, rel=1e-4)


@pytest.fixture
def run_script(forks, tmp_path):
    return functools.partial(
        forks.run, SCRIPT, "--recipe=momentum_mlp_per_sample", cwd=tmp_path
    )


@pytest.mark.slow
def test_the_script_holds_every_row_against_the_reference(run_script):
    done = run_script("--num_devices=4", "--batch_size=7", "--json", "--num_steps=2")
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    names = [row.get("strategy", row.get("rule")) for row in rows]
    assert names == [*STRATEGIES, *PER_EXAMPLE]
    assert all(row["agrees"] and row["relative_error"] <= 1e-5 for row in rows)
    assert f"{len(STRATEGIES)} of {len(STRATEGIES)} strategies agree" in done.stderr


def test_the_script_fails_with_a_fault(run_script):
    flags = ("--num_devices=2", "--strategy=shard_map", "--fault=n_times_too_large")
    done = run_script(*flags, "--num_steps=2")
    assert done.returncode == 1, done.stderr
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[-5].endswith("  DISAGREES")
    assert lines[-4].startswith("  gradient off by 1.0e+00")
    assert lines[-3].startswith("FAULT n_times_too_large: Gradients are N devices")
    assert lines[-1] == "0 of 1 strategies agree with the serial reference"


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--reference_platform=gpus", "expected a platform on which JAX can compute"),
        ("--strategy=shardmap", "unknown strategy 'shardmap'; did you mean shard_"),
        ("--fault=sum_for_mean", "unknown fault 'sum_for_mean'; did you mean sum_"),
        (
            "--fault=held_out_in_training",
            "fault 'held_out_in_training' leaves every gradient right: it corrupts the "
            "data; train.py shows what it does\n",
        ),
        ("--batch_size=1", "expected a batch of at least 2 (see --batch_size), got 1"),
        (
            "--fault=missing_psum",
            "fault 'missing_psum' needs a strategy that divides over at least 2 "
            "devices (shard_map, shard_map_vmap, shard_map_factored): "
            "--strategy=shard_map --num_devices=2, got strategy "
            "'shard_map' on 1 device\n",
        ),
    ],
)
def test_the_script_refuses_in_one_line(flag, message, run_script):
    refused = run_script(flag)
    assert refused.returncode == 2
    assert refused.stderr.startswith(f"compare_strategies.py: error: {message}")
    assert len(refused.stderr.splitlines()) == 1
