"""Faults of the per-example gradient rules."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from cnnjax.faults.fault import Fault
from cnnjax.gradients.objective import Objective
from cnnjax.gradients.reductions import Reduction
from cnnjax.gradients.rules import Rule
from cnnjax.gradients.shares import Share, ShareFn, batch_share
from cnnjax.types import Batch, Params


def clip_after_the_mean(right: Rule) -> Rule:
    """Clip the mean gradient instead of each per-example gradient."""
    del right  # replaced entirely

    def rule(objective: Objective, clip: Reduction) -> ShareFn:
        mean = batch_share(objective.loss_fn)

        def share(params: Params, batch: Batch, total: Float[Array, ""]) -> Share:
            means, grads, _ = mean(params, batch, total)
            clipped, metrics, kept = clip(grads)
            norms = jnp.broadcast_to(kept["grad_norm"], batch.weights.shape)
            return Share({**means, **metrics}, clipped, {"grad_norm": norms})

        return share

    return rule


FAULTS = (
    Fault(
        name="clip_after_the_mean",
        summary="The mean gradient is clipped, not each per-example gradient.",
        seen="optax.clip_by_global_norm mistaken for the clipping of DP-SGD: one "
        "example can change the mean by any amount.",
        place="clipping",
        corrupt=clip_after_the_mean,
    ),
)
