"""The loop's state as named arrays and facts, and back.

Every random number of training is a function of the run's keys, the epoch and the
number of updates made. So the keys, the position and the train state are all of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.tree_util import keystr, tree_flatten_with_path, tree_unflatten
from jaxtyping import Array, PyTree

from cnnjax.base.errors import InputError, expect
from cnnjax.devices import to_host
from cnnjax.training.loop import LoopKeys, LoopState
from cnnjax.training.loop import take as take_run
from cnnjax.training.records import EpochRecord
from cnnjax.training.stopping import Best
from cnnjax.types import Metrics, TrainState

RECORD = ("epoch", "step", "learning_rate", "seconds", "examples_per_second", "part")


class Snapshot(NamedTuple):
    """A copy of training between two updates, in the memory of the host."""

    arrays: Mapping[str, np.ndarray]  # such as "state/params/conv_0/kernel"
    facts: Mapping[str, Any]  # what JSON can hold


def take(at: LoopState, keys: LoopKeys) -> Snapshot:
    """Copy the state of a loop, which the next update would delete.

    If devices belong to several processes, every process must call it.
    """
    trees = {
        "state": to_host(at.state),
        "steps": to_host(at.steps),
        "keys": _data_of(keys),
    }
    noted = take_records(at.records)
    facts = {"epoch": at.epoch, "update": at.update, "seconds": at.seconds}
    if at.best is not None:
        trees["best"] = to_host(at.best.params)
        facts["best"] = {"epoch": at.best.epoch, "loss": at.best.loss}
    arrays = {name: np.array(leaf, copy=True) for name, leaf in named(trees).items()}
    return Snapshot({**arrays, **noted.arrays}, {**facts, **noted.facts})


def restore(snapshot: Snapshot, *, like: TrainState, keys: LoopKeys) -> LoopState:
    """Return the state of the loop that a snapshot is a copy of, in host memory.

    `like` has the structure of the train state; its leaves are not used.

    Raises:
        InputError: it is the snapshot of another training run.
    """
    arrays, facts = snapshot
    for name, data in named({"keys": _data_of(keys)}).items():
        same = name in arrays and np.array_equal(arrays[name], data)
        expect("a checkpoint of the same seed and random keys", name, same)
    best = None
    if facts.get("best") is not None:
        best = Best(like_tree(like.params, arrays, "best"), **facts["best"])
    return LoopState(
        state=like_tree(like, arrays, "state"),
        steps=_metrics(arrays, "steps"),
        epoch=facts["epoch"],
        update=facts["update"],
        records=restore_records(snapshot),
        seconds=facts["seconds"],
        best=best,
    )


def take_records(records: Sequence[Sequence[EpochRecord]]) -> Snapshot:
    """Copy the records of several runs; of each epoch, the metrics of its updates."""
    stacked = {
        f"run_{index}": jax.tree.map(lambda *steps: np.stack(steps), *all_steps)
        for index, own in enumerate(records)
        if (all_steps := [record.steps for record in own])
    }
    facts = [[_fact(record) for record in own] for own in records]
    return Snapshot(named({"records": stacked}), {"records": facts})


def restore_records(snapshot: Snapshot) -> tuple[tuple[EpochRecord, ...], ...]:
    """Return the records of each run."""
    restored = []
    for run, facts in enumerate(snapshot.facts["records"]):
        steps = _metrics(snapshot.arrays, f"records/run_{run}") if facts else None
        restored.append(
            tuple(
                EpochRecord(**fact, steps=take_run(steps, index))
                for index, fact in enumerate(facts)
            )
        )
    return tuple(restored)


def named(tree: PyTree) -> dict[str, Any]:
    """Return the leaves of a tree by their path.

    >>> named({"a": {"b": 1}, "c": (2, 3)})
    {'a/b': 1, 'c/0': 2, 'c/1': 3}
    """
    leaves, _ = tree_flatten_with_path(tree)
    return {keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def nested(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """Return a tree of dictionaries from leaves by their path.

    >>> nested({"a/b": 1, "c": 2})
    {'a': {'b': 1}, 'c': 2}
    """
    tree: dict[str, Any] = {}
    for name, leaf in leaves.items():
        *folders, last = name.split("/")
        place = tree
        for folder in folders:
            place = place.setdefault(folder, {})
        place[last] = leaf
    return tree


def _data_of(keys: LoopKeys) -> dict[str, np.ndarray]:
    return {
        name: np.asarray(jax.random.key_data(key))
        for name, key in keys._asdict().items()
        if key is not None
    }


def _fact(record: EpochRecord) -> dict[str, Any]:
    """Return what JSON can hold of a record."""
    test = None if record.test is None else dict(record.test)
    own = {name: getattr(record, name) for name in RECORD}
    return {**own, "train": dict(record.train), "test": test}


def _metrics(arrays: Mapping[str, np.ndarray], prefix: str) -> Metrics:
    means: dict[str, Any] = _below(arrays, f"{prefix}/means")
    weight: Any = arrays[f"{prefix}/weight"]
    return Metrics(means, weight)


def _below(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """Return the arrays whose names begin with a prefix, without it."""
    start = f"{prefix}/"
    return {n.removeprefix(start): a for n, a in arrays.items() if n.startswith(start)}


def like_tree(
    tree: PyTree, arrays: Mapping[str, np.ndarray | Array], prefix: str
) -> PyTree:
    """Return arrays in the structure of a tree.

    Raises:
        InputError: a leaf is missing; left over; or has another shape or type.
    """
    leaves, structure = tree_flatten_with_path(tree)
    names = [
        f"{prefix}/{keystr(path, simple=True, separator='/')}" for path, _ in leaves
    ]
    found = {name for name in arrays if name.startswith(f"{prefix}/")}
    if different := sorted(found.symmetric_difference(names)):
        raise InputError(
            "expected a checkpoint of this network and optimizer, got one that "
            f"differs in {different[0]}"
        )
    for name, (_, leaf) in zip(names, leaves, strict=True):
        got, wanted = arrays[name], (leaf.shape, np.dtype(leaf.dtype))
        expect(
            f"{name} of shape {wanted[0]} and type {wanted[1]} in the checkpoint",
            f"{got.shape}, {got.dtype}",
            (got.shape, got.dtype) == wanted,
        )
    return tree_unflatten(structure, [arrays[name] for name in names])
