"""The same network written by hand in NumPy: im2col, matrix products, backward pass."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from case import Case, Layer, Tree
from contenders import Contender, Task

Cache = dict[str, Any]  # what a layer's forward pass keeps for its backward pass


def make(case: Case, task: Task) -> Contender:
    """Build a training loop; the task is "mean"."""
    del task
    params = _copied(case.params)
    config = case.facts["optimizer"]
    moments = {"first": _zeros(params), "second": _zeros(params), "step": 0}
    inputs, labels = case.array("train_inputs"), case.array("train_labels")
    batches = itertools.cycle(case.batches())
    random = np.random.default_rng(0)

    def run(steps: int) -> None:
        for rows in itertools.islice(batches, steps):
            own = gradient(case.layers, params, inputs[rows], labels[rows], random)
            update(params, own, config, moments)

    def result() -> Tree:
        rows = case.batches()[0]
        return gradient(case.layers, case.params, inputs[rows], labels[rows], None)

    return Contender(run, result, {"version": np.__version__})


def gradient(
    layers: tuple[Layer, ...],
    params: Tree,
    x: np.ndarray,
    labels: np.ndarray,
    random: np.random.Generator | None,
) -> Tree:
    """Return the mean gradient of a batch; without `random` there is no dropout."""
    caches: list[Cache] = []
    for layer in layers:
        x, cache = forward(layer, params.get(layer.name), x, random)
        caches.append(cache)
    shifted = np.exp(x - x.max(axis=1, keepdims=True))
    d = shifted / shifted.sum(axis=1, keepdims=True)
    d[np.arange(len(labels)), labels] -= 1
    d /= np.float32(len(labels))
    grads: Tree = {}
    first = next(layer.name for layer in layers if layer.name in params)
    for layer, cache in zip(reversed(layers), reversed(caches), strict=True):
        own = params.get(layer.name)
        if own is not None:
            grads[layer.name] = of_parameters(layer, own, d, cache)
        if layer.name == first:  # the gradient of the inputs is not needed
            break
        d = backward(layer, own, d, cache)
    return grads


def forward(
    layer: Layer,
    own: dict[str, np.ndarray] | None,
    x: np.ndarray,
    random: np.random.Generator | None,
) -> tuple[np.ndarray, Cache]:
    """Apply a layer to a batch."""
    value = layer.value
    match layer.kind:
        case "conv":
            assert own is not None
            size, zeros = value["kernel_size"], value["padding"]
            padded = np.pad(x, ((0, 0), (zeros, zeros), (zeros, zeros), (0, 0)))
            windows = np.lib.stride_tricks.sliding_window_view(
                padded, (size, size), (1, 2)
            )
            n, height, width = windows.shape[:3]
            rows = windows.transpose(0, 1, 2, 4, 5, 3).reshape(n * height * width, -1)
            out = rows @ own["kernel"].reshape(rows.shape[1], -1) + own["bias"]
            cache = {"rows": rows, "shape": padded.shape}
            return out.reshape(n, height, width, -1), cache
        case "maxpool":
            w = value["window"]
            n, height, width, channels = x.shape
            h, v = height // w, width // w
            blocks = x[:, : h * w, : v * w].reshape(n, h, w, v, w, channels)
            blocks = blocks.transpose(0, 1, 3, 5, 2, 4).reshape(
                n, h, v, channels, w * w
            )
            best = blocks.argmax(axis=-1)  # the first of equal ones
            return blocks.max(axis=-1), {"best": best, "shape": x.shape}
        case "activation":
            return _activated(value["name"], x)
        case "flatten":
            return x.reshape(len(x), -1), {"shape": x.shape}
        case "dense":
            assert own is not None
            return x @ own["kernel"] + own["bias"], {"x": x}
        case "dropout" if random is not None:
            kept = random.random(x.shape, np.float32) >= value["rate"]
            mask = kept / np.float32(1 - value["rate"])
            return x * mask, {"slope": mask}
        case "dropout":
            return x, {"slope": np.float32(1)}
    raise ValueError(f"expected a layer that is implemented here, got {layer}")


def of_parameters(
    layer: Layer, own: dict[str, np.ndarray], d: np.ndarray, cache: Cache
) -> dict[str, np.ndarray]:
    """Return the gradient with respect to a layer's parameters."""
    rows = cache["rows"] if layer.kind == "conv" else cache["x"]
    flat = d.reshape(len(rows), -1)
    kernel = (rows.T @ flat).reshape(own["kernel"].shape)
    return {"kernel": kernel, "bias": flat.sum(0)}


def backward(
    layer: Layer, own: dict[str, np.ndarray] | None, d: np.ndarray, cache: Cache
) -> np.ndarray:
    """Return the gradient with respect to a layer's input."""
    match layer.kind:
        case "conv":
            assert own is not None
            kernel, rows = own["kernel"], cache["rows"]
            flat = d.reshape(len(rows), -1)
            n, height, width, _ = d.shape
            size, zeros = layer.value["kernel_size"], layer.value["padding"]
            taps = (flat @ kernel.reshape(rows.shape[1], -1).T).reshape(
                n, height, width, size, size, -1
            )
            padded = np.zeros(cache["shape"], np.float32)
            for i, j in np.ndindex(size, size):
                padded[:, i : i + height, j : j + width] += taps[:, :, :, i, j]
            inner = slice(zeros, -zeros or None)
            return padded[:, inner, inner]
        case "maxpool":
            w, best = layer.value["window"], cache["best"]
            n, h, v, channels = best.shape
            blocks = np.zeros((*best.shape, w * w), np.float32)
            np.put_along_axis(blocks, best[..., None], d[..., None], axis=-1)
            blocks = blocks.reshape(n, h, v, channels, w, w).transpose(0, 1, 4, 2, 5, 3)
            out = np.zeros(cache["shape"], np.float32)
            out[:, : h * w, : v * w] = blocks.reshape(n, h * w, v * w, channels)
            return out
        case "flatten":
            return d.reshape(cache["shape"])
        case "dense":
            assert own is not None
            return d @ own["kernel"].T
    return d * cache["slope"]


def update(params: Tree, grads: Tree, config: dict[str, Any], moments: dict) -> None:
    """Update the parameters with the case's optimizer at a constant learning rate."""
    algorithm, rate = config["algorithm"], np.float32(config["learning_rate"])
    moments["step"] += 1
    for layer, leaves in grads.items():
        for leaf, grad in leaves.items():
            own = params[layer][leaf]
            first = moments["first"][layer][leaf]
            if leaf == "kernel":
                grad = grad + np.float32(config["l2"]) * own
            if algorithm["type"] == "Adam":
                second = moments["second"][layer][leaf]
                b1, b2 = np.float32(algorithm["b1"]), np.float32(algorithm["b2"])
                first += (1 - b1) * (grad - first)
                second += (1 - b2) * (grad * grad - second)
                step = moments["step"]
                scale = np.float32(1 / np.sqrt(1 - b2**step))
                eps = np.float32(algorithm["eps"])
                own -= rate / (1 - b1**step) * first / (np.sqrt(second) * scale + eps)
            else:
                first *= np.float32(algorithm["momentum"])
                first += grad
                own -= rate * first


def _activated(name: str, x: np.ndarray) -> tuple[np.ndarray, Cache]:
    if name == "tanh":
        out = np.tanh(x)
        return out, {"slope": 1 - out * out}
    slope = np.where(
        x > 0, np.float32(1), np.float32(0.001 if name == "leaky_relu" else 0)
    )
    return x * slope, {"slope": slope}


def _copied(tree: Tree) -> Tree:
    return {layer: {k: v.copy() for k, v in own.items()} for layer, own in tree.items()}


def _zeros(tree: Tree) -> Tree:
    return {
        layer: {k: np.zeros_like(v) for k, v in own.items()}
        for layer, own in tree.items()
    }
