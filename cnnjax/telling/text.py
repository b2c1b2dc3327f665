"""Text about a run: what is trained, where the time went, the result."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from cnnjax.base.arguments import instance_of
from cnnjax.experiments.adapting import adaptations
from cnnjax.experiments.experiment import Experiment
from cnnjax.experiments.recipes import RECIPES
from cnnjax.experiments.runs import Run
from cnnjax.faults import get_fault
from cnnjax.models.stack import ModelConfig, layer_rows
from cnnjax.results.environment import environment_parts
from cnnjax.telling.layout import flow, wrap


def summary(config: ModelConfig) -> str:
    """Return the table of layers: output shape, parameters, MACs per example.

    Raises:
        InputError: `config` is not a network's, or its layers do not fit together.
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


def environment_text(environment: Mapping[str, Any]) -> str:
    """Describe the environment of a run."""
    return flow(environment_parts(environment), sep="; ")


def run_text(experiment: Experiment, seeds: str) -> str:
    """Describe what is about to be trained; `seeds` names the seeds."""
    recipe = experiment.recipe
    parts = {"train": experiment.train, "test": experiment.test}
    if experiment.validation is not None:
        parts["hold out"] = experiment.validation
    sizes = (f"{len(one.labels):,} to {use}" for use, one in parts.items())
    run = flow(
        (
            f"recipe {recipe.name}",
            f"dataset {recipe.dataset} ({', '.join(sizes)})",
            f"batch size {experiment.loop.batch_size}",
            seeds,
            recipe.model.dtype,
        )
    )
    changes = adaptations(recipe, RECIPES.get(recipe.name, recipe))
    adapted = [wrap(f"adapted to the data set: {', '.join(changes)}")] * bool(changes)
    return "\n".join([run, *adapted, strategy_text(experiment)])


def strategy_text(experiment: Experiment) -> str:
    """Name the strategy, and say why it was chosen if the recipe names none."""
    form = experiment.form
    size = form.options.microbatch_size
    line = f"strategy {form.strategy}"
    line += f", microbatch size {size}" if size is not None else ""
    return wrap(line if form.why is None else f"{line}: {form.why}")


def early_lines(run: Run, planned: int) -> list[str]:
    """Say which epoch's parameters are kept, where there was a choice."""
    if run.best_epoch is None:
        return []
    best, made = run.records[run.best_epoch - 1], len(run.records)
    ended = f"stopped after {made} of {planned} epochs: " if made < planned else ""
    loss = metric_text("loss", (best.test or {})["loss"])
    return [
        wrap(
            f"{ended}the {best.part} loss was least after epoch {best.epoch} ({loss}); "
            "its parameters are kept"
        )
    ]


def divergence_of_run(run: Run) -> list[str]:
    """Return a warning if the run has diverged, with what it did not predict.

    >>> import numpy as np
    >>> divergence_of_run(Run({}, [], {"loss": np.nan, "examples": 9}, 8))
    ['warning: the run has diverged: no prediction for 8 of 9 test examples']
    """
    return [f"warning: the run has diverged{unpredicted(run)}"] if run.diverged else []


def unpredicted(run: Run) -> str:
    """Return what a diverged run did not predict, as the end of a sentence."""
    if run.no_prediction is None:
        return f": its test loss is {metric_text('loss', run.test['loss'])}"
    examples = f"{run.test['examples']:,} test examples"
    return f": no prediction for {run.no_prediction:,} of {examples}"


def fault_lines(names: Iterable[str]) -> list[str]:
    """List the faults that are switched on, one per line, so that none is overlooked.

    >>> fault_lines(["sum_instead_of_mean"])
    ['FAULT sum_instead_of_mean: Gradients are summed over the batch, not averaged.']

    Raises:
        InputError: a name is not a known fault's.
    """
    return [wrap(f"FAULT {name}: {get_fault(name).summary}") for name in names]


def metric_text(name: str, value: float) -> str:
    """Format a metric for people: accuracies in percent.

    >>> metric_text("accuracy", 0.9868), metric_text("loss", 0.0331)
    ('98.68 %', '0.0331')
    """
    return f"{100 * value:.2f} %" if name == "accuracy" else f"{value:.4f}"


def time_text(seconds: Mapping[str, float], *, total: float, cache: str) -> str:
    """Show where the time of a run went; `cache` is the state of the compile cache."""
    parts = [f"{part} {spent:.2f}" for part, spent in seconds.items()]
    whole = f"total {total:.2f} (compile cache {cache})"
    lead = "seconds: "
    return flow([lead + parts[0], *parts[1:], whole], indent=" " * len(lead))


def test_line(test: Mapping[str, float]) -> str:
    """Return the final result: the accuracy, or the loss if there is none."""
    name = "accuracy" if "accuracy" in test else "loss"
    return f"test {name}: {metric_text(name, test[name])}"
