"""Times are waited for, staged and interleaved; advice is taken from them."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax import experiments, load_dataset, override
from cnnjax.base.errors import InputError
from cnnjax.experiments import experiment as experiment_room
from cnnjax.experiments import recipes
from cnnjax.studies.measuring import advice, candidates, timing
from cnnjax.studies.measuring.advice import Advice, Tried
from cnnjax.studies.measuring.advice_text import advice_lines
from cnnjax.studies.measuring.candidates import Candidate
from cnnjax.studies.measuring.timing import Spread


def test_spread_is_median_and_quartiles():
    values = [5.0, 1.0, 4.0, 2.0, 3.0]
    assert timing.spread(values) == Spread(3.0, 2.0, 4.0, 5)
    with pytest.raises(InputError, match="at least one measurement"):
        timing.spread([])


def test_rounds_go_through_all_timers_before_the_next_begins():
    calls = []

    def timer(name):
        return lambda: calls.append(name) or float(len(calls))

    times = timing.interleave({"a": timer("a"), "b": timer("b")}, num_rounds=3)
    assert calls == ["a", "b"] * 3
    assert times == {"a": [1.0, 3.0, 5.0], "b": [2.0, 4.0, 6.0]}
    with pytest.raises(InputError, match="num_rounds of at least 1"):
        timing.interleave({}, num_rounds=0)


def test_a_timer_waits_for_the_device():
    waited = []

    class Pending:
        def block_until_ready(self):
            waited.append(self)
            return self

    assert timing.seconds_of(Pending) > 0
    assert len(waited) == 1


def test_steps_fill_the_time_whatever_the_first_call_takes():
    asked = []

    def run(steps):
        asked.append(steps)
        return 0.1 * steps + (5.0 if len(asked) == 1 else 0.0)

    assert timing.steps_that_fill(run, 2.0) == 20
    assert asked == [1, 1, 2, 4, 8]
    assert timing.steps_that_fill(lambda _: 9.0, 2.0) == 1
    with pytest.raises(InputError, match="more than 0 seconds to fill, got 0"):
        timing.steps_that_fill(run, 0.0)


def test_stages_give_the_program_and_every_part():
    stages, program = timing.time_stages(jax.jit(lambda x: x * 2), jnp.ones(3))
    assert all(seconds > 0 for seconds in stages)
    np.testing.assert_array_equal(program(jnp.ones(3)), 2 * np.ones(3))


def tried(name, step, build=1.0):
    return Tried(Candidate(name), Spread(step, step, step, 1), build, 0.0)


def test_advice_is_the_fastest_and_of_equals_the_first_to_be_ready():
    slow, fast = tried("serial", 0.03), tried("jit", 0.01)
    also = tried("vmap", 0.0101, build=0.5)
    assert Advice((fast, slow), 8).best is fast
    assert Advice((fast, also, slow), 8).best is also


def test_a_compile_time_is_repaid_by_faster_updates():
    eager, jit = tried("eager", 0.11, build=0.0), tried("jit", 0.01, build=2.0)
    assert advice.repaid_after(jit, eager) == pytest.approx(20.0)
    assert advice.repaid_after(eager, jit) == math.inf  # slower, later on
    assert advice.repaid_after(tried("jit", 0.01), tried("serial", 0.02)) == 0.0
    lines = advice_lines(Advice((jit, eager), 64))
    assert lines[-1] == (
        "use jit: 6,400 examples/s, eager 582; its longer compilation pays off after "
        "20 updates"
    )
    assert max(map(len, lines[:-1])) <= 80


def test_the_first_to_be_ready_is_ahead_until_it_is_caught_up():
    fast, ready = tried("vmap", 0.0100, build=2.0), tried("jit", 0.0102, build=1.0)
    table = advice_lines(Advice((fast, ready), 64))
    ends = [(line.split()[0], line[68:].strip()) for line in table[1:3]]
    assert ends == [("vmap", "until 5,000"), ("jit", "the best")]


def test_table_and_sentence_have_the_same_number_of_updates():
    best, other = tried("jit", 0.0100, build=4.024), tried("vmap", 0.0200, build=1.0)
    lines = advice_lines(Advice((best, other), 64))
    (even,) = (line.split()[-1] for line in lines if line.startswith("vmap"))
    assert even == "303"
    assert lines[-1].endswith("after 303 updates")


@pytest.fixture(scope="module")
def experiment():
    recipe = override(
        recipes.get_recipe("adam_cosine_cnn"), dataset="digits", batch_size=8
    )
    return experiments.prepare(recipe, load_dataset("digits"))


@pytest.mark.slow  # train.py --strategy=auto is tried quickly
def test_advice_is_measured_on_right_gradients(experiment):
    pair = [Candidate("jit"), Candidate("jit", 4)]
    found = advice.advise(experiment, pair, num_rounds=1, round_seconds=0.01)
    assert {one.candidate for one in found.tried} == {*pair}
    assert found.tried[0].step_seconds.median <= found.tried[1].step_seconds.median
    assert all(one.gradient_error <= 1e-5 for one in found.tried)
    assert all(one.build_seconds > 0 for one in found.tried)


def test_a_wrong_gradient_is_not_advised(experiment, monkeypatch):
    right = experiment_room.make_strategy

    def twice(name, loss_fn, options):
        strategy = right(name, loss_fn, options)

        def value_and_grad(params, batch):
            metrics, grads = strategy.value_and_grad(params, batch)
            return metrics, jax.tree.map(lambda g: 2 * g, grads)

        return strategy._replace(value_and_grad=value_and_grad)

    monkeypatch.setattr(experiment_room, "make_strategy", twice)
    with pytest.raises(InputError, match="off by 1.0e"):
        advice.advise(experiment, [Candidate("jit")], num_rounds=1)


def test_candidates_fit_the_batch_and_the_devices(experiment):
    names = {str(one) for one in candidates.candidates_for(experiment)}
    assert {"jit", "serial", "vmap", "eager", "factored"} <= names
    for strategy in ("jit", "factored"):  # the batch has 8
        assert f"{strategy} in microbatches of 8" not in names


@pytest.mark.parametrize(
    ("recipe", "backend", "tried"),
    [
        ("adam_cosine_cnn", "cpu", {None, 8, 16, 32}),
        ("adam_cosine_cnn", "gpu", set()),
        ("momentum_mlp_serial", "cpu", set()),
    ],
)
def test_flat_products_are_tried_where_they_pay(monkeypatch, recipe, backend, tried):
    monkeypatch.setattr(candidates.jax, "default_backend", lambda: backend)
    chosen = override(recipes.get_recipe(recipe), dataset="digits", batch_size=64)
    own = experiments.prepare(chosen, load_dataset("digits"))
    found = candidates.candidates_for(own)
    assert {one.microbatch_size for one in found if one.strategy == "factored"} == tried
