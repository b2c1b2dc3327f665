"""Norms, clipped means and full results from PyTorch's per-example gradients."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
from case import FULL_EXAMPLES, MAX_NORM, Case, Tree
from contenders import Contender, Task
from torch import Tensor

from peers.torch_case import Trained, from_torch, set_params, wait, without_dropout

Rows = dict[str, Tensor]  # by parameter: [examples, *its shape]


def contender_of_rows(
    case: Case,
    task: Task,
    trained: Trained,
    rows_of: Callable[[Tensor], Rows],
    *,
    version: str,
) -> Contender:
    """Build norms, clipped means or full results from per-example gradients (rows)."""
    params = dict(trained.model.named_parameters())

    def run(steps: int) -> None:
        for batch in itertools.islice(trained.endless, steps):
            rows = rows_of(batch)
            if task == "full":
                continue
            for name, mean in reduce_rows(task, rows)[0].items():
                params[name].grad = mean
            trained.optimizer.step()
        wait()

    def result() -> Tree:
        set_params(case, trained.model, case.params)
        with without_dropout(trained.model):
            rows = rows_of(trained.batches[0])
        if task == "full":
            first = {name: row[:FULL_EXAMPLES] for name, row in rows.items()}
            return from_torch(case, first, rows=True)
        means, norms = reduce_rows(task, rows)
        kept = {"each": {"grad_norm": norms.cpu().numpy()}} if task == "norms" else {}
        return {**from_torch(case, means), **kept}

    return Contender(run, result, {"version": version})


def reduce_rows(task: Task, rows: Rows) -> tuple[Rows, Tensor]:
    """Return the mean of the rows (clipped first if the task says so), and norms."""
    squares = [row.flatten(1).square().sum(1) for row in rows.values()]
    norms = torch.stack(squares).sum(0).sqrt()
    factors = torch.ones_like(norms)
    if task == "clipped":
        factors = (MAX_NORM / norms).clamp(max=1.0)
    factors = factors / len(norms)
    return {n: torch.tensordot(factors, row, 1) for n, row in rows.items()}, norms
