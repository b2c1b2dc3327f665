"""Folders of runs, written by hand."""

from __future__ import annotations

import json
from pathlib import Path

MEAN_SQUARED = "mean_squared_error"


def write_run(folder: Path, scores: dict[int, float], **fields) -> str:
    """Write what train.py leaves of a run of one seed or, in seeds.jsonl, of many."""
    metric = fields.pop("metric", "test_accuracy")
    loss = "softmax_cross_entropy" if metric == "test_accuracy" else MEAN_SQUARED
    recipe = {"name": "adam_cosine_cnn", "loss": loss, **fields.pop("settings", {})}
    config = {"recipe": recipe, "faults": fields.pop("faults", [])}
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    of_seed = fields.pop("of_seed", {})
    rows = [{"seed": s, metric: scores[s], **of_seed.get(s, {})} for s in scores]
    result = {"recipe": "adam_cosine_cnn", "dataset": "mnist", **rows[0], **fields}
    (folder / "result.json").write_text(json.dumps(result))
    if len(rows) > 1:
        lines = "".join(f"{json.dumps(row)}\n" for row in rows)
        (folder / "seeds.jsonl").write_text(lines)
    return str(folder)
