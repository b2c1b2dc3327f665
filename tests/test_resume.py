"""Training that is resumed ends in the bits of training that was never stopped."""

from __future__ import annotations

import functools

import jax
import numpy as np
import pytest
from batches import TINY, random_dataset
from strategy_table import DIVIDED

from cnnjax.base.clock import Clock
from cnnjax.base.errors import InputError
from cnnjax.devices import make_mesh, to_host
from cnnjax.experiments.experiment import Experiment, prepare
from cnnjax.experiments.groups import compile_group
from cnnjax.experiments.overrides import override
from cnnjax.experiments.runs import run, run_group
from cnnjax.laws.comparison import TOLERANCES, largest_error
from cnnjax.strategies import Options
from cnnjax.training.loop import LoopState

DATASET = random_dataset(TINY, train=50, test=23)
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("factored", "sharded")]


def copied(state: LoopState) -> LoopState:
    return state._replace(state=to_host(state.state), steps=to_host(state.steps))


@functools.cache
def experiment_of(strategy: str, seed: int = 0) -> Experiment:
    mesh = make_mesh(2) if strategy in DIVIDED else None
    recipe = override(
        TINY, strategy=strategy, batch_size=8, epochs=3, schedule="cosine"
    )
    return prepare(recipe, DATASET, seed=seed, options=Options(mesh))


def timeless(records) -> list:
    return [(r.epoch, r.step, r.learning_rate, dict(r.train), r.test) for r in records]


@functools.cache
def unbroken(strategy: str):
    """Return a run that is never stopped, and the state after each call."""
    states: list[LoopState] = []
    ended = run(
        experiment_of(strategy), on_state=lambda state: states.append(copied(state))
    )
    return ended, states


@pytest.mark.parametrize("strategy", ["jit", "eager", "shard_map", *SLOW])
@pytest.mark.parametrize("place", ["within an epoch", "before its test", "after it"])
def test_resumed_training_ends_in_the_same_bits(strategy, place):
    whole, states = unbroken(strategy)
    at = {
        "within an epoch": lambda s: s.epoch == 1 and s.update == 3,
        "before its test": lambda s: s.epoch == 1 and s.update == 7,
        "after it": lambda s: s.epoch == 2 and s.update == 0,
    }[place]
    (state,) = filter(at, states)
    seen = []
    ended = run(experiment_of(strategy), resume=state, on_epoch=seen.append)
    assert largest_error(ended.params, whole.params) == 0.0
    assert timeless(ended.records) == timeless(whole.records)
    assert ended.test == whole.test
    assert [record.epoch for record in seen] == [r for r in (2, 3) if r > state.epoch]
    for mine, own in zip(ended.records, whole.records, strict=True):
        jax.tree.map(np.testing.assert_array_equal, mine.steps, own.steps)


@pytest.mark.parametrize("form", ["eager", "vmap", "shard_map"])
def test_another_form_goes_on_within_rounding(form):
    """Also from within an epoch; more devices are another form, too."""
    whole, states = unbroken("jit")
    (state,) = (s for s in states if (s.epoch, s.update) == (1, 3))
    ended = run(experiment_of(form), resume=state)
    bound = TOLERANCES["float32"]
    assert 0.0 <= largest_error(ended.params, whole.params) <= bound
    assert [r.epoch for r in ended.records] == [1, 2, 3]
    for mine, own in zip(ended.records, whole.records, strict=True):
        assert mine.train["loss"] == pytest.approx(own.train["loss"], rel=1e-4)


def test_more_epochs_end_as_if_they_had_been_asked_for_at_once():
    """With the same rates, in the same bits."""
    short, long = (
        prepare(override(TINY, strategy="jit", batch_size=8, epochs=epochs), DATASET)
        for epochs in (2, 4)
    )
    states: list[LoopState] = []
    run(short, on_state=lambda state: states.append(copied(state)))
    resumed, whole = run(long, resume=states[-1]), run(long)
    assert largest_error(resumed.params, whole.params) == 0.0
    assert timeless(resumed.records) == timeless(whole.records)


def test_a_finished_run_resumes_to_itself():
    whole, states = unbroken("jit")
    ended = run(experiment_of("jit"), resume=states[-1])
    assert largest_error(ended.params, whole.params) == 0.0
    assert timeless(ended.records) == timeless(whole.records)


def test_a_group_of_seeds_resumes_to_the_same_bits():
    group = [experiment_of("jit", seed) for seed in (0, 1)]
    updates, states = compile_group(group), []

    def go(**how):
        return run_group(group, updates, clock=Clock(), **how)

    whole = go(on_state=lambda state: states.append(copied(state)))
    state = next(s for s in states if s.epoch == 1 and s.update == 3)
    for mine, own in zip(go(resume=state), whole, strict=True):
        assert largest_error(mine.params, own.params) == 0.0
        assert timeless(mine.records) == timeless(own.records)


def narrower(state: LoopState) -> LoopState:
    def cut(leaf):
        return leaf[..., :1] if np.ndim(leaf) else leaf

    return state._replace(state=jax.tree.map(cut, state.state))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda state: state._replace(epoch=4), "to resume after 0 to 3 epochs, got 4"),
        (
            lambda state: state._replace(update=8),
            "after 0 to 7 updates of an epoch, got",
        ),
        (lambda state: state._replace(records=((), ())), "as there are, 1, got 2"),
        (narrower, "expected to resume this training, with the leaf"),
        (
            lambda state: state._replace(steps={}),
            "expected to resume this training, wi",
        ),
    ],
)
def test_the_state_of_another_training_is_refused(change, reason):
    _, states = unbroken("jit")
    with pytest.raises(InputError) as raised:
        run(experiment_of("jit"), resume=change(states[2]))
    assert reason in str(raised.value)
    assert "\n" not in str(raised.value)
