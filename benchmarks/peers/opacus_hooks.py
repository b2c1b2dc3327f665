"""Per-example gradients by Opacus: hooks on the layers keep a row for each example."""

from __future__ import annotations

import itertools
import warnings

import torch
from case import FULL_EXAMPLES, MAX_NORM, Case, Tree
from contenders import Contender, Task
from opacus import GradSampleModule
from torch import Tensor, nn

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

warnings.filterwarnings("ignore", message="Full backward hook")


def make(case: Case, task: Task) -> Contender:
    """Build clipped means or full rows from `p.grad_sample`."""
    model = make_model(case)
    hooked = GradSampleModule(model, loss_reduction="sum")
    inputs = torch_inputs(case, "train_inputs", "eager")
    labels = torch.from_numpy(case.array("train_labels")).long().to(DEVICE)
    rows_of_batches = torch.from_numpy(case.batches()).long().to(DEVICE)
    optimizer = make_optimizer(case, model)
    batches = itertools.cycle(rows_of_batches)
    loss_fn = nn.CrossEntropyLoss(reduction="sum")
    named = dict(model.named_parameters())

    def rows(batch: Tensor) -> dict[str, Tensor]:
        hooked.zero_grad(set_to_none=True)
        loss_fn(hooked(inputs[batch]), labels[batch]).backward()
        return {name: p.grad_sample for name, p in named.items()}

    def clipped(own: dict[str, Tensor]) -> dict[str, Tensor]:
        squares = [row.flatten(1).square().sum(1) for row in own.values()]
        norms = torch.stack(squares).sum(0).sqrt()
        factors = (MAX_NORM / norms).clamp(max=1.0) / len(norms)
        return {name: torch.tensordot(factors, row, 1) for name, row in own.items()}

    def run(steps: int) -> None:
        for batch in itertools.islice(batches, steps):
            own = rows(batch)
            if task == "full":
                continue
            for name, mean in clipped(own).items():
                named[name].grad = mean
            optimizer.step()
        wait()

    def result() -> Tree:
        set_params(case, model, case.params)
        with without_dropout(model):
            own = rows(rows_of_batches[0])
        if task == "full":
            first = {name: row[:FULL_EXAMPLES] for name, row in own.items()}
            return from_torch(case, first, rows=True)
        return from_torch(case, clipped(own))

    return Contender(run, result, {"version": _version()})


def _version() -> str:
    from importlib.metadata import version

    return version("opacus")
