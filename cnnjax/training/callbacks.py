"""What a training loop calls meanwhile. None of it can change the training."""

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
    """What to do while training. None of it can change the training."""

    # evaluate(epochs_done, params): metrics of the test set, or None when not due.
    evaluate: Callable[[int, Params], Mapping[str, float] | None] = ignore
    on_epoch: Callable[[EpochRecord], None] = ignore
    # on_progress(examples_done, examples_of_the_epoch)
    on_progress: Callable[[int, int], None] = ignore
    # on_state(state): after every call of the program and at the end of each epoch;
    # the arrays are deleted by the next call: copy what is to be kept.
    on_state: Callable[[LoopState], None] = ignore


NO_CALLBACKS = Callbacks()


def check_callbacks(callbacks: Any, kind: type) -> None:
    """Raise InputError for callbacks of another kind, or any that is no function."""
    instance_of(kind)("callbacks", callbacks)
    for name, callback in callbacks._asdict().items():
        function(name, callback)
