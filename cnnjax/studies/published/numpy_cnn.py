"""System E: a CNN with two layers of 500 filters, written by hand in NumPy."""

from __future__ import annotations

from cnnjax.studies.published.figures import curve, parameters, throughput
from cnnjax.studies.published.run import Figure, Number, PublishedRun, System

# The reported error of an epoch is a sum over 100 images, divided by 10. Ours is the
# mean of the same 100 numbers.
_TO_OURS = 1 / 10
# By the report's epochs, which are counted from 0.
_PUBLISHED = {
    0: 23.025835661401747,
    10: 23.013186,
    30: 21.4295,
    40: 13.860,
    60: 0.789,
    72: 0.00014451810090409874,
}
# From ten biases alone: bias_only.bias_only_curve for the same 100 labels.
_BIAS_ONLY = {
    0: 23.0258357,
    10: 23.013185,
    30: 21.4298,
    40: 13.867,
    60: 0.827,
    72: 1.796e-4,
}
# In later epochs the error is so small that the remains of the features matter.
_WITHIN_1_PERCENT = (0, 10, 30, 40)
_SIZE = parameters(
    5_000 + 2_250_500 + 20_001_600 + 409_856 + 2_570,
    source="derived",
    remark="2,250,000 of them in the kernels of the second convolution; the program "
    "had 4,500 weights there, one plane per filter",
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
        what='a tenth of the reported "error"',
        remark="in our unit, the mean over the 100 images: the report divides their "
        "sum by 10, so its numbers are ten times as large; its epoch 0 is our epoch 1",
    )


def _bias_only() -> tuple[Figure, ...]:
    return curve(
        "train_loss",
        {epoch + 1: value * _TO_OURS for epoch, value in _BIAS_ONLY.items()},
        source="derived",
        what='a tenth of the "error" of ten biases without a network',
        remark="in our unit, like the curve itself",
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
            remark="digit 5, the rarest (5 of 100), for every image, from the second "
            "epoch to the last",
        ),
        _at_seconds(66, "sequential"),
        _at_seconds(20, "with multiprocessing"),
    ),
    quick_epochs=11,
    evaluate_every=0,
    explanation='The "error" falls from 23 to 0.0001, but the network learns nothing: '
    "its features are dead, and a gradient with the wrong sign drives the ten output "
    "biases apart until the rarest digit is predicted for every image. The reported "
    "error is the entropy of the prediction, which does not depend on the label: it is "
    "small because the network is certain. (Ours follows the published curve until "
    "epoch 42, then overflows; we do not know why the original's convolutions did not. "
    "The ten biases alone follow it to the end.)",
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
    explanation="Real convolutions over all channels, the gradient of the "
    "cross-entropy, and He initialisation, on the same 100 images in the same order: "
    "the network learns them, and is tested on the 10,000 test images.",
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
    explanation="A hundred images are too few to judge a network of 22.7 million "
    "parameters. Fifty times as many, for two epochs, show what it can do.",
)

SYSTEM = System(
    letter="E",
    title="a NumPy CNN with 500 filters per layer: sequential and multiprocessing",
    question="The reported error falls to 0.0001: did the network learn anything?",
    runs=(_AS_IT_WAS, _CORRECTED, _CORRECTED_5000),
)
