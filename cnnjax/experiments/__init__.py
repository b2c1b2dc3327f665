"""A recipe made to run, on one dataset, from one seed or from many."""

from cnnjax.experiments.experiment import (
    LAST_SEED,
    Experiment,
    keys_of,
    objective_of,
    prepare,
)

__all__ = ["LAST_SEED", "Experiment", "keys_of", "objective_of", "prepare"]
