"""Train a recipe on a data set: flags, then configs, then the library, then print.

    python scripts/train.py --recipe=adam_cosine_cnn --dataset=digits --workdir=runs/1

Writes into --workdir: config.json, metrics.jsonl (a line an epoch), result.json,
params.safetensors and curves.png; with --log_steps also steps.csv.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))  # python -I leaves it out

import _start  # noqa: F401  # before what imports JAX

# isort: split
import _advice
import _processes
import _progress
import _recipe_flags
import _script
import _seeds
import jax
import numpy as np
from absl import flags

from cnnjax import data, devices, experiments
from cnnjax.base.clock import Clock
from cnnjax.base.errors import expect
from cnnjax.base.trees import nbytes
from cnnjax.experiments import ensembles, recipes, runs
from cnnjax.experiments.predictions import predict, predict_test
from cnnjax.faults import switch_in
from cnnjax.models import stack
from cnnjax.results.environment import (
    describe_environment,
    environment_line,
    find_devices,
)
from cnnjax.results.workdir import Workdir, open_workdir
from cnnjax.telling import text
from cnnjax.telling.plots import draw_curves
from cnnjax.training.records import EpochRecord

FLAGS = flags.FLAGS
flags.adopt_module_key_flags(_recipe_flags)
flags.adopt_module_key_flags(_processes)
flags.adopt_module_key_flags(_seeds)
flags.DEFINE_string("workdir", None, "Folder for results; without it none are kept.")
flags.DEFINE_bool("overwrite", False, "Replace the earlier run in --workdir.")
flags.DEFINE_bool("log_steps", False, "Keep every update's loss, in steps.csv.")
flags.DEFINE_integer(
    "evaluate_every", 1, "Epochs between tests; 0: at the end only.", lower_bound=0
)
# Besides the recipe's: what each of several processes must be given alike.
SAME = (
    *("seed", "evaluate_every", "microbatch_size"),
    *("num_devices", "model_devices", "fault"),
)


def refuse_idle_flags() -> None:
    """Raise InputError for a flag that would do nothing beside the others."""
    workdir, seeds = FLAGS.workdir, FLAGS.num_seeds
    kept, grouped = workdir is not None, FLAGS.group_size != ensembles.GROUP_SIZE
    expect("--workdir with --overwrite", workdir, kept or not FLAGS.overwrite)
    expect("--workdir with --log_steps", workdir, kept or not FLAGS.log_steps)
    expect("--num_seeds=1 with --log_steps", seeds, seeds == 1 or not FLAGS.log_steps)
    expect("several --num_seeds with --group_size", seeds, seeds > 1 or not grouped)


def prepare(
    clock: Clock, cache: _script.CompileCache
) -> tuple[recipes.Recipe, experiments.Experiment, Workdir]:
    """Settle what can be refused, before anything is written or trained.

    Raises:
        InputError: flags or data are wrong, or the workdir holds a run.
    """
    recipe = _recipe_flags.recipe_from_flags(or_auto=True)
    path = FLAGS.workdir if jax.process_index() == 0 else None
    workdir = open_workdir(path, overwrite=FLAGS.overwrite)
    with clock.part("load"):
        dataset = data.load_dataset(recipe.dataset, data_dir=FLAGS.data_dir)
    with clock.part("prepare"):
        recipe, options = _advice.settle(recipe, dataset, cache)
        experiment = experiments.prepare(
            recipe, dataset, seed=FLAGS.seed, options=options
        )
        experiment = switch_in(experiment, FLAGS.fault)
        jax.block_until_ready(experiment.params)
    return recipe, experiment, workdir


def main(args: list[str]) -> None:
    """Train, and say at every stage what is going on."""
    _script.refuse_arguments(args)
    clock = Clock()
    _recipe_flags.start_jax()
    _processes.join()
    find_devices()
    cache = _script.CompileCache()
    _processes.together(refuse_idle_flags)
    if FLAGS.num_seeds > 1:
        _seeds.train(clock, cache)
        return
    recipe, experiment, workdir = _processes.together(
        lambda: prepare(clock, cache),
        same=lambda p: (
            *(p[0], repr([FLAGS[name].value for name in SAME])),
            *(p[1].train, p[1].test, p[1].params),
        ),
    )
    with clock.part("prepare"):
        environment = describe_environment()
    with clock.part("write"):
        config = {"recipe": recipe, "seed": FLAGS.seed, "faults": experiment.faults}
        config["microbatch_size"] = experiment.options.microbatch_size
        config["command"] = sys.argv
        room = 2**20 + nbytes(experiment.params)
        _processes.together(lambda: workdir.start(config, room=room))

    print(environment_line(environment))
    print(text.run_line(experiment, f"seed {FLAGS.seed}"), end="\n\n")
    print(text.summary(recipe.model), end="\n\n")
    faults = text.fault_lines(experiment.faults)
    print(*faults, sep="\n", end="\n\n" if faults else "")
    shown = int(np.random.default_rng(FLAGS.seed).integers(len(experiment.test.labels)))
    print(text.example_as_text(experiment.test, shown), end="\n\n", flush=True)

    lines: list[dict[str, Any]] = []
    with _progress.Progress(experiment) as progress:

        def on_epoch(record: EpochRecord) -> None:
            lines.append(record.to_json())
            with clock.part("write"):
                workdir.append_json_line("metrics.jsonl", lines[-1])
                if FLAGS.log_steps:
                    workdir.append_lines("steps.csv", record.to_csv())
            progress.write(text.epoch_line(record))
            for line in text.divergence(record):
                progress.write(line)

        run = runs.run(
            experiment,
            evaluate_every=FLAGS.evaluate_every,
            on_epoch=on_epoch,
            on_progress=progress.update,
            clock=clock,
        )
    with clock.part("predict"):
        params = devices.to_host(run.params)
        prediction = predict(experiment, params, experiment.test.inputs[shown])
        predictions = predict_test(experiment, params)
    rows = stack.layer_rows(recipe.model)
    trained_on = experiment.examples_per_epoch * experiment.loop.epochs
    with clock.part("write"):
        workdir.write_params(params)
        workdir.append_predictions(FLAGS.seed, experiment.test.labels, predictions)
        if lines and workdir.path is not None:
            title = f"{recipe.name} on {recipe.dataset}, seed {FLAGS.seed}"
            workdir.write_bytes("curves.png", draw_curves(lines, title=title))
    seconds = clock.seconds
    workdir.write_json(
        "result.json",
        {
            "recipe": recipe.name,
            "dataset": recipe.dataset,
            "strategy": recipe.strategy,
            "seed": FLAGS.seed,
            "faults": experiment.faults,
            "epochs": experiment.loop.epochs,
            **{f"test_{name}": value for name, value in run.test.items()},
            **{f"{part}_seconds": spent for part, spent in seconds.items()},
            "total_seconds": clock.total(),
            "examples_per_second": trained_on / seconds["train"] if lines else None,
            "diverged": run.diverged,
            "test_no_prediction": run.no_prediction,
            "parameters": sum(row.parameters for row in rows),
            "macs_per_example": sum(row.macs for row in rows),
            "compile_cache": cache.state,
            "environment": environment,
        },
    )
    print()
    print(text.prediction_line(experiment.test, shown, prediction))
    print(text.time_line(seconds, total=clock.total(), cache=cache.state))
    if workdir.path is not None:
        print(f"results in {FLAGS.workdir}")
    diverged = text.divergence_of_run(run)
    print(*faults, *diverged, text.test_line(run.test), sep="\n")


if __name__ == "__main__":
    _script.run(main)
