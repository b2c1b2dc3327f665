"""Laws of what a strategy costs: places, programs, copies, work, the caller's arrays.

Each law is a function of a case that returns what there is to object to, in one line,
or None.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from cnnjax.laws import batches, programs
from cnnjax.laws.batches import WORK_BATCH
from cnnjax.laws.cases import Case
from cnnjax.strategies import STRATEGIES
from cnnjax.types import Strategy

# What a device may do, in its part of the work that the same strategy is on one device.
SLACK = 1.1
# What a device may do of all the work, where only that of another strategy is known.
MOST = 0.75


def placement_is_kept(case: Case) -> str | None:
    """Compare where the gradient is with where the parameters are.

    Else the second step of training compiles again.
    """
    grads = jax.tree.map(jnp.asarray, case.returned[1])
    alike = programs.placed_alike(grads, case.place(case.examples)[0])
    return None if alike else "gradient placed unlike parameters"


def the_callers_parameters_survive(case: Case) -> str | None:
    """Make updates that donate their state, and look at the caller's parameters."""
    if case.updated.deletes_params:
        return "deletes the caller's parameters"
    changed = case.updated.changes_params
    return "changes the caller's parameters" if changed else None


def the_work_is_divided(case: Case) -> str | None:
    """Count what each of N devices computes: 1/N of the work, and little more.

    A batch that is copied to all devices has the right gradient, too. The same strategy
    on one device is the measure, with one device's examples: per-example gradients cost
    more than `jit`, up to a fifth in a network of 57 parameters. Where it is not known
    how the strategy is built for one device, `jit` with all examples is the measure,
    and no device may do nearly all of that.
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
    """Make updates on full and on short batches: one program runs them all."""
    traces = case.updated.traces
    return f"traced {traces} times" if traces > 1 else None


def no_host_to_device_transfer(case: Case) -> str | None:
    """Make an update under a guard that refuses copies from the host."""
    return "copies from the host in the step" if case.updated.copies_from_host else None


def no_callback(case: Case) -> str | None:
    """Look for calls of Python in the compiled program."""
    calls = programs.calls_python(case.program(case.batch))
    return "calls Python in the step" if calls else None


def _work(case: Case, strategy: Strategy, num_examples: int) -> float | None:
    """Return the operations of one device for so many examples; None: not known."""
    batch = batches.repeat(case.batch, num_examples)
    params, placed = strategy.put_state(case.params), strategy.put_batch(batch)
    program = jax.jit(strategy.value_and_grad).lower(params, placed).compile()
    return programs.flops(program)
