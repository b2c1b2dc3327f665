"""Convert steps per second to examples per second, and compare with the best peers."""

from __future__ import annotations

from typing import Any

from cnnjax.studies.measuring.timing import Spread

Row = dict[str, Any]  # one contender
BATCH_GRADIENT = "cnnjax jit"  # per-example tasks are compared with it too


def complete(
    rows: dict[str, Row], *, batch_size: int, flops_per_example: float
) -> None:
    """Add examples per second, the ratios to the best peers, and the utilisation.

    The best "tuned" peer is the fastest of all rows, tuned or not: for some peers,
    tuning does not help.
    """
    peaks = [
        row["steps_per_second"]["median"] * row["facts"]["flops"]
        for row in rows.values()
        if row["task"] == "peak" and "steps_per_second" in row
    ]
    for row in rows.values():
        if row["task"] == "peak" or "steps_per_second" not in row:
            continue
        rate = Spread(**row["steps_per_second"])
        examples = Spread(
            median=batch_size * rate.median,
            low=batch_size * rate.low,
            high=batch_size * rate.high,
            n=rate.n,
        )
        row["examples_per_second"] = examples._asdict()
        if peaks:
            row["peak_flops_per_second"] = max(peaks)
            row["utilisation"] = examples.median * flops_per_example / max(peaks)
    for row in rows.values():
        if "examples_per_second" not in row:
            continue
        for tuned in (False, True):
            peers = [
                other["examples_per_second"]["median"]
                for other in rows.values()
                if other["task"] == row["task"]
                and not other["ours"]
                and other["tuned"] <= tuned
                and "examples_per_second" in other
            ]
            if peers:
                ratio = row["examples_per_second"]["median"] / max(peers)
                row["ratio_to_best_tuned" if tuned else "ratio_to_best"] = ratio
        batch = rows.get(BATCH_GRADIENT, {}).get("examples_per_second")
        if row["task"] != "mean" and batch:
            own = row["examples_per_second"]["median"]
            row["batch_gradient_per_second"] = batch["median"]
            row["times_the_batch_gradient"] = batch["median"] / own
