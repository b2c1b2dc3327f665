"""Laws of what a strategy costs: places, programs, copies, work, the caller's arrays.

Each law is a function of a case that returns what there is to object to, in one line,
or None.
"""

from __future__ import annotations

import jax

from cnnjax.laws import batches, programs
from cnnjax.laws.cases import Case
from cnnjax.strategies import STRATEGIES
from cnnjax.types import Strategy

# What a device may do more than its part of the work of one device, as of XLA's count.
SLACK = 1.1
# What a device may do of all the work, where only another strategy's is known.
MOST = 0.9


def placement_is_kept(case: Case) -> str | None:
    """Compare where the gradient is with where the parameters are.

    Else the second step of training compiles again.
    """
    alike = programs.placed_alike(case.returned[1], case.place(case.examples)[0])
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
    on one device is the measure, with one device's examples: rows of gradients cost
    more than `jit`, up to a fifth in a network of 57 parameters. Where it is not known
    how the strategy is built for one device, `jit` is, and no device may do nearly all.
    """
    count = case.num_devices
    alone = case.alone or STRATEGIES["jit"](case.loss_fn)
    own = _work(case, alone, num_devices=1)
    work = _work(case, case.strategy, num_devices=count)
    if work is None or own is None:
        return None
    part = work / own / count
    most = SLACK / count if case.alone else MOST
    return f"{part:.2f} of the work on each of {count} devices" if part > most else None


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


def _work(case: Case, strategy: Strategy, *, num_devices: int) -> float | None:
    batch = batches.repeat(case.batch, batches.WORK_BATCH * num_devices)
    params, placed = strategy.put_state(case.params), strategy.put_batch(batch)
    program = jax.jit(strategy.value_and_grad).lower(params, placed).compile()
    return programs.flops(program)
