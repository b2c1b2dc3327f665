"""Properties of compiled programs: Python calls, copies, FLOPs, memory, shardings."""

from __future__ import annotations

import re
from collections.abc import Callable

import jax
from jaxtyping import PyTree


def calls_python(program: jax.stages.Compiled) -> bool:
    """Return whether a compiled program calls back into Python."""
    targets = re.findall(r'custom_call_target="([^"]*)"', program.as_text() or "")
    return any("callback" in target for target in targets)


def copies_from_host(run: Callable[..., PyTree], *arguments: PyTree) -> bool:
    """Return whether a compiled function copies arguments from the host when it runs.

    Call the function once before: the constants of a program are copied on compilation.
    """
    try:
        with jax.transfer_guard_host_to_device("disallow"):
            jax.block_until_ready(run(*arguments))
    except jax.errors.JaxRuntimeError as error:
        if "Disallowed host-to-device" not in str(error):
            raise
        return True
    return False


def flops(program: jax.stages.Compiled) -> float | None:
    """Return the FLOPs of one device, by XLA's analysis; None: unknown.

    The body of a loop is counted once, however often it runs.
    """
    return (program.cost_analysis() or {}).get("flops")


def temporary_bytes(program: jax.stages.Compiled) -> int | None:
    """Return the temporary memory of one device in bytes, by XLA; None: unknown."""
    analysis = program.memory_analysis()
    return None if analysis is None else analysis.temp_size_in_bytes


def placed_alike(actual: PyTree, expected: PyTree) -> bool:
    """Return whether two trees of arrays have equivalent shardings."""
    alike = jax.tree.map(
        lambda a, e: a.sharding.is_equivalent_to(e.sharding, a.ndim), actual, expected
    )
    return all(jax.tree.leaves(alike))
