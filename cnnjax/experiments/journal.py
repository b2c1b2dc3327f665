"""What a run writes into its folder, as it goes: the fields are those of the schema."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cnnjax.base.clock import Clock
from cnnjax.base.trees import nbytes
from cnnjax.experiments.experiment import Experiment
from cnnjax.experiments.runs import Run
from cnnjax.experiments.seed_run import SeedRun
from cnnjax.experiments.summaries import Summary, measures, seed_record, summarize
from cnnjax.results import schema
from cnnjax.results.checkpoints.store import KEEP
from cnnjax.results.plain import plain
from cnnjax.results.workdir import Workdir
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
    how: Mapping[str, Any] = field(default_factory=dict)  # see `config`
    data: Mapping[str, str] = field(default_factory=dict)  # digests, by file
    class_names: Sequence[str] = ()  # empty: a regression
    log_steps: bool = False  # every update's metrics, into steps.csv
    starts: list[int] = field(default_factory=lambda: [1])  # of the program, for a run
    lines: list[dict[str, Any]] = field(default_factory=list)  # of metrics.jsonl
    ended: list[SeedRun] = field(default_factory=list)  # of several seeds

    def config(self) -> dict[str, Any]:
        """Return what config.json says of the run, except the command."""
        one, many = self.experiment, len(self.seeds) > 1
        return {
            "recipe": plain(one.recipe),
            **({"seeds": list(self.seeds)} if many else {"seed": self.seeds[0]}),
            "faults": list(one.faults),
            "microbatch_size": one.form.options.microbatch_size,
            **self.how,
            "data": dict(self.data),
            **({"class_names": list(self.class_names)} if self.class_names else {}),
        }

    def about(self) -> dict[str, Any]:
        """Return what is kept beside each checkpoint: all that a later start needs."""
        return {
            "config": self.config(),
            "environment": dict(self.environment),
            "starts": self.starts[0],
            "seconds": dict(self.clock.seconds),
            "total_seconds": self.clock.total(),
        }

    def start(self, command: Sequence[str]) -> None:
        """Make the folder, remove an earlier run, and write config.json.

        Raises:
            InputError: the folder cannot be made, or lacks the room; nothing is lost.
        """
        # Checkpoints have parameters and two moments; the seeds that have ended, and
        # the file of all of them, parameters alone.
        copies = 3 * (KEEP + 2) + 2 * len(self.seeds)
        room = SPARE_BYTES + copies * nbytes(self.experiment.params)
        with self.clock.part("write"):
            self.workdir.start(self._config(command), room=room)

    def restart(self, command: Sequence[str], about: Mapping[str, Any]) -> None:
        """Go on in the folder of an earlier start, of which this is known.

        Raises:
            InputError: the folder cannot be written.
        """
        self.starts[0] = about["starts"] + 1
        self.clock.carry(about["seconds"], about["total_seconds"])
        with self.clock.part("write"):
            self.workdir.restart(self._config(command))

    def _config(self, command: Sequence[str]) -> dict[str, Any]:
        config = {**self.config(), "command": list(command)}
        return schema.record(schema.CONFIG, config)

    def replay(self, noted: Sequence[tuple[int, EpochRecord]]) -> None:
        """Append what earlier starts noted, by seed: logs say what a checkpoint says.

        Raises:
            InputError: the system refuses to write.
        """
        lines = [self._line(record, seed) for seed, record in noted]
        self.lines.extend(lines)
        with self.clock.part("write"):
            self.workdir.append_json_lines(schema.EPOCH.file, lines)
            if self.log_steps:
                csv = [line for _, record in noted for line in record.to_csv()]
                self.workdir.append_lines("steps.csv", csv)

    def epoch(self, epoch: EpochRecord, *, seed: int) -> None:
        """Append a line to metrics.jsonl; of several seeds it names its own.

        Raises:
            InputError: the system refuses to write.
        """
        self.lines.append(self._line(epoch, seed))
        with self.clock.part("write"):
            self.workdir.append_json_lines(schema.EPOCH.file, self.lines[-1:])
            if self.log_steps:
                self.workdir.append_lines("steps.csv", epoch.to_csv())

    def _line(self, epoch: EpochRecord, seed: int) -> dict[str, Any]:
        own = {"seed": seed} if self.seeds[1:] else {}
        return schema.record(schema.EPOCH, {**own, **epoch.to_json()})

    def end(self, params: Params | None, predictions: np.ndarray | None) -> None:
        """Keep what one seed has learned, and what it predicts on the test set.

        `params` is None if training was stopped because it diverged.

        Raises:
            InputError: the system refuses to write.
        """
        labels = self.experiment.test.labels
        with self.clock.part("write"):
            if params is not None:
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
        """Keep the run of one of several seeds: predictions and a line.

        Raises:
            InputError: the system refuses to write.
        """
        self.ended.append(ended)
        with self.clock.part("write"):
            self.workdir.append_json_lines(schema.SEED.file, [seed_record(ended)])
            self.workdir.append_predictions(
                ended.seed, ended.test_labels, ended.predictions
            )

    def result(self, run: Run, *, cache: str) -> None:
        """Write result.json of one seed; `cache` is the state of the compile cache.

        Raises:
            InputError: the system refuses to write.
        """
        trained = self.clock.seconds["train"] if self.lines else None
        measured = measures(self.experiment, run, train_seconds=trained)
        values = {**self._common(cache), **measured}
        self.workdir.write_result(schema.record(schema.RESULT, values))

    def result_of_seeds(self, *, group_size: int, cache: str) -> Summary:
        """Write the parameters and result.json of several seeds; return a summary.

        Raises:
            InputError: the system refuses to write.
        """
        found = summarize(self.ended)
        params = {f"seed_{one.seed}": one.run.params for one in self.ended}
        with self.clock.part("write"):
            self.workdir.write_params(params)
        values = {
            **self._common(cache),
            **found.values(),
            "num_seeds": len(self.seeds),
            "group_size": group_size,
        }
        self.workdir.write_result(schema.record(schema.RESULT_OF_SEEDS, values))
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
            "starts": self.starts[0],
            "compile_cache": cache,
            "environment": self.environment,
        }
