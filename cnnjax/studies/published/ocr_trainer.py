"""System A: an OCR trainer in C with OpenMP, serial and parallel in two ways."""

from __future__ import annotations

import math
from collections.abc import Sequence

from cnnjax.studies.published.figures import (
    by_epoch,
    curve,
    falls_in,
    parameters,
    percent,
    throughput,
    train_seconds,
)
from cnnjax.studies.published.run import Figure, Number, PublishedRun, System

# What any correct run of the serial arithmetic reaches, from runs by others.
_SERIAL_ACCURACY = {1: (0.954, 0.964), 5: (0.974, 0.978)}
# The range is stated as 0.026 to 0.027, from values rounded to three digits.
_SERIAL_LOSS = {5: (0.0255, 0.0275)}
_SEEDS_DIFFER = {
    5: "the mean of ten seeds is 97.58 %, in the range, with a standard deviation of "
    "0.19 points; fewer seeds may fall outside"
}
_INDEPENDENT = falls_in(
    "test_accuracy",
    5,
    (0.976, 0.978),
    source="measured",
    why_out="the range comes from a few independent runs of the same program; another "
    "may fall outside, as plain NumPy does with 97.55 % (one seed)",
)
_FEW_RUNS = "the range comes from a few runs; another may fall outside"
_LEAK_DIFFERS = (
    "the range comes from a few runs; ten seeds have a mean of 97.51 %, whose 95 % "
    "interval, 97.39 to 97.63 %, overlaps it"
)
_LOSSES_DIFFER = {
    5: "the mean of ten seeds is 0.0262, in the range, with a standard deviation of "
    "0.001; fewer seeds may fall outside"
}
_LIKE_THE_OTHER = (
    "from epoch 2 on, serial and per operation agree to the last digit, although both "
    "were seeded from the clock: most likely one run printed twice"
)
_DIVIDES = (
    "the program divides 60,000 by the time of five epochs of 48,000 examples, which "
    "gives a quarter of the true number"
)


def _printed(value: Number) -> Figure:
    return throughput(value, source="reported", remark=_DIVIDES)


def _one_an_update(
    accuracies: Sequence[Number], losses: Sequence[Number]
) -> tuple[Figure, ...]:
    """State both curves of the serial arithmetic by epoch, however it is divided."""
    return (
        *curve(
            "test_accuracy",
            percent(accuracies),
            bands=_SERIAL_ACCURACY,
            remark=_LIKE_THE_OTHER,
            why_out=_SEEDS_DIFFER,
        ),
        *curve(
            "train_loss",
            by_epoch(losses),
            bands=_SERIAL_LOSS,
            remark=_LIKE_THE_OTHER,
            why_out=_LOSSES_DIFFER,
        ),
        _INDEPENDENT,
        parameters(535_818),
    )


_SERIAL = PublishedRun(
    name="serial",
    title="one example per update, one operation after another",
    recipe="momentum_mlp_serial",
    figures=(
        *_one_an_update(
            [96.05, 96.62, 96.50, 97.70, 97.66],
            [0.2700, 0.1017, 0.0630, 0.0402, 0.0271],
        ),
        falls_in(
            "test_accuracy", 5, (0.976, 0.977), source="measured", why_out=_FEW_RUNS
        ),
        train_seconds(398.08),
        *curve("seconds", by_epoch([79.87, 80.72, 78.32, 79.55, 79.62])),
        throughput(603, source="derived"),
        _printed(150),
    ),
    seeds=10,
    one_core=True,
    explanation="The plain program: one image, one gradient, one update. It has no "
    "fault, and its results are what its settings should give.",
)

_PER_OPERATION = PublishedRun(
    name="per_operation",
    title="one example per update, each operation in parallel",
    recipe="momentum_mlp_per_operation",
    figures=(
        *_one_an_update(
            [95.73, 96.62, 96.50, 97.70, 97.66],
            [0.2718, 0.1017, 0.0630, 0.0402, 0.0271],
        ),
        train_seconds(112.75, remark="3.5 times as fast as serial"),
        *curve("seconds", by_epoch([21.48, 21.74, 22.71, 22.64, 24.18])),
        throughput(2_129, source="derived"),
        _printed(535),
    ),
    seeds=10,
    one_core=True,
    explanation="The same arithmetic as serial, with the loops over output units "
    "divided among threads. Only the time may differ, and it does: 3.5 times as fast.",
)

_SHARED = PublishedRun(
    name="per_sample_shared_activations",
    title="8 examples per update, as the program was",
    recipe="momentum_mlp_per_sample",
    faults=("shared_activations", "held_out_in_training"),
    figures=(
        *curve("test_accuracy", percent([47.19, 60.61, 62.90, 62.96, 66.81])),
        *curve(
            "train_loss",
            by_epoch([math.nan, math.nan, math.nan, 2.4094, 2.3968]),
            remark="the program's loss could read raw logits, which a thread had just "
            "written, as probabilities: hence its NaN; ours always uses probabilities",
        ),
        parameters(535_818),
        train_seconds(127, remark="about; its epochs add up to 124.27"),
        *curve("seconds", by_epoch([24.46, 25.05, 24.86, 24.93, 24.97])),
        throughput(1_890, source="derived"),
        _printed(468),
    ),
    seeds=5,
    one_core=True,
    explanation="Eight threads each take one image of a batch. Each has its own "
    "gradients, but all write their activations into one shared network, so that an "
    "image's error is combined with another image's activations. Training per sample "
    "then looks volatile, but the program is to blame. (The threads raced. In ours the "
    "last image of a batch always wins, so the numbers may differ.)",
)

_PER_SAMPLE = PublishedRun(
    name="per_sample",
    title="8 examples per update, private activations, no leak",
    recipe="momentum_mlp_per_sample",
    figures=(
        falls_in("test_accuracy", 5, (0.967, 0.973), source="measured"),
        falls_in(
            "test_accuracy", 5, (0.969, 0.972), source="measured", why_out=_FEW_RUNS
        ),
        parameters(535_818),
    ),
    corrects="per_sample_shared_activations",
    seeds=10,
    one_core=True,
    explanation="The same batches, learning rate and momentum, with nothing shared "
    "that should not be: training is stable. A batch of 8 means an eighth of the "
    "updates, at twice the learning rate, so it is somewhat behind serial after five "
    "epochs.",
)

_LEAK = PublishedRun(
    name="per_sample_leak",
    title="8 examples per update, held-out examples reshuffled into training",
    recipe="momentum_mlp_per_sample",
    faults=("held_out_in_training",),
    figures=(
        falls_in(
            "test_accuracy", 5, (0.975, 0.979), source="measured", why_out=_LEAK_DIFFERS
        ),
        falls_in(
            "test_accuracy", 5, (0.976, 0.978), source="measured", why_out=_LEAK_DIFFERS
        ),
        parameters(535_818),
    ),
    seeds=10,
    one_core=True,
    explanation="The second fault of the per-sample program alone: it reshuffles all "
    "60,000 images every epoch, trains on the first 48,000, and tests on the rest, "
    "most of which were trained on in earlier epochs. So it looks better than it is.",
)

SYSTEM = System(
    letter="A",
    title="OCR trainer in C: serial, parallel per operation, parallel per sample",
    question="Is mini-batch training per sample volatile (66.81 %, NaN losses), or was "
    "the program?",
    runs=(_SERIAL, _PER_OPERATION, _SHARED, _PER_SAMPLE, _LEAK),
)
