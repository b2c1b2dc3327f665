"""The recipes by name: network, loss, optimizer, data and epochs, as published.

Defaults of hyper-parameters are here and in the configs, nowhere else.
"""

from __future__ import annotations

from cnnjax.base.arguments import (
    known_name,
)
from cnnjax.data.augmentation import RandomCrop, RandomFlip
from cnnjax.data.preprocessing import (
    Identity,
    MinMaxPerImage,
    Standardize,
)
from cnnjax.data.splits import HoldOut
from cnnjax.experiments.networks import (
    ADAM_COSINE_CNN,
    CIFAR10_CNN,
    DROPOUT_CNN,
    FAST_CNN,
    IMAGE,
    MOMENTUM_MLP,
    WIDE_CNN,
    tanh_mlp,
)
from cnnjax.experiments.recipe import Recipe
from cnnjax.training.algorithms import Adam, Sgd
from cnnjax.training.optimizers import OptimizerConfig
from cnnjax.training.schedules import Cosine, OneCycle

# Mean and standard deviation of all training pixels / 255, to four digits. The widely
# used deviations of CIFAR-10, 0.2023, 0.1994 and 0.2010, are not over all pixels:
# https://github.com/kuangliu/pytorch-cifar/issues/19.
MNIST_SCALE = Standardize(mean=(0.1307,), std=(0.3081,))
CIFAR10_SCALE = Standardize(mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616))


def _momentum_mlp(
    name: str, summary: str, *, batch_size: int, learning_rate: float, strategy: str
) -> Recipe:
    """Build a recipe of the 784-512-256-10 MLP that holds out 12,000 of 60,000."""
    return Recipe(
        name=name,
        summary=summary,
        model=MOMENTUM_MLP,
        loss="softmax_cross_entropy",
        optimizer=OptimizerConfig(
            algorithm=Sgd(momentum=0.9), learning_rate=learning_rate
        ),
        dataset="mnist",
        split=HoldOut(0.2),
        batch_size=batch_size,
        epochs=5,
        shuffle="once" if batch_size == 1 else "every_epoch",
        strategy=strategy,
    )


def _housing_mlp(name: str, summary: str, hidden: tuple[int, ...]) -> Recipe:
    """Build a recipe that regresses house prices by full-batch gradient descent."""
    return Recipe(
        name=name,
        summary=summary,
        model=tanh_mlp(hidden, inputs=(5,), outputs=1),
        loss="mean_squared_error",
        optimizer=OptimizerConfig(algorithm=Sgd(), learning_rate=0.01),
        dataset="housing",
        split=HoldOut(0.2),
        preprocessing=Identity(),
        batch_size=None,
        epochs=200,
    )


def _cifar10_mlp(name: str, summary: str, hidden: tuple[int, ...]) -> Recipe:
    """Build a recipe that classifies CIFAR-10 with a tanh MLP."""
    return Recipe(
        name=name,
        summary=summary,
        model=tanh_mlp(hidden, inputs=(32, 32, 3), outputs=10),
        loss="softmax_cross_entropy",
        optimizer=OptimizerConfig(algorithm=Sgd(), learning_rate=0.01),
        dataset="cifar10",
        preprocessing=CIFAR10_SCALE,
        batch_size=64,
        epochs=200,
    )


RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            name="adam_cosine_cnn",
            summary="small CNN, Adam with L2 on a cosine schedule: the default",
            model=ADAM_COSINE_CNN,
            loss="softmax_cross_entropy",
            optimizer=OptimizerConfig(
                algorithm=Adam(b1=0.9, b2=0.999, eps=1e-8),
                learning_rate=1e-3,
                schedule=Cosine(cosine_epochs=20, min_learning_rate=1e-5),
                l2=1e-4,
            ),
            dataset="mnist",
            batch_size=64,
            epochs=10,
        ),
        _momentum_mlp(
            "momentum_mlp_serial",
            "MLP, one example per update, one operation after another",
            batch_size=1,
            learning_rate=5e-4,
            strategy="serial",
        ),
        _momentum_mlp(
            "momentum_mlp_per_operation",
            "MLP, one example per update, each operation parallel",
            batch_size=1,
            learning_rate=5e-4,
            strategy="jit",
        ),
        _momentum_mlp(
            "momentum_mlp_per_sample",
            "MLP, mean gradient of 8 examples per update",
            batch_size=8,
            learning_rate=1e-3,
            strategy="vmap",
        ),
        _housing_mlp("tanh_mlp_housing_narrow", "regression, 5-8-1", (8,)),
        _housing_mlp(
            "tanh_mlp_housing_wide", "regression, 5-256-128-64-1", (256, 128, 64)
        ),
        _cifar10_mlp("tanh_mlp_cifar10_shallow", "colour images, 3072-512-10", (512,)),
        _cifar10_mlp(
            "tanh_mlp_cifar10_deep",
            "colour images, 3072-512-256-128-10",
            (512, 256, 128),
        ),
        Recipe(
            name="sgd_dropout_cnn",
            summary="CNN of two convolutions with dropout, plain SGD",
            model=DROPOUT_CNN,
            loss="softmax_cross_entropy",
            optimizer=OptimizerConfig(algorithm=Sgd(), learning_rate=0.05),
            dataset="mnist",
            preprocessing=MNIST_SCALE,
            batch_size=8,
            epochs=10,
        ),
        Recipe(
            name="sgd_wide_cnn",
            summary="CNN with two convolutions of 500 filters, on 100 images",
            model=WIDE_CNN,
            loss="softmax_cross_entropy",
            optimizer=OptimizerConfig(algorithm=Sgd(), learning_rate=1e-3),
            dataset="mnist",
            num_train=100,
            preprocessing=MinMaxPerImage(),
            batch_size=1,
            epochs=73,
            shuffle="never",
        ),
        Recipe(
            name="fast_mnist_cnn",
            summary="CNN tuned for the shortest time to 99 % on MNIST, one cycle",
            model=FAST_CNN,
            loss="softmax_cross_entropy",
            optimizer=OptimizerConfig(
                algorithm=Adam(), learning_rate=5e-3, schedule=OneCycle(pct_start=0.25)
            ),
            dataset="mnist",
            preprocessing=MNIST_SCALE,
            batch_size=64,
            epochs=2,
        ),
        Recipe(
            name="cifar10_cnn",
            summary="CNN of four convolutions for CIFAR-10: crop, flip, one cycle",
            model=CIFAR10_CNN,
            loss="softmax_cross_entropy",
            optimizer=OptimizerConfig(
                algorithm=Sgd(momentum=0.9),
                learning_rate=0.03,
                schedule=OneCycle(pct_start=0.25),
                l2=5e-4,
            ),
            dataset="cifar10",
            augmentation=(RandomCrop(padding=4), RandomFlip()),
            preprocessing=CIFAR10_SCALE,
            batch_size=64,
            epochs=60,
        ),
    )
}

DEFAULT_RECIPE = "adam_cosine_cnn"


def get_recipe(name: str) -> Recipe:
    """Return the recipe of this name.

    Raises:
        InputError: an unknown name; the message suggests the nearest.
    """
    return RECIPES[known_name("recipe", name, RECIPES)]


def default_dataset(recipe: Recipe) -> str:
    """Return "digits", which needs no files, if it fits; else the recipe's dataset."""
    return "digits" if recipe.model.input_shape == IMAGE else recipe.dataset
