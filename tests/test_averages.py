"""A moving average of the parameters: the published rule; tested, kept, resumed."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from batches import TINY, random_dataset

from cnnjax.base.errors import InputError
from cnnjax.devices import make_mesh, to_host
from cnnjax.experiments.ended import state_like
from cnnjax.experiments.ensembles import run_seeds
from cnnjax.experiments.experiment import prepare
from cnnjax.experiments.overrides import override
from cnnjax.experiments.runs import run
from cnnjax.laws.comparison import largest_error
from cnnjax.loaded import reading
from cnnjax.results.checkpoints import snapshot
from cnnjax.strategies import Options
from cnnjax.training.averages import kept_params, with_average, without_schedule
from cnnjax.training.step import init_state
from cnnjax.types import TrainState

DECAY = 0.8
SMALL = override(TINY, strategy="jit", batch_size=8, epochs=2)
AVERAGED = override(SMALL, average_decay=DECAY)
DATASET = random_dataset(TINY, train=49, test=23)


def by_hand(values: list[np.ndarray], decay: float) -> np.ndarray:
    """Average what the updates made, after the first parameters."""
    average = values[0]
    for t, value in enumerate(values[1:], start=1):
        d = min(decay, t / (t + 9))
        average = d * average + (1 - d) * value
    return average


@pytest.mark.parametrize("decay", [0.2, DECAY, 0.999])
def test_the_average_is_that_of_the_published_rule(decay):
    rng = np.random.default_rng(0)
    grads = rng.standard_normal((12, 3))
    with jax.enable_x64(True):
        plain = optax.sgd(0.1, momentum=0.9)
        optimizer = with_average(plain, decay)
        params = {"kernel": jnp.asarray(rng.standard_normal(3))}
        own, other = (init_state(params, one) for one in (optimizer, plain))
        seen = [np.asarray(params["kernel"])]
        for gradient in grads:
            states = []
            for state, rule in ((own, optimizer), (other, plain)):
                grad = {"kernel": jnp.asarray(gradient)}
                changes, inner = rule.update(grad, state.opt_state, state.params)
                new = optax.apply_updates(state.params, changes)
                states.append(TrainState(new, inner, state.step + 1))
            own, other = states
            np.testing.assert_array_equal(own.params["kernel"], other.params["kernel"])
            seen.append(np.asarray(own.params["kernel"]))
        average = kept_params(own)["kernel"]
    np.testing.assert_allclose(average, by_hand(seen, decay), rtol=1e-12)
    assert kept_params(other) is other.params


def states_of(recipe, **how):
    """Run, and return the run with a copy of each of its states."""
    experiment = prepare(recipe, DATASET)
    states = []

    def keep(at):
        held = {"state": to_host(at.state), "steps": to_host(at.steps)}
        states.append(at._replace(**held))

    return run(experiment, on_state=keep, **how), states


def test_training_stays_as_it_is_and_the_average_is_tested_and_kept():
    """Mistakes: the average is trained on, or only one of test and file has it."""
    averaged, states = states_of(AVERAGED)
    plain, _ = states_of(SMALL)
    for mine, own in zip(averaged.records, plain.records, strict=True):
        assert mine.train == own.train
        assert mine.test != own.test
    assert largest_error(averaged.params, states[-1].state.opt_state.average) == 0.0
    assert largest_error(plain.params, states[-1].state.params) == 0.0
    assert largest_error(averaged.params, plain.params) > 0.0


@pytest.mark.parametrize("place", [2, 5])
def test_an_average_is_resumed_to_the_same_bits(place):
    whole, states = states_of(AVERAGED)
    experiment = prepare(AVERAGED, DATASET)
    taken = snapshot.take(states[place], experiment.keys)
    names = [name for name in taken.arrays if "opt_state/average" in name]
    assert len(names) == len(jax.tree.leaves(experiment.params))
    like = state_like([experiment])
    at = snapshot.restore(taken, like=like, keys=experiment.keys)
    again = run(prepare(AVERAGED, DATASET), resume=at)
    assert largest_error(again.params, whole.params) == 0.0
    assert again.test == whole.test


def test_seeds_at_once_have_the_averages_of_single_runs():
    def prepare_fn(seed: int):
        return prepare(AVERAGED, DATASET, seed=seed)

    for ended in run_seeds(prepare_fn, range(2), group_size=2):
        single = run(prepare_fn(ended.seed))
        assert largest_error(ended.run.params, single.params) <= 1e-5


@pytest.mark.parametrize("strategy", ["sharded", "shard_map", "vmap", "factored"])
def test_every_form_clips_and_averages_alike(strategy):
    """The norm is that of the whole gradient, also where devices hold parts of it."""
    recipe = override(AVERAGED, max_norm=0.05, epochs=1)
    of_jit = run(prepare(recipe, DATASET))
    unclipped = run(prepare(override(AVERAGED, epochs=1), DATASET))
    assert largest_error(of_jit.params, unclipped.params) > 1e-3
    options = Options()
    if strategy in ("sharded", "shard_map"):
        model = 2 if strategy == "sharded" else 1
        options = Options(make_mesh(4, model_devices=model))
    own = override(recipe, strategy=strategy)
    ended = run(prepare(own, DATASET, options=options))
    assert largest_error(ended.params, of_jit.params) <= 1e-5


# -- without a schedule --------------------------------------------------------------

BETA = 0.9
FREE = override(SMALL, schedule="constant", schedule_free=BETA, momentum=0.0)


def test_no_schedule_is_the_published_rule():
    """Defazio et al. 2024, with plain SGD: three sequences, in NumPy."""
    rng = np.random.default_rng(0)
    grads = rng.standard_normal((12, 3))
    with jax.enable_x64(True):
        optimizer = without_schedule(optax.sgd(0.1), 0.1, BETA)
        first = rng.standard_normal(3)
        state = init_state({"kernel": jnp.asarray(first)}, optimizer)
        x = z = first
        for t, gradient in enumerate(grads, start=1):
            changes, inner = optimizer.update(
                {"kernel": jnp.asarray(gradient)}, state.opt_state, state.params
            )
            params = optax.apply_updates(state.params, changes)
            state = TrainState(params, inner, state.step + 1)
            z = z - 0.1 * gradient
            x = (1 - 1 / t) * x + z / t
            y = (1 - BETA) * z + BETA * x
            np.testing.assert_allclose(state.params["kernel"], y, rtol=1e-12)
            np.testing.assert_allclose(kept_params(state)["kernel"], x, rtol=1e-10)


def test_what_is_tested_and_kept_is_x_and_not_y():
    experiment = prepare(FREE, DATASET)
    states = []
    ended = run(experiment, on_state=lambda at: states.append(to_host(at.state)))
    last = states[-1]
    kept = kept_params(last)
    assert largest_error(ended.params, kept) <= 1e-6  # NumPy divides in another way
    assert largest_error(ended.params, last.params) > 1e-3


def test_a_checkpoint_of_it_is_read_as_x(tmp_path):
    """Mistake: an unfinished run is loaded with what is trained, not what is kept."""
    experiment = prepare(FREE, DATASET)
    states = []
    run(
        experiment,
        on_state=lambda at: states.append(snapshot.take(at, experiment.keys)),
    )
    arrays = states[3].arrays
    z, y = (reading._below(arrays, place) for place in (reading.STEPS, reading.STATE))
    assert z.keys() == y.keys() != set()
    like = state_like([experiment])
    at = snapshot.restore(states[3], like=like, keys=experiment.keys)
    wanted = snapshot.named(to_host(at.params))
    for name, value in wanted.items():
        mine = (y[name] - (1 - BETA) * z[name]) / BETA
        np.testing.assert_allclose(mine, value, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    "changes",
    [
        {"schedule_free": 0.0},
        {"schedule_free": 1.0},
        {"schedule_free": 0.9, "schedule": "cosine"},
        {"schedule_free": 0.9, "average_decay": 0.9},
    ],
)
def test_what_does_not_go_with_it_is_refused(changes):
    with pytest.raises(InputError, match="schedule_free"):
        override(SMALL, **{"schedule": "constant", **changes})
