"""A recipe made to run, on one dataset, from one seed or from many."""

from cnnjax.experiments.experiment import (
    LAST_SEED,
    Experiment,
    keys_of,
    make_functions,
    prepare,
    setting_of,
    with_faults,
)

__all__ = [
    "Experiment",
    "LAST_SEED",
    "keys_of",
    "make_functions",
    "prepare",
    "setting_of",
    "with_faults",
]
