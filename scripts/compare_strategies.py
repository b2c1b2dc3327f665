"""Hold every strategy and rule against its serial reference.

    python scripts/compare_strategies.py --num_devices=4

Same parameters, same batches. Exits with status 1 if any disagrees, as one must with a
--fault.
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # python -I leaves it out

import _asked
import _flags
import _script
from _progress import STEPS, Bar
from absl import flags

from cnnjax import experiments, faults, strategies
from cnnjax.base.compile_cache import CompileCache
from cnnjax.base.errors import expect
from cnnjax.experiments.experiment import Experiment, with_strategy
from cnnjax.experiments.overrides import override
from cnnjax.faults.switch import with_gradient_faults
from cnnjax.gradients.reductions import REDUCTIONS, clipped
from cnnjax.gradients.rules import ROUTES
from cnnjax.laws import equivalence
from cnnjax.laws.references import Reference, make_reference
from cnnjax.results.environment import describe_environment, find_devices
from cnnjax.telling import agreements, text

FLAGS = flags.FLAGS
_flags.define_recipe(compares=True)
flags.adopt_module_key_flags(_flags)
flags.DEFINE_integer("num_steps", 5, "Optimizer steps to compare.", lower_bound=2)
flags.DEFINE_string("reference_platform", None, "Platform of the reference: cpu, ...")
flags.DEFINE_bool("json", False, "Print JSON, one line per row, and no table.")
RULES = list(itertools.product(REDUCTIONS, ROUTES))


def main(args: list[str]) -> None:
    """Compare, and say in the last line how many agreed."""
    _script.refuse_arguments(args)
    _asked.start_jax()
    find_devices()
    CompileCache()
    recipe, dataset = _asked.load(_asked.recipe_from_flags())
    options = _asked.placement().options_for(recipe)
    experiment = experiments.prepare(recipe, dataset, seed=FLAGS.seed, options=options)
    size = experiment.loop.batch_size
    expect("a batch of at least 2 (see --batch_size)", size, size >= 2)
    named = FLAGS.strategy and [experiment.recipe.strategy]
    rows = [_row(experiment, name) for name in named or strategies.STRATEGIES]
    rows = with_gradient_faults(rows, FLAGS.fault, rules_too=not FLAGS.strategy)
    told = text.fault_lines(FLAGS.fault)
    if not FLAGS.json:
        print(text.environment_text(describe_environment()))
        head = agreements.head_lines(recipe, size, told, FLAGS.num_steps)
        print(*head, sep="\n", flush=True)
    rules = [] if FLAGS.strategy else RULES
    with Bar(1 + len(rows) + len(rules), bar_format=STEPS) as bar:
        bar.step("reference")
        reference = make_reference(
            experiment,
            batch_size=size,
            num_steps=FLAGS.num_steps,
            platform=FLAGS.reference_platform,
        )
        agreed = _compare_strategies(rows, reference, bar)
        agreed_rules = _compare_rules(experiment, reference, rules, bar)
    if rules:
        told += [f"{agreed_rules} of {len(rules)} per-example rules agree with theirs"]
    told += [f"{agreed} of {len(rows)} strategies agree with the serial reference"]
    print(*told, sep="\n", file=sys.stderr if FLAGS.json else sys.stdout)
    if agreed + agreed_rules < len(rows) + len(rules):
        sys.exit(1)


def _row(experiment: Experiment, strategy: str) -> Experiment:
    recipe = override(experiment.recipe, strategy=strategy)
    options = _asked.placement().options_for(recipe)
    return with_strategy(experiment, strategy, options)


def _compare_strategies(rows: list[Experiment], reference: Reference, bar: Bar) -> int:
    """Print a row for each strategy; return how many agreed."""
    show = agreements.strategy_json if FLAGS.json else agreements.strategy_row
    agreed = 0
    for row in rows:
        bar.step(row.recipe.strategy)
        agreement = equivalence.assess(row, reference)
        agreed += agreement.agrees
        bar.write(show(row, agreement))
    return agreed


def _compare_rules(
    experiment: Experiment, reference: Reference, rules: list[tuple[str, str]], bar: Bar
) -> int:
    """Print a row for each reduction by each route; return how many agreed."""
    show = agreements.rule_json if FLAGS.json else agreements.rule_row
    wrong = faults.corrupted_routes(map(faults.get_fault, FLAGS.fault))
    agreed = 0
    for reduction, route in rules:
        bar.step(name := f"{reduction}_by_{route}")
        rule = (wrong if REDUCTIONS[reduction] is clipped else ROUTES)[route]
        agreement = equivalence.assess_rule(
            experiment, reference, rule=rule, reduction=REDUCTIONS[reduction]
        )
        agreed += agreement.agrees
        bar.write(show(name, agreement))
    return agreed


if __name__ == "__main__":
    _script.run(main)
