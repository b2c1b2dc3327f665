"""Train a recipe on a data set, and keep the results.

    python scripts/train.py --recipe=adam_cosine_cnn --workdir=runs/1

Writes into --workdir: config.json, metrics.jsonl (one line per epoch), result.json,
params.safetensors, predictions.csv and curves.png; with --log_steps also steps.csv.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # python -I leaves it out

import _flags
import _progress
import _script
import jax
from absl import flags

from cnnjax import data, experiments
from cnnjax.base.clock import Clock
from cnnjax.base.compile_cache import CompileCache
from cnnjax.devices import processes
from cnnjax.experiments import groups
from cnnjax.experiments.journal import Journal
from cnnjax.faults import switch_in
from cnnjax.results.environment import describe_environment, find_devices
from cnnjax.results.workdir import open_workdir
from cnnjax.telling import examples, text, training

FLAGS = flags.FLAGS
_flags.define_recipe()
_flags.define_training()
_flags.define_cluster()
flags.adopt_module_key_flags(_flags)


def main(args: list[str]) -> None:
    """Train, and say at every stage what is going on."""
    _script.refuse_arguments(args)
    clock = Clock()
    _flags.start_jax()
    processes.join(_flags.cluster(), alike=_flags.alike())
    find_devices()
    cache = CompileCache()
    processes.together(_flags.refuse_idle)
    journal, prepare_fn = processes.together(
        lambda: prepare(clock, cache), same=lambda p: _flags.same(p[0].experiment)
    )
    processes.together(lambda: journal.start(sys.argv))
    faults = introduce(journal)
    how = {"evaluate_every": FLAGS.evaluate_every, "cache": cache}
    num_groups = -(-len(journal.seeds) // FLAGS.group_size)
    with _progress.Training(journal.experiment, runs=num_groups) as progress:
        teller = training.Teller(progress.write, progress.update)
        if len(journal.seeds) == 1:
            before, after = training.train_one(journal, teller, **how)
        else:
            how |= {"group_size": FLAGS.group_size}
            before, after = [], training.train_seeds(journal, prepare_fn, teller, **how)
    times = text.time_text(clock.seconds, total=clock.total(), cache=cache.state)
    kept = [] if journal.workdir.path is None else [f"results in {FLAGS.workdir}"]
    print("", *before, times, *kept, *faults, *after, sep="\n")


def prepare(
    clock: Clock, cache: CompileCache
) -> tuple[Journal, Callable[[int], experiments.Experiment]]:
    """Settle what can be refused, before anything is written or trained.

    Raises:
        InputError: flags or data are wrong, or the workdir holds a run.
    """
    recipe, seeds = _flags.recipe_from_flags(or_auto=True), _flags.seeds()
    path = FLAGS.workdir if jax.process_index() == 0 else None
    workdir = open_workdir(path, overwrite=FLAGS.overwrite)
    with clock.part("load"):
        dataset = data.load_dataset(recipe.dataset, data_dir=FLAGS.data_dir)
    with clock.part("advice" if FLAGS.strategy == _flags.AUTO else "prepare"):
        recipe, options = _flags.settle(recipe, dataset, cache)
    with clock.part("prepare"):

        def prepare_fn(seed: int) -> experiments.Experiment:
            right = experiments.prepare(recipe, dataset, seed=seed, options=options)
            return switch_in(right, FLAGS.fault)

        experiment = prepare_fn(seeds[0])
        jax.block_until_ready(experiment.params)
        groups.check_group(experiment, min(FLAGS.group_size, len(seeds)))
    journal = Journal(
        workdir=workdir,
        experiment=experiment,
        seeds=seeds,
        clock=clock,
        environment=describe_environment(),
        log_steps=FLAGS.log_steps,
    )
    return journal, prepare_fn


def introduce(journal: Journal) -> list[str]:
    """Say what is trained, on what; return the warnings of faults, to be said again."""
    experiment, seeds = journal.experiment, journal.seeds
    of = f"seeds {seeds[0]} to {seeds[-1]}" if seeds[1:] else f"seed {seeds[0]}"
    print(text.environment_text(journal.environment))
    print(text.run_text(experiment, of), end="\n\n")
    print(text.summary(experiment.recipe.model), end="\n\n")
    faults = text.fault_lines(experiment.faults)
    print(*faults, sep="\n", end="\n\n" if faults else "", flush=True)
    if not seeds[1:]:
        shown = training.choose_example(journal)
        print(examples.example_as_text(experiment.test, shown), end="\n\n", flush=True)
    return faults


if __name__ == "__main__":
    _script.run(main)
