"""Per-example gradients by Opacus: hooks on the layers store one per example."""

from __future__ import annotations

import importlib.metadata
import warnings

from case import Case
from contenders import Contender, Task
from opacus import GradSampleModule
from torch import Tensor, nn

from peers.torch_case import prepare
from peers.torch_rows import Rows, contender_of_rows

warnings.filterwarnings("ignore", message="Full backward hook")


def make(case: Case, task: Task) -> Contender:
    """Build clipped means or per-example gradients from `p.grad_sample`."""
    trained = prepare(case)
    hooked = GradSampleModule(trained.model, loss_reduction="sum")
    loss_fn = nn.CrossEntropyLoss(reduction="sum")
    params = dict(trained.model.named_parameters())

    def rows(batch: Tensor) -> Rows:
        hooked.zero_grad(set_to_none=True)
        loss_fn(hooked(trained.inputs[batch]), trained.labels[batch]).backward()
        return {name: p.grad_sample for name, p in params.items()}

    version = importlib.metadata.version("opacus")
    return contender_of_rows(case, task, trained, rows, version=version)
