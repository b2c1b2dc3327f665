"""Training that goes on from a run's newest checkpoint."""

from __future__ import annotations

from pathlib import Path

from cnnjax.base.errors import InputError, expect
from cnnjax.experiments.ended import state_like
from cnnjax.experiments.experiment import Experiment
from cnnjax.experiments.runs import Run, run
from cnnjax.experiments.sameness import same_rates
from cnnjax.faults import switch_in
from cnnjax.loaded.reading import Settings
from cnnjax.results.checkpoints.snapshot import restore
from cnnjax.results.checkpoints.store import Store
from cnnjax.results.folders import shown_path
from cnnjax.results.workdir import CHECKPOINTS
from cnnjax.training.loop import LoopState


def go_on(folder: Path, settings: Settings, longer: Experiment, *, done: int) -> Run:
    """Train until all epochs of an experiment are done; `done` are done.

    It is the run's own, as it was prepared, but for the number of epochs.

    Raises:
        InputError: fewer epochs than are done, a learning rate that depends on their
            number, or no checkpoint to go on from.
    """
    epochs, where = longer.recipe.epochs, shown_path(folder)
    expect(f"epochs of at least {done}, those that are done", epochs, epochs >= done)
    before = settings.recipe.epochs
    if not same_rates(longer, before):
        raise InputError(
            f"the learning rate of {where} depends on its {before} epochs: it cannot "
            f"go on to {epochs}"
        )
    at = newest_state(folder, settings, longer)
    return run(switch_in(longer, settings.faults), resume=at)


def expect_plain(settings: Settings) -> None:
    """Raise InputError for a run of several seeds, or one with faults."""
    seeds, faults = settings.seeds, settings.faults
    expect("a run of one seed", f"one of {len(seeds)}", not seeds[1:])
    expect("a run without faults", list(faults), not faults)


def newest_state(folder: Path, settings: Settings, experiment: Experiment) -> LoopState:
    """Return where the newest good checkpoint of a run was; of one seed.

    Raises:
        InputError: there is none, or it is of another network.
    """
    where = shown_path(folder)
    damaged: list[str] = []
    store = Store(folder / CHECKPOINTS, sweep=False)
    found = store.newest(on_damaged=damaged.append)
    if found is None or settings.seeds[1:]:
        why = f" ({'; '.join(damaged)})" if damaged else ""
        raise InputError(f"{where} has no checkpoint to go on from{why}")
    like = state_like([experiment])
    return restore(found.snapshot, like=like, keys=experiment.keys)
