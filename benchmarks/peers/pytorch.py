"""PyTorch, as its users write it: nn.Module, autograd, torch.optim.

`form` is "eager", "channels_last" (images and kernels laid out as channels-last),
"compile" (channels-last, and the model compiled by torch.compile) or "cuda_graphs"
(that, with its kernels recorded once and replayed); `fused` selects the fused
optimizer.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from case import Case, load_tree
from contenders import Contender, Task
from torch import Tensor, nn

from peers.torch_case import (
    DEVICE,
    contender_of_gradients,
    prepare,
    set_params,
    torch_inputs,
    wait,
)

TEST_BATCH = 500
# Modes of torch.compile, by form.
MODES = {"compile": "default", "cuda_graphs": "reduce-overhead"}


def make(case: Case, task: Task, *, form: str, fused: bool) -> Contender:
    """Build a training loop in one form; the task is "mean" or "bfloat16"."""
    trained = prepare(case, form=form, fused=fused)
    model, optimizer = trained.model, trained.optimizer
    compiled = form in MODES
    forward: Callable = model
    if compiled:
        forward = torch.compile(model, mode=MODES[form])
    loss_fn = nn.CrossEntropyLoss()

    def backward(rows: Tensor) -> None:
        optimizer.zero_grad(set_to_none=True)
        if form == "cuda_graphs":
            torch.compiler.cudagraph_mark_step_begin()
        with torch.autocast(DEVICE.type, torch.bfloat16, enabled=task == "bfloat16"):
            loss = loss_fn(forward(trained.inputs[rows]), trained.labels[rows])
        loss.backward()

    def train(epochs: int, seed: int) -> list[dict[str, Any]]:
        start = time.perf_counter()
        set_params(case, model, load_tree(case.folder / f"params_{seed}.npz"))
        optimizer.state.clear()
        test_inputs = torch_inputs(case, "test_inputs", form)
        test_labels = torch.from_numpy(case.array("test_labels")).to(DEVICE)
        generator = torch.Generator().manual_seed(seed)
        learning_rates = case.array("learning_rates")  # of each epoch and update
        shuffle, count = case.facts["shuffle"], len(trained.labels)
        batches = torch.arange(count).to(DEVICE).split(case.batch_size)

        def accuracy() -> float:
            model.eval()
            with torch.inference_mode():
                parts = test_inputs.split(TEST_BATCH)
                predicted = torch.cat([forward(part).argmax(1) for part in parts])
            model.train()
            return (predicted == test_labels).float().mean().item()

        rows, train_seconds, compile_seconds = [], 0.0, 0.0
        if compiled:  # compile again, outside the training time
            torch.compiler.reset()
            began = time.perf_counter()
            for batch in (batches[0], batches[-1]):
                backward(batch)
            accuracy()
            compile_seconds = time.perf_counter() - began
        for epoch in range(epochs):
            rates = learning_rates[epoch].tolist()
            began = time.perf_counter()
            if shuffle == "every_epoch" or (shuffle == "once" and epoch == 0):
                drawn = torch.randperm(count, generator=generator)
                batches = drawn.to(DEVICE).split(case.batch_size)
            for batch, rate in zip(batches, rates, strict=True):
                for group in optimizer.param_groups:
                    group["lr"] = rate
                backward(batch)
                optimizer.step()
            wait()
            train_seconds += time.perf_counter() - began
            rows.append(
                {
                    "epoch": epoch + 1,
                    "accuracy": accuracy(),
                    "train_seconds": train_seconds,
                    "compile_seconds": compile_seconds,
                    "wall_seconds": time.perf_counter() - start,
                }
            )
        return rows

    facts = {"version": torch.__version__, "threads": torch.get_num_threads()}
    contender = contender_of_gradients(case, trained, backward, facts)
    return contender._replace(train=train) if task == "mean" else contender
