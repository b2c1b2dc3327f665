"""System B: two regressions and two classifiers in PyTorch, a course's homework."""

from __future__ import annotations

from cnnjax.studies.published.figures import (
    curve,
    falls_in,
    macs,
    parameters,
    train_seconds,
)
from cnnjax.studies.published.run import Figure, Number, PublishedRun, System

EPOCHS = 200
_INFINITE = (
    "not an accuracy; infinite if a held-out house has the lowest price (3 of 545 "
    "houses do), because that price is scaled to 0 and divided by"
)
_LAST_BATCH = "of the last mini-batch only, 16 images of 50,000"
_WRONG_COUNTER = "the size of 2a, whose model was passed to the counter"


def _regression_figures(loss: Number, accuracy: Number) -> tuple[Figure, ...]:
    return (
        *curve(
            "train_loss",
            {EPOCHS: loss},
            remark="one random split into 436 and 109 houses, which matters more than "
            "the training",
        ),
        *curve(
            "test_accuracy",
            {EPOCHS: accuracy},
            what='reflected-ratio "accuracy"',
            remark=_INFINITE,
        ),
    )


def _not_per_example(value: Number, rows: str) -> Figure:
    return Figure(
        what="MACs, as counted",
        metric="macs_per_example",
        value=value,
        remark=f"not for one example: {rows}",
    )


_NARROW = PublishedRun(
    name="1a",
    title="regression 5-8-1 on house prices",
    recipe="tanh_mlp_housing_narrow",
    faults=("reflected_ratio_accuracy",),
    figures=(
        *_regression_figures(0.0233, 0.9566),
        falls_in(
            "test_loss", EPOCHS, (0.012, 0.039), source="measured", remark="10 seeds"
        ),
        parameters(57),
        macs(48),
        _not_per_example(0.0, "printed as 0.0 GMAC; one example takes 48 MACs"),
        train_seconds(0.166),
    ),
    seeds=10,
    one_core=True,
    explanation="A small regression that trains correctly. Its accuracy of 95.66 % is "
    "not an accuracy: it is the mean of |f(prediction / price)| with f(r) = 2 - r "
    "above 1, so that a prediction three times too high scores 1.",
)

_WIDE = PublishedRun(
    name="1b",
    title="regression 5-256-128-64-1, as the program was",
    recipe="tanh_mlp_housing_wide",
    faults=("optimizer_of_other_parameters", "reflected_ratio_accuracy"),
    figures=(
        *_regression_figures(0.1608, 0.5673),
        parameters(42.75e3, true=42_753, remark="rounded"),
        macs(42_304),
        _not_per_example(0.02e9, "0.02 GMAC is for about 436 rows, the training set"),
        train_seconds(0.297),
    ),
    seeds=10,
    one_core=True,
    explanation="The wide network was far worse than the narrow one (0.1608 against "
    "0.0233). Its optimizer was given the narrow network's parameters: the wide one "
    "was never trained, and its numbers are those of its initial parameters.",
)

_WIDE_TRAINED = PublishedRun(
    name="1b_trained",
    title="regression 5-256-128-64-1, with its own parameters trained",
    recipe="tanh_mlp_housing_wide",
    figures=(
        *curve(
            "train_loss",
            {1: 0.0565, EPOCHS: 0.0157},
            source="measured",
            remark="one run",
        ),
        falls_in(
            "test_loss", EPOCHS, (0.012, 0.022), source="measured", remark="10 seeds"
        ),
        parameters(42_753, source="derived"),
        macs(42_304),
    ),
    corrects="1b",
    seeds=10,
    one_core=True,
    explanation="The wide network, with its own parameters given to the optimizer: the "
    "loss falls, as the narrow network's does.",
)


def _classifier(
    name: str, title: str, recipe: str, figures: tuple[Figure, ...], explanation: str
) -> PublishedRun:
    return PublishedRun(
        name=name,
        title=title,
        recipe=recipe,
        faults=("last_batch_loss_reported",),
        figures=figures,
        quick_epochs=2,
        explanation=explanation,
    )


_SHALLOW = _classifier(
    "2a",
    "classifier 3072-512-10 on CIFAR-10",
    "tanh_mlp_cifar10_shallow",
    (
        *curve("train_loss", {EPOCHS: 0.015110}, remark=_LAST_BATCH),
        *curve("test_accuracy", {EPOCHS: 0.4674}, bands={EPOCHS: (0.46, 0.47)}),
        train_seconds(1_838.7),
        parameters(1.58e6, true=1_578_506, remark="rounded"),
        macs(1_577_984),
        _not_per_example(1.59e9, "1.59 GMAC is for about 1,007 rows"),
    ),
    "The reported training loss is that of the last mini-batch only, 16 of 50,000 "
    "images, and varies from batch to batch. The test accuracy is normal for such a "
    "network.",
)

_DEEP = _classifier(
    "2b",
    "classifier 3072-512-256-128-10 on CIFAR-10",
    "tanh_mlp_cifar10_deep",
    (
        *curve("train_loss", {EPOCHS: 0.000380}, remark=_LAST_BATCH),
        *curve("test_accuracy", {EPOCHS: 0.4592}, bands={EPOCHS: (0.459, 0.46)}),
        train_seconds(1_859.5),
        Figure(
            what="parameters, as counted",
            metric="parameters",
            value=1.58e6,
            remark=_WRONG_COUNTER,
        ),
        parameters(1_738_890, source="derived"),
        macs(1_737_984),
        _not_per_example(1.59e9, f"about 1,007 rows, and {_WRONG_COUNTER}"),
    ),
    "Two more hidden layers do not raise the test accuracy. By the loss of the last "
    "mini-batch they look forty times better in training (0.00038 against 0.0151). The "
    "reported size is the other network's: the wrong model was passed to the counter.",
)

SYSTEM = System(
    letter="B",
    title="four tanh MLPs in PyTorch: house prices and CIFAR-10",
    question="Why is the larger regression worse than the small one, and what does the "
    '"accuracy" of a regression mean?',
    runs=(_NARROW, _WIDE, _WIDE_TRAINED, _SHALLOW, _DEEP),
)
