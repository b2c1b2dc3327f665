"""The networks of the recipes."""

from __future__ import annotations

from cnnjax.models import initializers
from cnnjax.models.stack import (
    Activation,
    Conv,
    Dense,
    Dropout,
    Flatten,
    Layer,
    MaxPool,
    ModelConfig,
)


def mlp(hidden: tuple[int, ...], *, activation: str, outputs: int) -> tuple[Layer, ...]:
    """Return a flatten, then dense layers, with an activation after each but the last.

    `hidden` are the numbers of features of the hidden layers.
    """
    layers: list[Layer] = [Flatten()]
    for features in hidden:
        layers += [Dense(features), Activation(activation)]
    return (*layers, Dense(outputs))


def tanh_mlp(
    hidden: tuple[int, ...], *, inputs: tuple[int, ...], outputs: int
) -> ModelConfig:
    """Build a tanh MLP with these hidden widths and PyTorch's initializer."""
    return ModelConfig(
        input_shape=inputs,
        layers=mlp(hidden, activation="tanh", outputs=outputs),
        initializer=initializers.PYTORCH,
    )


def convolutions(
    *features: int, kernel_sizes: tuple[int, ...], padding: int = 0
) -> tuple[Layer, ...]:
    """Return blocks of a convolution, a 2 x 2 max pool and a ReLU, then a flatten.

    `features` and `kernel_sizes` have one number for each block.
    """
    layers: list[Layer] = []
    for number, size in zip(features, kernel_sizes, strict=True):
        layers += [Conv(number, size, padding), MaxPool(2), Activation("relu")]
    return (*layers, Flatten())


IMAGE = (28, 28, 1)

MOMENTUM_MLP = ModelConfig(
    input_shape=IMAGE,
    layers=mlp((512, 256), activation="relu", outputs=10),
    initializer=initializers.HE_UNIFORM_BOUND,
)

ADAM_COSINE_CNN = ModelConfig(
    input_shape=IMAGE,
    layers=(
        Conv(32, kernel_size=5, padding=2),
        Activation("relu"),
        MaxPool(2),
        Flatten(),
        Dense(128),
        Activation("relu"),
        Dense(10),
    ),
    initializer=initializers.GLOROT_UNIFORM_BOUND,
)

DROPOUT_CNN = ModelConfig(
    input_shape=IMAGE,
    layers=(
        *convolutions(32, 64, kernel_sizes=(3, 3)),
        Dense(128),
        Activation("relu"),
        Dropout(0.5),
        Dense(10),
    ),
    initializer=initializers.PYTORCH,
)

FAST_CNN = ModelConfig(
    input_shape=IMAGE,
    layers=(
        *convolutions(32, 64, kernel_sizes=(5, 3)),
        Dense(10),
    ),
    initializer=initializers.HE_NORMAL,
)

CIFAR10_CNN = ModelConfig(
    input_shape=(32, 32, 3),
    layers=(
        *convolutions(32, 64, 128, 256, kernel_sizes=(3, 3, 3, 3), padding=1),
        Dropout(0.3),
        Dense(10),
    ),
    initializer=initializers.HE_NORMAL,
)

WIDE_CNN = ModelConfig(
    input_shape=IMAGE,
    layers=(
        Conv(500, kernel_size=3),
        Activation("leaky_relu"),
        MaxPool(2),
        Conv(500, kernel_size=3),
        Activation("leaky_relu"),
        MaxPool(2),
        Flatten(),
        Dense(1600),
        Activation("leaky_relu"),
        Dense(256),
        Activation("leaky_relu"),
        Dense(10),
    ),
    initializer=initializers.HE_NORMAL,
)
