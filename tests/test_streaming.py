"""Examples that stay on the host, a window at a time on a device: the same bits."""

from __future__ import annotations

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from batches import TINY, random_dataset
from strategy_table import DIVIDED

from cnnjax import experiments
from cnnjax.base.errors import InputError
from cnnjax.devices import make_mesh, to_host
from cnnjax.experiments import groups
from cnnjax.experiments.experiment import prepare
from cnnjax.experiments.overrides import override
from cnnjax.experiments.runs import run
from cnnjax.strategies import STRATEGIES, Options
from cnnjax.training import streaming
from cnnjax.training.updates import compile_updates
from cnnjax.types import Examples

ROOT = Path(__file__).parent.parent
DATASET = random_dataset(TINY, train=50, test=23)
SOON = ("jit", "factored", "shard_map")
FORMS = [
    pytest.param(name, marks=() if name in SOON else pytest.mark.slow)
    for name in STRATEGIES
    if name != "serial"
]


def experiment_of(strategy: str, **changes):
    mesh = make_mesh(2) if strategy in DIVIDED else None
    settings = {"batch_size": 8, "epochs": 2, **changes}
    recipe = override(TINY, strategy=strategy, **settings)
    return prepare(recipe, DATASET, options=Options(mesh))


def ended(experiment, **how):
    """Train; return the result, the state after every call, and what was recorded."""
    states = {}

    def keep(at):
        states[at.epoch, at.update] = to_host(at.state), to_host(at.steps)

    result = run(experiment, on_state=keep, **how)
    told = [(r.epoch, r.step, dict(r.train), r.test) for r in result.records]
    return result, states, told


def assert_same_bits(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize("strategy", FORMS)
def test_a_stream_gives_the_bits_of_resident_examples(strategy):
    """At every update: parameters, optimizer state, metrics; and the tests."""
    experiment = experiment_of(strategy)
    whole, states, told = ended(experiment)
    for updates in (1, 3) if strategy == "jit" else (3,):
        stream = experiments.streamed(experiment, updates)
        result, own, own_told = ended(stream)
        assert_same_bits(result.params, whole.params)
        assert own_told == told
        shared = own.keys() & states.keys()
        assert len(shared) >= 2
        for at in shared:
            assert_same_bits(own[at], states[at])


@pytest.mark.parametrize("updates", [2, 100])
@pytest.mark.parametrize(
    "changes",
    [{"shuffle": "never"}, {"shuffle": "once"}, {"batch_size": 50}, {"batch_size": 16}],
    ids=str,
)
def test_windows_of_any_size_and_order(changes, updates):
    experiment = experiment_of("jit", **changes)
    whole, _, told = ended(experiment)
    result, _, own = ended(experiments.streamed(experiment, updates))
    assert_same_bits(result.params, whole.params)
    assert own == told


def test_a_stream_is_resumed_within_an_epoch():
    """Also by resident examples: a checkpoint knows no difference."""
    experiment = experiment_of("jit")
    stream = experiments.streamed(experiment, 2)
    kept = []

    def keep(at):
        if (at.epoch, at.update) == (1, 4):
            kept.append(at._replace(state=to_host(at.state), steps=to_host(at.steps)))

    whole = run(stream, on_state=keep)
    for form in (stream, experiment, experiments.streamed(experiment, 3)):
        assert_same_bits(run(form, resume=kept[0]).params, whole.params)


def test_a_window_is_all_that_is_on_the_devices():
    """Mistake: to stream the examples, and hold all of them there, too."""
    experiment = experiments.streamed(experiment_of("jit"), 2)
    updates = compile_updates(
        experiment.params,
        experiment.train,
        strategy=experiment.strategy,
        optimizer=experiment.optimizer,
        config=experiment.loop,
        keys=experiment.keys,
    )
    feed = updates.feed(experiment.train, experiment.keys)
    order = np.asarray(updates.order_of(experiment.keys, np.int32(0)))
    calls = [(0, 2), (2, 4), (4, 6), (6, 7)]
    feeds = list(feed.for_calls(order, calls))
    assert [int(own.start) for own in feeds] == [0, 16, 32, 48]
    for own, (first, _) in zip(feeds, calls, strict=True):
        assert own.examples.labels.shape == (16,)
        places = np.minimum(np.arange(first * 8, first * 8 + 16), 49)
        wanted = experiment.train.labels[order[places]]
        np.testing.assert_array_equal(own.examples.labels, wanted)
    assert all(isinstance(array, np.ndarray) for array in feed.examples)


class Counting:
    """Labels that count how often rows of them are read."""

    def __init__(self) -> None:
        self.reads = 0

    def __getitem__(self, rows):
        self.reads += 1
        return rows


def test_windows_are_read_when_they_are_needed():
    """Mistake: to gather the whole epoch before its first update."""
    examples = Examples(np.zeros((1000, 1)), labels := Counting())
    stream = streaming.Stream(examples, None, lambda read: read, batch_size=10, rows=10)
    calls = [(at, at + 1) for at in range(100)]
    feeds = stream.for_calls(np.arange(1000), calls)
    next(feeds)
    assert 0 < labels.reads <= 10
    feeds.close()


def test_no_calls_need_no_windows():
    examples = Examples(np.zeros((4, 1)), np.zeros(4))
    stream = streaming.Stream(examples, None, lambda read: read, batch_size=2, rows=2)
    assert list(stream.for_calls(np.arange(4), [])) == []


def test_what_was_not_finite_is_found_in_a_stream():
    """Also in a later window than the first of the epoch."""
    experiment = experiment_of("jit", shuffle="never")
    inputs = np.array(experiment.train.inputs, np.float32)
    inputs[37] = np.nan
    spoiled = experiment._replace(train=Examples(inputs, experiment.train.labels))
    whole = run(spoiled, on_nan="stop").divergence
    assert whole is not None
    assert (whole.step, whole.tensor) == (5, "the loss")
    for updates in (1, 3):
        own = run(experiments.streamed(spoiled, updates), on_nan="stop").divergence
        assert repr(own) == repr(whole)  # a NaN is not equal to itself


@pytest.mark.parametrize("updates", [0, -1, 1.5, "2"])
def test_only_a_number_of_updates_is_streamed(updates):
    with pytest.raises(InputError, match="stream"):
        experiments.streamed(experiment_of("jit"), updates)


def test_seeds_at_once_are_not_streamed():
    experiment = experiments.streamed(experiment_of("jit"), 2)
    with pytest.raises(InputError, match="one seed at a time"):
        groups.check_group(experiment, 2)


def test_the_flag_gives_the_same_files(forks, tmp_path):
    """A finished stream may be extended with the examples on the device."""
    flags = ("--recipe=momentum_mlp_per_sample", "--dataset=digits", "--epochs=2")
    flags += ("--num_train=300",)
    script = ROOT / "scripts" / "train.py"
    for name, own in (("resident", ()), ("stream", ("--stream=3",))):
        done = forks.run(script, *flags, *own, f"--workdir={name}", cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
    for file in ("params.safetensors", "predictions.csv"):
        resident, stream = (tmp_path / name / file for name in ("resident", "stream"))
        assert resident.read_bytes() == stream.read_bytes()
    again = forks.run(script, *flags, "--epochs=3", "--workdir=stream", cwd=tmp_path)
    assert (again.returncode, again.stderr) == (0, "")
    result = json.loads((tmp_path / "stream" / "result.json").read_text())
    assert result["epochs"] == 3
    several = ("--stream=2", "--num_seeds=2", "--group_size=2")
    refused = forks.run(script, *flags, *several, cwd=tmp_path)
    assert refused.returncode == 2
    assert "one seed at a time, --group_size=1, with --stream" in refused.stderr
