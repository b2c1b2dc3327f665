"""The rate of PyTorch's matrix products, also a reference for utilisation."""

from __future__ import annotations

import torch
from case import Case
from contenders import Contender, Task

from peers.matmul import SIZE
from peers.torch_case import DEVICE, wait


def make(case: Case, task: Task) -> Contender:
    """Build a loop of matrix products."""
    del case, task
    a = torch.randn(SIZE, SIZE, device=DEVICE) / SIZE**0.5
    out = torch.empty_like(a)

    def run(steps: int) -> None:
        for _ in range(steps):
            torch.matmul(a, a, out=out)
        wait()

    return Contender(
        run, lambda: {}, {"version": torch.__version__, "flops": 2 * SIZE**3}
    )
