"""Compare the errors of correct strategies and of faults with the bound of `laws.law`.

    python benchmarks/law.py --recipes=adam_cosine_cnn,sgd_dropout_cnn --stacks=10

For each network, dtype and kind of parameters, it measures the ratio of error to bound:
for correct strategies, where it must stay below 1, and for each fault in the catalogue
that corrupts a gradient, where a ratio above 1 means that the fault is caught with
these parameters. Appends a row for each to --out; `law_page.py` makes the page.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import _paths  # noqa: F401
import _script
import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import flags
from results import Results

from cnnjax import data, devices, faults
from cnnjax.base.errors import InputError, expect
from cnnjax.data.dataset import Dataset
from cnnjax.experiments import recipes
from cnnjax.experiments.experiment import Experiment, prepare, with_strategy
from cnnjax.experiments.overrides import override
from cnnjax.experiments.recipes import Recipe
from cnnjax.faults import setting_of, switch_in
from cnnjax.gradients import reductions
from cnnjax.laws import law
from cnnjax.laws.excess import excess
from cnnjax.laws.references import first_batches
from cnnjax.models.initializers import PYTORCH
from cnnjax.models.stack import (
    Activation,
    Conv,
    Dense,
    Dropout,
    Flatten,
    Layer,
    MaxPool,
    ModelConfig,
    layer_rows,
)
from cnnjax.results.environment import describe_environment
from cnnjax.strategies import STRATEGIES
from cnnjax.telling import text
from cnnjax.types import Batch, Examples, Params

FLAGS = flags.FLAGS
flags.DEFINE_list("recipes", [], "Recipes to try.")
flags.DEFINE_integer("stacks", 10, "Random stacks of layers to try.", lower_bound=0)
flags.DEFINE_list("dtypes", ["float32", "bfloat16", "float64"], "Dtypes to try.")
flags.DEFINE_list("strategies", list(STRATEGIES), "Strategies to try.")
flags.DEFINE_integer("batch_size", 16, "Examples per batch.", lower_bound=2)
flags.DEFINE_integer("updates", 500, "Updates that give the trained parameters.")
flags.DEFINE_bool("faults", True, "Also try the faults in the catalogue.")
flags.DEFINE_string("data_dir", None, "Folder that holds the datasets' files.")
flags.DEFINE_string("out", None, "JSON lines file to append the rows to.")

NUM_DEVICES = 4
# Faults in the placement of arrays and in the cost of a step.
GRADIENT_IS_RIGHT = (
    *("batch_on_every_device", "state_is_not_copied", "state_on_one_device"),
    *("shape_follows_the_padding", "batch_on_the_host", "callback_in_the_step"),
    "gradients_in_half_precision",  # only the dtype is wrong
)
LARGEST = 1e300
LINE = "{:<26} {:<9} {:<11} {:>10}  {}"


def main(args: list[str]) -> None:
    """Print a row for each network, dtype and kind of parameters."""
    _script.refuse_arguments(args)
    jax.config.update("jax_num_cpu_devices", NUM_DEVICES)
    unknown = set(FLAGS.dtypes) - law.ROUNDOFF.keys()
    expect(f"--dtypes among {', '.join(law.ROUNDOFF)}", sorted(unknown), not unknown)
    results = Results(FLAGS.out)
    print(text.environment_text(describe_environment()))
    print(LINE.format("network", "dtype", "parameters", "largest", "correct strategy"))
    for name, recipe, dataset in _networks():
        for dtype in FLAGS.dtypes:
            with jax.enable_x64(dtype == "float64"):
                experiment = prepare(override(recipe, precision=dtype), dataset)
                for row in _rows(experiment):
                    told = {"network": name, "dtype": dtype, **row}
                    _print(told)
                    results.append([told], benchmark="law")


def _print(row: dict[str, Any]) -> None:
    worst = max(row["right"], key=lambda name: row["right"][name])
    cells = [row["network"], row["dtype"], row["parameters"]]
    cells += [f"{row['right'][worst]:.3g}", worst]
    wrong = row["faults"]
    least = min(wrong, key=lambda name: wrong[name], default=None)
    print(LINE.format(*cells), flush=True)
    if least is not None:
        cells = ["  smallest of a fault", "", "", f"{wrong[least]:.3g}", least]
        print(LINE.format(*cells), flush=True)


def _networks() -> Iterator[tuple[str, Recipe, Dataset]]:
    for name in FLAGS.recipes:
        recipe = recipes.get_recipe(name)
        source = recipe.dataset if FLAGS.data_dir else recipes.default_dataset(recipe)
        yield name, recipe, data.load_dataset(source, data_dir=FLAGS.data_dir)
    rng = np.random.default_rng(0)
    digits = data.load_dataset("digits")
    small = _small(digits)
    for index in range(FLAGS.stacks):
        model = random_stack(rng)
        recipe = replace(recipes.get_recipe("sgd_dropout_cnn"), model=model)
        yield f"stack {index}", recipe, small


def random_stack(rng: np.random.Generator) -> ModelConfig:
    """Draw a random network for images of 7 x 7 pixels and ten classes."""
    while True:
        layers: list[Layer] = []
        for _ in range(rng.integers(0, 3)):
            size, zeros = int(rng.integers(1, 5)), int(rng.integers(0, 3))
            layers.append(Conv(int(rng.integers(1, 7)), size, zeros))
            layers.append(Activation(str(rng.choice(["relu", "tanh", "leaky_relu"]))))
            layers += [MaxPool(2)] * int(rng.integers(0, 2))
        layers.append(Flatten())
        for _ in range(rng.integers(0, 3)):
            layers.append(Dense(int(rng.integers(2, 24))))
            layers.append(Activation(str(rng.choice(["relu", "tanh"]))))
            layers += [Dropout(0.3)] * int(rng.integers(0, 2))
        layers.append(Dense(10))
        model = ModelConfig(
            input_shape=(7, 7, 1), layers=tuple(layers), initializer=PYTORCH
        )
        try:
            layer_rows(model)
        except InputError:
            continue  # a pool that leaves nothing
        return model


def _small(digits: Dataset) -> Dataset:
    def shrink(examples: Examples | None) -> Examples | None:
        if examples is None:
            return None
        images = examples.inputs.reshape(-1, 7, 4, 7, 4, 1).max(axis=(2, 4))
        return Examples(images, examples.labels)

    train = shrink(digits.train)
    assert train is not None
    return replace(digits, name="small digits", train=train, test=shrink(digits.test))


def _rows(experiment: Experiment) -> Iterator[dict[str, Any]]:
    """Yield the ratios of strategies and faults for each kind of parameters."""
    batches = first_batches(experiment, batch_size=FLAGS.batch_size)
    exact_fn = law.make_exact(
        experiment.loss_fn,
        dtype=experiment.recipe.model.dtype,
        reduction=reductions.norms,
    )
    right = {name: _Row(_with(experiment, name)) for name in FLAGS.strategies}
    wrong = dict(_faulty(experiment)) if FLAGS.faults else {}
    for kind, params in _parameters(experiment, batches[0]):
        exact = [exact_fn(params, batch) for batch in batches]
        finite = all(np.isfinite(v).all() for v in jax.tree.leaves(exact[0].values))
        expect("finite gradients to compare", f"{kind} parameters without", finite)
        excess = {
            name: _rounded(row.excess(params, batches, exact))
            for name, row in (right | wrong).items()
        }
        yield {
            "parameters": kind,
            "right": {name: excess[name] for name in right},
            "faults": {name: excess[name] for name in wrong},
        }


def _rounded(ratio: float) -> float:
    """Keep three digits; ratios that are not finite become `LARGEST`, for JSON."""
    return float(f"{min(ratio, LARGEST):.3g}")


def _with(experiment: Experiment, strategy: str, *names: str) -> Experiment:
    mesh = devices.make_mesh(NUM_DEVICES) if STRATEGIES[strategy].divides else None
    options = experiment.options._replace(mesh=mesh)
    return switch_in(with_strategy(experiment, strategy, options), names)


def _faulty(experiment: Experiment) -> Iterator[tuple[str, _Row]]:
    """Yield each fault that changes a gradient or a metric, switched on."""
    for fault in faults.FAULTS.values():
        if fault.place not in faults.OF_GRADIENT or fault.name in GRADIENT_IS_RIGHT:
            continue
        strategy = fault.needs.strategies[0] if fault.needs.num_devices > 1 else "jit"
        row = _with(experiment, strategy)
        if faults.unmet(fault, setting_of(row)) is None:
            yield fault.name, _Row(_with(experiment, strategy, fault.name))


class _Row:
    """A strategy that is compiled once."""

    def __init__(self, experiment: Experiment) -> None:
        self.strategy = experiment.strategy
        self.value_and_grad = self.strategy.value_and_grad
        if self.strategy.run != "eager":
            self.value_and_grad = jax.jit(self.value_and_grad)

    def excess(
        self, params: Params, batches: tuple[Batch, Batch], exact: list[law.Exact]
    ) -> float:
        """Return the largest ratio of error to bound over both batches."""
        state = self.strategy.put_state(jax.tree.map(jnp.copy, params))
        ratios = []
        for batch, one in zip(batches, exact, strict=True):
            placed = self.strategy.put_batch(batch)
            metrics, grads = self.value_and_grad(state, placed)
            ratios.append(max(excess(metrics, grads, one)))
        return max(ratios)


def _parameters(experiment: Experiment, batch: Batch) -> Iterator[tuple[str, Params]]:
    """Yield initial, random, trained, converged and saturated parameters."""
    params = experiment.params
    yield "initial", params
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    drawn = [
        0.3 * jax.random.normal(key, leaf.shape, leaf.dtype)
        for key, leaf in zip(keys, leaves, strict=True)
    ]
    yield "random", jax.tree.unflatten(tree, drawn)
    value_and_grad = _with(experiment, "jit").strategy.value_and_grad

    @jax.jit
    def train(params: Params) -> Params:
        def update(_: int, params: Params) -> Params:
            grads = value_and_grad(params, batch)[1]
            rate = 0.05 / jnp.maximum(1.0, optax.global_norm(grads))  # clipped
            return jax.tree.map(
                lambda p, g: p - rate.astype(g.dtype) * g, params, grads
            )

        return jax.lax.fori_loop(0, FLAGS.updates, update, params)

    yield "trained", (params := train(params))
    for _ in range(9):
        params = train(params)
    yield "converged", params
    yield "saturated", jax.tree.map(lambda p: 3 * p, params)


if __name__ == "__main__":
    _script.run(main)
