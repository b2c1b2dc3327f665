"""One of each kind is added from outside, in one place; nothing else has to change."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from batches import TINY, experiment_of, make_batch, random_dataset

import cnnjax
from cnnjax.data import sources
from cnnjax.devices import make_mesh
from cnnjax.devices.maps import SHARD_MAP
from cnnjax.experiments.recipes import RECIPES
from cnnjax.faults import FAULTS, Fault, switch_in
from cnnjax.faults.of_gradients import of_gradient
from cnnjax.gradients import rules
from cnnjax.laws.comparison import largest_error
from cnnjax.models.kinds import Flatten, Sizes
from cnnjax.models.losses import LOSSES, OutputLoss, predicted_class
from cnnjax.models.stack import Dense
from cnnjax.results.schema import EPOCH, record
from cnnjax.strategies import STRATEGIES, Options, Row, names_of
from cnnjax.training.algorithms import ALGORITHMS
from cnnjax.training.schedules import SCHEDULES

FORMS = ("jit", "vmap", "factored", "shard_map")


def check_one_gradient(experiment, *names: str) -> None:
    """Compare strategies with the serial reference, on a short batch."""
    batch = make_batch(experiment, 8, padding=3)
    expected = None
    for name in ("serial", *names):
        options = Options(make_mesh(2))
        strategy = cnnjax.make_strategy(name, experiment.objective, options)
        _, grads = jax.jit(strategy.value_and_grad)(experiment.params, batch)
        expected = expected or grads
        assert largest_error(grads, expected) <= 1e-5, name


def fitted(recipe):
    ended = cnnjax.fit(recipe, random_dataset(recipe, train=64, test=16))
    assert not ended.diverged
    return ended


def test_a_strategy_is_one_row(monkeypatch):
    monkeypatch.setitem(STRATEGIES, "serial_on_each", Row(rules.serial, SHARD_MAP))
    assert "serial_on_each" in names_of(divides=True)
    check_one_gradient(experiment_of(TINY), "serial_on_each")
    fitted(replace(TINY, strategy="serial_on_each"))


def hinge(logits, label):
    """Return Crammer and Singer's loss, smooth: a margin of 1 to every other class."""
    margins = 1 + logits - logits[label]
    loss = jax.nn.softplus(margins).sum() - jax.nn.softplus(1.0)
    return loss, {"margin": -jnp.max(jnp.where(margins == 1, -jnp.inf, margins))}


def test_a_loss_is_one_entry(monkeypatch):
    monkeypatch.setitem(LOSSES, "hinge", OutputLoss(hinge, predicted_class))
    recipe = replace(TINY, loss="hinge")
    dataset = random_dataset(TINY)
    check_one_gradient(cnnjax.prepare(recipe, dataset), *FORMS)
    ended = cnnjax.fit(recipe, dataset)
    assert ended.test.keys() == {"loss", "margin", "examples"}
    assert ended.no_prediction == 0
    written = record(EPOCH, ended.records[0].to_json())
    assert {"train_margin", "test_margin"} <= written.keys()


@dataclass(frozen=True, kw_only=True)
class SignDescent:
    """Move every parameter by the learning rate, against the sign of its gradient."""

    def rule(self, schedule):
        return optax.chain(
            optax.scale_by_sign(), optax.scale_by_learning_rate(schedule)
        )


def test_an_optimizer_is_one_class_and_its_name(monkeypatch):
    monkeypatch.setitem(ALGORITHMS, "sign", SignDescent)
    recipe = cnnjax.override(TINY, algorithm="sign", learning_rate=0.25, batch_size=64)
    dataset = random_dataset(recipe, train=64, test=16)
    before = cnnjax.prepare(recipe, dataset).params
    after = cnnjax.fit(recipe, dataset).params
    moved = jax.tree.map(lambda a, b: np.unique(np.abs(a - b).round(6)), after, before)
    assert set(np.concatenate(jax.tree.leaves(moved)).tolist()) <= {0.0, 0.25}


def test_the_scripts_ask_the_tables_for_names():
    """A name written into a flag would be a second place to change."""
    scripts = Path(__file__).parent.parent / "scripts"
    source = "".join(
        (scripts / f"{name}.py").read_text() for name in ("_flags", "_asked")
    )
    for table in (ALGORITHMS, SCHEDULES, STRATEGIES, RECIPES, LOSSES):
        for name in table:
            lists = re.findall(rf"""[\[(,] *["']{name}["'] *[,\])]""", source)
            assert lists == [], name


def test_a_recipe_is_one_entry(monkeypatch):
    own = replace(
        TINY, name="own", model=replace(TINY.model, layers=(Flatten(), Dense(3)))
    )
    monkeypatch.setitem(RECIPES, "own", own)
    recipe = cnnjax.override(cnnjax.get_recipe("own"), batch_size=32)
    fitted(recipe)
    assert "dense_1" in cnnjax.summary(recipe.model)


def test_a_dataset_is_one_entry(monkeypatch):
    made = random_dataset(TINY, train=48, test=12)
    monkeypatch.setitem(sources.SOURCES, "random", lambda data_dir: made)
    assert "random" in cnnjax.dataset_names()
    assert cnnjax.fit(TINY, cnnjax.load_dataset("random")).test["examples"] == 12


def test_a_fault_is_one_entry(monkeypatch):
    halved = Fault(
        name="halved_gradient",
        summary="The gradient is half as long.",
        seen="Nowhere.",
        corrupt=of_gradient(lambda grad, batch: grad / 2),
        parts=("gradient",),
    )
    monkeypatch.setitem(FAULTS, halved.name, halved)
    right = experiment_of(TINY)
    batch = make_batch(right, 8)
    wrong = switch_in(right, ["halved_gradient", "reversed_gradient"])
    grads = [e.strategy.value_and_grad(e.params, batch)[1] for e in (right, wrong)]
    halves = jax.tree.map(lambda grad: -grad / 2, grads[0])
    assert largest_error(grads[1], halves) <= 1e-6


@dataclass(frozen=True)
class Square:
    """Square every entry."""

    kind: ClassVar[str] = "square"

    def sizes(self, shape):
        return Sizes(shape)

    @property
    def function(self):
        return jnp.square


def test_a_layer_without_parameters_is_one_class():
    layers = (*TINY.model.layers[:4], Square(), *TINY.model.layers[4:])
    recipe = replace(TINY, model=replace(TINY.model, layers=layers))
    check_one_gradient(experiment_of(recipe), *FORMS)
    fitted(recipe)
    assert "square_4" in cnnjax.summary(recipe.model)


@dataclass(frozen=True)
class EachPosition:
    """Multiply each position's channels by one kernel: a convolution of 1 x 1."""

    features: int
    kind: ClassVar[str] = "position"

    def sizes(self, shape):
        macs = int(np.prod(shape)) * self.features
        return Sizes((*shape[:-1], self.features), (shape[-1], self.features), macs)

    def multiply(self, precision):
        return lambda x, kernel: jnp.matmul(x, kernel, precision=precision)

    def as_matrix(self, x):
        return x.reshape(-1, x.shape[-1])


def test_a_layer_with_parameters_is_one_class():
    layers = (EachPosition(5), *TINY.model.layers)
    recipe = replace(TINY, model=replace(TINY.model, layers=layers))
    experiment = experiment_of(recipe)
    check_one_gradient(experiment, *FORMS)
    fitted(recipe)
    kernel = experiment.params["position_0"]["kernel"]
    assert kernel.shape == (1, 5)
    assert "position_0" in cnnjax.summary(recipe.model)
