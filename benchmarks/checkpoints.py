"""Measure what checkpoints cost: training with and without them, interleaved.

    python benchmarks/checkpoints.py --dataset=mnist --data_dir=DIR --rounds=5

Every round trains the same run once for each entry of --every, in another order, by one
compiled program. The time is that of all updates, evaluations and checkpoints, with the
wait for the last one. One that is not due within the run costs its share of a minute:
see the last line.
"""

from __future__ import annotations

import functools
import tempfile
import time
from pathlib import Path

import _data_flags
import _paths  # noqa: F401
import _script
import machine
from absl import flags

from cnnjax.base.errors import expect
from cnnjax.experiments import runs
from cnnjax.experiments.experiment import Experiment
from cnnjax.experiments.groups import compile_group
from cnnjax.results.checkpoints.keeper import Keeper
from cnnjax.results.checkpoints.policy import parse_every
from cnnjax.results.checkpoints.store import Store
from cnnjax.results.environment import describe_environment
from cnnjax.studies.measuring.timing import spread
from cnnjax.telling import text
from cnnjax.telling.layout import wrap
from cnnjax.training.updates import Updates

FLAGS = flags.FLAGS
flags.DEFINE_string("recipe", "adam_cosine_cnn", "Recipe to train.")
flags.DEFINE_integer("epochs", 5, "Epochs to train.", lower_bound=1)
flags.DEFINE_integer("rounds", 5, "Rounds.", lower_bound=1)
flags.DEFINE_list("every", ["never", "60s", "1epoch"], "Values of --checkpoint_every.")


def main(args: list[str]) -> None:
    """Train in turn; print the medians."""
    _script.refuse_arguments(args)
    policies = {name: parse_every(name) for name in FLAGS.every}
    expect("never among --every, to compare with", FLAGS.every, "never" in policies)
    results = _data_flags.results()
    experiment = _data_flags.prepare(FLAGS.recipe, batch_size=64, epochs=FLAGS.epochs)
    updates = compile_group([experiment])
    print(text.environment_text(describe_environment()))
    before = machine.busy_fraction()
    took: dict[str, list[float]] = {name: [] for name in policies}
    saved: dict[str, int] = {}
    seconds(experiment, updates, "1epoch")  # imports Orbax, and compiles the test
    names = list(policies)
    for number in range(FLAGS.rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            time_taken, saved[name] = seconds(experiment, updates, name)
            took[name].append(time_taken)
    base = spread(took["never"])
    rows = []
    for name in names:
        ratios = spread([t / n for t, n in zip(took[name], took["never"], strict=True)])
        own = spread(took[name])
        print(
            f"{name:10} {own.median:8.2f} s, {saved[name]:2} saved, relative to never: "
            f"{ratios.median:.4f} ({ratios.low:.4f} to {ratios.high:.4f})"
        )
        each = (own.median - base.median) / max(saved[name], 1)
        rows.append(
            {
                "every": name,
                "seconds": own._asdict(),
                "relative": ratios._asdict(),
                "saved": saved[name],
                "seconds_each": each,
            }
        )
        if saved[name] > 1:
            line = f"a checkpoint costs {1000 * each:.0f} ms: {each / 60:.3%} of 60 s"
            print(f"{'':10} {line}")
    after = machine.busy_fraction()
    if note := machine.warning(before, after):
        print(wrap(note))
    results.append(
        rows,
        benchmark="checkpoints",
        recipe=FLAGS.recipe,
        dataset=experiment.recipe.dataset,
        epochs=FLAGS.epochs,
        busy=[before, after],
    )


def seconds(experiment: Experiment, updates: Updates, name: str) -> tuple[float, int]:
    """Train once; return the wall seconds, and how many checkpoints were saved."""
    every = parse_every(name)
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "checkpoints", keep=10**6)
        keeper = Keeper(None if every.never else store, every)
        on_state = functools.partial(
            keeper.on_state, keys=experiment.keys, last=experiment.loop.epochs
        )
        begun = time.perf_counter()
        runs.run(experiment, updates=updates, on_state=on_state)
        keeper.close()
        took = time.perf_counter() - begun
        saved = len(store.names())
        store.close()
    return took, saved


if __name__ == "__main__":
    _script.run(main)
