"""List the runs in a folder, and what differs between them.

    python scripts/runs.py runs
    python scripts/runs.py runs --sort=score --curves=curves.png

A row for each run of train.py, finished or not; then the settings that are not the same
in all. compare_runs.py says whether two of them really differ.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # python -I leaves it out

import _script
from absl import flags

from cnnjax.base.errors import InputError, expect
from cnnjax.base.printable import printable
from cnnjax.results.folders import folder_named
from cnnjax.results.listing import Listed, find_runs
from cnnjax.results.workdir import Workdir
from cnnjax.telling.listing import draw_listing, listing_json, listing_lines

FLAGS = flags.FLAGS
ORDERS = {
    "name": lambda run: run.name,
    "score": lambda run: _rank(run),
    "seconds": lambda run: (run.train_seconds is None, run.train_seconds),
}
flags.DEFINE_enum("sort", "name", list(ORDERS), "Which come first; score: the best.")
flags.DEFINE_string("curves", None, "PNG file for the test curves of all.")
flags.DEFINE_bool("json", False, "Print one line of JSON for each run, and no text.")


def main(args: list[str]) -> None:
    """Find the runs, print them, draw them."""
    if len(args) != 1:
        raise InputError(f"expected one folder of runs, got {len(args)}")
    picture = FLAGS.curves
    is_png = picture is None or picture.endswith(".png")
    expect("a PNG file for --curves", picture, is_png)
    runs = sorted(find_runs(args[0]), key=ORDERS[FLAGS.sort])
    if FLAGS.json:
        lines = (json.dumps(listing_json(run), allow_nan=False) for run in runs)
        print(*lines, sep="\n")
    else:
        print(*listing_lines(runs), sep="\n")
    if picture is not None:
        png = draw_listing(runs, title=f"the runs in {args[0]}")
        if png is None:
            raise InputError(f"expected test results in {args[0]} to draw, got none")
        path = folder_named(picture)
        Workdir(path.parent).write_bytes(path.name, png)
        said = f"\n{printable(picture)}"
        print(said, file=sys.stderr if FLAGS.json else sys.stdout)


def _rank(run: Listed) -> tuple[bool, float]:
    score = math.inf if run.score is None else run.score
    return run.score is None, -score if run.metric == "test_accuracy" else score


if __name__ == "__main__":
    _script.run(main)
