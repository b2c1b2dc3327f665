"""What a run writes into its folder, as it goes: the fields are those of the schema."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cnnjax.base.clock import Clock
from cnnjax.base.trees import nbytes
from cnnjax.experiments.ensembles import SeedRun
from cnnjax.experiments.experiment import Experiment
from cnnjax.experiments.runs import Run
from cnnjax.models.stack import layer_rows
from cnnjax.results import schema
from cnnjax.results.workdir import Workdir, plain
from cnnjax.statistics import MeanInterval, mean_interval
from cnnjax.training.records import EpochRecord
from cnnjax.types import Params

SPARE_BYTES = 2**20  # of everything but parameters


@dataclass(frozen=True, kw_only=True)
class Journal:
    """The record of one call of train.py: of one seed, or of several.

    Without a path, its workdir keeps nothing; the lines are kept here all the same.
    """

    workdir: Workdir
    experiment: Experiment  # of the first seed
    seeds: Sequence[int]
    clock: Clock
    environment: Mapping[str, Any]  # see `describe_environment`
    log_steps: bool = False  # every update's metrics, into steps.csv
    lines: list[dict[str, Any]] = field(default_factory=list)  # of metrics.jsonl
    ended: list[SeedRun] = field(default_factory=list)  # of several seeds

    def start(self, command: Sequence[str]) -> None:
        """Make the folder, and write config.json.

        Raises:
            InputError: the folder cannot be made, or lacks the room; nothing is lost.
        """
        one = self.experiment
        config: dict[str, Any] = {
            "recipe": plain(one.recipe),
            "faults": list(one.faults),
            "command": list(command),
            "microbatch_size": one.form.options.microbatch_size,
        }
        many = len(self.seeds) > 1
        config |= {"seeds": list(self.seeds)} if many else {"seed": self.seeds[0]}
        # The parameters of all seeds, while those of all but the last are still there.
        copies = 2 * len(self.seeds) - 1
        room = SPARE_BYTES + copies * nbytes(one.params)
        with self.clock.part("write"):
            self.workdir.start(schema.record(schema.CONFIG, config), room=room)

    def epoch(self, epoch: EpochRecord, *, seed: int | None = None) -> None:
        """Append a line to metrics.jsonl; of several seeds it names its own.

        Raises:
            InputError: the system refuses to write.
        """
        own = {} if seed is None else {"seed": seed}
        self.lines.append(schema.record(schema.EPOCH, {**own, **epoch.to_json()}))
        with self.clock.part("write"):
            self.workdir.append_json_line(schema.EPOCH.file, self.lines[-1])
            if self.log_steps:
                self.workdir.append_lines("steps.csv", epoch.to_csv())

    def end(self, params: Params, predictions: np.ndarray | None) -> None:
        """Keep what one seed has learned, and what it predicts on the test set.

        Raises:
            InputError: the system refuses to write.
        """
        labels = self.experiment.test.labels
        with self.clock.part("write"):
            self.workdir.write_params(params)
            self.workdir.append_predictions(self.seeds[0], labels, predictions)

    def draw(self, curves: Callable[..., bytes]) -> None:
        """Write curves.png by `curves(lines of metrics.jsonl, title=...)`.

        Raises:
            InputError: the system refuses to write.
        """
        if not self.lines or self.workdir.path is None:
            return
        recipe, many = self.experiment.recipe, len(self.seeds)
        of = f"{many} seeds" if many > 1 else f"seed {self.seeds[0]}"
        title = f"{recipe.name} on {recipe.dataset}, {of}"
        with self.clock.part("write"):
            self.workdir.write_bytes("curves.png", curves(self.lines, title=title))

    def seed(self, ended: SeedRun) -> None:
        """Keep the run of one of several seeds: parameters, predictions and a line.

        Raises:
            InputError: the system refuses to write.
        """
        self.ended.append(ended)
        params = {f"seed_{one.seed}": one.run.params for one in self.ended}
        with self.clock.part("write"):
            self.workdir.write_params(params)
            self.workdir.append_json_line(schema.SEED.file, seed_record(ended))
            self.workdir.append_predictions(
                ended.seed, ended.test_labels, ended.predictions
            )

    def result(self, run: Run, *, cache: str) -> None:
        """Write result.json of one seed; `cache` is the state of the compile cache.

        Raises:
            InputError: the system refuses to write.
        """
        one, seconds = self.experiment, self.clock.seconds
        rows = layer_rows(one.recipe.model)
        trained_on = one.examples_per_epoch * one.loop.epochs
        rate = trained_on / seconds["train"] if self.lines else None
        values = {
            **self._common(cache),
            **{f"test_{name}": value for name, value in run.test.items()},
            "examples_per_second": rate,
            "diverged": run.diverged,
            "test_no_prediction": run.no_prediction,
            "parameters": sum(row.parameters for row in rows),
            "macs_per_example": sum(row.macs for row in rows),
        }
        self.workdir.write_json(
            schema.RESULT.file, schema.record(schema.RESULT, values)
        )

    def result_of_seeds(self, *, group_size: int, cache: str) -> Summary:
        """Write result.json of several seeds, and return what they have in common.

        Raises:
            InputError: the system refuses to write.
        """
        found = summarize(self.ended)
        interval = found.interval
        values = {
            **self._common(cache),
            "num_seeds": len(self.seeds),
            "group_size": group_size,
            f"test_{found.metric}": interval and interval.mean,
            f"test_{found.metric}_over_seeds": interval and interval._asdict(),
            "seeds_not_finite": found.not_finite,
            "seeds_diverged": found.diverged,
        }
        self.workdir.write_json(
            schema.RESULT.file, schema.record(schema.RESULT_OF_SEEDS, values)
        )
        return found

    def _common(self, cache: str) -> Mapping[str, Any]:
        recipe = self.experiment.recipe
        seconds = {f"{name}_seconds": s for name, s in self.clock.seconds.items()}
        return {
            "recipe": recipe.name,
            "dataset": recipe.dataset,
            "strategy": recipe.strategy,
            "seed": self.seeds[0],
            "faults": list(self.experiment.faults),
            "epochs": self.experiment.loop.epochs,
            **seconds,
            "total_seconds": self.clock.total(),
            "compile_cache": cache,
            "environment": self.environment,
        }


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What the runs of several seeds have in common."""

    metric: str  # accuracy, or loss where there is none
    interval: MeanInterval | None  # of the finite ones; None: there is none
    not_finite: list[int]  # seeds that the mean leaves out
    diverged: list[int]


def summarize(ended: Sequence[SeedRun]) -> Summary:
    """Average the tests of several seeds, where they are finite."""
    metric = "accuracy" if "accuracy" in ended[0].run.test else "loss"
    scores = {one.seed: one.run.test[metric] for one in ended}
    finite = [score for score in scores.values() if math.isfinite(score)]
    return Summary(
        metric=metric,
        interval=mean_interval(finite) if finite else None,
        not_finite=[s for s, score in scores.items() if not math.isfinite(score)],
        diverged=[one.seed for one in ended if one.run.diverged],
    )


def seed_record(ended: SeedRun) -> dict[str, Any]:
    """Return the line of seeds.jsonl about one seed."""
    run = ended.run
    values = {
        "seed": ended.seed,
        **{f"test_{name}": value for name, value in run.test.items()},
        "dead_classes": ended.dead_classes,
        "diverged": run.diverged,
        "test_no_prediction": run.no_prediction,
        "train_seconds": float(sum(record.seconds for record in run.records)),
    }
    return schema.record(schema.SEED, values)
