"""A case in PyTorch: network, examples and optimizer, and gradients in our layout.

All PyTorch peers share this. Data is in memory as scaled float32; each update gathers
its batch by index.
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
# Full float32, like ours: by default PyTorch's convolutions use TF32 on a GPU.
torch.backends.cudnn.allow_tf32 = False


class Trained(NamedTuple):
    """A case on the device: its network, examples and optimizer."""

    model: nn.Sequential
    inputs: Tensor  # all training examples
    labels: Tensor
    batches: Tensor  # the rows of each full batch: [batches, batch]
    endless: Iterator[Tensor]  # cycles through the batches
    optimizer: torch.optim.Optimizer


def prepare(case: Case, *, form: str = "eager", fused: bool = False) -> Trained:
    """Put a case on the device, in the layout that a form needs.

    `fused` selects the optimizer that passes over memory once.
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
    """Build a training loop; `backward` sets the gradient of each parameter."""

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
    """Switch off dropout only: hooks may check whether a model is in training mode."""
    dropped = [m for m in model.modules() if isinstance(m, nn.Dropout)]
    for module in dropped:
        module.eval()
    try:
        yield
    finally:
        for module in dropped:
            module.train()


def wait() -> None:
    """Wait until the device has finished its work."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def torch_inputs(case: Case, name: str, form: str) -> Tensor:
    """Return examples in PyTorch's layout: channels first, or channels-last memory."""
    inputs = torch.from_numpy(case.array(name))
    if inputs.ndim == 4:
        last = torch.channels_last
        layout = torch.contiguous_format if form == "eager" else last
        # Not contiguous(): with one channel it keeps strides that look channels-last;
        # the convolutions pass these on, and Opacus misreads them.
        inputs = inputs.permute(0, 3, 1, 2).clone(memory_format=layout)
    return inputs.to(DEVICE)


def make_model(case: Case) -> nn.Sequential:
    """Stack the same layers, with the same names and the case's parameters."""
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
    """Build the same optimizer: coupled L2, as in PyTorch, on kernels only."""
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
    """Copy our parameters into a model, converted to its layout."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            layer, leaf = name.split(".")
            ours = params[layer]["kernel" if leaf == "weight" else "bias"]
            own = to_channels_first(case, layer, ours) if leaf == "weight" else ours
            parameter.copy_(torch.from_numpy(np.ascontiguousarray(own)))


def from_torch(case: Case, named: dict[str, Tensor], *, rows: bool = False) -> Tree:
    """Return gradients in our layout; `rows`: their first axis is the example."""
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
