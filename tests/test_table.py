"""Each entry of the table does what its fields say of it."""

from __future__ import annotations

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from batches import TINY, experiment_of, make_batch

from cnnjax import strategies
from cnnjax.base.errors import InputError
from cnnjax.devices import make_mesh
from cnnjax.gradients import reductions, rules
from cnnjax.gradients.reductions import Reduction
from cnnjax.laws.comparison import largest_error
from cnnjax.strategies import STRATEGIES, Options, make_strategy
from cnnjax.types import Batch


@functools.cache
def tiny():
    return experiment_of(TINY)


def built(name: str, **options):
    return make_strategy(name, tiny().objective, Options(**options))


def test_no_two_entries_are_the_same():
    rows = list(STRATEGIES.values())
    facts = {(row.rule, row.device_map.told, id(row.reduction)) for row in rows}
    assert len(facts) == len(rows)


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_batch_lies_where_divides_says(name):
    strategy = built(name, mesh=make_mesh(4))
    placed = strategy.put_batch(make_batch(tiny(), 8))
    state = strategy.put_state(tiny().params)
    parts = {len(leaf.sharding.device_set) for leaf in jax.tree.leaves(placed)}
    copies = {len(leaf.sharding.device_set) for leaf in jax.tree.leaves(state)}
    assert parts == copies == ({4} if STRATEGIES[name].divides else {1})
    largest = max(shard.data.size for shard in placed.weights.addressable_shards)
    assert largest == (2 if STRATEGIES[name].divides else 8)


@pytest.mark.parametrize("name", STRATEGIES)
def test_it_runs_as_run_says(name):
    """An uncompiled one calls Python for every operation, at every update."""
    calls = []

    def loss_fn(params, example, label, key):
        calls.append(isinstance(params["w"], jax.core.Tracer))
        return jnp.sum(params["w"] * example)

    row = STRATEGIES[name]
    row = row._replace(rule=rules.batch, reduction=reductions.mean)  # of any loss
    strategy = row(loss_fn, Options(make_mesh(2)))
    assert strategy.run == row.device_map.run
    step = strategy.value_and_grad
    step = jax.jit(step) if strategy.run == "loop" else step
    params = strategy.put_state({"w": jnp.ones(3)})
    batch = Batch(jnp.ones((4, 3)), jnp.zeros(4, jnp.int32), jnp.ones(4), None)
    for _ in range(2):
        step(params, strategy.put_batch(batch))
    once = len(calls)
    step(params, strategy.put_batch(batch))
    assert (len(calls) > once) == (strategy.run == "eager")


@pytest.mark.parametrize("name", STRATEGIES)
def test_microbatches_are_of_whom_by_hand_says(name):
    """By hand: of each device's part of 2; else of the 8 examples of all."""
    at = STRATEGIES[name].device_map
    strategy = built(name, mesh=make_mesh(4), microbatch_size=4)
    batch = strategy.put_batch(make_batch(tiny(), 8))
    run = functools.partial(jax.eval_shape, strategy.value_and_grad, tiny().params)
    if not at.by_hand:
        run(batch)
        return
    with pytest.raises(InputError, match="at most the 2 examples to take it from"):
        run(batch)


@pytest.mark.parametrize("name", STRATEGIES)
def test_kernels_are_cut_where_cuts_kernels_says(name):
    mesh = make_mesh(4, model_devices=2)
    if not STRATEGIES[name].device_map.cuts_kernels:
        with pytest.raises(InputError, match="expected one device along the axis 'mod"):
            built(name, mesh=mesh)
        return
    state = built(name, mesh=mesh).put_state(tiny().params)
    kernel = state["dense_4"]["kernel"]
    (size,) = {shard.data.size for shard in kernel.addressable_shards}
    assert size == kernel.size // 2


@pytest.mark.parametrize("name", STRATEGIES)
def test_several_processes_are_refused_where_across_processes_says(name, monkeypatch):
    mesh = make_mesh(2)
    tiny()
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    if STRATEGIES[name].device_map.across_processes:
        built(name, mesh=mesh)
        return
    with pytest.raises(InputError, match="expected one process, got 2; use"):
        built(name, mesh=mesh)


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_reduction_is_done(name):
    row = STRATEGIES[name]
    strategy = built(name, mesh=make_mesh(2))
    metrics, grads = jax.jit(strategy.value_and_grad)(
        tiny().params, make_batch(tiny(), 8)
    )
    assert ("grad_norm" in metrics.means) == (row.reduction is reductions.norms)
    if row.rule is rules.batch:
        with pytest.raises(InputError, match="forms no per-example gradients"):
            built(name, mesh=make_mesh(2), reduction=reductions.norms)
        return
    clipped = built(name, mesh=make_mesh(2), reduction=reductions.clipped(1e-3))
    _, short = jax.jit(clipped.value_and_grad)(tiny().params, make_batch(tiny(), 8))
    assert reductions.global_norm(short) <= 1.001e-3 < reductions.global_norm(grads)


def test_a_rule_says_which_reductions_it_cannot_do():
    own = Reduction(lambda grads: reductions.mean(grads)._replace(kept={}))
    halved = Options(reduction=own)
    for name, row in STRATEGIES.items():
        if row.rule in (rules.serial, rules.per_example):
            make_strategy(name, tiny().objective, halved)
        else:
            with pytest.raises(InputError):
                make_strategy(name, tiny().objective, halved)


@pytest.mark.parametrize("name", STRATEGIES)
def test_it_answers_the_four_questions(name):
    told = STRATEGIES[name].told
    for question in (
        "Where do the arrays live?",
        "Who takes the mean?",
        "What is communicated?",
        "When is it not valid?",
    ):
        assert told.count(question) == 1


def test_all_entries_have_one_gradient_of_a_batch_that_no_device_count_divides():
    batch = make_batch(tiny(), 7, padding=2)
    found = {}
    for name in STRATEGIES:
        strategy = built(name, mesh=make_mesh(3))
        found[name] = jax.jit(strategy.value_and_grad)(tiny().params, batch)[1]
    for name, grads in found.items():
        assert largest_error(grads, found["serial"]) <= 1e-5, name


def test_the_table_is_literal_and_short():
    source = inspect.getsource(strategies)
    table = source[source.index("STRATEGIES: dict") :].split("}\n")[0]
    assert table.count("Row(") == len(STRATEGIES)
    assert np.max([len(line) for line in table.splitlines()]) <= 88
