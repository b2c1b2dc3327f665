"""Hold every strategy against the serial reference: same parameters, same batch.

    python scripts/compare_strategies.py --recipe=sgd_dropout_cnn --num_devices=4

Exits with status 1 if any strategy disagrees.
"""

from __future__ import annotations

import json
import sys

import _recipe_flags
import _script
from absl import flags

from cnnjax import data, equivalence, experiments, recipes, strategies
from cnnjax.environment import describe_environment, environment_line
from cnnjax.errors import expect

FLAGS = flags.FLAGS
flags.adopt_module_key_flags(_recipe_flags)
flags.DEFINE_integer("num_steps", 5, "Optimizer steps to compare.", lower_bound=1)
flags.DEFINE_bool("json", False, "Print a line of JSON a strategy, and no table.")
HEADER = ("strategy", "abs. error", "rel. error", "params", "traces", "temporary", "")


def main(args: list[str]) -> None:
    """Compare, and say in the last line how many agreed."""
    _script.refuse_arguments(args)
    _recipe_flags.start_jax()
    _script.CompileCache()
    recipe = _recipe_flags.recipe_from_flags()
    dataset = data.load_dataset(recipe.dataset, data_dir=FLAGS.data_dir)
    names = [FLAGS.strategy] if FLAGS.strategy else list(strategies.STRATEGIES)
    environment = describe_environment()
    agreed = 0
    for name in names:
        chosen = recipes.override(recipe, strategy=name)
        options = _recipe_flags.options_for(chosen)
        experiment = experiments.prepare(
            chosen, dataset, seed=FLAGS.seed, options=options
        )
        size = experiment.loop.batch_size
        expect("a batch of at least 2", size, size >= 2)
        batch = equivalence.first_batch(experiment, batch_size=size)
        row = equivalence.assess(experiment, batch, num_steps=FLAGS.num_steps)
        agreed += row.agrees
        if FLAGS.json:
            print(json.dumps({"strategy": name, **row._asdict()}), flush=True)
            continue
        if name == names[0]:
            print(environment_line(environment))
            print(f"recipe {recipe.name}, batch {size}, {recipe.model.dtype}\n")
            print(_line(HEADER))
        print(_line(_cells(name, row)), flush=True)
    print(
        f"{agreed} of {len(names)} strategies agree with the serial reference",
        file=sys.stderr if FLAGS.json else sys.stdout,
    )
    if agreed < len(names):
        sys.exit(1)


def _cells(name: str, row: equivalence.Agreement) -> tuple[str, ...]:
    temporary = row.temporary_bytes
    return (
        name,
        f"{row.absolute_error:.1e}",
        f"{row.relative_error:.1e}",
        f"{row.params_error:.1e}",
        str(row.traces),
        "-" if temporary is None else f"{temporary / 2**20:.1f} MiB",
        "agrees" if row.agrees else "DISAGREES",
    )


def _line(cells: tuple[str, ...]) -> str:
    first, *middle, verdict = cells
    return f"{first:<15}" + "".join(f"{cell:>12}" for cell in middle) + f"  {verdict}"


if __name__ == "__main__":
    _script.run(main)
