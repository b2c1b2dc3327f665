"""Per-example gradients by torch.func: vmap of grad."""

from __future__ import annotations

import torch
from case import Case
from contenders import Contender, Task
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from peers.torch_case import prepare
from peers.torch_rows import Rows, contender_of_rows


def make(case: Case, task: Task) -> Contender:
    """Build norms, clipped means or per-example gradients."""
    trained = prepare(case)
    params = dict(trained.model.named_parameters())

    def loss_of(params: Rows, example: Tensor, label: Tensor) -> Tensor:
        logits = functional_call(trained.model, params, (example[None],))
        return nn.functional.cross_entropy(logits, label[None])

    rows_of = vmap(grad(loss_of), in_dims=(None, 0, 0), randomness="different")

    def rows(batch: Tensor) -> Rows:
        detached = {name: p.detach() for name, p in params.items()}
        return rows_of(detached, trained.inputs[batch], trained.labels[batch])

    return contender_of_rows(case, task, trained, rows, version=torch.__version__)
