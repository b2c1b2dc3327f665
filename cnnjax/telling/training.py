"""Train one seed or several, keep a journal, and print progress."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from cnnjax import devices
from cnnjax.base.compile_cache import CompileCache
from cnnjax.experiments import ensembles, predictions, runs
from cnnjax.experiments.experiment import Experiment
from cnnjax.experiments.journal import Journal
from cnnjax.telling import examples, seeds, text
from cnnjax.telling.epochs import EpochTable, warning
from cnnjax.telling.plots import draw_curves, draw_seeds
from cnnjax.training.records import EpochRecord


class Teller(NamedTuple):
    """Callbacks that report the progress of training."""

    say: Callable[[str], None]  # prints a line
    on_progress: Callable[[int, int], None]  # examples done, examples in the epoch


def choose_example(journal: Journal) -> int:
    """Choose the test example to show, from the seed."""
    num_test = len(journal.experiment.test.labels)
    return int(np.random.default_rng(journal.seeds[0]).integers(num_test))


def train_one(
    journal: Journal, teller: Teller, *, evaluate_every: int, cache: CompileCache
) -> tuple[list[str], list[str]]:
    """Train one seed; return the lines to print before the times, and after them.

    Raises:
        InputError: writing fails.
    """
    experiment, clock = journal.experiment, journal.clock
    table, shown = EpochTable(experiment.loop.epochs), choose_example(journal)

    def on_epoch(record: EpochRecord) -> None:
        journal.epoch(record)
        if lines := table.lines(record):
            teller.say("\n".join(lines))

    run = runs.run(
        experiment,
        evaluate_every=evaluate_every,
        on_epoch=on_epoch,
        on_progress=teller.on_progress,
        clock=clock,
    )
    for line in table.left_out(kept=journal.workdir.path is not None):
        teller.say(line)
    with clock.part("predict"):
        params = devices.to_host(run.params)
        inputs = experiment.test.inputs[shown]
        prediction = predictions.predict(experiment, params, inputs)
        predicted = predictions.predict_test(experiment, params)
    journal.end(params, predicted)
    journal.draw(draw_curves)
    journal.result(run, cache=cache.state)
    told = examples.prediction_line(experiment.test, shown, prediction)
    return [told], [*text.divergence_of_run(run), text.test_line(run.test)]


def train_seeds(
    journal: Journal,
    prepare_fn: Callable[[int], Experiment],
    teller: Teller,
    *,
    group_size: int,
    evaluate_every: int,
    cache: CompileCache,
) -> list[str]:
    """Train all seeds and report how each ended; return the lines of their summary.

    Raises:
        InputError: writing fails.
    """
    diverged: set[int] = set()

    def on_epoch(seed: int, record: EpochRecord) -> None:
        journal.epoch(record, seed=seed)
        if record.diverged and seed not in diverged:
            diverged.add(seed)
            teller.say("\n".join(warning(record, of=f"seed {seed}: ")))

    for ended in ensembles.run_seeds(
        prepare_fn,
        journal.seeds,
        group_size=group_size,
        evaluate_every=evaluate_every,
        callbacks=ensembles.SeedCallbacks(on_epoch, teller.on_progress),
        clock=journal.clock,
    ):
        journal.seed(ended)
        teller.say(seeds.seed_line(ended))
    journal.draw(draw_seeds)
    found = journal.result_of_seeds(group_size=group_size, cache=cache.state)
    return seeds.interval_lines(
        found.metric,
        found.interval,
        not_finite=found.not_finite,
        diverged=found.diverged,
    )
