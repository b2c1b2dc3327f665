"""Try settings, choose by a validation split, test the chosen one.

    python scripts/sweep.py --sweep="l2=0,1e-4;b1=0.8,0.9" --workdir=runs/s

Every combination is a run in a folder of its own. A part of the training examples is
held out to choose by; the test examples are looked at once, at the end, for the chosen.
The same command resumes, and more values extend a sweep. Writes sweep.json, sweep.png.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # python -I leaves it out

import _asked
import _flags
import _progress
import _script
from absl import flags

from cnnjax.base.compile_cache import CompileCache
from cnnjax.base.errors import expect
from cnnjax.base.printable import printable
from cnnjax.base.program import words
from cnnjax.base.signals import Stop
from cnnjax.data import Dataset
from cnnjax.data.splits import validation_split
from cnnjax.experiments.recipe import Recipe
from cnnjax.results.environment import describe_environment, find_devices
from cnnjax.results.lock import alone_in
from cnnjax.studies.sweeping import choosing, grid, runs, telling
from cnnjax.studies.sweeping.how import How

FLAGS = flags.FLAGS
NOT_HERE = ("fault", "log_steps", "patience", "tensorboard", "profile", "callback")
_flags.define_recipe()
_flags.define_training()
flags.adopt_module_key_flags(_flags)
flags.DEFINE_string("sweep", None, 'Settings, as "learning_rate=1e-3,1e-2;l2=0,1e-4".')
meaning = "Runs to train as one program, where shapes agree. Unset: 1, or 16 on a GPU."
flags.DEFINE_integer("runs_at_once", None, meaning, lower_bound=1, upper_bound=256)
DEFAULT_SHARE = 0.1  # of the training examples, to choose by: --validation


def main(args: list[str]) -> None:
    """Train every choice, or the rest of them; choose; test; tell."""
    _script.refuse_arguments(args)
    expect(f"settings for --sweep, {grid.FORM}", FLAGS.sweep, FLAGS.sweep)
    expect("a folder for --workdir", FLAGS.workdir, FLAGS.workdir)
    refused = [name for name in NOT_HERE if FLAGS[name].value]
    expect(f"no --{' or --'.join(NOT_HERE)} in a sweep", refused, not refused)
    axes = grid.parse_sweep(FLAGS.sweep, _asked.parsers())
    _asked.refuse_idle()
    for name in axes:
        expect(f"a sweep of {name}, or --{name}", "both", FLAGS[name].value is None)
    with Stop() as stop:
        _asked.start_jax()
        find_devices()
        cache, workdir = CompileCache(), _asked.workdir()
        base, dataset = _asked.load(_asked.recipe_from_flags(or_auto=True))
        share = base.validation or DEFAULT_SHARE
        base = replace(base, validation=0.0)
        split = validation_split(base.split, share)
        recipes = runs.recipes_of(base, axes, split)
        how = How(
            seeds=_asked.seeds(),
            settle=lambda recipe: _asked.settle(recipe, dataset, cache),
            keeping=_asked.keeping(),
            evaluate_every=FLAGS.evaluate_every,
            on_nan=FLAGS.on_nan,
            group_size=FLAGS.group_size,
            at_once=FLAGS.runs_at_once or runs.default_at_once(),
            noted=_asked.noted(),
            environment=describe_environment(),
            command=words(),
            cache=cache,
        )
        print(*telling.introduction(how, base, len(recipes)), sep="\n", flush=True)
        assert workdir.path is not None
        with alone_in(workdir.path):
            seen = replace(dataset, test=None)  # no run has the test examples
            tried = train(recipes, seen, workdir.path, how, stop)
            best = choosing.best_of(tried)
            test = choosing.test_of(best, dataset, base.split, how.prepare)
            found = choosing.sweep_json(axes, tried, best, test, share=share)
            title = f"{base.name} on {base.dataset}"
            workdir.write_bytes("sweep.png", telling.draw_sweep(tried, title=title))
            workdir.write_json("sweep.json", found)
    print("", *telling.table_lines(tried, best), "", sep="\n")
    print(printable(f"results in {FLAGS.workdir}"))
    print(*telling.conclusion(best, choosing.second_of(tried, best), test), sep="\n")


def train(
    recipes: dict[grid.Choice, Recipe], seen: Dataset, to: Path, how: How, stop: Stop
) -> list[choosing.Tried]:
    """Train every choice, or the rest of them; say what each gave."""
    with _progress.Bar(len(recipes), bar_format=_progress.RUNS) as bar:

        def ended(one: choosing.Tried, done: int) -> None:
            bar.write(telling.line(one))
            bar.move(done)

        bar.move(0)
        return runs.train_runs(
            *(recipes, seen, to, how),
            on_begin=lambda group, done: bar.move(done, telling.group_text(group)),
            on_end=ended,
            stop=stop,
        )


if __name__ == "__main__":
    _script.run(main)
