"""Per-example gradients by torch.func: vmap of grad, a row for each example."""

from __future__ import annotations

import itertools

import torch
from case import FULL_EXAMPLES, MAX_NORM, Case, Tree
from contenders import Contender, Task
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

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
    """Build norms, clipped means or full rows, each from rows."""
    model = make_model(case)
    inputs = torch_inputs(case, "train_inputs", "eager")
    labels = torch.from_numpy(case.array("train_labels")).long().to(DEVICE)
    rows_of_batches = torch.from_numpy(case.batches()).long().to(DEVICE)
    optimizer = make_optimizer(case, model)
    batches = itertools.cycle(rows_of_batches)
    params = dict(model.named_parameters())

    def loss_of(params: dict[str, Tensor], example: Tensor, label: Tensor) -> Tensor:
        logits = functional_call(model, params, (example[None],))
        return nn.functional.cross_entropy(logits, label[None])

    rows_of = vmap(grad(loss_of), in_dims=(None, 0, 0), randomness="different")

    def rows(batch: Tensor) -> dict[str, Tensor]:
        detached = {name: p.detach() for name, p in params.items()}
        return rows_of(detached, inputs[batch], labels[batch])

    def norms_of(rows: dict[str, Tensor]) -> Tensor:
        squares = [row.flatten(1).square().sum(1) for row in rows.values()]
        return torch.stack(squares).sum(0).sqrt()

    def reduced(rows: dict[str, Tensor]) -> tuple[dict[str, Tensor], Tensor]:
        norms = norms_of(rows)
        factors = torch.ones_like(norms)
        if task == "clipped":
            factors = (MAX_NORM / norms).clamp(max=1.0)
        factors = factors / len(norms)
        means = {n: torch.tensordot(factors, row, 1) for n, row in rows.items()}
        return means, norms

    def run(steps: int) -> None:
        for batch in itertools.islice(batches, steps):
            own = rows(batch)
            if task == "full":
                continue
            for name, mean in reduced(own)[0].items():
                params[name].grad = mean
            optimizer.step()
        wait()

    def result() -> Tree:
        set_params(case, model, case.params)
        with without_dropout(model):
            own = rows(rows_of_batches[0])
        means, norms = reduced(own)
        if task == "full":
            first = {name: row[:FULL_EXAMPLES] for name, row in own.items()}
            return from_torch(case, first, rows=True)
        kept = {"each": {"grad_norm": norms.cpu().numpy()}} if task == "norms" else {}
        return {**from_torch(case, means), **kept}

    return Contender(run, result, {"version": torch.__version__})
