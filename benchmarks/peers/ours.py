"""cnnjax, run as `train.py` does: a compiled epoch, with the data on the device."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import _paths  # noqa: F401
import jax
import jax.numpy as jnp
import numpy as np
from case import FULL_EXAMPLES, MAX_NORM, Case, Tree
from contenders import Contender, Task

from cnnjax import data, devices, experiments
from cnnjax.base.clock import Clock
from cnnjax.data.order import epoch_order, take_batch
from cnnjax.experiments import recipes, runs
from cnnjax.experiments.experiment import Experiment
from cnnjax.experiments.overrides import override
from cnnjax.gradients.microbatches import microbatched
from cnnjax.gradients.reductions import REDUCTIONS
from cnnjax.gradients.rules import ROUTES
from cnnjax.gradients.shares import ShareFn, each_over, with_per_example
from cnnjax.laws.programs import temporary_bytes
from cnnjax.models.stack import Conv, Dense, ModelConfig
from cnnjax.strategies import STRATEGIES, Options
from cnnjax.studies.measuring.timing import time_stages
from cnnjax.training.records import EpochRecord
from cnnjax.training.step import init_state, make_train_step
from cnnjax.training.updates import Feed, compile_updates, make_batch_fn
from cnnjax.types import Batch, Strategy

Result = Callable[[], Tree]


def make(
    case: Case,
    task: Task,
    *,
    rule: str | None = None,
    microbatch_size: int | None = None,
    **options: Any,
) -> Contender:
    """Build a strategy of the table, or a per-example rule in place of one.

    `options` are those of `experiment_of`; they override the case.
    """
    if task == "bfloat16":
        options["precision"] = task
    experiment = experiment_of(case, microbatch_size=microbatch_size, **options)
    share = None
    if rule is not None:
        reduction, _, route = rule.partition("_by_")
        share = ROUTES[route](experiment.objective, REDUCTIONS[reduction](MAX_NORM))
        if microbatch_size is not None:
            share = microbatched(share, size=microbatch_size)
        examine = jax.jit(with_per_example(share))

        def value_and_grad(params, batch):
            metrics, grads, _ = examine(params, batch)
            return metrics, grads

        experiment = experiment._replace(
            strategy=experiment.strategy._replace(value_and_grad=value_and_grad)
        )

    def result() -> Tree:
        batch = first_batch(experiment)
        if share is None:
            _, grads = jax.jit(experiment.strategy.value_and_grad)(
                experiment.strategy.put_state(experiment.params),
                experiment.strategy.put_batch(batch),
            )
            return grads
        _, grads, each = examine(experiment.params, batch)
        return each_of(task, grads, each)

    if task == "full":
        assert share is not None
        return _rows(experiment, share)
    contender = _updates(case, experiment, result)
    # `train` supports strategies of the table only, not rules, and in float32.
    trains = share is None and task == "mean"
    return contender if trains else contender._replace(train=None)


def experiment_of(
    case: Case,
    *,
    strategy: str = "jit",
    microbatch_size: int | None = None,
    num_devices: int = 1,
    num_filters: int | None = None,
    num_units: int | None = None,
    **changes: Any,
) -> Experiment:
    """Prepare the case's recipe with a strategy; `changes` override the case's facts.

    On a CPU, `num_devices` virtual devices are made; `num_filters` is for each
    convolution, `num_units` for each dense layer but the last.
    """
    facts = {**case.facts, **changes}
    if num_devices > 1:
        jax.config.update("jax_num_cpu_devices", num_devices)
    names = ("dataset", "batch_size", "num_train", "epochs", "learning_rate")
    recipe = override(
        recipes.get_recipe(facts["recipe"]),
        strategy=strategy,
        precision=changes.get("precision"),
        **{name: facts[name] for name in names},
    )
    for kind, features in ((Conv, num_filters), (Dense, num_units)):
        if features is not None:
            model = _widened(recipe.model, kind, features)
            recipe = replace(recipe, model=model)
    dataset = data.load_dataset(recipe.dataset, data_dir=facts["data_dir"])
    mesh = (
        devices.make_mesh(num_devices) if STRATEGIES[recipe.strategy].divides else None
    )
    options = Options(mesh, microbatch_size)
    return experiments.prepare(recipe, dataset, seed=facts["seed"], options=options)


def _widened(
    model: ModelConfig, kind: type[Conv | Dense], features: int
) -> ModelConfig:
    """Return a network whose layers of this kind, but the last layer, have features."""
    *layers, last = model.layers
    wider = [
        replace(layer, features=features) if isinstance(layer, kind) else layer
        for layer in layers
    ]
    return replace(model, layers=(*wider, last))


def first_batch(experiment: Experiment) -> Batch:
    """Return the first batch of the first epoch, without dropout."""
    order = epoch_order(
        experiment.keys.order,
        0,
        num_examples=len(experiment.train.labels),
        shuffle=experiment.recipe.shuffle,
    )
    size = experiment.loop.batch_size
    return take_batch(experiment.train, order, 0, batch_size=size)


def each_of(task: Task, grads: Tree, each: dict[str, Any]) -> Tree:
    """Return what is compared for a per-example rule: mean, norms or gradients."""
    if task == "full":
        return jax.tree.map(lambda rows: rows[:FULL_EXAMPLES], each["grads"])
    kept = {"each": {"grad_norm": each["grad_norm"]}} if task == "norms" else {}
    return {**grads, **kept}


def _updates(case: Case, experiment: Experiment, result: Result) -> Contender:
    """Run parts of the compiled epoch, as training does."""
    updates = compile_updates(
        experiment.params,
        experiment.train,
        strategy=experiment.strategy,
        optimizer=experiment.optimizer,
        config=experiment.loop,
        keys=experiment.keys,
    )
    loop = updates.start(experiment.params)
    order = updates.order_of(experiment.keys, np.int32(0))
    feeds = updates.feed(experiment.train, experiment.keys)
    feed = next(feeds.for_calls(order, [(0, 1)]))  # the same in every call
    num_steps = updates.num_examples // experiment.loop.batch_size
    at = 0

    def run(steps: int) -> None:
        nonlocal loop, at
        while steps > 0:
            part = min(steps, num_steps - at)
            bounds = np.int32(at), np.int32(at + part)
            loop = updates.run(loop, feed, order, *bounds)
            steps, at = steps - part, (at + part) % num_steps
        jax.block_until_ready(loop)

    def train(epochs: int, seed: int) -> list[dict[str, Any]]:
        return train_from(case, experiment, epochs=epochs, seed=seed)

    facts = {
        "version": jax.__version__,
        "stages": stages(experiment, first_batch(experiment)),
        "temporary_bytes": temporary_bytes(updates.run)
        if isinstance(updates.run, jax.stages.Compiled)
        else None,
    }
    return Contender(run, result, facts, train)


def _rows(experiment: Experiment, share: ShareFn) -> Contender:
    """Compute the per-example gradients of one batch after another.

    The result comes from the timed function, but without dropout; it overwrites the
    previous gradients.
    """
    batch_of = jax.jit(make_batch_fn(experiment.loop, experiment.strategy.put_batch))
    size, num_examples = experiment.loop.batch_size, len(experiment.train.labels)
    order = jnp.arange(num_examples, dtype=jnp.int32)
    placed = experiment.strategy.put_state(experiment.train)
    feed = Feed(placed, experiment.keys.dropout)

    def gather(at: int) -> Batch:
        index = np.int32(at % (num_examples // size))
        return batch_of(feed, order, index, index)

    each = each_over(share)
    like = jax.eval_shape(each, experiment.params, gather(0), None)
    rows = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), like)
    program = each.lower(experiment.params, gather(0), rows).compile()
    at = 0

    def run(steps: int) -> None:
        nonlocal rows, at
        for _ in range(steps):
            rows = program(experiment.params, gather(at), rows)
            at += 1
        jax.block_until_ready(rows)

    def result() -> Tree:
        nonlocal rows
        rows = each(experiment.params, first_batch(experiment), rows)
        return each_of("full", {}, rows)

    facts = {"version": jax.__version__, "temporary_bytes": temporary_bytes(program)}
    return Contender(run, result, facts)


def stages(experiment: Experiment, batch: Batch) -> dict[str, dict[str, float]]:
    """Time the stages of one compiled update, without and with a compile cache."""
    strategy: Strategy = experiment.strategy
    step = make_train_step(strategy.value_and_grad, experiment.optimizer)
    state = strategy.put_state(init_state(experiment.params, experiment.optimizer))
    placed = strategy.put_batch(batch)
    times = {}
    with tempfile.TemporaryDirectory() as folder:
        jax.config.update("jax_compilation_cache_dir", folder)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
        for cache in ("cold", "warm"):
            jax.clear_caches()
            times[cache] = time_stages(jax.jit(step), state, placed)[0]._asdict()
        jax.config.update("jax_compilation_cache_dir", None)
    return times


def train_from(
    case: Case, like: Experiment, *, epochs: int, seed: int
) -> list[dict[str, Any]]:
    """Train from a seed; return cumulative times and accuracy after each epoch.

    `like` has the strategy and the microbatch size.
    """
    start = time.perf_counter()
    experiment = experiment_of(
        case,
        strategy=like.recipe.strategy,
        microbatch_size=like.options.microbatch_size,
        epochs=epochs,
        seed=seed,
    )
    rows: list[dict[str, Any]] = []
    clock = Clock()

    def on_epoch(record: EpochRecord) -> None:
        assert record.test is not None
        rows.append(
            {
                "epoch": record.epoch,
                "accuracy": record.test["accuracy"],
                "train_seconds": clock.seconds["train"],
                "compile_seconds": clock.seconds["compile"],
                "wall_seconds": time.perf_counter() - start,
            }
        )

    runs.run(experiment, on_epoch=on_epoch, clock=clock)
    return rows
