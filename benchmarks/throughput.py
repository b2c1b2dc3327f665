"""Measure the examples per second of every strategy, rule and peer in one run.

    python benchmarks/throughput.py --recipes=adam_cosine_cnn --data_dir=DIR

Each contender is its own process, and only one runs at a time. A round times all
contenders of a task once; rounds are repeated. A row has a speed only if its gradients
(or norms, or per-example gradients) of the first batch, without dropout, equalled the
serial reference's in this run. Per-example tasks also include the batch gradient.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any

import _data_flags
import _paths  # noqa: F401
import _progress
import _script
import lines
import machine
import rates
import reference
import tables
from absl import flags
from contenders import CONTENDERS, Entry, Task
from race import Racer, race
from results import Results

from cnnjax.base.errors import InputError, expect, unknown_name
from cnnjax.experiments import recipes
from cnnjax.experiments.experiment import Experiment
from cnnjax.results.environment import describe_environment
from cnnjax.studies.measuring.advice_text import advice_line
from cnnjax.studies.measuring.timing import spread
from cnnjax.telling import text
from cnnjax.telling.layout import wrap

BY_DEFAULT: tuple[Task, ...] = ("mean", "norms", "clipped", "full")

FLAGS = flags.FLAGS
flags.DEFINE_list("recipes", ["adam_cosine_cnn", "sgd_dropout_cnn"], "Recipes to time.")
flags.DEFINE_list("batch_sizes", ["64"], "Examples per update.")
flags.DEFINE_string("only", "", "Time only contenders whose name matches this regex.")
flags.DEFINE_list("tasks", list(BY_DEFAULT), "Tasks to time; also: bfloat16.")
flags.DEFINE_integer("rounds", 11, "Number of timing rounds.", lower_bound=1)
flags.DEFINE_float(
    "round_seconds",
    1.0,
    "Approximate seconds per contender and round.",
    lower_bound=0.001,
)
flags.DEFINE_bool(
    "advise", False, "Only find out which of our strategies is fastest here."
)
OF_CONTENDERS = ("only", "tasks", "rounds", "round_seconds", "out")  # not of advice


def main(args: list[str]) -> None:
    """Time every recipe at every batch size, and print a table for each."""
    _script.refuse_arguments(args)
    given = [f"--{name}" for name in OF_CONTENDERS if FLAGS[name].present]
    if FLAGS.advise and given:
        raise InputError(
            f"--advise tries our strategies, not the contenders; remove "
            f"{', '.join(given)}"
        )
    try:
        chosen = re.compile(FLAGS.only)
    except re.error as error:
        raise InputError(f"expected a regex for --only, got {FLAGS.only!r}") from error
    for name in ("recipes", "batch_sizes", "tasks"):
        expect(f"at least one of --{name}", FLAGS[name].value, bool(FLAGS[name].value))
    sizes = list(map(_size, FLAGS.batch_sizes))
    for name in FLAGS.recipes:
        recipes.get_recipe(name)
    for task in FLAGS.tasks:
        if task not in tables.TASKS:
            raise unknown_name("task", task, tables.TASKS)
    tasks = {"peak", *FLAGS.tasks}
    entries = [
        entry
        for name, entry in CONTENDERS.items()
        if entry.task in tasks and (chosen.search(name) or entry.task == "peak")
    ]
    expect(
        "--only to name a contender", FLAGS.only, any(e.task != "peak" for e in entries)
    )
    results = _data_flags.results()
    print(text.environment_text(describe_environment()))
    if not FLAGS.advise:
        print(wrap(lines.NOTE, indent=""))
    for name in FLAGS.recipes:
        for size in sizes:
            experiment = _data_flags.prepare(name, batch_size=size)
            told = f"{name} on {experiment.recipe.dataset}, batch {size}"
            print(f"\n{told}", flush=True)
            if FLAGS.advise:
                print(wrap(advice_line(_progress.advise(experiment))))
            else:
                for task in tables.TASKS:
                    group = [
                        e
                        for e in entries
                        if e.task in (task, "peak")
                        and e.options.get("microbatch_size", 0) <= size
                    ]
                    if len(group) > sum(e.task == "peak" for e in entries):
                        measure(experiment, task, group, results)


def measure(
    experiment: Experiment, task: Task, entries: list[Entry], results: Results
) -> None:
    """Check and time the contenders of a task; print and save their rows."""
    if task != "mean":
        entries = [*entries, CONTENDERS[rates.BATCH_GRADIENT]]
    expected = reference.results(experiment, {entry.task for entry in entries})
    racers = {entry.name: Racer(entry, expected) for entry in entries}
    with tempfile.TemporaryDirectory() as folder:
        _data_flags.write(experiment, Path(folder))
        reference.write_examples(experiment, Path(folder), with_test=False)
        told, busy = race(
            racers,
            Path(folder),
            rounds=FLAGS.rounds,
            round_seconds=FLAGS.round_seconds,
        )
    rows = {entry.name: {**_row(entry), **told[entry.name]} for entry in entries}
    for row in rows.values():
        if "failure" not in row:
            per_second = [row["steps"] / seconds for seconds in row.pop("seconds")]
            row["steps_per_second"] = spread(per_second)._asdict()
    rates.complete(
        rows,
        batch_size=experiment.loop.batch_size,
        flops_per_example=reference.flops_per_example(experiment),
    )
    print(wrap(f"{tables.TASKS[task]}:"))
    print(*lines.rates_lines(rows), sep="\n", flush=True)
    note = machine.warning(*busy)
    if note:
        print(wrap(note))
    results.append(
        [row for row in rows.values() if row["task"] == task],
        benchmark="throughput",
        recipe=experiment.recipe.name,
        dataset=experiment.recipe.dataset,
        batch_size=experiment.loop.batch_size,
        busy=busy,
    )


def _row(entry: Entry) -> dict[str, Any]:
    return {
        "contender": entry.name,
        "task": entry.task,
        "ours": entry.ours,
        "tuned": entry.tuned,
    }


def _size(text: str) -> int:
    expect("batch_sizes of at least 1", text, text.isdecimal() and int(text) > 0)
    return int(text)


if __name__ == "__main__":
    _script.run(main)
