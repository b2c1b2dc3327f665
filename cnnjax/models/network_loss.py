"""The loss of a network on ONE raw example: preprocess, apply the network, compare."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Key, Num, Shaped

from cnnjax.models.contract import alone, as_pair, checked_values
from cnnjax.models.losses import Loss, LossOfOutput
from cnnjax.models.network import Network, clear_about_parameters, mode
from cnnjax.models.stack import ModelConfig
from cnnjax.types import Params, Values

# Dropout uses the key of an example itself; augmentation, the key with this folded in.
_AUGMENTATION = 1


@dataclass(frozen=True, kw_only=True)
class NetworkLoss:
    """`loss_fn(params, example, label, key) -> (loss, metrics)` of a network.

    The example is raw (uint8 or float): `preprocess` scales it, inside the compiled
    step. In training, which has keys, `augment(example, key)` changes it before that.
    """

    config: ModelConfig
    loss_of_output: LossOfOutput
    preprocess: Callable[[Num[Array, "*example"]], Float[Array, "*example"]]
    augment: Callable[[Array, Key[Array, ""]], Array] | None = None

    def __call__(
        self,
        params: Params,
        example: Num[ArrayLike, "*example"],
        label: Shaped[ArrayLike, "*target"],
        key: Key[Array, ""] | None,
    ) -> Loss:
        """Return the loss and the metrics of one example."""
        loss, values = self.checked_values(params, example, label, key)
        return loss, {name: v for name, v in values.items() if name != "loss"}

    def checked_values(
        self,
        params: Params,
        example: Num[ArrayLike, "*example"],
        label: Shaped[ArrayLike, "*target"],
        key: Key[Array, ""] | None,
    ) -> tuple[Float[Array, ""], Values]:
        """Return the same as `contract.checked(self)`, with one stack frame less."""
        network, variables = Network(self.config), {"params": params}
        with clear_about_parameters(), alone():
            scaled = self.input_of(example, key)
            output = network.apply(variables, scaled, **mode(key))
            returned = self.loss_of_output(cast(Array, output), jnp.asarray(label))
        return checked_values(*as_pair(returned))

    def input_of(
        self, example: Num[ArrayLike, "*example"], key: Key[Array, ""] | None
    ) -> Float[Array, "*example"]:
        """Return what the network gets: the example, augmented (with a key), scaled."""
        raw = jnp.asarray(example)
        if self.augment is not None and key is not None:
            raw = self.augment(raw, jax.random.fold_in(key, _AUGMENTATION))
        return self.preprocess(raw)

    def tapped(
        self,
        params: Params,
        taps: dict[str, Float[Array, "..."]],
        example: Num[Array, "*example"],
        label: Shaped[Array, "*target"],
        key: Key[Array, ""] | None,
    ) -> tuple[Float[Array, ""], tuple[dict[str, Array], dict[str, Array]]]:
        """Return (loss, (metrics, inputs)): the same loss, of a network with taps.

        `taps` (zeros: `network.zero_taps`) are added to the pre-activation of each
        layer with parameters: the gradient with respect to a tap is the cotangent of
        that pre-activation. `inputs` are the matrices that these layers multiply by
        their kernels: {layer: array of shape [positions, fan_in]}.
        """
        network, own = (
            Network(self.config),
            {f"{name}_tap": taps[name] for name in taps},
        )
        variables = {"params": params, "taps": own}
        with clear_about_parameters():
            scaled = self.input_of(example, key)
            output, sown = network.apply(
                variables, scaled, mutable=["inputs"], **mode(key)
            )
        returned: Any = self.loss_of_output(cast(Array, output), jnp.asarray(label))
        loss, metrics = as_pair(returned)
        inputs = {name: cast(Array, sown["inputs"][f"{name}_in"][0]) for name in taps}
        return loss, (metrics, inputs)
