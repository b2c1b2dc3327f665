"""Experiments: a recipe on one dataset, with one seed or many."""

from cnnjax.experiments.experiment import (
    LAST_SEED,
    Experiment,
    keys_of,
    objective_of,
    prepare,
)
from cnnjax.experiments.placement import streamed

__all__ = ["LAST_SEED", "Experiment", "keys_of", "objective_of", "prepare", "streamed"]
