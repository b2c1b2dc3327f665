"""Train one seed or several, keep a journal and checkpoints, and print progress."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from cnnjax.base.compile_cache import CompileCache
from cnnjax.base.printable import printable
from cnnjax.experiments import ensembles, predictions, runs
from cnnjax.experiments.ended import state_like
from cnnjax.experiments.experiment import Experiment
from cnnjax.experiments.journal import Journal
from cnnjax.results.checkpoints.keeper import Keeper, position_text
from cnnjax.telling import divergence, examples, seeds, text
from cnnjax.telling.curves import draw_run
from cnnjax.telling.epochs import EpochTable, warning
from cnnjax.telling.results import write_results
from cnnjax.telling.sparkline import loss_text
from cnnjax.telling.watching import NOBODY, Watchers
from cnnjax.training.divergence import OnNan
from cnnjax.training.loop import LoopState
from cnnjax.training.records import EpochRecord
from cnnjax.training.stopping import is_over

STATUS_OF_DIVERGENCE = 3


class Teller(NamedTuple):
    """Callbacks that report the progress of training."""

    say: Callable[[str], None]  # prints a line
    on_progress: Callable[[int, int], None]  # examples done, examples in the epoch
    note: Callable[[str], None] = lambda _: None  # shows a text beside the progress


class How(NamedTuple):
    """How to train, apart from the experiment."""

    evaluate_every: int
    on_nan: OnNan
    group_size: int
    cache: CompileCache
    prepare_fn: Callable[[int], Experiment]  # the experiment of a seed
    watchers: Watchers = NOBODY


class Told(NamedTuple):
    """What to print before the times and after them, and the exit status."""

    before: list[str]
    after: list[str]
    status: int


def introduction(journal: Journal) -> list[str]:
    """Say what is trained, on what, and show an example: paragraphs."""
    experiment, of = journal.experiment, seeds.listed(journal.seeds)
    head = text.environment_text(journal.environment)
    told = [f"{head}\n{text.run_text(experiment, of)}"]
    told.append(text.summary(experiment.recipe.model))
    if faults := text.fault_lines(experiment.faults):
        told.append("\n".join(faults))
    if not journal.seeds[1:]:
        shown = choose_example(journal)
        told.append(examples.example_as_text(experiment.test, shown))
    return told


def conclusion(
    journal: Journal, told: Told, cache: CompileCache, *, where: str | None
) -> list[str]:
    """Say how training ended: its times, where the results are, and the test."""
    clock = journal.clock
    times = text.time_text(clock.seconds, total=clock.total(), cache=cache.state)
    kept = journal.workdir.path is not None
    results = [printable(f"results in {where}")] if kept else []
    faults = text.fault_lines(journal.experiment.faults)
    return [*told.before, times, *results, *faults, *told.after]


def choose_example(journal: Journal) -> int:
    """Choose the test example to show, from the seed."""
    num_test = len(journal.experiment.test.labels)
    return int(np.random.default_rng(journal.seeds[0]).integers(num_test))


def train_one(journal: Journal, keeper: Keeper, teller: Teller, how: How) -> Told:
    """Train one seed, or the rest of it, and write its results.

    Raises:
        InputError: writing fails.
        StoppedError: a signal has come; the last state is kept.
    """
    experiment, clock, (seed,) = journal.experiment, journal.clock, journal.seeds
    table, shown = EpochTable(experiment.loop.epochs), choose_example(journal)

    def on_epoch(record: EpochRecord) -> None:
        journal.epoch(record, seed=seed)
        if lines := table.lines(record):
            teller.say("\n".join(lines))
            teller.note(loss_text([line["train_loss"] for line in journal.lines]))

    with clock.part("write"):
        like, keys = state_like([experiment]), experiment.keys
        resume = keeper.resume(like=like, keys=keys)
    if resume is not None:
        journal.replay([(seed, record) for record in resume.records[0]])
        teller.say(f"{resumed(resume)}\n")
        table.skip(resume.records[0])
    last, watchers = experiment.loop.epochs, how.watchers
    watchers.start(journal.config(), 0 if resume is None else int(resume.state.step))

    def on_state(at: LoopState) -> None:
        watchers.state(at)
        if at.update == 0:
            watchers.epoch(journal.lines[-1], at.params)
        over = is_over(at.best, at.epoch, experiment.loop.patience)
        keeper.on_state(at, keys=keys, last=at.epoch if over else last)

    run = runs.run(
        experiment,
        evaluate_every=how.evaluate_every,
        on_epoch=on_epoch,
        on_progress=teller.on_progress,
        on_state=on_state,
        clock=clock,
        resume=resume,
        on_nan=how.on_nan,
    )
    kept = journal.workdir.path is not None
    for line in table.left_out(kept=kept, epochs=len(run.records)):
        teller.say(line)
    for line in text.early_lines(run, experiment.loop.epochs):
        teller.say(line)
    params, predicted = write_results(journal, keeper, run, how.cache)
    if predicted is None:  # a regression
        inputs = experiment.test.inputs[shown]
        prediction = predictions.predict(experiment, params, inputs)
    else:
        prediction = predicted[shown]
    watchers.end({**run.test, "diverged": run.diverged})
    told = examples.prediction_line(experiment.test, shown, prediction)
    stopped = divergence.lines(run.divergence, kept=keeper.newest_name())
    remarks = divergence.remarks(run, experiment.test.labels)
    after = [*stopped, *text.divergence_of_run(run), *remarks]
    status = STATUS_OF_DIVERGENCE if run.diverged and how.on_nan == "stop" else 0
    return Told([told], [*after, text.test_line(run.test)], status)


def resumed(at: LoopState) -> str:
    """Say from where training goes on."""
    return f"resumed{position_text(at)}"


def train_seeds(journal: Journal, keeper: Keeper, teller: Teller, how: How) -> Told:
    """Train all seeds, or the rest of them, and report how each ended.

    Raises:
        InputError: writing fails.
        StoppedError: a signal has come; what was trained is kept.
    """
    diverged: set[int] = set()

    def on_epoch(seed: int, record: EpochRecord) -> None:
        journal.epoch(record, seed=seed)
        how.watchers.epoch(journal.lines[-1], None)
        if record.diverged and seed not in diverged:
            diverged.add(seed)
            teller.say("\n".join(warning(record, of=f"seed {seed}: ")))

    def on_resume(of: Sequence[int], at: LoopState | None) -> None:
        where = "trained by an earlier start" if at is None else resumed(at)
        teller.say(f"{seeds.listed(of)}: {where}")

    how.watchers.start(journal.config(), 0)
    for ended in ensembles.run_seeds(
        how.prepare_fn,
        journal.seeds,
        group_size=how.group_size,
        evaluate_every=how.evaluate_every,
        callbacks=ensembles.SeedCallbacks(
            on_epoch, teller.on_progress, journal.replay, on_resume
        ),
        clock=journal.clock,
        keeper=keeper,
        on_nan=how.on_nan,
    ):
        journal.seed(ended)
        teller.say(seeds.seed_line(ended))
    journal.draw(draw_run)
    found = journal.result_of_seeds(group_size=how.group_size, cache=how.cache.state)
    keeper.forget()  # params.safetensors has them all
    stopped = found.diverged and how.on_nan == "stop"
    lines = seeds.interval_lines(
        found.metric,
        found.interval,
        not_finite=found.not_finite,
        diverged=found.diverged,
    )
    how.watchers.end(found.values())
    remarks = divergence.remarks_of_seeds(journal.ended)
    return Told([], [*remarks, *lines], STATUS_OF_DIVERGENCE if stopped else 0)


def train(journal: Journal, keeper: Keeper, teller: Teller, how: How) -> Told:
    """Train one seed or several: see `train_one` and `train_seeds`."""
    how = how._replace(watchers=how.watchers.telling(teller.say))
    train_all = train_seeds if journal.seeds[1:] else train_one
    return train_all(journal, keeper, teller, how)
