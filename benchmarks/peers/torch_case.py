"""A case in PyTorch: network, examples and optimizer, and gradients laid out as ours.

What all of PyTorch's peers share. Data lies in memory as float32, scaled; each update
gathers its batch by index.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from case import Case, Layer, Tree
from contenders import Contender
from torch import Tensor, nn

from peers.channels_first import from_channels_first, to_channels_first

ACTIVATIONS = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "leaky_relu": lambda: nn.LeakyReLU(0.001),
}
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
# In full float32, as ours: by default PyTorch's convolutions take TF32 on a GPU.
torch.backends.cudnn.allow_tf32 = False


class Trained(NamedTuple):
    """A case on the device: its network, its examples, its optimizer."""

    model: nn.Sequential
    inputs: Tensor  # of every training example
    labels: Tensor
    batches: Tensor  # the rows of each whole batch: [batches, batch]
    endless: Iterator[Tensor]  # batch after batch, again and again
    optimizer: torch.optim.Optimizer


def prepare(case: Case, *, form: str = "eager", fused: bool = False) -> Trained:
    """Put a case on the device, laid out as a form wants it.

    `fused` asks for the optimizer that goes through memory once.
    """
    model = make_model(case)
    if form != "eager":
        model = model.to(memory_format=torch.channels_last)
    batches = torch.from_numpy(case.batches()).long().to(DEVICE)
    return Trained(
        model,
        torch_inputs(case, "train_inputs", form),
        torch.from_numpy(case.array("train_labels")).long().to(DEVICE),
        batches,
        itertools.cycle(batches),
        make_optimizer(case, model, fused=fused),
    )


def contender_of_gradients(
    case: Case,
    trained: Trained,
    backward: Callable[[Tensor], None],
    facts: Mapping[str, Any],
) -> Contender:
    """Build a training loop from what leaves a batch's gradient in each parameter."""

    def run(steps: int) -> None:
        for rows in itertools.islice(trained.endless, steps):
            backward(rows)
            trained.optimizer.step()
        wait()

    def result() -> Tree:
        set_params(case, trained.model, case.params)
        with without_dropout(trained.model):
            backward(trained.batches[0])
        named = trained.model.named_parameters()
        return from_torch(case, {name: p.grad for name, p in named})

    return Contender(run, result, facts)


@contextlib.contextmanager
def without_dropout(model: nn.Module) -> Iterator[None]:
    """Switch dropout off, and nothing else: hooks may ask whether a model trains."""
    dropped = [m for m in model.modules() if isinstance(m, nn.Dropout)]
    for module in dropped:
        module.eval()
    try:
        yield
    finally:
        for module in dropped:
            module.train()


def wait() -> None:
    """Wait until the device has done what it was given."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def torch_inputs(case: Case, name: str, form: str) -> Tensor:
    """Return examples laid out as PyTorch's: channels first, or last in memory."""
    inputs = torch.from_numpy(case.array(name))
    if inputs.ndim == 4:
        last = torch.channels_last
        layout = torch.contiguous_format if form == "eager" else last
        # Not contiguous(): of one channel it leaves strides that say channels-last,
        # which the convolutions then hand on, and Opacus misreads.
        inputs = inputs.permute(0, 3, 1, 2).clone(memory_format=layout)
    return inputs.to(DEVICE)


def make_model(case: Case) -> nn.Sequential:
    """Stack the same layers, named alike, with the case's parameters."""
    model = nn.Sequential()
    for layer in case.layers:
        model.add_module(layer.name, _module(layer))
    set_params(case, model, case.params)
    return model.to(DEVICE).train()


def _module(layer: Layer) -> nn.Module:
    value = layer.value
    match layer.kind:
        case "conv":
            channels, features = layer.input_shape[-1], value["features"]
            size, zeros = value["kernel_size"], value["padding"]
            return nn.Conv2d(channels, features, size, padding=zeros)
        case "maxpool":
            return nn.MaxPool2d(value["window"])
        case "activation":
            return ACTIVATIONS[value["name"]]()
        case "flatten":
            return nn.Flatten()
        case "dense":
            return nn.Linear(layer.input_shape[0], value["features"])
        case "dropout":
            return nn.Dropout(value["rate"])
    raise ValueError(f"expected a layer that PyTorch has, got {layer}")


def make_optimizer(
    case: Case, model: nn.Module, *, fused: bool = False
) -> torch.optim.Optimizer:
    """Build the same optimizer: coupled L2 on kernels only, as PyTorch's is."""
    config = case.facts["optimizer"]
    algorithm = config["algorithm"]
    kernels = [p for n, p in model.named_parameters() if n.endswith("weight")]
    biases = [p for n, p in model.named_parameters() if n.endswith("bias")]
    groups = [{"params": kernels, "weight_decay": config["l2"]}, {"params": biases}]
    rate = config["learning_rate"]
    if algorithm["type"] == "Adam":
        betas = (algorithm["b1"], algorithm["b2"])
        eps = algorithm["eps"]
        return torch.optim.Adam(groups, lr=rate, betas=betas, eps=eps, fused=fused)
    return torch.optim.SGD(groups, lr=rate, momentum=algorithm["momentum"], fused=fused)


def set_params(case: Case, model: nn.Module, params: Tree) -> None:
    """Copy our parameters into a model, in its layout."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            layer, leaf = name.split(".")
            ours = params[layer]["kernel" if leaf == "weight" else "bias"]
            own = to_channels_first(case, layer, ours) if leaf == "weight" else ours
            parameter.copy_(torch.from_numpy(np.ascontiguousarray(own)))


def from_torch(case: Case, named: dict[str, Tensor], *, rows: bool = False) -> Tree:
    """Return gradients in our layout; `rows`: each has a first axis of examples."""
    tree: Tree = {}
    for name, tensor in named.items():
        layer, leaf = name.split(".")
        array = tensor.detach().cpu().numpy()
        if leaf == "bias":
            tree.setdefault(layer, {})["bias"] = array
        else:
            own = [
                from_channels_first(case, layer, one)
                for one in (array if rows else [array])
            ]
            tree.setdefault(layer, {})["kernel"] = np.stack(own) if rows else own[0]
    return tree
