"""What a run looks like in a terminal: tables and images made of characters."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from jaxtyping import UInt8

from cnnjax.base.arguments import instance_of
from cnnjax.experiments.ensembles import SeedRun
from cnnjax.experiments.experiment import Experiment
from cnnjax.experiments.runs import Run
from cnnjax.faults import get_fault
from cnnjax.models.stack import ModelConfig, layer_rows
from cnnjax.statistics import MeanInterval
from cnnjax.training.records import EpochRecord
from cnnjax.types import NO_PREDICTION, Examples

SHADES = " .:-=+*#%@"


def image_as_text(image: UInt8[np.ndarray, "height width channels"]) -> str:
    """Draw an image with characters, two to a pixel, dark to bright; colours average.

    >>> print(image_as_text(np.array([[[0], [255]], [[255], [0]]], np.uint8)))
      @@
    @@
    """
    grey = image.mean(axis=-1) / 256
    rows = (grey * len(SHADES)).astype(int)
    lines = ("".join(SHADES[shade] * 2 for shade in row) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def summary(config: ModelConfig) -> str:
    """Return the table of layers: output shape, parameters, MACs of one example.

    Raises:
        InputError: no config of a network, or layers that do not fit.
    """
    instance_of(ModelConfig)("config (a recipe's model)", config)
    rows = layer_rows(config)
    cells = [("layer", "output", "parameters", "MACs")]
    cells += [
        (
            row.name,
            " x ".join(map(str, row.output_shape)),
            f"{row.parameters:,}",
            f"{row.macs:,}",
        )
        for row in rows
    ]
    cells.append(
        (
            "total",
            "",
            f"{sum(row.parameters for row in rows):,}",
            f"{sum(row.macs for row in rows):,}",
        )
    )
    widths = [max(len(row[column]) for row in cells) for column in range(4)]
    return "\n".join(
        f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c:>{widths[2]}}  {d:>{widths[3]}}"
        for a, b, c, d in cells
    )


def example_as_text(examples: Examples, index: int) -> str:
    """Show one example with its label: an image drawn, or a row of numbers."""
    example, label = examples.inputs[index], examples.labels[index]
    if example.ndim == 3:
        return f"{image_as_text(example)}\ntest example {index}, label {label}"
    values = ", ".join(f"{value:.3f}" for value in example)
    target = ", ".join(f"{value:.4f}" for value in label)
    return f"test example {index}: [{values}], target {target}"


def epoch_line(record: EpochRecord) -> str:
    """Say in one line what an epoch did: each metric in training, then on the test."""
    parts = [f"epoch {record.epoch:>3}"]
    for name in sorted(record.train, key=lambda name: name != "loss"):
        part = f"{name} {metric_text(name, record.train[name])}"
        if record.test is not None and name in record.test:
            part += f", test {metric_text(name, record.test[name])}"
        parts.append(part)
    parts.append(f"{record.seconds:.2f} s")
    parts.append(f"{record.examples_per_second:,.0f} examples/s")
    parts.append(f"lr {record.learning_rate:.3g}")
    return "  ".join(parts)


def run_line(experiment: Experiment, seeds: str) -> str:
    """Say in one line what is about to be trained; `seeds` says from which seeds."""
    recipe = experiment.recipe
    return (
        f"recipe {recipe.name}, dataset {recipe.dataset} "
        f"({len(experiment.train.labels):,} to train, {len(experiment.test.labels):,} "
        f"to test), batch size {experiment.loop.batch_size}, strategy "
        f"{recipe.strategy}, {seeds}, {recipe.model.dtype}"
    )


def seed_line(seed_run: SeedRun) -> str:
    """Say in one line what the run of one seed came to."""
    test = seed_run.run.test
    parts = [f"seed {seed_run.seed:>3}"]
    parts += [f"test {name} {metric_text(name, test[name])}" for name in _named(test)]
    parts.append(f"{sum(record.seconds for record in seed_run.run.records):.1f} s")
    if seed_run.run.diverged:
        parts.append(f"diverged{_unpredicted(seed_run.run)}")
    if seed_run.dead_classes:
        dead = ", ".join(map(str, seed_run.dead_classes))
        parts.append(f"never predicts {dead}")
    return "  ".join(parts)


def interval_lines(
    metric: str,
    over_seeds: MeanInterval | None,
    *,
    not_finite: Sequence[int] = (),
    diverged: Sequence[int] = (),
) -> list[str]:
    """Say what the seeds have in common: mean, deviation, and two intervals.

    They are of the seeds whose metric is finite; None: there is none. Seeds that have
    diverged and still have one (an accuracy: no prediction is a wrong one) count.

    >>> interval_lines("loss", None, not_finite=[3, 4], diverged=[3, 4])
    ['left out, as their test loss is not finite: seed 3, seed 4',
     'test loss: no seed is left to take a mean of']
    """
    lines = []
    if counted := [seed for seed in diverged if seed not in not_finite]:
        lines.append(f"diverged, and counted as they are: {_seeds(counted)}")
    if not_finite:
        left_out = _seeds(not_finite)
        lines.append(f"left out, as their test {metric} is not finite: {left_out}")
    if over_seeds is None:
        return [*lines, f"test {metric}: no seed is left to take a mean of"]
    n, mean, std, student, bootstrap = over_seeds
    seeds = f"{n} seed{'s' if n > 1 else ''}"
    lines.append(f"test {metric}, {seeds}: mean {metric_text(metric, mean)}")
    if std is None:
        return lines
    lines[-1] += f", standard deviation {metric_text(metric, std)}"
    if student is None or bootstrap is None:
        return [*lines, "no interval of the mean: the seeds are all alike"]
    for name, (low, high) in (("Student", student), ("bootstrap", bootstrap)):
        bounds = f"{metric_text(metric, low)} to {metric_text(metric, high)}"
        lines.append(f"95 % interval of the mean: {bounds} ({name})")
    return lines


def divergence(record: EpochRecord) -> list[str]:
    """Return a line of warning where a loss of an epoch is not finite, else none."""
    if not record.diverged:
        return []
    of, loss = "loss", record.train["loss"]
    if math.isfinite(loss) and record.test is not None:
        of, loss = "test loss", record.test["loss"]
    return [
        f"warning: the {of} of epoch {record.epoch} is {loss}: the run has diverged; "
        "a lower learning rate may help"
    ]


def divergence_of_run(run: Run) -> list[str]:
    """Return a line on a run that has diverged, and what it predicts; else none.

    >>> divergence_of_run(Run({}, [], {"loss": math.nan, "examples": 9}, 8))
    ['warning: the run has diverged: no prediction for 8 of 9 test examples']
    """
    return [f"warning: the run has diverged{_unpredicted(run)}"] if run.diverged else []


def _unpredicted(run: Run) -> str:
    if run.no_prediction is None:
        return f": its test loss is {metric_text('loss', run.test['loss'])}"
    examples = f"{run.test['examples']:,} test examples"
    return f": no prediction for {run.no_prediction:,} of {examples}"


def fault_lines(names: Iterable[str]) -> list[str]:
    """Say which faults are switched in, a line each: never to be overlooked.

    >>> fault_lines(["sum_instead_of_mean"])
    ['FAULT sum_instead_of_mean: Gradients are summed over the batch, not averaged.']

    Raises:
        InputError: no such fault.
    """
    return [f"FAULT {name}: {get_fault(name).summary}" for name in names]


def metric_text(name: str, value: float) -> str:
    """Write a metric as people read it: accuracies in percent.

    >>> metric_text("accuracy", 0.9868), metric_text("loss", 0.0331)
    ('98.68 %', '0.0331')
    """
    return f"{100 * value:.2f} %" if name == "accuracy" else f"{value:.4f}"


def prediction_line(examples: Examples, index: int, prediction: np.ndarray) -> str:
    """Say what the network makes of one example, beside its label."""
    label = examples.labels[index]
    if prediction.ndim == 0:
        predicted = "nothing" if prediction == NO_PREDICTION else prediction
        return f"test example {index}: label {label}, predicted {predicted}"
    values = (", ".join(f"{v:.4f}" for v in part) for part in (label, prediction))
    return "test example {}: target {}, predicted {}".format(index, *values)


def time_line(seconds: Mapping[str, float], *, total: float, cache: str) -> str:
    """Say where the time of a run went; `cache` is the state of the compile cache."""
    parts = ", ".join(f"{name} {spent:.2f}" for name, spent in seconds.items())
    return f"seconds: {parts}; total {total:.2f} (compile cache {cache})"


def _seeds(seeds: Iterable[int]) -> str:
    return ", ".join(f"seed {seed}" for seed in seeds)


def _named(test: Mapping[str, float]) -> list[str]:
    """Return the metrics of a test that are told, the deciding one first."""
    return [name for name in ("accuracy", "loss") if name in test]


def test_line(test: Mapping[str, float]) -> str:
    """Say the final result: the accuracy, or the loss where there is none."""
    name = "accuracy" if "accuracy" in test else "loss"
    return f"test {name}: {metric_text(name, test[name])}"
