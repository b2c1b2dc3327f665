"""Clipped means by Opacus's ghost clipping: norms without rows, two backward passes."""

from __future__ import annotations

import itertools

import torch
from case import MAX_NORM, Case, Tree
from contenders import Contender, Task
from opacus.grad_sample import GradSampleModuleFastGradientClipping
from torch import Tensor, nn

from peers.opacus_hooks import _version
from peers.pytorch import (
    DEVICE,
    from_torch,
    make_model,
    make_optimizer,
    set_params,
    torch_inputs,
    wait,
    without_dropout,
)


def make(case: Case, task: Task) -> Contender:
    """Build the clipped mean; the task is "clipped"."""
    del task
    model = make_model(case)
    hooked = GradSampleModuleFastGradientClipping(
        model, max_grad_norm=MAX_NORM, use_ghost_clipping=True, loss_reduction="mean"
    )
    inputs = torch_inputs(case, "train_inputs", "eager")
    labels = torch.from_numpy(case.array("train_labels")).long().to(DEVICE)
    rows_of_batches = torch.from_numpy(case.batches()).long().to(DEVICE)
    optimizer = make_optimizer(case, model)
    batches = itertools.cycle(rows_of_batches)
    loss_fn = nn.CrossEntropyLoss(reduction="none")

    def backward(batch: Tensor) -> None:
        optimizer.zero_grad(set_to_none=True)
        hooked.enable_hooks()
        losses = loss_fn(hooked(inputs[batch]), labels[batch])
        losses.mean().backward(retain_graph=True)
        factors = hooked.get_clipping_coef()
        optimizer.zero_grad(set_to_none=True)
        hooked.disable_hooks()
        (factors * losses).mean().backward()

    def run(steps: int) -> None:
        for batch in itertools.islice(batches, steps):
            backward(batch)
            optimizer.step()
        wait()

    def result() -> Tree:
        set_params(case, model, case.params)
        with without_dropout(model):
            backward(rows_of_batches[0])
        return from_torch(case, {n: p.grad for n, p in model.named_parameters()})

    return Contender(run, result, {"version": _version()})
