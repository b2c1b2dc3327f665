"""What --strategy=auto chooses: tried once on a machine, then remembered."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
from pathlib import Path
from typing import Any

import _recipe_flags
import _script
import jax
from absl import flags

from cnnjax import devices, experiments
from cnnjax.base.errors import InputError
from cnnjax.data.dataset import Dataset
from cnnjax.experiments.overrides import override
from cnnjax.experiments.recipes import Recipe
from cnnjax.measuring import advice
from cnnjax.results.environment import describe_environment
from cnnjax.results.workdir import Workdir, plain
from cnnjax.strategies import STRATEGIES, Options

FLAGS = flags.FLAGS
# What the fastest strategy depends on, of the environment.
MACHINE = (
    *("cnnjax", "jax", "jaxlib", "flax", "platform", "device_kind", "num_devices"),
    *("num_cores", "machine", "xla_flags"),
)


def settle(
    recipe: Recipe, dataset: Dataset, cache: _script.CompileCache
) -> tuple[Recipe, Options]:
    """Return the recipe with its strategy and options: those of the flags, or the best.

    With --strategy=auto it says what was chosen, and why.

    Raises:
        InputError: the flags do not fit together, or the data set does not fit.
    """
    if FLAGS.strategy != _recipe_flags.AUTO:
        return recipe, _recipe_flags.options_from_flags(recipe)
    _refuse()
    recipe = override(recipe, strategy="jit")
    mesh = devices.make_mesh(FLAGS.num_devices)
    experiment = experiments.prepare(recipe, dataset, options=Options(mesh))
    key = _key(experiment)
    folder = _script.cache_folder()
    path = folder and folder / "advice.json"
    known = _read(path) if path else {}
    entry = known.get(key)
    if entry is None:
        print("strategy auto: trying what there is, a minute or two", flush=True)
        with cache.off():  # how long it takes to compile is part of the answer
            found = advice.advise(experiment)
        print(*advice.advice_lines(found)[:-1], sep="\n", end="\n\n")
        entry = {
            "strategy": found.best.candidate.strategy,
            "microbatch_size": found.best.candidate.microbatch_size,
            "why": advice.advice_line(found),
            "date": datetime.date.today().isoformat(),
        }
        with contextlib.suppress(InputError):
            Workdir(folder).write_json("advice.json", {**known, key: entry})
    print(f"strategy auto: {entry['why']}")
    print(f"(tried {entry['date']}; {_memory(path, key)})\n", flush=True)
    name, size = entry["strategy"], entry["microbatch_size"]
    return override(recipe, strategy=name), Options(
        mesh if STRATEGIES[name].divides else None, size
    )


def _refuse() -> None:
    """Raise InputError for what --strategy=auto cannot be asked beside."""
    if jax.process_count() > 1:
        raise InputError(
            "--strategy=auto expected one process, and here are "
            f"{jax.process_count()}; name a strategy"
        )
    if FLAGS.microbatch_size is not None or FLAGS.model_devices > 1:
        raise InputError(
            "--strategy=auto chooses the microbatch and cuts no kernels: leave "
            "--microbatch_size and --model_devices out, or name a strategy"
        )


def _key(experiment: experiments.Experiment) -> str:
    """Return what the advice depends on, as a short name."""
    environment, recipe = describe_environment(), experiment.recipe
    told = {
        "model": plain(recipe.model),
        "loss": recipe.loss,
        "algorithm": plain(recipe.optimizer.algorithm),
        "batch_size": experiment.loop.batch_size,
        "devices": FLAGS.num_devices,
        "candidates": [str(one) for one in advice.candidates_for(experiment)],
        **{name: environment[name] for name in MACHINE},
    }
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]


def _memory(path: Path | None, key: str) -> str:
    """Say whether the advice is remembered, and where."""
    if path is None:
        return "not remembered: there is no cache folder to write into"
    if key not in _read(path):
        return f"not remembered: {path} cannot be written"
    return f"{path} remembers it"


def _read(path: Path) -> dict[str, Any]:
    """Return what is remembered: nothing, where there is no file or a damaged one."""
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}
