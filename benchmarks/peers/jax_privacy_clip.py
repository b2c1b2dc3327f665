"""jax_privacy's clipped_grad: a sum of clipped per-example gradients of a Flax module.

It also returns the norms before they are clipped; to an infinite norm it clips nothing.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax_privacy
from case import MAX_NORM, Case, Tree
from contenders import Contender, Task

from peers.flax_form import make_loss
from peers.jax_case import contender_of_gradients


def make(case: Case, task: Task, *, microbatch_size: int | None = None) -> Contender:
    """Build clipped means, or means and norms; of so many examples at a time."""
    loss_fn = make_loss(case)

    def clipped(prng_argnum: int | None):
        return jax_privacy.clipped_grad(
            loss_fn,
            l2_clip_norm=MAX_NORM if task == "clipped" else math.inf,
            batch_argnums=(1, 2),  # inputs and labels: each example a batch of one
            normalize_by=case.batch_size,
            microbatch_size=microbatch_size,
            return_grad_norms=task == "norms",
            prng_argnum=prng_argnum,
        )

    with_dropout, without = clipped(3), clipped(None)

    def grads_of(
        params: Tree, inputs: jax.Array, labels: jax.Array, key: jax.Array | None
    ) -> tuple[Any, Any]:
        grad_fn = without if key is None else with_dropout
        found = grad_fn(params, inputs, labels, key)
        if task == "clipped":
            return found, {}
        means, aux = found
        return means, {"each": {"grad_norm": aux.grad_norms}}

    facts = {"version": jax_privacy.__version__}
    return contender_of_gradients(case, grads_of, loop="python", facts=facts)
