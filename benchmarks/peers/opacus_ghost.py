"""Clipped means by Opacus's ghost clipping: norms without rows, two backward passes."""

from __future__ import annotations

import importlib.metadata

from case import MAX_NORM, Case
from contenders import Contender, Task
from opacus.grad_sample import GradSampleModuleFastGradientClipping
from torch import Tensor, nn

from peers.torch_case import contender_of_gradients, prepare


def make(case: Case, task: Task) -> Contender:
    """Build the clipped mean; the task is "clipped"."""
    del task
    trained = prepare(case)
    hooked = GradSampleModuleFastGradientClipping(
        trained.model,
        max_grad_norm=MAX_NORM,
        use_ghost_clipping=True,
        loss_reduction="mean",
    )
    loss_fn = nn.CrossEntropyLoss(reduction="none")

    def backward(batch: Tensor) -> None:
        trained.optimizer.zero_grad(set_to_none=True)
        hooked.enable_hooks()
        losses = loss_fn(hooked(trained.inputs[batch]), trained.labels[batch])
        losses.mean().backward(retain_graph=True)
        factors = hooked.get_clipping_coef()
        trained.optimizer.zero_grad(set_to_none=True)
        hooked.disable_hooks()
        (factors * losses).mean().backward()

    facts = {"version": importlib.metadata.version("opacus")}
    return contender_of_gradients(case, trained, backward, facts)
