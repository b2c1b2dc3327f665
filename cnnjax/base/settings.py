"""JAX's own settings, which belong to the caller: none may silently change a result.

Each setting that could is overridden here, supported, or refused by name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh, Mesh
from jaxtyping import Array, Key, PyTree, Shaped

from cnnjax.base.errors import InputError

# Keys of this implementation draw the same numbers under `vmap`, and when a batch is
# divided over devices, as they draw alone. Keys of "rbg" do not (see jax.random).
PRNG = "threefry2x32"


def new_key(seed: int | Shaped[Array, ""]) -> Key[Array, ""]:
    """Return the key of a seed from 0 to 2**32 - 1, whatever JAX's default is.

    It has the bits of `jax.random.key(seed)` under JAX's own defaults.
    """
    return jax.random.wrap_key_data(jnp.array([0, seed], jnp.uint32), impl=PRNG)


def typed_keys(keys: Shaped[Array, "..."] | None) -> Key[Array, "..."] | None:
    """Return PRNG keys as typed ones; None stays None.

    Old-style keys (of `jax.random.PRNGKey`: pairs of uint32) become typed keys with the
    same bits.

    Raises:
        InputError: not a key, or a key of another implementation than `PRNG`.
    """
    if keys is None:
        return None
    typed = jnp.issubdtype(keys.dtype, jax.dtypes.prng_key)
    if typed:
        known = jax.random.key_impl(keys) == PRNG
    else:
        known = keys.dtype == jnp.uint32 and keys.shape[-1:] == (2,)
    if not known:
        raise InputError(
            f"expected PRNG keys of {PRNG}, got {keys.dtype} of shape {keys.shape}: "
            "masks would depend on how a batch is split; make keys with "
            f"jax.random.key(seed, impl={PRNG!r})"
        )
    return keys if typed else jax.random.wrap_key_data(keys, impl=PRNG)


def check_settings() -> None:
    """Raise InputError for a setting under which nothing runs, or runs correctly."""
    if offset := _value("jax_random_seed_offset"):
        raise InputError(
            f"expected jax_random_seed_offset=0, got {offset}: the record of a run "
            "would name the wrong seed; use another seed instead"
        )
    for way in ("host_to_device", "device_to_host"):
        guard = _value(f"jax_transfer_guard_{way}")
        if guard in ("disallow", "disallow_explicit"):
            raise InputError(
                f"expected jax_transfer_guard_{way} to allow transfers, got {guard!r}: "
                "data is copied to the device, and results back; guard only your own "
                "compiled step, such as one of Strategy.value_and_grad"
            )


def check_compiles(what: str) -> None:
    """Raise InputError if jax_disable_jit is set: there is no program to inspect."""
    if _value("jax_disable_jit"):
        raise InputError(
            f"expected jax_disable_jit=False, got True: {what} inspects compiled "
            "programs; to debug a strategy, train with it instead"
        )


def compiled(
    fn: Callable[..., PyTree], *arguments: PyTree, donate_argnums: tuple[int, ...] = ()
) -> Callable[..., PyTree]:
    """Compile a function for arguments of these shapes, types and shardings.

    Under jax_disable_jit, which is for debugging, return the function unchanged.
    """
    if _value("jax_disable_jit"):
        return fn
    return jax.jit(fn, donate_argnums=donate_argnums).lower(*arguments).compile()


def check_mesh(own: Mesh | AbstractMesh | None) -> None:
    """Raise InputError if the caller has set another mesh than the strategy's own."""
    theirs = jax.sharding.get_abstract_mesh()
    if not theirs.empty and (own is None or theirs != own.abstract_mesh):
        raise InputError(
            f"expected no mesh except the strategy's own, got jax.set_mesh with axes "
            f"{theirs.axis_names}; do not set a mesh, or use a strategy of one device"
        )


def _value(name: str) -> Any:
    """Return the current value of a setting, as changed by any context manager."""
    return getattr(jax.config, name)
