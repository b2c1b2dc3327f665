"""A run that names no strategy gets the fastest form known, and says why."""

from __future__ import annotations

from dataclasses import replace

import batches
import jax
import numpy as np
import pytest

from cnnjax import devices
from cnnjax.experiments import fastest
from cnnjax.experiments.experiment import prepare, with_strategy
from cnnjax.experiments.fastest import (
    KNOWN_FORMS,
    Form,
    fastest_form,
    microbatch_of,
    plain_form,
)
from cnnjax.experiments.placement import Placement
from cnnjax.experiments.recipe import FASTEST
from cnnjax.experiments.recipes import RECIPES, get_recipe
from cnnjax.faults import setting_of, switch_in
from cnnjax.gradients import reductions
from cnnjax.strategies import NO_OPTIONS, STRATEGIES, Options, make_strategy
from cnnjax.telling.text import strategy_text

CNN, MLP = (
    get_recipe("adam_cosine_cnn").model,
    get_recipe("tanh_mlp_cifar10_deep").model,
)


AMD, XEON = "AMD EPYC 9554 64-Core Processor", "Intel(R) Xeon(R) Platinum 8462Y+"


def on(monkeypatch, platform: str, processor: str | None = AMD) -> None:
    """Have the table asked for another platform and CPU."""
    monkeypatch.setattr(fastest.jax, "default_backend", lambda: platform)
    monkeypatch.setattr(fastest, "cpu_model", lambda: processor)


@pytest.mark.parametrize(
    ("platform", "processor", "model", "count", "strategy", "microbatch_size"),
    [
        ("cpu", AMD, CNN, 1, "factored", 16),
        ("cpu", AMD, CNN, 2, "shard_map_factored", 16),  # of 32 on each
        ("cpu", None, CNN, 1, "factored", 16),
        ("cpu", XEON, CNN, 1, "factored", 32),
        ("cpu", XEON, CNN, 2, "shard_map_factored", None),  # 32 on each
        ("cpu", XEON, MLP, 1, "jit", None),
        ("cpu", AMD, MLP, 2, "shard_map", None),
        ("gpu", XEON, CNN, 1, "jit", None),
        ("gpu", AMD, MLP, 1, "jit", None),
        ("tpu", AMD, CNN, 2, "shard_map", None),
    ],
)
def test_the_form_of_each_platform_network_and_number_of_devices(
    monkeypatch, platform, processor, model, count, strategy, microbatch_size
):
    mesh = devices.make_mesh(count) if count > 1 else None
    on(monkeypatch, platform, processor)
    form = fastest_form(model, 64, Options(mesh))
    assert form.strategy == strategy
    assert form.options == Options(mesh, microbatch_size)
    assert form.why.startswith("the fastest form known ")


def test_what_the_options_fix_stays(monkeypatch):
    on(monkeypatch, "cpu")
    assert fastest_form(CNN, 64, Options(None, 8)).options.microbatch_size == 8
    cut = devices.make_mesh(4, model_devices=2)
    assert fastest_form(CNN, 64, Options(cut)).strategy == "sharded"
    assert fastest_form(CNN, 64, Options(cut)).options == Options(cut)
    norms = Options(reduction=reductions.norms)
    for model in (CNN, MLP):
        assert fastest_form(model, 64, norms).strategy == "factored"


def test_a_microbatch_needs_as_few_copies_as_can_be():
    for size in range(1, 300):
        found = microbatch_of(size, most=32)
        assert (found is None) == (size <= 32)
        if found is not None:
            padded = [-(-size // one) * one for one in range(16, 33)]
            assert 16 <= found <= 32
            assert -(-size // found) * found == min(padded)
    assert microbatch_of(128, most=32) == 32


def test_every_entry_is_a_strategy_of_one_device_and_of_many():
    """The last entry fits everything, so that none is left without a form."""
    assert KNOWN_FORMS[-1][:3] == (None, None, None)
    for known in KNOWN_FORMS:
        of_rule = [row for row in STRATEGIES.values() if row.rule is known.rule]
        assert {row.divides for row in of_rule} == {True, False}


def test_recipes_that_publish_a_form_keep_it():
    named = {n: r.strategy for n, r in RECIPES.items() if r.strategy != FASTEST}
    assert named == {
        "momentum_mlp_serial": "serial",
        "momentum_mlp_per_operation": "jit",
        "momentum_mlp_per_sample": "vmap",
    }


def test_an_experiment_has_the_form_and_the_reason():
    recipe = replace(batches.TINY, strategy=FASTEST)
    dataset = batches.random_dataset(recipe, train=24, test=8)
    chosen = prepare(recipe, dataset)
    form = fastest_form(recipe.model, chosen.loop.batch_size, NO_OPTIONS)
    assert chosen.recipe.strategy == form.strategy
    assert chosen.form == form
    assert chosen.options == NO_OPTIONS  # they fit other strategies, too
    assert form.why in " ".join(strategy_text(chosen).split())
    named = prepare(replace(recipe, strategy="vmap"), dataset)
    assert named.form.why is None
    assert strategy_text(named) == "strategy vmap"


def test_the_form_trains_like_the_plain_one():
    recipe = replace(batches.TINY, strategy=FASTEST)
    dataset = batches.random_dataset(recipe, train=70, test=8)
    recipe = replace(recipe, batch_size=70)
    chosen = prepare(recipe, dataset)
    plain = prepare(replace(recipe, strategy=plain_form(NO_OPTIONS)), dataset)
    assert chosen.form.options.microbatch_size is not None
    batch = batches.make_batch(chosen, 70)
    one, other = (
        jax.jit(e.strategy.value_and_grad)(e.params, batch)[1] for e in (chosen, plain)
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5 * np.abs(b).max()),
        *(one, other),
    )


@pytest.mark.parametrize("name", STRATEGIES)
def test_its_options_fit_every_strategy_and_every_batch(name):
    """Whoever asked for no microbatches gets none from another strategy."""
    recipe = replace(batches.TINY, strategy=FASTEST, batch_size=70)
    chosen = prepare(recipe, batches.random_dataset(recipe, train=70, test=8))
    batch = batches.make_batch(chosen, 5)
    strategy = make_strategy(name, chosen.objective, chosen.options)
    jax.eval_shape(strategy.value_and_grad, chosen.params, batch)


def test_another_strategy_has_no_microbatches_that_were_chosen(monkeypatch):
    on(monkeypatch, "cpu")
    recipe = replace(batches.TINY, strategy=FASTEST, batch_size=70)
    chosen = prepare(recipe, batches.random_dataset(recipe, train=70, test=8))
    assert chosen.form.options.microbatch_size == 14  # 5 of 14: no copies
    other = with_strategy(chosen, "vmap", chosen.options)
    assert other.form == Form("vmap", NO_OPTIONS)
    assert with_strategy(other, FASTEST, other.options).form == chosen.form


def test_a_fault_is_switched_into_the_form_that_is_trained(monkeypatch):
    on(monkeypatch, "cpu")
    recipe = replace(batches.TINY, strategy=FASTEST, batch_size=70)
    chosen = prepare(recipe, batches.random_dataset(recipe, train=70, test=8))
    wrong = switch_in(chosen, ["reversed_gradient"])
    assert setting_of(wrong).microbatch_size == 14
    for one in (chosen, switch_in(chosen, []), wrong):
        text = str(
            jax.make_jaxpr(one.strategy.value_and_grad)(
                one.params, batches.make_batch(one, 70)
            )
        )
        assert "length=5" in text  # of the scan over microbatches


def test_devices_are_used_only_where_they_are_asked_for():
    recipe = replace(batches.TINY, strategy=FASTEST)
    assert Placement().strict_options_for(recipe).mesh is None
    two = Placement(num_devices=2).strict_options_for(recipe).mesh
    assert two is not None
    assert two.size == 2
    cut = Placement(num_devices=4, model_devices=2).strict_options_for(recipe).mesh
    assert cut is not None
    assert dict(cut.shape) == {"data": 2, "model": 2}
