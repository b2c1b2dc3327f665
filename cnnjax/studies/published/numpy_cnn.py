"""System E: a CNN with two layers of 500 filters, written by hand in NumPy."""

from __future__ import annotations

from cnnjax.studies.published.figures import curve, parameters, throughput
from cnnjax.studies.published.run import Figure, Number, PublishedRun, System

# The reported error of an epoch is a sum over 100 images, divided by 10. Ours is the
# mean of the same 100 numbers.
_TO_OURS = 1 / 10
# By the report's epochs, which count from 0.
_PUBLISHED = {
    0: 23.025835661401747,
    10: 23.013186,
    30: 21.4295,
    40: 13.860,
    60: 0.789,
    72: 0.00014451810090409874,
}
# Of ten biases alone: bias_only.bias_only_curve of the same 100 labels.
_BIAS_ONLY = {
    0: 23.0258357,
    10: 23.013185,
    30: 21.4298,
    40: 13.867,
    60: 0.827,
    72: 1.796e-4,
}
# Later, what is left of the features shows in a number that has become small.
_WITHIN_1_PERCENT = (0, 10, 30, 40)
_SIZE = parameters(
    5_000 + 2_250_500 + 20_001_600 + 409_856 + 2_570,
    source="derived",
    remark="2,250,000 of them the kernels of the second convolution; the program had "
    "4,500 weights there, a plane for each filter",
)


def _curve() -> tuple[Figure, ...]:
    ours = {epoch + 1: value * _TO_OURS for epoch, value in _PUBLISHED.items()}
    return curve(
        "train_loss",
        ours,
        bands={
            epoch + 1: (0.99 * ours[epoch + 1], 1.01 * ours[epoch + 1])
            for epoch in _WITHIN_1_PERCENT
        },
        what='reported "error"',
        remark="in our unit, the mean over the 100 images: the report divides their "
        "sum by 10, and so prints ten times as much; its epoch 0 is our epoch 1",
    )


def _bias_only() -> tuple[Figure, ...]:
    return curve(
        "train_loss",
        {epoch + 1: value * _TO_OURS for epoch, value in _BIAS_ONLY.items()},
        source="derived",
        what='"error" of ten biases without a network',
        remark="in our unit, as the curve itself",
    )


def _at_seconds(seconds: Number, how: str) -> Figure:
    return throughput(
        1 / seconds,
        source="derived",
        remark=f"about {seconds:.0f} s, {how}, most likely for one image",
    )


_AS_IT_WAS = PublishedRun(
    name="published",
    title="100 images, as the program was, for 42 of its 73 epochs",
    recipe="sgd_wide_cnn",
    changes={"initializer": "normal_0.001", "epochs": 42},
    faults=(
        "one_plane_for_all_channels",
        "bias_never_added",
        "one_scalar_for_all_taps",
        "hidden_error_ignores_weights",
        "pool_gradient_scrambled",
        "reversed_output_gradient",
        "entropy_reported_as_loss",
    ),
    figures=(
        *_curve(),
        *_bias_only(),
        *curve(
            "train_accuracy",
            {42: 0.05},
            bands={42: (0.05, 0.05)},
            source="derived",
            remark="digit 5 for every image: the rarest, 5 of 100; so from the second "
            "epoch to the last",
        ),
        _at_seconds(66, "sequential"),
        _at_seconds(20, "with multiprocessing"),
    ),
    quick_epochs=11,
    evaluate_every=0,
    explanation='The "error" falls from 23 to 0.0001, and the network learns nothing: '
    "its features are dead, and ten output biases are driven apart by a gradient of "
    "the wrong sign until it predicts the rarest digit for every image. The error that "
    "is reported is the entropy of the prediction, which knows no label: it is small "
    "because the network is sure. (Ours follows the published curve until epoch 42, "
    "then overflows; what kept the original's convolutions quiet is not known. The ten "
    "biases alone follow it to the end.)",
)

_CORRECTED = PublishedRun(
    name="corrected",
    title="the same 100 images, without the faults",
    recipe="sgd_wide_cnn",
    changes={"epochs": 20},
    figures=(_SIZE,),
    corrects="published",
    quick_epochs=6,
    evaluate_every=0,
    explanation="True convolutions of all channels, the gradient of the cross-entropy, "
    "and He's initialisation, on the same 100 images in the same order: the network "
    "learns them, and is tested on the 10,000 others.",
)

_CORRECTED_5000 = PublishedRun(
    name="corrected_5000",
    title="5,000 images in batches of 16, without the faults",
    recipe="sgd_wide_cnn",
    changes={
        "num_train": 5_000,
        "batch_size": 16,
        "epochs": 2,
        "learning_rate": 0.02,
        "shuffle": "every_epoch",
    },
    figures=(_SIZE,),
    corrects="published",
    evaluate_every=0,
    at_quick=False,
    explanation="A hundred images tell little of a network of 22.7 million parameters. "
    "Fifty times as many, and two epochs, show what it can do.",
)

SYSTEM = System(
    letter="E",
    title="a NumPy CNN of 500 filters a layer: sequential and multiprocessing",
    question="The reported error falls to 0.0001: did the network learn anything?",
    runs=(_AS_IT_WAS, _CORRECTED, _CORRECTED_5000),
)
