"""What train.py does with --num_seeds: train many seeds, and sum them up."""

from __future__ import annotations

import math
import sys
from typing import Any

import _advice
import _progress
import _recipe_flags
import _script
import jax
from absl import flags

from cnnjax import data, experiments
from cnnjax.base.clock import Clock
from cnnjax.base.errors import InputError, expect
from cnnjax.base.trees import nbytes
from cnnjax.experiments import ensembles, groups
from cnnjax.faults import switch_in
from cnnjax.results.environment import describe_environment, environment_line
from cnnjax.results.workdir import open_workdir
from cnnjax.statistics import mean_interval
from cnnjax.telling import text
from cnnjax.telling.plots import draw_seeds
from cnnjax.training.records import EpochRecord

FLAGS = flags.FLAGS
flags.DEFINE_integer(
    "num_seeds",
    1,
    "Train so many seeds, counted from --seed: mean, interval, dead classes.",
    lower_bound=1,
)
flags.DEFINE_integer(
    "group_size",
    ensembles.GROUP_SIZE,
    "Of several seeds, how many are trained at once, as one program.",
    lower_bound=1,
)


def train(clock: Clock, cache: _script.CompileCache) -> None:
    """Train all seeds; write and print each one, then what they have in common.

    Raises:
        InputError: flags or data are wrong, or the workdir holds a run.
    """
    if jax.process_count() > 1:
        raise InputError(
            f"--num_seeds={FLAGS.num_seeds} expected one process, and here are "
            f"{jax.process_count()}; give each its own --seed and --workdir"
        )
    recipe = _recipe_flags.recipe_from_flags(or_auto=True)
    workdir = open_workdir(FLAGS.workdir, overwrite=FLAGS.overwrite)
    seeds = range(FLAGS.seed, FLAGS.seed + FLAGS.num_seeds)
    fits = seeds[-1] <= experiments.LAST_SEED
    expect("seeds up to 2**32 - 1", f"{seeds[0]} to {seeds[-1]}", fits)
    with clock.part("load"):
        dataset = data.load_dataset(recipe.dataset, data_dir=FLAGS.data_dir)
    recipe, options = _advice.settle(recipe, dataset, cache)

    def prepare(seed: int) -> experiments.Experiment:
        one = experiments.prepare(recipe, dataset, seed=seed, options=options)
        return switch_in(one, FLAGS.fault)

    with clock.part("prepare"):
        first = prepare(seeds[0])
        groups.check_group(first, min(FLAGS.group_size, len(seeds)))
        environment = describe_environment()
    with clock.part("write"):
        config = {
            "recipe": recipe,
            "seeds": list(seeds),
            "faults": first.faults,
            "command": sys.argv,
        }
        # The parameters of all seeds, while those of all but the last are still there.
        room = 2**20 + (2 * len(seeds) - 1) * nbytes(first.params)
        workdir.start(config, room=room)
    print(environment_line(environment))
    print(text.run_line(first, f"seeds {seeds[0]} to {seeds[-1]}"), end="\n\n")
    print(text.summary(recipe.model), end="\n\n")
    faults = text.fault_lines(first.faults)
    print(*faults, sep="\n", end="\n\n" if faults else "")

    lines: list[dict[str, Any]] = []
    ended: list[ensembles.SeedRun] = []
    with _progress.Progress(first, runs=-(-len(seeds) // FLAGS.group_size)) as progress:

        def on_epoch(seed: int, record: EpochRecord) -> None:
            lines.append({"seed": seed, **record.to_json()})
            with clock.part("write"):
                workdir.append_json_line("metrics.jsonl", lines[-1])
            for line in text.divergence(record):
                progress.write(f"seed {seed}: {line}")

        for seed_run in ensembles.run_seeds(
            prepare,
            seeds,
            group_size=FLAGS.group_size,
            evaluate_every=FLAGS.evaluate_every,
            callbacks=ensembles.SeedCallbacks(on_epoch, progress.update),
            clock=clock,
        ):
            ended.append(seed_run)
            with clock.part("write"):
                workdir.write_params({f"seed_{s.seed}": s.run.params for s in ended})
                workdir.append_json_line("seeds.jsonl", summary_of(seed_run))
                workdir.append_predictions(
                    seed_run.seed, seed_run.test_labels, seed_run.predictions
                )
            progress.write(text.seed_line(seed_run))
    title = f"{recipe.name} on {recipe.dataset}, {len(seeds)} seeds"
    with clock.part("write"):
        if lines and workdir.path is not None:
            workdir.write_bytes("curves.png", draw_seeds(lines, title=title))
    metric = "accuracy" if "accuracy" in ended[0].run.test else "loss"
    scores = {seed_run.seed: seed_run.run.test[metric] for seed_run in ended}
    finite = [score for score in scores.values() if math.isfinite(score)]
    not_finite = [seed for seed, score in scores.items() if not math.isfinite(score)]
    diverged = [seed_run.seed for seed_run in ended if seed_run.run.diverged]
    interval = mean_interval(finite) if finite else None
    workdir.write_json(
        "result.json",
        {
            "recipe": recipe.name,
            "dataset": recipe.dataset,
            "strategy": recipe.strategy,
            "seed": seeds[0],
            "num_seeds": len(seeds),
            "group_size": FLAGS.group_size,
            "faults": first.faults,
            "epochs": first.loop.epochs,
            f"test_{metric}": interval and interval.mean,
            f"test_{metric}_over_seeds": interval and interval._asdict(),
            "seeds_not_finite": not_finite,
            "seeds_diverged": diverged,
            **{f"{part}_seconds": spent for part, spent in clock.seconds.items()},
            "total_seconds": clock.total(),
            "compile_cache": cache.state,
            "environment": environment,
        },
    )
    print()
    print(text.time_line(clock.seconds, total=clock.total(), cache=cache.state))
    if workdir.path is not None:
        print(f"results in {FLAGS.workdir}")
    told = text.interval_lines(
        metric, interval, not_finite=not_finite, diverged=diverged
    )
    print(*faults, *told, sep="\n")


def summary_of(seed_run: ensembles.SeedRun) -> dict[str, Any]:
    """Return the line of seeds.jsonl that tells of one seed."""
    run = seed_run.run
    return {
        "seed": seed_run.seed,
        **{f"test_{name}": value for name, value in run.test.items()},
        "dead_classes": seed_run.dead_classes,
        "diverged": run.diverged,
        "test_no_prediction": run.no_prediction,
        "train_seconds": sum(record.seconds for record in run.records),
    }
