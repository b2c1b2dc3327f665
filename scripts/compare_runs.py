"""Is one run of train.py really better than another?

    python scripts/compare_runs.py runs/l2 runs/no_l2

With several seeds on both sides: t-tests of the methods. With one run each: McNemar's
exact test of these two networks. docs/comparing.md says what to believe.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # python -I leaves it out

import _script
from absl import flags

from cnnjax.base.errors import InputError
from cnnjax.results.outcomes import differences, read_outcome
from cnnjax.statistics.run_verdicts import compare_outcomes, side_of
from cnnjax.telling.comparison import comparison_lines

FLAGS = flags.FLAGS
flags.DEFINE_bool("json", False, "Print one line of JSON, and no text.")


def main(args: list[str]) -> None:
    """Read both folders, do what their seeds allow, and end with the verdict."""
    if len(args) != 2:
        raise InputError(f"expected two workdirs, A and B, got {len(args)}")
    a, b = map(read_outcome, args)
    found = compare_outcomes(a, b)
    if not FLAGS.json:
        print(*comparison_lines(a, b, found), sep="\n")
        return
    sides = {"a": side_of(a), "b": side_of(b), "differ_in": differences(a, b)}
    print(json.dumps({"metric": a.metric, **sides, **found}, allow_nan=False))


if __name__ == "__main__":
    _script.run(main)
