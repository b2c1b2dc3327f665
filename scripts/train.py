"""Train a recipe on a data set, and keep the results.

    python scripts/train.py --recipe=adam_cosine_cnn --workdir=runs/1

Writes into --workdir: config.json, metrics.jsonl (one line per epoch), result.json,
params.safetensors, predictions.csv and curves.png; with --log_steps also steps.csv.
The same command again goes on where it was stopped.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # python -I leaves it out

import _asked
import _flags
import _progress
import _script
from absl import flags

from cnnjax import experiments
from cnnjax.base.clock import Clock
from cnnjax.base.compile_cache import CompileCache
from cnnjax.base.program import words
from cnnjax.base.signals import Stop
from cnnjax.data.fingerprints import fingerprint
from cnnjax.devices import peers, processes
from cnnjax.experiments import groups
from cnnjax.experiments.journal import Journal
from cnnjax.faults import switch_in
from cnnjax.results.checkpoints.keeper import Keeper
from cnnjax.results.environment import describe_environment, find_devices
from cnnjax.telling import training
from cnnjax.telling.folder import opened

FLAGS = flags.FLAGS
_flags.define_recipe()
_flags.define_training()
_flags.define_cluster()
flags.adopt_module_key_flags(_flags)


def main(args: list[str]) -> None:
    """Train, and say at every stage what is going on."""
    _script.refuse_arguments(args)
    with Stop() as stop:
        clock, keeping = Clock(), _asked.keeping()
        _asked.start_jax()
        processes.join(_asked.cluster(), alike=_asked.alike())
        find_devices()
        cache = CompileCache()
        processes.together(_asked.refuse_idle)
        journal, how = processes.together(
            lambda: prepare(clock, cache), same=lambda p: _asked.same(p[0].experiment)
        )
        with opened(journal, keeping, words(), stop=stop) as (keeper, beginning):
            print(*beginning.told, sep="\n", end="\n" * bool(beginning.told))
            status = beginning.status
            if status is None:
                status = train(journal, keeper, how)
    if status:
        peers.part()
        sys.exit(status)


def prepare(clock: Clock, cache: CompileCache) -> tuple[Journal, training.How]:
    """Settle what can be refused, before anything is written or trained.

    Raises:
        InputError: flags or data are wrong.
    """
    recipe, seeds = _asked.recipe_from_flags(or_auto=True), _asked.seeds()
    with clock.part("load"):
        recipe, dataset = _asked.load(recipe)
    with clock.part("advice" if FLAGS.strategy == _flags.AUTO else "prepare"):
        recipe, options = _asked.settle(recipe, dataset, cache)
    with clock.part("prepare"):

        def prepare_fn(seed: int) -> experiments.Experiment:
            right = experiments.prepare(recipe, dataset, seed=seed, options=options)
            return switch_in(experiments.streamed(right, FLAGS.stream), FLAGS.fault)

        experiment = prepare_fn(seeds[0])
        groups.check_group(experiment, min(FLAGS.group_size, len(seeds)))
    journal = Journal(
        workdir=_asked.workdir(),
        experiment=experiment,
        seeds=seeds,
        clock=clock,
        environment=describe_environment(),
        how=_asked.noted(),
        data=fingerprint(dataset),
        class_names=dataset.class_names,
        log_steps=FLAGS.log_steps,
    )
    return journal, _asked.how(journal, cache, prepare_fn)


def train(journal: Journal, keeper: Keeper, how: training.How) -> int:
    """Say what is trained, on what; train; say how it ended; return the status."""
    print(*training.introduction(journal), sep="\n\n", end="\n\n", flush=True)
    num_groups = -(-len(journal.seeds) // FLAGS.group_size)
    with _progress.Training(journal.experiment, runs=num_groups) as progress:
        teller = training.Teller(progress.write, progress.update, progress.note)
        told = training.train(journal, keeper, teller, how)
    lines = training.conclusion(journal, told, how.cache, where=FLAGS.workdir)
    print("", *lines, sep="\n")
    return told.status


if __name__ == "__main__":
    _script.run(main)
