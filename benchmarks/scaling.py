"""Measure how time grows with devices, batch size, filters and examples.

    python benchmarks/scaling.py --data_dir=DIR --out=benchmarks/results/scaling.jsonl

On a CPU the devices are virtual: they share the cores, so the figures show the overhead
of dividing the work, not the speedup. Every point runs in its own process, and the
rounds of a question are interleaved.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import _data_flags
import _paths  # noqa: F401
import _script
import lines
import machine
import reference
from absl import flags
from case import Tree, read_case
from contenders import Entry, Task
from peers.ours import experiment_of
from race import Racer, race

from cnnjax.base.errors import InputError, expect, unknown_name
from cnnjax.experiments.experiment import Experiment
from cnnjax.models.stack import Conv, Dense
from cnnjax.results.environment import describe_environment
from cnnjax.studies.measuring.timing import spread
from cnnjax.telling import text
from cnnjax.telling.layout import wrap

FLAGS = flags.FLAGS
flags.DEFINE_string("recipe", "adam_cosine_cnn", "Recipe to time.")
flags.DEFINE_integer("batch_size", 64, "Examples per update.", lower_bound=1)
flags.DEFINE_list(
    "questions",
    None,
    "What to measure: some of strong, weak, batch, filters, units, examples, "
    "overhead. Default: all.",
)
flags.DEFINE_integer("rounds", 7, "Number of timing rounds.", lower_bound=1)
flags.DEFINE_float(
    "round_seconds", 1.0, "Approximate seconds per point and round.", lower_bound=0.001
)

DEVICES = (1, 2, 4, 8)


def points(question: str, experiment: Experiment) -> dict[float, dict[str, Any]]:
    """Return the points of a question: options of `peers.ours`, keyed by x."""
    size, num_train = FLAGS.batch_size, len(experiment.train.labels)
    match question:
        case "strong":  # the same batch, divided
            return {n: {"strategy": "shard_map", "num_devices": n} for n in DEVICES}
        case "weak":  # the same work per device
            return {
                n: {"strategy": "shard_map", "num_devices": n, "batch_size": size * n}
                for n in DEVICES
            }
        case "batch":
            sizes = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]
            return {n: {"batch_size": n} for n in sizes if n <= num_train}
        case "filters":
            return {n: {"num_filters": n} for n in (4, 8, 16, 32, 64, 128, 256, 512)}
        case "units":
            return {n: {"num_units": n} for n in (32, 64, 128, 256, 512, 1024, 2048)}
        case "examples":  # an epoch of this many
            parts = [num_train * part // 10 for part in (1, 2, 4, 6, 8, 10)]
            return {n: {"num_train": n, "whole_epochs": True} for n in parts}
        case "overhead":  # 0: jit, 1: shard_map on one device
            return {0: {"strategy": "jit"}, 1: {"strategy": "shard_map"}}
    raise AssertionError(question)


QUESTIONS = {
    "strong": "strong scaling: one batch divided over devices",
    "weak": "weak scaling: one batch per device",
    "batch": "time of an update by batch size",
    "filters": "time of an update by filters of each convolution",
    "units": "time of an update by units of each hidden dense layer",
    "examples": "time of an epoch by examples",
    "overhead": "shard_map on one device compared with jit",
}
# The layers that these questions widen, and what a recipe without them lacks.
WIDENED = {
    "filters": (Conv, "a convolution"),
    "units": (Dense, "a hidden dense layer"),
}
# The head of the first column; else the question itself.
AXES = {"strong": "devices", "weak": "devices", "overhead": "strategy"}


def main(args: list[str]) -> None:
    """Answer each question with a table."""
    _script.refuse_arguments(args)
    experiment = _data_flags.prepare(FLAGS.recipe, batch_size=FLAGS.batch_size)
    chosen = _chosen(experiment)
    results, environment = _data_flags.results(), describe_environment()
    print(text.environment_text(environment))
    print(f"recipe {FLAGS.recipe}, batch {FLAGS.batch_size} unless it is the axis")
    for question in chosen:
        print(f"\n{QUESTIONS[question]}", flush=True)
        rows = measure(question, experiment)
        axis = AXES.get(question, question)
        print(*lines.points_lines(question, axis, rows), sep="\n", flush=True)
        results.append(
            rows,
            benchmark="scaling",
            question=question,
            title=QUESTIONS[question],
            recipe=FLAGS.recipe,
            dataset=experiment.recipe.dataset,
            virtual=environment["platform"] == "cpu",
        )


def _chosen(experiment: Experiment) -> list[str]:
    """Return the questions of --questions, or all that apply to the recipe."""
    layers = experiment.recipe.model.layers
    lacks = {
        question: what
        for question, (kind, what) in WIDENED.items()
        if not any(isinstance(layer, kind) for layer in layers[:-1])
    }
    if FLAGS.questions is None:
        return [name for name in QUESTIONS if name not in lacks]
    for question in FLAGS.questions:
        if question not in QUESTIONS:
            raise unknown_name("question", question, QUESTIONS)
        if question in lacks:
            raise InputError(
                f"expected a recipe with {lacks[question]} for --questions={question}, "
                f"got {FLAGS.recipe!r}"
            )
    expect("at least one of --questions", FLAGS.questions, bool(FLAGS.questions))
    return FLAGS.questions


def measure(question: str, experiment: Experiment) -> list[dict[str, Any]]:
    """Time all points of a question in interleaved rounds."""
    rows: list[dict[str, Any]] = []
    racers: dict[str, Racer] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _data_flags.write(experiment, folder)
        for x, options in points(question, experiment).items():
            whole = options.pop("whole_epochs", False)
            size = options.get("batch_size", FLAGS.batch_size)
            rows.append({"x": x, "batch_size": size})
            entry = Entry(name=f"{question} {x}", module="ours", options=options)
            steps = -(-int(x) // size) if whole else None
            racers[entry.name] = Racer(entry, _reference(folder, options), steps)
        told, busy = race(
            racers, folder, rounds=FLAGS.rounds, round_seconds=FLAGS.round_seconds
        )
    for row, own in zip(rows, told.values(), strict=True):
        if "failure" in own:
            row["failure"] = own["failure"]
            continue
        seconds, steps = own["seconds"], own["steps"]
        row |= own["facts"]
        row |= {"gradient_error": own["gradient_error"], "steps": steps, "busy": busy}
        row["step_seconds"] = spread([s / steps for s in seconds])._asdict()
        row["round_seconds"] = spread(seconds)._asdict()
    note = machine.warning(*busy)
    if note:
        print(wrap(note))
    return rows


def _reference(folder: Path, options: dict[str, Any]) -> dict[Task, Tree]:
    """Return the serial reference's gradient for a point, on one device."""
    of_division = ("strategy", "num_devices")
    own = {name: value for name, value in options.items() if name not in of_division}
    return reference.results(experiment_of(read_case(folder), **own), {"mean"})


if __name__ == "__main__":
    _script.run(main)
