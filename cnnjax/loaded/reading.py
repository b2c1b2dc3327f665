"""The settings and the parameters of a run, from its files: each value checked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jaxtyping import PyTree
from safetensors import SafetensorError
from safetensors.numpy import load

from cnnjax import models
from cnnjax.base.errors import InputError, expect
from cnnjax.base.intake import read_bytes
from cnnjax.base.leaves import first_difference
from cnnjax.experiments.described import recipe_of
from cnnjax.experiments.recipe import Recipe
from cnnjax.results.checkpoints.snapshot import nested
from cnnjax.results.checkpoints.store import Store
from cnnjax.results.fields import read_config
from cnnjax.results.folders import shown_path
from cnnjax.results.workdir import CHECKPOINTS
from cnnjax.types import HostParams

MOST_BYTES = 2**31  # of params.safetensors
FILE = "params.safetensors"
# Of a checkpoint's arrays: the parameters, or their average where the run has one.
STATE, AVERAGE = "state/params", "state/opt_state/average"
BEST = "best"  # with patience: the best so far
STEPS = "state/opt_state/z"  # of an optimizer without a schedule


class Settings(NamedTuple):
    """What config.json says of a run."""

    recipe: Recipe
    seeds: tuple[int, ...]
    faults: tuple[str, ...]
    microbatch_size: int | None
    data: dict[str, Any]  # sha256 of what was read, by name
    class_names: tuple[str, ...]  # empty: a regression, or a run of before
    command: tuple[str, ...] = ()  # that trained it

    def flag(self, name: str) -> str | None:
        """Return the text of a flag of the command (--name=text or --name text)."""
        text = None
        for word, following in zip(self.command, (*self.command[1:], ""), strict=True):
            own, is_given, rest = word.partition("=")
            if own in (f"--{name}", f"-{name}"):
                text = rest if is_given else following
        return text


def read_settings(folder: Path) -> Settings:
    """Read config.json.

    Raises:
        InputError: it is not the folder of a run, or a setting is not one of ours.
    """
    where = shown_path(folder)
    expect("the folder of a run", str(where), folder.is_dir())
    if not (folder / "config.json").exists():
        raise InputError(f"{where} holds no run of train.py: it has no config.json")
    config = read_config(shown_path(folder))
    if "recipe" not in config:
        raise InputError(f"{where}/config.json has no recipe")
    try:
        recipe = recipe_of(config["recipe"])
    except InputError as error:
        raise InputError(f"{where}/config.json: {error}") from error
    seeds = config.get("seeds") or [config.get("seed", 0)]
    faults = tuple(config.get("faults", ()))
    size, data = config.get("microbatch_size"), config.get("data", {})
    names = tuple(config.get("class_names", ()))
    words = tuple(config.get("command", ()))
    return Settings(recipe, tuple(seeds), faults, size, data, names, words)


def choose_seed(folder: Path, seeds: tuple[int, ...], seed: int | None) -> int:
    """Return the seed that is asked for; of a run with one seed, that one.

    Raises:
        InputError: the run has several and none is named, or it has not this one.
    """
    named = ", ".join(map(str, seeds[:5])) + ", ..." * bool(seeds[5:])
    if seed is None:
        expect(f"seed={named} of {shown_path(folder)}", seed, len(seeds) == 1)
        return seeds[0]
    expect(f"seed={named} of {shown_path(folder)}", seed, seed in seeds)
    return seed


def read_params(folder: Path, settings: Settings, seed: int) -> tuple[HostParams, str]:
    """Return the parameters of a seed, and from where: the newest that are there.

    A finished run has them in params.safetensors; else the newest good checkpoint has.

    Raises:
        InputError: there are none, they are damaged, or those of another network.
    """
    like = jax.eval_shape(lambda: models.init(jax.random.key(0), settings.recipe.model))
    path = folder / FILE
    if path.exists() and (folder / "result.json").exists():
        own = f"seed_{seed}" if settings.seeds[1:] else None
        params, source = _tensors(path, own), FILE
    else:
        params, source = _from_checkpoint(folder, settings)
    different = first_difference(params, like)
    if different is not None:
        leaf, ours, theirs = different
        raise InputError(
            f"{shown_path(folder)}/{source} is not of this network: expected {leaf} "
            f"of {theirs}, got {ours}"
        )
    return params, source


def _tensors(path: Path, own: str | None) -> PyTree:
    try:
        tree = nested(load(read_bytes(path, most=MOST_BYTES)))
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        said = " ".join(str(error).split())[:200]
        raise InputError(f"{shown_path(path)} is damaged: {said}") from error
    return tree if own is None else tree.get(own, {})


def _from_checkpoint(folder: Path, settings: Settings) -> tuple[PyTree, str]:
    where = shown_path(folder)
    if settings.seeds[1:]:
        raise InputError(
            f"{where} holds several seeds, of which not all have ended; give the "
            "command that trains them again"
        )
    checkpoints = folder / CHECKPOINTS
    damaged: list[str] = []
    found = Store(checkpoints, sweep=False).newest(on_damaged=damaged.append)
    if found is None:
        why = f" ({'; '.join(damaged)})" if damaged else ""
        raise InputError(
            f"{where} has no {FILE} and no good checkpoint{why}; train it first"
        )
    arrays = found.snapshot.arrays
    optimizer = settings.recipe.optimizer
    place = STATE if optimizer.average_decay is None else AVERAGE
    if best := _below(arrays, BEST):
        return nested(best), f"{CHECKPOINTS}/{found.name}"
    own = _below(arrays, place)
    if (beta := optimizer.schedule_free) is not None:
        steps = _below(arrays, STEPS)
        own = {name: (y - (1 - beta) * steps[name]) / beta for name, y in own.items()}
    return nested(own), f"{CHECKPOINTS}/{found.name}"


def _below(arrays: Mapping[str, Any], place: str) -> dict[str, Any]:
    start = f"{place}/"
    return {n.removeprefix(start): a for n, a in arrays.items() if n.startswith(start)}
