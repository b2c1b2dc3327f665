"""Print the temporary memory of every per-example gradient rule, as XLA reports it.

    python benchmarks/memory.py --batch_size=128 > benchmarks/results/memory.md

The programs are only compiled and analysed, not run. So the figures repeat exactly with
the same versions on the same kind of machine.
"""

from __future__ import annotations

import datetime
import sys

import _paths  # noqa: F401
import _script
import jax
from absl import flags
from case import MAX_NORM

from cnnjax import data, experiments
from cnnjax.base.errors import InputError, expect
from cnnjax.experiments import recipes
from cnnjax.experiments.experiment import Experiment
from cnnjax.experiments.overrides import override
from cnnjax.gradients import rules
from cnnjax.gradients.microbatches import microbatched
from cnnjax.gradients.reductions import REDUCTIONS
from cnnjax.gradients.shares import ShareFn, with_per_example
from cnnjax.laws import references
from cnnjax.laws.programs import temporary_bytes
from cnnjax.results.environment import describe_environment, environment_parts
from cnnjax.telling.layout import flow, wrap
from cnnjax.types import Batch

FLAGS = flags.FLAGS
flags.DEFINE_list(
    "recipes", ["sgd_dropout_cnn", "adam_cosine_cnn"], "Recipes to compile."
)
flags.DEFINE_integer("batch_size", 128, "Examples per batch.", lower_bound=1)
flags.DEFINE_list(
    "microbatch_sizes", ["32", "16"], "Microbatch sizes, besides whole batches."
)

WORDS = (
    "MiB that a compiled gradient needs in addition to its arguments and results, by "
    "XLA's analysis, and the ratio to the batch gradient with the same microbatch "
    "size. The per-example gradients that *full* returns are not included."
)


def main(args: list[str]) -> None:
    """Print a table in Markdown for each recipe."""
    _script.refuse_arguments(args)
    sizes = [None, *map(_microbatch_size, FLAGS.microbatch_sizes)]
    expect("at least one of --recipes", FLAGS.recipes, bool(FLAGS.recipes))
    for name in FLAGS.recipes:
        recipes.get_recipe(name)
    print("# Temporary memory of the gradient rules\n")
    here = environment_parts(describe_environment())
    print(flow((*here, str(datetime.date.today())), sep="; ", indent=""))
    print(wrap(f"`python {' '.join(sys.argv)}`", indent=""), end="\n\n")
    print(wrap(WORDS, indent=""))
    for name in FLAGS.recipes:
        recipe = recipes.get_recipe(name)
        recipe = override(
            recipe,
            batch_size=FLAGS.batch_size,
            dataset=recipes.default_dataset(recipe),
        )
        dataset = data.load_dataset(recipe.dataset, data_dir=None)
        experiment = experiments.prepare(recipe, dataset)
        batch, _ = references.first_batches(experiment, batch_size=FLAGS.batch_size)
        print(f"\n## {name}, batch {FLAGS.batch_size}\n")
        titles = [f"microbatch {size}" if size else "whole batch" for size in sizes]
        print("| rule | " + " | ".join(titles) + " |")
        print("|---|" + "---|" * len(titles))
        shares = _shares(experiment)
        needed = {
            rule: [_mebibytes(share, experiment, batch, size) for size in sizes]
            for rule, share in shares.items()
        }
        for rule, row in needed.items():
            cells = [
                f"{value:.1f} ({value / base:.2f})"
                for value, base in zip(row, needed["batch_gradient"], strict=True)
            ]
            print(f"| {rule} | " + " | ".join(cells) + " |", flush=True)


def _shares(experiment: Experiment) -> dict[str, ShareFn]:
    """Return the batch gradient by three routes, and every per-example rule."""
    objective = experiment.objective
    return {
        "batch_gradient": rules.batch(objective),
        "mean_by_rows": rules.per_example(objective),
        "mean_by_factors": rules.factored(objective),
        **{
            f"{name}_by_{route}": rule(objective, reduction(MAX_NORM))
            for name, reduction in REDUCTIONS.items()
            for route, rule in rules.ROUTES.items()
        },
    }


def _mebibytes(
    share: ShareFn, experiment: Experiment, batch: Batch, size: int | None
) -> float:
    if size is not None:
        share = microbatched(share, size=size)
    program = jax.jit(with_per_example(share)).lower(experiment.params, batch).compile()
    needed = temporary_bytes(program)
    if needed is None:
        raise InputError("expected a backend with memory analysis; use a CPU or a GPU")
    return needed / 2**20


def _microbatch_size(text: str) -> int:
    most = FLAGS.batch_size
    fits = text.isdecimal() and 0 < int(text) <= most
    expect(f"microbatch_sizes from 1 to {most} (see --batch_size)", text, fits)
    return int(text)


if __name__ == "__main__":
    _script.run(main)
