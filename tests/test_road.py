"""The road from `runs.run` to a layer is short: what a learner sees in a traceback."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest
from batches import TINY, random_dataset
from jax import lax
from strategy_table import DIVIDED

import cnnjax
from cnnjax.devices import make_mesh
from cnnjax.experiments import ensembles, runs
from cnnjax.experiments.experiment import prepare
from cnnjax.experiments.overrides import override
from cnnjax.models import layers
from cnnjax.strategies import STRATEGIES, Options

LIBRARY = str(Path(cnnjax.__file__).parent)
# As `layers` calls them: a convolution, a pool and an activation.
INSIDE = ("conv2d", "max_pool2d", "tanh")


class BrokenError(Exception):
    """Raised in a layer."""


def break_layer(monkeypatch, name: str) -> None:
    def broken(*_, **__):
        raise BrokenError(name)

    if name == "tanh":
        monkeypatch.setitem(layers.ACTIVATIONS, name, broken)
    elif name == "conv2d":  # within it
        monkeypatch.setattr(lax, "platform_dependent", broken)
    else:
        monkeypatch.setattr(layers, name, broken)


def frames_of(train) -> list[str]:
    """Return the functions of the library that a traceback shows."""
    with pytest.raises(BrokenError) as raised:
        train()
    frames = traceback.extract_tb(raised.value.__traceback__)
    return [frame.name for frame in frames if frame.filename.startswith(LIBRARY)]


def prepared(strategy: str):
    mesh = make_mesh(2) if strategy in DIVIDED else None
    recipe = override(TINY, strategy=strategy)
    return prepare(recipe, random_dataset(recipe), options=Options(mesh))


@pytest.mark.parametrize(
    ("strategy", "layer"),
    [(name, "conv2d") for name in STRATEGIES]
    + [("jit", layer) for layer in INSIDE if layer != "conv2d"],
)
def test_at_most_ten_frames_lead_to_a_layer(strategy, layer, monkeypatch):
    experiment = prepared(strategy)
    break_layer(monkeypatch, layer)
    frames = frames_of(lambda: runs.run(experiment))
    assert frames[0] == "run"
    assert len(frames) <= 10, frames


def test_at_most_ten_frames_lead_to_a_layer_that_is_evaluated(monkeypatch):
    experiment = prepared("jit")
    updates = runs.compile_updates(
        experiment.params,
        experiment.train,
        strategy=experiment.strategy,
        optimizer=experiment.optimizer,
        config=experiment.loop,
        keys=experiment.keys,
    )
    break_layer(monkeypatch, "conv2d")
    frames = frames_of(lambda: runs.run(experiment, updates=updates))
    assert len(frames) <= 10, frames


def test_at_most_ten_frames_lead_from_several_seeds_to_a_layer(monkeypatch):
    group = [prepared("jit"), prepared("jit")]
    break_layer(monkeypatch, "conv2d")
    seeds = ensembles.run_seeds(lambda seed: group[seed], (0, 1), group_size=2)
    frames = frames_of(lambda: list(seeds))
    assert len(frames) <= 10, frames
