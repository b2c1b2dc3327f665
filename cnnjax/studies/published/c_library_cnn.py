"""System D: a small CNN in a custom C library, with Adam, cosine schedule and L2."""

from __future__ import annotations

from typing import Any

from cnnjax.studies.published.figures import (
    by_epoch,
    curve,
    macs,
    parameters,
    percent,
    train_seconds,
)
from cnnjax.studies.published.run import Figure, PublishedRun, System

_FAULT = ("overwritten_conv_gradient",)
# SGD instead of Adam, which would rescale a small gradient. At this learning rate the
# correct gradient trains well in three epochs.
_SGD: dict[str, Any] = {
    "algorithm": "sgd",
    "schedule": "constant",
    "learning_rate": 0.05,
    "epochs": 3,
}
_SIZE = (
    parameters(805_066),
    macs(1.431e6, true=1_431_296, source="reported", remark="rounded"),
)

_PUBLISHED = PublishedRun(
    name="published",
    title="10 epochs, as the program was",
    recipe="adam_cosine_cnn",
    faults=_FAULT,
    figures=(
        *curve(
            "train_loss",
            by_epoch(
                (
                    *(0.2594, 0.0983, 0.0757, 0.0674, 0.0585),
                    *(0.0477, 0.0418, 0.0412, 0.0408, 0.0331),
                )
            ),
        ),
        *curve(
            "train_accuracy",
            percent(
                (
                    *(92.58, 97.04, 97.64, 97.91, 98.21),
                    *(98.50, 98.71, 98.66, 98.71, 99.00),
                )
            ),
            what="running training accuracy",
        ),
        *curve("test_accuracy", {10: 0.9868}, remark="9,868 of 10,000 images"),
        *curve(
            "learning_rate",
            {1: 1.0e-3, 10: 5.82e-4},
            bands={1: (0.9995e-3, 1.0005e-3), 10: (5.815e-4, 5.825e-4)},
            source="derived",
            what="learning rate",
            remark="the report also prints a learning rate of 0.5, from an unused "
            "field",
        ),
        Figure(
            what="updates of the first epoch",
            metric="step",
            epoch=1,
            value=938,
            band=(938, 938),
        ),
        *_SIZE,
        train_seconds(1_556.7, remark="one thread, -O3"),
        train_seconds(
            300,
            remark="a later version, with im2col and tiled AVX-512 products: "
            '"just under 5 minutes"',
        ),
    ),
    explanation="The library processes a batch image by image. Its dense layers sum "
    "their gradients, but its convolution overwrites them: only the last image of a "
    "batch trains the convolution, with a weight of 1/64. Adam divides a gradient by "
    "its own size, so the steps are as large as before, only noisier, and the network "
    "still reaches 98.68 %.",
)

_CORRECTED = PublishedRun(
    name="corrected",
    title="10 epochs, with the complete gradient",
    recipe="adam_cosine_cnn",
    figures=(
        Figure(
            what="test accuracy",
            metric="test_accuracy",
            epoch=10,
            value=None,
            band=(0.9868, 1.0),
            source="derived",
            remark="at least what the program reached despite its fault",
        ),
        *_SIZE,
    ),
    corrects="published",
    seeds=5,
    explanation="All 64 images of a batch train the convolution. This is the default "
    "recipe of this library.",
)

_SGD_RIGHT = PublishedRun(
    name="sgd",
    title="3 epochs of plain SGD, with the complete gradient",
    recipe="adam_cosine_cnn",
    changes=_SGD,
    figures=_SIZE,
    corrects="sgd_overwritten",
    seeds=3,
    explanation="The same network without Adam, for comparison with the next: the "
    "convolution and the dense layers learn together.",
)

_SGD_OVERWRITTEN = PublishedRun(
    name="sgd_overwritten",
    title="3 epochs of plain SGD, with the convolution's gradient overwritten",
    recipe="adam_cosine_cnn",
    changes=_SGD,
    faults=_FAULT,
    figures=_SIZE,
    seeds=3,
    explanation="SGD does not rescale gradients. Only 1/64 of the convolution's "
    "gradient is left, from one image, so its filters hardly move from their random "
    "initial values, and the network falls behind at once. With Adam nobody noticed.",
)

SYSTEM = System(
    letter="D",
    title="a small CNN in a C library: Adam, cosine schedule, L2",
    question="How could it reach 98.68 % although only one image per batch trained the "
    "convolution?",
    runs=(_PUBLISHED, _CORRECTED, _SGD_RIGHT, _SGD_OVERWRITTEN),
)
