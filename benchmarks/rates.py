"""Convert steps per second to examples per second, and compare with the best peers."""

from __future__ import annotations

from typing import Any

from cnnjax.measuring.timing import Spread

Row = dict[str, Any]  # one contender
BATCH_GRADIENT = "cnnjax jit"  # per-example tasks are compared with it too

ROW = "{:<40}{:>10}{:>19}{:>9}{:>9}{:>9}{:>9}{:>13}{:>10}{:>9}"
HEAD = (
    *("contender", "median/s", "quartiles", "x best", "x tuned", "of peak"),
    "x batch",
    *("compile s", "temporary", "error"),
)


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


def lines(rows: dict[str, Row]) -> list[str]:
    """Return the rows as a table for a terminal."""
    told = [ROW.format(*HEAD)]
    for name, row in rows.items():
        if "failure" in row:
            told.append(f"{name:<40}{row['failure']}")
            continue
        if row["task"] == "peak":
            flops = row["steps_per_second"]["median"] * row["facts"]["flops"]
            told.append(f"{name:<40}{flops / 1e9:,.0f} GFLOP/s")
            continue
        rate = row["examples_per_second"]
        stages = row["facts"].get("stages")
        compile_seconds = ["-"]
        if stages:
            compile_seconds = [f"{sum(s.values()):.2f}" for s in stages.values()]
        temporary = row["facts"].get("temporary_bytes")
        cells = (
            f"{rate['median']:,.0f}",
            f"{rate['low']:,.0f}-{rate['high']:,.0f}",
            *(
                f"{row[key]:.2f}" if key in row else "-"
                for key in ("ratio_to_best", "ratio_to_best_tuned")
            ),
            f"{row['utilisation']:.0%}" if "utilisation" in row else "-",
            f"{row['times_the_batch_gradient']:.2f}"
            if "times_the_batch_gradient" in row
            else "-",
            "/".join(compile_seconds),
            "-" if temporary is None else f"{temporary / 2**20:.1f} MiB",
            f"{row['gradient_error']:.0e}",
        )
        told.append(ROW.format(name, *cells))
    return told
