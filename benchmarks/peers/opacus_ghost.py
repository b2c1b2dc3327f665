"""Opacus's ghost clipping: norms without per-example gradients, then a second pass."""

from __future__ import annotations

import importlib.metadata

from case import MAX_NORM, Case, Tree
from contenders import Contender, Task
from opacus.grad_sample import GradSampleModuleFastGradientClipping
from torch import Tensor, nn

from peers.torch_case import contender_of_gradients, prepare


def make(case: Case, task: Task) -> Contender:
    """Build the clipped mean, or the mean and the norms (its first pass only)."""
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
        losses.mean().backward(retain_graph=task == "clipped")
        if task == "norms":
            hooked.get_norm_sample()
            return
        factors = hooked.get_clipping_coef()
        trained.optimizer.zero_grad(set_to_none=True)
        hooked.disable_hooks()
        (factors * losses).mean().backward()

    facts = {"version": importlib.metadata.version("opacus")}
    contender = contender_of_gradients(case, trained, backward, facts)

    def result() -> Tree:
        grads = contender.result()
        if task == "clipped":
            return grads
        norms = hooked.per_sample_gradient_norms.detach().cpu().numpy()
        return {**grads, "each": {"grad_norm": norms}}

    return contender._replace(result=result)
