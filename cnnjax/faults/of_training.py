"""Faults around the update: of the optimizer, the data, or the reported values.

The gradient is right, but the wrong parameters are updated, on the wrong examples, or
the reported numbers are not what they claim to be.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import optax

from cnnjax.data.order import epoch_order
from cnnjax.faults.fault import Fault
from cnnjax.faults.needs import Needs, Requirement
from cnnjax.training.records import MeansFn
from cnnjax.training.updates import LoopConfig, LoopKeys
from cnnjax.types import Examples, Metrics


class Feed(NamedTuple):
    """The training examples, the test examples, and their order."""

    train: Examples
    test: Examples
    loop: LoopConfig
    keys: LoopKeys
    # test_of_epoch(epochs_done): the test examples at that time; None: always `test`.
    test_of_epoch: Callable[[int], Examples] | None = None


def move_other_parameters(
    right: optax.GradientTransformation,
) -> optax.GradientTransformation:
    """Set all updates to zero, as if the optimizer updated another network."""
    return optax.chain(right, optax.set_to_zero())


def train_on_held_out(right: Feed) -> Feed:
    """Reshuffle all examples every epoch; train on the first, test on the rest.

    Their numbers do not change, but the test examples of one epoch were training
    examples in others.
    """
    num_train = right.loop.visited(len(right.train.labels))
    both = zip(right.train, right.test, strict=True)
    everything = Examples(*map(np.concatenate, both))

    def test_of_epoch(epoch: int) -> Examples:
        order = epoch_order(
            right.keys.order,
            max(epoch - 1, 0),
            num_examples=len(everything.labels),
            shuffle=right.loop.shuffle,
        )
        rest = np.asarray(order)[num_train:]
        return Examples(*(a[rest] for a in everything))

    return right._replace(
        train=everything,
        test=test_of_epoch(right.loop.epochs),
        loop=replace(right.loop, examples_per_epoch=num_train),
        test_of_epoch=test_of_epoch,
    )


def keep_order(right: Feed) -> Feed:
    """Shuffle once, and use that order in every epoch."""
    return right._replace(loop=replace(right.loop, shuffle="once"))


def drop_remainder(right: Feed) -> Feed:
    """Test on full batches only, of the training's batch size."""
    kept = len(right.test.labels) // right.loop.batch_size * right.loop.batch_size
    return right._replace(test=Examples(*(a[:kept] for a in right.test)))


def report_last_batch(right: MeansFn) -> MeansFn:
    """Report the metrics of the last batch as those of the epoch."""

    def wrong(steps: Metrics) -> Mapping[str, float]:
        means = {name: values[-1:] for name, values in steps.means.items()}
        return right(Metrics(means, steps.weight[-1:]))

    return wrong


_HOLDS_OUT = Requirement(
    "a recipe that holds examples out and reshuffles",
    "--recipe=momentum_mlp_per_sample",
    lambda setting: (
        "one that is shuffled once"
        if setting.holds_out
        else "one with a separate test set"
    ),
    lambda setting: setting.holds_out and setting.loop.shuffle == "every_epoch",
)
_RESHUFFLES = Requirement(
    "a run that reshuffles, and more than one epoch",
    "--shuffle=every_epoch --epochs=2",
    lambda setting: f"{setting.loop.shuffle} and {setting.loop.epochs}",
    lambda setting: setting.loop.shuffle == "every_epoch" and setting.loop.epochs > 1,
)
_HAS_REMAINDER = Requirement(
    "more than one batch of test examples, with a short last batch",
    "--batch_size=64",
    lambda setting: f"{setting.num_test} in batches of {setting.loop.batch_size}",
    lambda setting: (
        setting.num_test > setting.loop.batch_size
        and setting.num_test % setting.loop.batch_size != 0
    ),
)
_SEVERAL_BATCHES = Requirement(
    "more than one batch per epoch",
    "--batch_size=64",
    lambda setting: "the entire training set as one batch",
    lambda setting: setting.loop.batch_size < setting.num_train,
)

FAULTS = (
    Fault(
        name="optimizer_of_other_parameters",
        summary="The optimizer updates the parameters of another network: this one is "
        "never trained.",
        seen="System B: torch.optim.SGD(first_model.parameters()), copied to the code "
        "that trains the second model.",
        place="optimizer",
        corrupt=move_other_parameters,
    ),
    Fault(
        name="held_out_in_training",
        summary="Held-out examples are reshuffled with the training set every epoch, "
        "so test examples were used in training before.",
        seen="System A, per sample: one array of all examples is shuffled, and its "
        "first part is used for training.",
        place="data",
        needs=Needs(recipe=(_HOLDS_OUT,)),
        corrupt=train_on_held_out,
        replaces=("data",),
    ),
    Fault(
        name="same_order_each_epoch",
        summary="Every epoch uses the examples in the same order.",
        seen="A shuffle before the loop over epochs, or a key without fold_in of the "
        "epoch.",
        place="data",
        needs=Needs(recipe=(_RESHUFFLES,)),
        corrupt=keep_order,
    ),
    Fault(
        name="test_remainder_dropped",
        summary="The test leaves out the last, short batch.",
        seen="drop_remainder=True in an evaluation: an accuracy over 9,984 of 10,000 "
        "images.",
        place="data",
        needs=Needs(recipe=(_HAS_REMAINDER,)),
        corrupt=drop_remainder,
    ),
    Fault(
        name="last_batch_loss_reported",
        summary="The loss of an epoch's last batch is reported as that of the epoch.",
        seen="System B: loss.item() after the loop over batches: 16 images of 50,000.",
        place="report",
        needs=Needs(recipe=(_SEVERAL_BATCHES,)),
        corrupt=report_last_batch,
    ),
)
