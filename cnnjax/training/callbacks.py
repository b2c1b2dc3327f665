"""Callbacks of a training loop. None of them can change the training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from cnnjax.base.arguments import function, instance_of
from cnnjax.training.loop import LoopState
from cnnjax.training.records import EpochRecord
from cnnjax.types import Params


def ignore(*_: object) -> None:
    """Do nothing: the default callback."""


class Callbacks(NamedTuple):
    """Functions called during training. None of them can change the training."""

    # evaluate(epochs_done, params): metrics of the test set; None: not this epoch.
    evaluate: Callable[[int, Params], Mapping[str, float] | None] = ignore
    on_epoch: Callable[[EpochRecord], None] = ignore
    # on_progress(examples_done, examples_per_epoch)
    on_progress: Callable[[int, int], None] = ignore
    # on_state(state): after every call of the program and at the end of each epoch.
    # The next call deletes the arrays: copy those that you want to keep.
    on_state: Callable[[LoopState], None] = ignore


NO_CALLBACKS = Callbacks()


def check_callbacks(callbacks: Any, kind: type) -> None:
    """Raise InputError for callbacks of another type, or that are not functions."""
    instance_of(kind)("callbacks", callbacks)
    for name, callback in callbacks._asdict().items():
        function(name, callback)
