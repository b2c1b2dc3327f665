"""The results of each published run: its seeds read back, its figures judged."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cnnjax.models.stack import layer_rows
from cnnjax.results.environment import read_environment
from cnnjax.results.fields import read_epochs, read_result
from cnnjax.results.outcomes import dead_classes
from cnnjax.results.predictions import read_predictions
from cnnjax.results.schema import RESULT
from cnnjax.studies.published.run import Figure, PublishedRun, System
from cnnjax.studies.reproduction.plan import Job
from cnnjax.studies.reproduction.verdicts import Judged, judge

COLLAPSED_FROM, COLLAPSED_TO = 0.9, 0.5  # test accuracy: once above, below at the end
NOT_YET = "not trained yet"
AT_FULL_SCALE = "trained at full scale only"

# Metrics that depend on the network only, and the layers' column that they sum.
SIZES = {"parameters": "parameters", "macs_per_example": "macs"}


class Trained(NamedTuple):
    """A finished job, read back."""

    job: Job
    result: Mapping[str, Any]  # result.json
    lines: Sequence[Mapping[str, Any]]  # metrics.jsonl: one line per epoch
    dead_classes: tuple[int, ...] | None  # never predicted; None: a regression

    @property
    def test_accuracies(self) -> list[float]:
        """Return its test accuracies in the order of the tested epochs."""
        tested = [line.get("test_accuracy") for line in self.lines]
        return [value for value in tested if value is not None]

    @property
    def diverged(self) -> bool:
        """Whether a loss was not finite; missing predictions then count as wrong."""
        return bool(self.result.get("diverged"))

    @property
    def collapsed(self) -> bool:
        """Whether its test accuracy was once high and is low at the end."""
        tested = self.test_accuracies
        if not tested:
            return False
        return max(tested) > COLLAPSED_FROM and tested[-1] < COLLAPSED_TO


class RunFindings(NamedTuple):
    """One published run, with all its trained seeds."""

    system: System
    run: PublishedRun
    jobs: tuple[Job, ...]  # trained or not
    trained: tuple[Trained, ...]  # for all epochs or, if there are none, for fewer
    figures: tuple[Judged, ...]
    open_reasons: tuple[str, ...]  # why jobs are not trained, each reason once

    @property
    def num_seeds(self) -> int:
        """Return the number of seeds, trained or not."""
        return len({job.seed for job in self.jobs})


def read_trained(job: Job) -> Trained:
    """Read the results of a finished job.

    Raises:
        InputError: a file is missing or damaged.
    """
    result, lines = read_result(job.folder), read_epochs(job.folder)
    result["environment"] = read_environment(job.folder / RESULT.file, result)
    dead = None
    if (job.folder / "predictions.csv").exists():  # a classifier
        rows = read_predictions(job.folder, seeds=(job.seed,))[job.seed].values()
        dead = tuple(dead_classes(*zip(*rows, strict=True)))
    return Trained(job, result, lines, dead)


def find(
    systems: Iterable[System],
    jobs: Sequence[Job],
    trained: Mapping[Path, Trained],
    *,
    reason_fn: Callable[[Job], str],
) -> list[RunFindings]:
    """Judge every published run of these systems by its trained seeds.

    Seeds of fewer epochs (quick scale) count only if none is trained for all epochs.
    `trained` is keyed by job folder; `reason_fn` says why a job is not trained.
    """
    findings = []
    for system in systems:
        for run in system.runs:
            names = (system.letter, run.name)
            own = tuple(job for job in jobs if (job.system, job.run.name) == names)
            ended = tuple(trained[job.folder] for job in own if job.folder in trained)
            ended = tuple(one for one in ended if one.job.whole) or ended
            reasons = [reason_fn(job) for job in own if job.folder not in trained]
            if not own:
                reasons = [NOT_YET if run.at_quick else AT_FULL_SCALE]
            reasons = tuple(dict.fromkeys(reasons))
            figures = tuple(
                judge_run(run, figure, ended, open_reason=_briefly(reasons))
                for figure in run.figures
            )
            findings.append(RunFindings(system, run, own, ended, figures, reasons))
    return findings


def judge_run(
    run: PublishedRun, figure: Figure, trained: Sequence[Trained], *, open_reason: str
) -> Judged:
    """Judge one figure by the trained seeds of its run.

    It stays open if there are none, if they ended before its epoch, or if they did not
    record the metric. Sizes need no training. A training time is scaled to the number
    of epochs of the figure.
    """
    if figure.metric in SIZES:
        rows = layer_rows(run.settled().model)
        return judge(
            figure, [float(sum(getattr(r, SIZES[figure.metric]) for r in rows))]
        )
    if not trained:
        return Judged(figure, "open", open_reason)
    epochs = run.settled().epochs
    done = trained[0].job.recipe.epochs
    scale, scaled = 1.0, ""
    if figure.metric == "train_seconds":
        of = figure.of_epochs or epochs
        if done != of:
            way = "up" if done < of else "down"
            scale, scaled = of / done, f"scaled {way} from {done} to {of} epochs"
    elif figure.epoch is None and figure.metric.startswith("test_") and done < epochs:
        note = f"after all {epochs} epochs; only {done} trained here"
        return Judged(figure, "open", note)
    rows = [_row_of(figure, one) for one in trained]
    if figure.epoch is not None and None in rows:
        note = f"after epoch {figure.epoch}; only {done} trained here"
        return Judged(figure, "open", note)
    if not all(row and figure.metric in row for row in rows):
        return Judged(figure, "open", f"the run does not record {figure.metric}")
    values = [row[figure.metric] if row else None for row in rows]
    values = [None if value is None else scale * value for value in values]
    judged = judge(figure, values)
    notes = [note for note in (scaled, judged.note) if note]
    return judged._replace(note="; ".join(notes))


def _briefly(reasons: Iterable[str]) -> str:
    """Return reasons without their details, which are listed once above all tables."""
    brief = (reason.split(": ") for reason in reasons)
    return "; ".join(f"{b[0]}, see above" if len(b) > 1 else b[0] for b in brief)


def _row_of(figure: Figure, trained: Trained) -> Mapping[str, Any] | None:
    """Return the record with a figure's metric: the result, or its epoch's line."""
    if figure.epoch is None:
        return trained.result
    lines = [line for line in trained.lines if line.get("epoch") == figure.epoch]
    return lines[0] if lines else None
