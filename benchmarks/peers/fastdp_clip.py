"""fastDP's book-keeping: norms and the clipped mean from one backward pass of hooks."""

from __future__ import annotations

import warnings

import fastDP
from case import MAX_NORM, Case, Tree
from contenders import Contender, Task
from torch import Tensor, nn

from peers.torch_case import (
    contender_of_gradients,
    from_torch,
    prepare,
    set_params,
    without_dropout,
)

warnings.filterwarnings("ignore", message="Using a non-full backward hook")


def make(case: Case, task: Task) -> Contender:
    """Build a training loop; the task is "clipped"."""
    del task
    trained = prepare(case)
    engine = fastDP.PrivacyEngine(
        trained.model,
        batch_size=case.batch_size,
        sample_size=len(trained.labels),
        epochs=1,  # of its account of privacy, which nothing asks for
        noise_multiplier=0.0,
        max_grad_norm=MAX_NORM,
        clipping_fn="Abadi",
    )
    engine.attach(trained.optimizer)  # its step puts the clipped mean into p.grad
    loss_fn = nn.CrossEntropyLoss()

    def backward(batch: Tensor) -> None:
        loss_fn(trained.model(trained.inputs[batch]), trained.labels[batch]).backward()

    def result() -> Tree:
        set_params(case, trained.model, case.params)
        with without_dropout(trained.model):
            backward(trained.batches[0])
        trained.optimizer.step()
        named = trained.model.named_parameters()
        return from_torch(case, {name: p.grad for name, p in named})

    facts = {"version": fastDP.__version__}
    contender = contender_of_gradients(case, trained, backward, facts)
    return contender._replace(result=result)
