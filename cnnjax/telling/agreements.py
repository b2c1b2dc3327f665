"""How well strategies and rules agree with their references: a table or JSON lines."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from cnnjax.experiments.experiment import Experiment
from cnnjax.experiments.recipe import Recipe
from cnnjax.laws.equivalence import Agreement, RuleAgreement
from cnnjax.telling.layout import flow, row, wrap

HEAD = ("strategy", "absolute", "relative", "params", "traces", "MiB", "")
WIDTHS = (18, 8, 8, 8, 6, 8, 9)
NOTE = (
    "absolute, relative: largest gradient error, as is and relative to the largest "
    "entry of its leaf. params: error of the parameters after {} steps. traces: how "
    "often JAX traced the training step in them (right: once, or 0 if it is not "
    "compiled). MiB: temporary memory per device."
)


def head_lines(
    recipe: Recipe, batch_size: int, faults: Sequence[str], num_steps: int
) -> list[str]:
    """Say what is compared, with which faults, what the columns mean, and their names.

    `faults` are lines about the faults that are switched on.
    """
    of = f"recipe {recipe.name}", f"batch {batch_size}", recipe.model.dtype
    note = wrap(NOTE.format(num_steps), indent="")
    return [flow(of), *faults, "", note, "", row(HEAD, WIDTHS)]


def strategy_row(experiment: Experiment, agreement: Agreement) -> str:
    """Return the row of a strategy, with any objections below it."""
    errors = (
        f"{agreement.absolute_error:.1e}",
        f"{agreement.relative_error:.1e}",
        f"{agreement.params_error:.1e}",
    )
    counts = str(agreement.traces), _mebibytes(agreement.temporary_bytes)
    verdict = _verdict(agreement.agrees)
    line = row((experiment.recipe.strategy, *errors, *counts, verdict), WIDTHS)
    objections = [wrap(f"  {one}") for one in agreement.objections]
    return "\n".join([line, *objections])


def rule_row(name: str, agreement: RuleAgreement) -> str:
    """Return the row of a per-example rule."""
    errors = f"{agreement.absolute_error:.1e}", f"{agreement.relative_error:.1e}"
    memory = _mebibytes(agreement.temporary_bytes)
    return row((name, *errors, "-", "-", memory, _verdict(agreement.agrees)), WIDTHS)


def strategy_json(experiment: Experiment, agreement: Agreement) -> str:
    """Return a strategy as one line of JSON."""
    values = {
        "strategy": experiment.recipe.strategy,
        "faults": experiment.faults,
        **agreement._asdict(),
        "agrees": agreement.agrees,
    }
    return json.dumps(_finite(values))


def rule_json(name: str, agreement: RuleAgreement) -> str:
    """Return a per-example rule as one line of JSON."""
    return json.dumps({"rule": name, **_finite(agreement._asdict())})


def _finite(values: Mapping[str, Any]) -> dict[str, Any]:
    """Replace NaN and infinities, which JSON does not have, by None."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in values.items()
    }


def _mebibytes(count: int | None) -> str:
    return "-" if count is None else f"{count / 2**20:.1f}"


def _verdict(agrees: bool) -> str:
    return "agrees" if agrees else "DISAGREES"
