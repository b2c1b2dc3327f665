"""A digest of everything that training computes, so that a redesign changes no bit.

    python tests/digests.py > before.txt
    python tests/digests.py | diff before.txt -

One line for each run: a digest of its parameters, of what each update and each epoch
reported, and of its predictions; tiny data, a few updates, dropout on. Every recipe
under every strategy, on one device and on two where it divides a batch; microbatches;
kernels in parts; several seeds at once; the per-example rules; every fault. Bits are of
one machine, one version of JAX and one set of flags.
"""

from __future__ import annotations

import hashlib
import math
import sys
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from batches import TINY, TWO_CHANNELS, make_batch, random_dataset
from strategy_table import DIVIDED, PER_EXAMPLE, share_by

from cnnjax.devices import make_mesh, to_host
from cnnjax.experiments import ensembles, predictions, runs
from cnnjax.experiments.experiment import Experiment, prepare
from cnnjax.experiments.overrides import override
from cnnjax.experiments.recipes import RECIPES, Recipe
from cnnjax.faults import FAULTS, setting_of, switch_in, unmet
from cnnjax.gradients.shares import with_per_example
from cnnjax.strategies import STRATEGIES, Options

DEVICES = (1, 2)
# (strategy, devices along "data" and along "model", microbatch, type)
ODD = (
    *((name, (1, 1), 3, "float32") for name in ("eager", "jit", "vmap", "factored")),
    *((name, (2, 1), 2, "float32") for name in ("sharded", "shard_map", "pmap")),
    ("sharded", (1, 2), None, "float32"),
    ("sharded", (1, 2), 3, "float32"),
    *((name, (1, 1), None, "bfloat16") for name in ("serial", "jit", "factored_norms")),
    *((name, (2, 1), None, "bfloat16") for name in ("sharded", "shard_map_vmap")),
)


def main(only: str = "") -> None:
    """Print a line for each run whose name has this in it."""
    jax.config.update("jax_num_cpu_devices", 2)
    for name, make in cases():
        if only in name:
            print(make(), name, flush=True)


def cases() -> Iterator[tuple[str, Any]]:
    """Yield the name of each run, and what runs it and digests it."""
    for recipe in RECIPES.values():
        for strategy in STRATEGIES:
            for devices in DEVICES if strategy in DIVIDED else (1,):
                name = f"{recipe.name} {strategy} {devices}"
                yield name, lambda r=recipe, s=strategy, d=devices: of_run(r, s, (d, 1))
    for strategy, mesh, size, precision in ODD:
        name = f"tiny {strategy} {mesh} microbatch {size} {precision}"
        yield (
            name,
            lambda s=strategy, m=mesh, n=size, p=precision: of_run(
                TINY, s, m, microbatch=n, precision=p
            ),
        )
    for size in (1, 2):
        yield f"tiny seeds by {size}", lambda size=size: of_seeds(size)
    for rule in PER_EXAMPLE:
        yield f"tiny {rule}", lambda rule=rule: of_rule(rule)
    for fault in FAULTS:
        yield f"tiny {fault}", lambda fault=fault: of_fault(fault)


def experiment_of(
    recipe: Recipe,
    strategy: str,
    mesh: tuple[int, int] = (1, 1),
    *,
    microbatch: int | None = None,
    precision: str = "float32",
    seed: int = 0,
) -> Experiment:
    """Prepare a recipe for three updates an epoch, the last one not full."""
    wide = recipe.name == "sgd_wide_cnn"
    recipe = override(
        recipe,
        strategy=strategy,
        precision=precision,
        batch_size=2 if wide else 6,
        epochs=1 if wide else 2,
        num_train=3 if wide else 14,
    )
    dataset = random_dataset(recipe, train=30, test=7)
    options = Options(microbatch_size=microbatch)
    if strategy in DIVIDED:
        options = options._replace(
            mesh=make_mesh(math.prod(mesh), model_devices=mesh[1])
        )
    return prepare(recipe, dataset, seed=seed, options=options)


def of_run(recipe: Recipe, *args: Any, **options: Any) -> str:
    return digest(trained(experiment_of(recipe, *args, **options)))


def of_fault(name: str) -> str:
    """Switch it in where it matters: a strategy and a network that it can be in."""
    fault = FAULTS[name]
    several = fault.needs.num_devices > 1
    strategy = fault.needs.strategies[0] if several else "jit"
    for recipe in (TINY, TWO_CHANNELS):
        right = experiment_of(recipe, strategy, (2 if several else 1, 1))
        if unmet(fault, setting_of(right)) is None:
            return digest(trained(switch_in(right, [name])))
    return "it matters nowhere here"


def of_seeds(size: int) -> str:
    def prepare_fn(seed: int) -> Experiment:
        return experiment_of(TINY, "jit", seed=seed)

    ended = ensembles.run_seeds(prepare_fn, (3, 5), group_size=size)
    return digest([told(one.run, one.predictions) for one in ended])


def of_rule(name: str) -> str:
    experiment = experiment_of(TINY, "jit")
    batch = make_batch(experiment, 6, padding=2)
    share = share_by(name, experiment.objective, 0.5)
    return digest(jax.jit(with_per_example(share))(experiment.params, batch))


def trained(experiment: Experiment) -> Any:
    ended = runs.run(experiment)
    return told(ended, predictions.predict_test(experiment, to_host(ended.params)))


def told(run: runs.Run, predictions: Any) -> Any:
    """Return what is to stay the same: all but times."""
    epochs = [(r.train, r.test, r.learning_rate, r.steps) for r in run.records]
    return to_host(run.params), epochs, run.test, predictions


def digest(tree: Any) -> str:
    """Return a digest of all leaves, their places, types and shapes."""
    sha = hashlib.sha256()
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    for path, leaf in leaves:
        array = np.asarray(leaf)
        place = jax.tree_util.keystr(path)
        sha.update(f"{place} {array.dtype} {array.shape}".encode())
        sha.update(np.ascontiguousarray(array).tobytes())
    return sha.hexdigest()[:16]


if __name__ == "__main__":
    main(*sys.argv[1:])
