"""The comparison of strategies, as a library and as a script."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from batches import experiment_of
from test_strategy_laws import TINY, mean_over_padding_too, sum_instead_of_mean

from cnnjax.equivalence import assess, first_batch
from cnnjax.strategies import STRATEGIES

SCRIPT = Path(__file__).parent.parent / "scripts" / "compare_strategies.py"


def test_a_right_strategy_agrees_and_a_wrong_one_does_not():
    experiment = experiment_of(TINY)
    batch = first_batch(experiment, batch_size=16)
    assert batch.keys is not None  # dropout is on
    right = assess(experiment, batch, num_steps=3)
    assert right.agrees
    assert right.traces == 1
    assert right.params_error < 1e-4
    assert right.temporary_bytes
    wrong = sum_instead_of_mean(experiment.loss_fn)
    row = assess(experiment._replace(strategy=wrong), batch, num_steps=3)
    assert not row.agrees
    assert row.relative_error == pytest.approx(15.0, rel=1e-4)


def test_padding_is_told_from_examples():
    experiment = experiment_of(TINY)
    batch = first_batch(experiment, batch_size=16)
    batch = batch._replace(weights=batch.weights.at[12:].set(0))
    wrong = mean_over_padding_too(experiment.loss_fn)
    row = assess(experiment._replace(strategy=wrong), batch, num_steps=1)
    assert row.relative_error == pytest.approx(0.25, rel=1e-4)


def run_script(*flags):
    command = [sys.executable, SCRIPT, "--recipe=momentum_mlp_per_sample", *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def test_the_script_holds_every_row_against_the_reference():
    done = run_script("--num_devices=4", "--batch_size=7", "--json", "--num_steps=2")
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["strategy"] for row in rows] == list(STRATEGIES)
    assert all(row["agrees"] and row["relative_error"] <= 1e-5 for row in rows)
    assert "9 of 9 strategies agree" in done.stderr


def test_the_script_refuses_in_one_line():
    refused = run_script("--strategy=shardmap")
    assert refused.returncode == 2
    assert refused.stderr.startswith(
        "compare_strategies.py: error: unknown strategy 'shardmap'; did you mean shard_"
    )
    assert len(refused.stderr.splitlines()) == 1
