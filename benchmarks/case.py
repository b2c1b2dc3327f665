"""The input of every contender: one network, its initial parameters, one dataset.

It is a folder of JSON and NumPy files, so that peers can read it without JAX. Peers get
inputs that are already scaled, as float32; cnnjax scales raw bytes in its step.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

Tree = dict[str, dict[str, np.ndarray]]  # {layer: {"kernel": ..., "bias": ...}}
MAX_NORM = 1.0  # to which per-example gradients are clipped
FULL_EXAMPLES = 8  # number of per-example gradients that are compared


class Layer(NamedTuple):
    """One layer: its name in the parameters, its kind, and its settings."""

    name: str
    kind: str  # conv, maxpool, activation, flatten, dense, dropout
    input_shape: tuple[int, ...]  # for one example: height, width, channels
    value: dict[str, Any]  # the fields of cnnjax.models.stack's layer


class Case(NamedTuple):
    """A recipe on a dataset, read from a folder."""

    folder: Path
    facts: dict[str, Any]  # recipe, dataset, data_dir, seed, batch_size, optimizer, ...
    layers: tuple[Layer, ...]
    params: Tree

    @property
    def batch_size(self) -> int:
        """Return the number of examples per update."""
        return self.facts["batch_size"]

    def array(self, name: str) -> np.ndarray:
        """Return an array: train_inputs, train_labels, test_inputs, ..., order."""
        return np.load(self.folder / f"{name}.npy", allow_pickle=False)

    def batches(self) -> np.ndarray:
        """Return the rows of each full batch of the first epoch: [batches, batch]."""
        order = self.array("order")[0]
        whole = len(order) // self.batch_size * self.batch_size
        return order[:whole].reshape(-1, self.batch_size)


def write_case(
    folder: Path,
    *,
    facts: dict[str, Any],
    layers: list[Layer],
    params: Tree,
) -> None:
    """Write a case into an existing folder; `save_arrays` adds its arrays."""
    content = {"facts": facts, "layers": [layer._asdict() for layer in layers]}
    (folder / "case.json").write_text(json.dumps(content, indent=1))
    save_tree(folder / "params.npz", params)


def save_arrays(folder: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write arrays for `Case.array` to read."""
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)


def read_case(folder: Path) -> Case:
    """Read a case that `write_case` wrote."""
    content = json.loads((folder / "case.json").read_text())
    layers = [
        Layer(**{**layer, "input_shape": tuple(layer["input_shape"])})
        for layer in content["layers"]
    ]
    tree = load_tree(folder / "params.npz")
    return Case(folder, content["facts"], tuple(layers), tree)


def save_tree(path: Path, tree: Tree) -> None:
    """Write a tree of arrays, named "layer/leaf"."""
    flat: dict[str, Any] = {
        f"{layer}/{leaf}": np.asarray(array)
        for layer, leaves in tree.items()
        for leaf, array in leaves.items()
    }
    np.savez(path, **flat)


def load_tree(path: Path) -> Tree:
    """Read a tree that `save_tree` wrote."""
    tree: Tree = {}
    with np.load(path, allow_pickle=False) as flat:
        for name in flat.files:
            layer, leaf = name.split("/")
            tree.setdefault(layer, {})[leaf] = flat[name]
    return tree
