"""Eight CPU devices before any array; no silent rank promotion; shapes checked."""

import os

os.environ["JAX_PLATFORMS"] = "cpu"

import jax
from jaxtyping import install_import_hook

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
install_import_hook("cnnjax", "beartype.beartype")
