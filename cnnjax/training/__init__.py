"""Training: optimizer, step, loop, epochs, evaluation."""

from cnnjax.training.step import (
    init_state,
    make_train_step,
)

__all__ = [
    "init_state",
    "make_train_step",
]
