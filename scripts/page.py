"""Make a page of a run: curves, classes, mistakes, settings.

    python scripts/page.py runs/digits

Writes report.html into the folder of the run: one file, which needs no network.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # python -I leaves it out

import _script
from absl import flags

from cnnjax.base.errors import InputError, expect
from cnnjax.base.printable import printable
from cnnjax.loaded import load_run
from cnnjax.loaded.parts import PARTS
from cnnjax.results.folders import folder_named
from cnnjax.results.workdir import Workdir
from cnnjax.studies.reporting.run_page import FILE, run_page

FLAGS = flags.FLAGS
flags.DEFINE_string("data_dir", None, "Folder that holds your data files.")
flags.DEFINE_enum("part", "test", PARTS, "Which examples, as the run divides them.")
flags.DEFINE_integer("seed", None, "Which seed, of a run of several.", lower_bound=0)
flags.DEFINE_string("out", None, "HTML file. Default: report.html of the run.")


def main(args: list[str]) -> None:
    """Load the run, evaluate it, write the page."""
    if len(args) != 1:
        raise InputError(f"expected the workdir of one run, got {len(args)}")
    out = FLAGS.out
    is_html = out is None or out.endswith(".html")
    expect("an HTML file for --out", out, is_html)
    run = load_run(args[0], seed=FLAGS.seed)
    found = run.evaluate(data_dir=FLAGS.data_dir, part=FLAGS.part)
    part = "all examples" if FLAGS.part == "all" else f"the {FLAGS.part} examples"
    page = run_page(run, found, part=f"{part} of {run.recipe.dataset}")
    path = folder_named(args[0]) / FILE if out is None else folder_named(out)
    Workdir(path.parent).write_bytes(path.name, page.encode())
    print(printable(str(Path(args[0]) / FILE if out is None else out)))


if __name__ == "__main__":
    _script.run(main)
