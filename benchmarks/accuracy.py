"""Measure the seconds of training until a test accuracy is reached, over seeds.

    python benchmarks/accuracy.py --data_dir=DIR --num_seeds=10

Every contender trains every seed from the same parameters, one after another, and
evaluates the complete test set after each epoch. First its gradient of the first batch
must equal the serial reference's; otherwise nothing is trained. There are two times:
training only, and everything except the start of the process (with compilation and
evaluation; cnnjax also reads its data again).
"""

from __future__ import annotations

import contextlib
import math
import tempfile
from pathlib import Path
from typing import Any

import _data_flags
import _paths  # noqa: F401
import _script
import checks
import lines
import machine
import reference
from absl import flags
from contenders import CONTENDERS, ContenderError, Process, Task
from tables import counted

from cnnjax.base.errors import InputError, expect, unknown_name
from cnnjax.experiments.experiment import Experiment
from cnnjax.results.environment import describe_environment
from cnnjax.studies.measuring.timing import spread
from cnnjax.telling import text
from cnnjax.telling.layout import flow, wrap

Curve = list[dict[str, Any]]  # one seed, one entry per epoch: see `Contender.train`

FLAGS = flags.FLAGS
flags.DEFINE_string("recipe", "adam_cosine_cnn", "Recipe to train.")
flags.DEFINE_integer("batch_size", None, "Examples per update.", lower_bound=1)
flags.DEFINE_integer("epochs", None, "Epochs to train.", lower_bound=1)
flags.DEFINE_float("learning_rate", None, "Learning rate. Default: the recipe's.")
flags.DEFINE_multi_string(
    "contender",
    [
        "cnnjax jit",
        "cnnjax factored, microbatch 32",
        "pytorch eager, fused",
        "pytorch eager, fused, tuned",
    ],
    "Contender to train (repeatable).",
)
flags.DEFINE_integer("num_seeds", 3, "Number of seeds, from 0.", lower_bound=1)
flags.DEFINE_list(
    "targets", ["0.97", "0.98", "0.985", "0.99"], "Test accuracies to reach."
)


def main(args: list[str]) -> None:
    """Train every seed with every contender; print the times."""
    _script.refuse_arguments(args)
    targets = list(map(_target, FLAGS.targets))
    names = list(dict.fromkeys(FLAGS.contender))
    for name in names:
        if name not in CONTENDERS:
            raise unknown_name("contender", name, CONTENDERS)
        if CONTENDERS[name].missing:
            missing = ", ".join(CONTENDERS[name].missing)
            raise InputError(f"contender {name!r} needs {missing}: run make bench")
    results, environment = _data_flags.results(), describe_environment()
    experiment = _data_flags.prepare(
        FLAGS.recipe,
        batch_size=FLAGS.batch_size,
        epochs=FLAGS.epochs,
        learning_rate=FLAGS.learning_rate,
    )
    epochs = experiment.recipe.epochs
    print(text.environment_text(environment))
    what = (
        f"{FLAGS.recipe} on {experiment.recipe.dataset}",
        f"batch {experiment.loop.batch_size}",
        counted(epochs, "epoch"),
        counted(FLAGS.num_seeds, "seed"),
    )
    print(flow(what), "\nseconds of training / of everything:", sep="\n", flush=True)
    before = machine.busy_fraction()
    with tempfile.TemporaryDirectory() as folder:
        _data_flags.write(experiment, Path(folder))
        reference.write_examples(experiment, Path(folder), with_test=True)
        try:
            told, curves = _train(names, experiment, Path(folder), epochs=epochs)
        except ContenderError as error:
            raise InputError(f"a contender failed: {error}") from error
    after = machine.busy_fraction()
    note = machine.warning(before, after)
    rows = [{**told[name], **_row(name, curves[name], targets)} for name in names]
    print("", *lines.targets_lines(rows), sep="\n")
    if note:
        print(wrap(note))
    results.append(
        rows,
        benchmark="accuracy",
        recipe=FLAGS.recipe,
        dataset=experiment.recipe.dataset,
        batch_size=experiment.loop.batch_size,
        learning_rate=experiment.recipe.optimizer.learning_rate,
        epochs=epochs,
        busy=[before, after],
    )


def _train(
    names: list[str], experiment: Experiment, folder: Path, *, epochs: int
) -> tuple[dict[str, dict[str, Any]], dict[str, list[Curve]]]:
    """Check every contender, then train all seeds; return their facts and curves.

    Raises:
        ContenderError: one fails, or its gradients differ from the reference's.
        InputError: one cannot train.
    """
    tasks: set[Task] = {CONTENDERS[name].task for name in names}
    expected = reference.results(experiment, tasks)
    told: dict[str, dict[str, Any]] = {}
    curves: dict[str, list[Curve]] = {name: [] for name in names}
    with contextlib.ExitStack() as stack:
        running = {}
        for name in names:
            running[name] = process = Process(CONTENDERS[name], folder)
            stack.callback(process.end)
            told[name] = checks.checked(process, expected, folder=folder)
            trains = told[name]["trains"]
            expect("a contender that trains complete runs", name, trains)
        for seed in range(FLAGS.num_seeds):
            reference.write_seed(experiment, folder, seed)
            for name, process in running.items():
                curve = process.ask(do="train", epochs=epochs, seed=seed)["epochs"]
                curves[name].append(curve)
                print(lines.seed_line(seed, name, curve[-1]), flush=True)
    return told, curves


def _target(text: str) -> float:
    """Return an accuracy as a number, or raise InputError."""
    try:
        target = float(text)
    except ValueError:
        target = math.nan
    expect("targets in (0, 1)", text, 0 < target < 1)
    return target


def _row(name: str, curves: list[Curve], targets: list[float]) -> dict[str, Any]:
    """Summarise one contender over seeds: times to each target, and of all epochs."""
    reached = {}
    for target in targets:
        first = [next((r for r in c if r["accuracy"] >= target), None) for c in curves]
        own = [row for row in first if row is not None]
        reached[str(target)] = {
            "seeds": len(own),
            **{
                kind: spread([row[kind] for row in own])._asdict() if own else None
                for kind in ("train_seconds", "wall_seconds")
            },
        }
    ends = [curve[-1] for curve in curves]
    kinds = ("accuracy", "train_seconds", "wall_seconds")
    whole = {kind: spread([row[kind] for row in ends])._asdict() for kind in kinds}
    entry = CONTENDERS[name]
    return {
        "contender": name,
        "ours": entry.ours,
        "tuned": entry.tuned,
        "targets": reached,
        **whole,
        "curves": curves,
    }


if __name__ == "__main__":
    _script.run(main)
