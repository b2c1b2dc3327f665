"""Early stopping: training ends when the held-out loss has not fallen for some epochs.

The best parameters are kept, not the last. What is held out for this must not be the
test examples: the least of many test losses is too low. (Prechelt, "Early stopping, but
when?", 1998.)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from cnnjax.types import Params


class Best(NamedTuple):
    """The parameters with the least held-out loss so far."""

    params: Params
    epoch: int
    loss: float


def better(
    best: Best | None, params: Params, epoch: int, held_out: Mapping[str, float] | None
) -> Best | None:
    """Return the best so far, after an epoch; a loss that is not a number is no better.

    Parameters that are the best are copied: the next update deletes theirs.
    """
    if held_out is None or not held_out["loss"] < (best.loss if best else float("inf")):
        return best
    return Best(jax.tree.map(jnp.copy, params), epoch, held_out["loss"])


def is_over(best: Best | None, epoch: int, patience: int | None) -> bool:
    """Whether the held-out loss has not fallen for `patience` epochs."""
    if patience is None:
        return False
    return epoch - (best.epoch if best else 0) >= patience
