"""Laws about cost: placement, compilation, copies, work, the caller's arrays.

Each law is a function of a case. It returns None, or one line about what is wrong.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from cnnjax.laws import batches, programs
from cnnjax.laws.batches import WORK_BATCH
from cnnjax.laws.cases import Case
from cnnjax.strategies import STRATEGIES
from cnnjax.types import Strategy

# The most work that a device may do, as a multiple of 1/N of the work of the same
# strategy on one device.
SLACK = 1.1
# The most work that a device may do, as a part of the work of `jit` on one device, if
# the strategy on one device is not known.
MOST = 0.75


def placement_is_kept(case: Case) -> str | None:
    """Compare the placement of the gradient with that of the parameters.

    If they differ, the second step of training compiles again.
    """
    grads = jax.tree.map(jnp.asarray, case.returned[1])
    alike = programs.placed_alike(grads, case.place(case.examples)[0])
    return None if alike else "gradient placed unlike parameters"


def the_callers_parameters_survive(case: Case) -> str | None:
    """Make updates that donate their state, then check the caller's parameters."""
    if case.updated.deletes_params:
        return "deletes the caller's parameters"
    changed = case.updated.changes_params
    return "changes the caller's parameters" if changed else None


def the_work_is_divided(case: Case) -> str | None:
    """Count the FLOPs of each of N devices: at most SLACK / N of the work.

    A batch that is copied to all devices has the right gradient, too. The work is that
    of the same strategy on one device: per-example gradients cost more than `jit`, up
    to a fifth in a network of 57 parameters. If it is not known how to build the
    strategy for one device, the work is that of `jit`, and each device may do at most
    MOST of it.
    """
    count = case.num_devices
    if case.alone is not None:
        one, most = _work(case, case.alone, WORK_BATCH), SLACK / count
        whole = None if one is None else one * count
    else:
        jit, most = STRATEGIES["jit"](case.loss_fn), MOST
        whole = _work(case, jit, WORK_BATCH * count)
    work = _work(case, case.strategy, WORK_BATCH * count)
    if work is None or whole is None or work <= most * whole:
        return None
    return f"{work / whole:.2f} of the work on each of {count} devices"


def a_step_traces_once(case: Case) -> str | None:
    """Make updates on full and short batches, and check that the step traces once."""
    traces = case.updated.traces
    return f"traced {traces} times" if traces > 1 else None


def no_host_to_device_transfer(case: Case) -> str | None:
    """Make an update under a transfer guard that refuses copies from the host."""
    return "copies from the host in the step" if case.updated.copies_from_host else None


def no_callback(case: Case) -> str | None:
    """Search the compiled program for calls of Python."""
    calls = programs.calls_python(case.program(case.batch))
    return "calls Python in the step" if calls else None


def _work(case: Case, strategy: Strategy, num_examples: int) -> float | None:
    """Return the FLOPs of one device for this number of examples; None: unknown."""
    batch = batches.repeat(case.batch, num_examples)
    params, placed = strategy.put_state(case.params), strategy.put_batch(batch)
    program = jax.jit(strategy.value_and_grad).lower(params, placed).compile()
    return programs.flops(program)
