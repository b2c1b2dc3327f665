"""Hold every strategy and per-example rule against its serial reference.

    python scripts/compare_strategies.py --recipe=sgd_dropout_cnn --num_devices=4

Same parameters, same batches. Exits with status 1 if any disagrees, as one must with a
--fault.
"""

from __future__ import annotations

import itertools
import json
import math
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))  # python -I leaves it out

import _start  # noqa: F401  # before what imports JAX

# isort: split
import _recipe_flags
import _script
from absl import flags

from cnnjax import data, experiments, faults, strategies
from cnnjax.base.errors import InputError, expect
from cnnjax.experiments.overrides import override
from cnnjax.gradients.reductions import REDUCTIONS, clipped
from cnnjax.gradients.rules import ROUTES
from cnnjax.laws import equivalence, references
from cnnjax.results.environment import (
    describe_environment,
    environment_line,
    find_devices,
)
from cnnjax.telling import text

FLAGS = flags.FLAGS
flags.adopt_module_key_flags(_recipe_flags)
flags.DEFINE_integer("num_steps", 5, "Optimizer steps to compare.", lower_bound=2)
flags.DEFINE_bool("json", False, "Print JSON, a line for each row, and no table.")
HEADER = ("strategy", "abs. error", "rel. error", "params", "traces", "temporary", "")


def main(args: list[str]) -> None:
    """Compare, and say in the last line how many agreed."""
    _script.refuse_arguments(args)
    _recipe_flags.start_jax()
    find_devices()
    _script.CompileCache()
    recipe = _recipe_flags.recipe_from_flags()
    dataset = data.load_dataset(recipe.dataset, data_dir=FLAGS.data_dir)
    experiment = experiments.prepare(recipe, dataset, seed=FLAGS.seed)
    size = experiment.loop.batch_size
    expect("a batch of at least 2 (see --batch_size)", size, size >= 2)
    names = [FLAGS.strategy] if FLAGS.strategy else strategies.STRATEGIES
    rows = _with_faults([_row(experiment, name) for name in names])
    told = text.fault_lines(FLAGS.fault)
    if not FLAGS.json:
        print(environment_line(describe_environment()))
        print(f"recipe {recipe.name}, batch {size}, {recipe.model.dtype}\n")
        print(*told, _line(HEADER), sep="\n", flush=True)
    reference = references.make_reference(
        experiment, batch_size=size, num_steps=FLAGS.num_steps
    )
    agreed = 0
    for row in rows:
        agreement = equivalence.assess(row, reference)
        agreed += agreement.agrees
        print((_json if FLAGS.json else _cells)(row, agreement), flush=True)
    results = [f"{agreed} of {len(rows)} strategies agree with the serial reference"]
    wrong = agreed < len(rows)
    if not FLAGS.strategy:
        agreed, tried = _compare_rules(experiment, reference)
        wrong |= agreed < tried
        results.insert(0, f"{agreed} of {tried} per-example rules agree with theirs")
    print(*told, *results, sep="\n", file=sys.stderr if FLAGS.json else sys.stdout)
    if wrong:
        sys.exit(1)


def _compare_rules(
    experiment: experiments.Experiment,
    reference: references.Reference,
) -> tuple[int, int]:
    """Print a line for each reduction by each route; return how many agreed, of all."""
    wrong = faults.corrupted_routes(map(faults.get_fault, FLAGS.fault))
    agreed, tried = 0, list(itertools.product(REDUCTIONS, ROUTES))
    for reduction, route in tried:
        name = f"{reduction}_by_{route}"
        rule = (wrong if REDUCTIONS[reduction] is clipped else ROUTES)[route]
        row = equivalence.assess_rule(
            experiment, reference, rule=rule, reduction=REDUCTIONS[reduction]
        )
        agreed += row.agrees
        if FLAGS.json:
            print(json.dumps({"rule": name, **_finite(row._asdict())}), flush=True)
            continue
        errors = f"{row.absolute_error:.1e}", f"{row.relative_error:.1e}"
        verdict = "agrees" if row.agrees else "DISAGREES"
        memory = _mebibytes(row.temporary_bytes)
        print(_line((name, *errors, "-", "-", memory, verdict)), flush=True)
    return agreed, len(tried)


def _row(experiment: experiments.Experiment, strategy: str) -> experiments.Experiment:
    recipe = override(experiment.recipe, strategy=strategy)
    options = _recipe_flags.options_for(recipe)
    return experiment._replace(recipe=recipe, options=options)


def _with_faults(rows: list[experiments.Experiment]) -> list[experiments.Experiment]:
    """Build the strategy of each row, with the faults that could matter there.

    Raises:
        InputError: a fault could matter nowhere.
    """
    places: list[list[str]] = [[] for _ in rows]
    for fault in map(faults.get_fault, FLAGS.fault):
        if fault.place == "clipping" and not FLAGS.strategy:
            continue  # it is switched into the rules
        if fault.place not in (*faults.OF_GRADIENT, "clipping"):
            raise InputError(
                f"fault {fault.name!r} leaves every gradient right: it corrupts the "
                f"{fault.place}; train.py shows what it does"
            )
        settings = [faults.setting_of(row) for row in rows]
        missing = [faults.unmet(fault, setting) for setting in settings]
        if all(missing):
            fits = [setting.strategy in fault.needs.strategies for setting in settings]
            raise InputError(missing[fits.index(True) if True in fits else 0])
        for place, needed in zip(places, missing, strict=True):
            place += [] if needed else [fault.name]
    return list(map(faults.switch_in, rows, places))


def _json(row: experiments.Experiment, agreement: equivalence.Agreement) -> str:
    values = {
        "strategy": row.recipe.strategy,
        "faults": row.faults,
        **agreement._asdict(),
        "agrees": agreement.agrees,
    }
    return json.dumps(_finite(values))


def _finite(values: dict[str, Any]) -> dict[str, Any]:
    """Put None for NaN and infinities, which JSON does not have."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in values.items()
    }


def _cells(row: experiments.Experiment, agreement: equivalence.Agreement) -> str:
    objections = "; ".join(agreement.objections)
    return _line(
        (
            row.recipe.strategy,
            f"{agreement.absolute_error:.1e}",
            f"{agreement.relative_error:.1e}",
            f"{agreement.params_error:.1e}",
            str(agreement.traces),
            _mebibytes(agreement.temporary_bytes),
            "agrees" if agreement.agrees else f"DISAGREES: {objections}",
        )
    )


def _mebibytes(count: int | None) -> str:
    return "-" if count is None else f"{count / 2**20:.1f} MiB"


def _line(cells: tuple[str, ...]) -> str:
    first, *middle, verdict = cells
    return f"{first:<18}" + "".join(f"{cell:>12}" for cell in middle) + f"  {verdict}"


if __name__ == "__main__":
    _script.run(main)
