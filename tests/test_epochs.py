"""The loop: exact means, bits that repeat, evaluation that changes nothing."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from batches import TINY, make_batch, random_dataset
from jax.sharding import NamedSharding, PartitionSpec
from strategy_table import DIVIDED

from cnnjax.base import clock as clocks
from cnnjax.base.clock import Clock
from cnnjax.base.errors import InputError
from cnnjax.devices import AXIS, make_mesh
from cnnjax.experiments import runs
from cnnjax.experiments.experiment import prepare
from cnnjax.experiments.overrides import override
from cnnjax.experiments.runs import fit, run
from cnnjax.gradients.shares import batch_value_and_grad, serial_value_and_grad
from cnnjax.laws.comparison import largest_error
from cnnjax.models.stack import Dense, Flatten
from cnnjax.strategies import STRATEGIES, Options
from cnnjax.training import calls as calls_of
from cnnjax.training import epochs
from cnnjax.training.evaluation import make_evaluate
from cnnjax.training.records import epoch_means
from cnnjax.training.updates import Feed, compile_updates, make_batch_fn
from cnnjax.types import Examples, Metrics

DATASET = random_dataset(TINY, train=50, test=23)


def trained(seed: int = 0, evaluate_every: int = 1, **changes):
    recipe = override(TINY, batch_size=16, epochs=2, **changes)
    return fit(recipe, DATASET, seed=seed, evaluate_every=evaluate_every)


def same_bits(one, other) -> bool:
    leaves = (jax.tree.leaves(run.params) for run in (one, other))
    return all(np.array_equal(a, b) for a, b in zip(*leaves, strict=True))


def timeless(run) -> list[dict]:
    keep = {"epoch", "step", "learning_rate", "train_loss", "train_accuracy"}
    keep |= {"test_loss", "test_accuracy", "test_examples"}
    return [{k: v for k, v in r.to_json().items() if k in keep} for r in run.records]


def test_the_same_seed_gives_the_same_bits_and_another_does_not():
    one, again = trained(), trained()
    assert same_bits(one, again)
    assert timeless(one) == timeless(again)
    assert not same_bits(one, trained(seed=1))


@pytest.mark.parametrize("strategy", ["jit", "vmap"])
def test_the_schedule_counts_updates_and_no_microbatches(strategy):
    """With a cosine by step: were they counted, it would end too soon."""
    cosine = {"schedule": "cosine", "cosine_unit": "step", "strategy": strategy}
    recipe = override(TINY, batch_size=16, epochs=2, **cosine)
    whole, parts = (
        run(prepare(recipe, DATASET, options=Options(microbatch_size=size)))
        for size in (None, 4)
    )
    assert largest_error(parts.params, whole.params) <= 1e-5
    assert timeless(parts)[-1]["step"] == timeless(whole)[-1]["step"] == 2 * 4
    rates = [record["learning_rate"] for record in timeless(parts)]
    assert rates == [record["learning_rate"] for record in timeless(whole)]
    assert rates[1] == pytest.approx(rates[0] / 2)  # half of the steps are done


def test_evaluating_changes_nothing():
    assert same_bits(trained(), trained(evaluate_every=0))
    assert [r.test is None for r in trained(evaluate_every=0).records] == [True, False]


def test_the_calls_of_an_epoch_change_nothing(monkeypatch):
    one = trained()
    monkeypatch.setattr(calls_of, "CALLS_PER_EPOCH", 1)
    assert same_bits(one, trained())
    assert timeless(one) == timeless(trained())


@pytest.mark.parametrize("num_steps", [4, 20, 21, 23, 41])
def test_an_epoch_sees_every_example_once_however_its_calls_fall(
    num_steps, monkeypatch
):
    """Twenty calls, or three, may leave a call with fewer updates, or with none."""
    model = dataclasses.replace(TINY.model, layers=(Flatten(), Dense(3)))
    recipe = override(TINY, model=model, batch_size=2, epochs=2)
    num_examples = 2 * num_steps - 1  # the last batch is short
    dataset = random_dataset(recipe, train=num_examples, test=1)
    experiment = prepare(recipe, dataset)
    loop = {"config": experiment.loop, "keys": experiment.keys}
    parts = {"strategy": experiment.strategy, "optimizer": experiment.optimizer, **loop}
    start = experiment.params, experiment.train
    updates = compile_updates(*start, **parts)
    made = []

    def noting(loop, feed, order, first, stop):
        made.extend(range(first, stop))
        return updates.run(loop, feed, order, first, stop)

    for calls in (calls_of.CALLS_PER_EPOCH, 3):
        monkeypatch.setattr(calls_of, "CALLS_PER_EPOCH", calls)
        made.clear()
        _, records = epochs.train(
            *start,
            **parts,
            schedule=experiment.schedule,
            updates=updates._replace(run=noting),
        )
        assert made == [*range(num_steps)] * 2
        for record in records:
            assert record.steps.weight.tolist() == [2] * (num_steps - 1) + [1]


def test_strategies_train_to_the_same_parameters():
    runs = [trained(strategy=name) for name in ("jit", "serial", "eager")]
    for other in runs[1:]:
        assert largest_error(other.params, runs[0].params) < 1e-5
        first_losses = [r.records[0].steps.means["loss"] for r in (runs[0], other)]
        np.testing.assert_allclose(*first_losses, atol=1e-5)


def test_epoch_means_are_means_over_examples():
    steps = Metrics({"loss": np.array([1.0, 4.0])}, np.array([3.0, 1.0]))
    assert epoch_means(steps) == {"loss": 1.75}  # a mean of means would say 2.5


def test_an_epoch_reports_the_mean_over_its_real_examples():
    """With a learning rate of 0 the epoch's mean is the mean over the training set."""
    recipe = override(TINY, batch_size=16, epochs=1, learning_rate=0.0)
    recipe = dataclasses.replace(
        recipe,
        model=dataclasses.replace(
            recipe.model, layers=recipe.model.layers[:-2] + recipe.model.layers[-1:]
        ),
    )
    experiment = prepare(recipe, DATASET)
    record = run(experiment).records[0]
    evaluate = make_evaluate(experiment.loss_fn, experiment.train, experiment.params)
    expected = evaluate(experiment.params)
    assert record.steps.weight.tolist() == [16, 16, 16, 2]
    for name in ("loss", "accuracy"):
        np.testing.assert_allclose(record.train[name], expected[name], rtol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 7, 22, 23, 500])
def test_evaluation_counts_every_example_once(batch_size):
    experiment = prepare(TINY, DATASET)
    params, test = experiment.params, experiment.test
    sizes = (
        make_evaluate(experiment.loss_fn, test, params, batch_size=n)
        for n in (batch_size, 23)
    )
    got, expected = (evaluate(params) for evaluate in sizes)
    assert got["examples"] == 23
    assert got["accuracy"] == expected["accuracy"]
    np.testing.assert_allclose(got["loss"], expected["loss"], rtol=1e-6)
    by_hand = np.mean(
        [
            experiment.loss_fn(params, *map(jnp.asarray, example), None)[0]
            for example in zip(*test, strict=True)
        ]
    )
    np.testing.assert_allclose(got["loss"], by_hand, rtol=1e-5)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_batch_is_placed_by_the_strategy(strategy):
    """Training passes each batch through `put_batch`, where a strategy may split it."""
    experiment = prepare(override(TINY, strategy=strategy), DATASET)
    if strategy in DIVIDED:
        assert experiment.strategy.put_batch is not jax.device_put
    placed = []

    def put_batch(batch):
        placed.append(batch.weights.shape)
        return experiment.strategy.put_batch(batch)

    epochs.train(
        experiment.params,
        experiment.train,
        strategy=experiment.strategy._replace(put_batch=put_batch),
        optimizer=experiment.optimizer,
        schedule=experiment.schedule,
        config=experiment.loop,
        keys=experiment.keys,
    )
    assert set(placed) == {(TINY.batch_size,)}


def largest_share(experiment, put_batch) -> float:
    """Return the part of a batch that a device holds, gathered in a compiled loop."""
    batch_of = jax.jit(make_batch_fn(experiment.loop, put_batch))
    examples, order = experiment.strategy.put_state((experiment.train, jnp.arange(50)))
    batch = batch_of(Feed(examples, experiment.keys.dropout), order, 0, 0)
    held = [max(s.data.size for s in a.addressable_shards) / a.size for a in batch]
    return max(held)


@pytest.mark.parametrize("strategy", DIVIDED)
@pytest.mark.parametrize("batch_size", [16, 14])
def test_batches_gathered_in_a_compiled_loop_are_divided(strategy, batch_size):
    options = Options(make_mesh(4))
    recipe = override(TINY, strategy=strategy, batch_size=batch_size)
    experiment = prepare(recipe, DATASET, options=options)
    assert largest_share(experiment, experiment.strategy.put_batch) == 1 / 4
    # A mutant: traced, device_put lays nothing out.
    in_parts = NamedSharding(options.mesh, PartitionSpec(AXIS))
    mutant = functools.partial(jax.device_put, device=in_parts)
    if batch_size % 4 == 0:
        assert largest_share(experiment, mutant) == 1


@pytest.mark.parametrize("strategy", ["sharded", "shard_map", "pmap"])
@pytest.mark.parametrize("num_examples", [23, 320])
def test_evaluation_is_divided_over_the_devices(strategy, num_examples, monkeypatch):
    """By FLOPs of a device; and it counts every example once."""
    examples = random_dataset(TINY, train=50, test=num_examples)
    flops, got = [], []
    compile_ = jax.stages.Lowered.compile

    def counting(lowered):
        compiled = compile_(lowered)
        flops.append(compiled.cost_analysis()["flops"])
        return compiled

    monkeypatch.setattr(jax.stages.Lowered, "compile", counting)
    for name, mesh in (("jit", None), (strategy, make_mesh(4))):
        recipe = override(TINY, strategy=name)
        experiment = prepare(recipe, examples, options=Options(mesh))
        placement = experiment.strategy._asdict()
        params = experiment.strategy.put_state(experiment.params)
        evaluate = make_evaluate(
            experiment.loss_fn,
            experiment.test,
            params,
            batch_size=-(-num_examples // 4) if mesh else num_examples,
            **{key: placement[key] for key in ("put_state", "put_batch")},
        )
        got.append(evaluate(params))
    assert got[1]["examples"] == num_examples
    assert got[1]["accuracy"] == pytest.approx(got[0]["accuracy"], abs=1e-12)
    assert got[1]["loss"] == pytest.approx(got[0]["loss"], rel=1e-6)
    assert flops[1] == pytest.approx(flops[0] / 4, rel=0.1)


def test_no_epochs_leave_the_parameters_alone():
    experiment = prepare(override(TINY, epochs=0), DATASET)
    ended = run(experiment)
    assert ended.records == []
    assert largest_error(ended.params, experiment.params) == 0.0
    assert ended.test["examples"] == 23


def test_the_parts_of_the_time_sum_to_the_whole(monkeypatch):
    """On a clock that moves only while the device works: nothing is lost."""
    now = 0

    def taking(seconds, function):
        def slow(*arguments, **named):
            nonlocal now
            now += seconds
            return function(*arguments, **named)

        return slow

    monkeypatch.setattr(clocks.time, "perf_counter", lambda: float(now))
    monkeypatch.setattr(
        runs, "make_test", taking(1, lambda _: taking(10, lambda *_: {"loss": 1.0}))
    )
    monkeypatch.setattr(
        runs,
        "compile_updates",
        taking(
            100,
            lambda *given, **named: (made := compile_updates(*given, **named))._replace(
                run=taking(1000, made.run)
            ),
        ),
    )
    experiment = prepare(override(TINY, epochs=3), DATASET)
    clock = Clock()
    ended = run(experiment, clock=clock)
    calls = 3 * min(calls_of.CALLS_PER_EPOCH, -(-50 // TINY.batch_size))
    assert clock.seconds == {"compile": 101, "train": 1000 * calls, "evaluate": 30}
    assert sum(clock.seconds.values()) == clock.total() == now
    for record in ended.records:
        assert record.seconds == 1000 * calls / 3
        assert record.examples_per_second == 50 / record.seconds


def test_counting_does_not_lose_bits_in_bfloat16():
    """A bfloat16 cannot count past 256: sums and weights are kept in float32."""
    recipe = override(TINY, dtype="bfloat16", param_dtype="bfloat16")
    dataset = random_dataset(TINY, train=320, test=600)
    experiment = prepare(recipe, dataset)
    assert experiment.params["conv_0"]["kernel"].dtype == "bfloat16"
    counted = make_evaluate(experiment.loss_fn, experiment.test, experiment.params)
    accuracy = counted(experiment.params)["accuracy"]
    correct = accuracy * 600
    np.testing.assert_allclose(correct, round(correct), atol=1e-3)
    batch = make_batch(experiment, 300)
    for rule in (batch_value_and_grad, serial_value_and_grad):
        metrics, grads = jax.jit(rule(experiment.loss_fn))(experiment.params, batch)
        assert metrics.weight == 300
        assert grads["conv_0"]["kernel"].dtype == "bfloat16"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 0}, "batch_size from 1 to the 50 training examples, got 0"),
        ({"batch_size": 51}, "batch_size from 1 to the 50 training examples, got 51"),
        ({"epochs": -1}, "epochs of at least 0, got -1"),
        ({"strategy": "jti"}, "unknown strategy 'jti'; did you mean jit"),
    ],
)
def test_a_loop_that_cannot_run_is_refused(changes, message):
    with pytest.raises(InputError, match=message):
        prepare(override(TINY, **changes), DATASET)


def test_a_dataset_that_does_not_fit_is_refused():
    smaller = Examples(DATASET.train.inputs[:, :7], DATASET.train.labels)
    wrong = dataclasses.replace(DATASET, train=smaller, test=smaller)
    with pytest.raises(InputError, match=r"shape \(8, 8, 1\), got \(7, 8, 1\) from"):
        prepare(TINY, wrong)
    wrong = dataclasses.replace(DATASET, class_names=tuple("abcd"))
    with pytest.raises(InputError, match="predicts 3 classes, but .* has 4 classes"):
        prepare(TINY, wrong)
    with pytest.raises(InputError, match="seed from 0 to"):
        prepare(TINY, DATASET, seed=-1)
