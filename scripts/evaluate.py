"""Evaluate a run on examples that it was not trained on.

    python scripts/evaluate.py runs/digits
    python scripts/evaluate.py runs/mnist --data_dir=DIR --pictures=DIR

Prints loss, accuracy with its 95 % interval, how well each class is recognized, and the
confusion table. --pictures=DIR draws the table, the calibration and the mistakes.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # python -I leaves it out

import _script
from absl import flags

from cnnjax import data
from cnnjax.base.errors import InputError, expect
from cnnjax.base.printable import printable
from cnnjax.loaded import Evaluation, load_run
from cnnjax.loaded.parts import PARTS
from cnnjax.results.folders import folder_named, writing
from cnnjax.results.workdir import Workdir
from cnnjax.telling.evaluation import evaluation_lines
from cnnjax.telling.loaded import loaded_text
from cnnjax.telling.pictures import draw_calibration, draw_confusion, draw_mistakes

FLAGS = flags.FLAGS
flags.DEFINE_string("dataset", None, "Data set. Default: what the run was trained on.")
flags.DEFINE_string("data_dir", None, "Folder that holds your data files.")
flags.DEFINE_enum("part", "test", PARTS, "Which examples, as the run divides them.")
flags.DEFINE_integer("seed", None, "Which seed, of a run of several.", lower_bound=0)
flags.DEFINE_string("pictures", None, "Folder for PNG files; it may exist.")
flags.DEFINE_bool("json", False, "Print one line of JSON, and no text.")
DRAWINGS = {
    "confusion.png": draw_confusion,
    "calibration.png": draw_calibration,
    "mistakes.png": draw_mistakes,
}


def main(args: list[str]) -> None:
    """Load the run, evaluate it, print, draw."""
    if len(args) != 1:
        raise InputError(f"expected the workdir of one run, got {len(args)}")
    expect("a folder for --pictures", FLAGS.pictures, FLAGS.pictures != "")
    run, dataset = load_run(args[0], seed=FLAGS.seed), None
    if FLAGS.dataset is not None:
        dataset = data.load_dataset(FLAGS.dataset, data_dir=FLAGS.data_dir)
    found = run.evaluate(dataset, data_dir=FLAGS.data_dir, part=FLAGS.part)
    name = run.recipe.dataset if dataset is None else dataset.name
    if FLAGS.json:
        about = {"run": args[0], "seed": run.seed, "dataset": name, "part": FLAGS.part}
        print(json.dumps({**about, **found.to_json()}, allow_nan=False))
    else:
        part = "all" if FLAGS.part == "all" else f"the {FLAGS.part}"
        print(loaded_text(run))
        print(f"on {part} examples of {printable(name)}\n")
        print(*evaluation_lines(found), sep="\n")
    if FLAGS.pictures is not None:
        told = draw(
            found, folder_named(FLAGS.pictures), of=f"{run.recipe.name}, {name}"
        )
        print(*told, sep="\n", file=sys.stderr if FLAGS.json else sys.stdout)


def draw(found: Evaluation, to: Path, *, of: str) -> list[str]:
    """Draw what there is to draw, and say where it is."""
    if not found.classifies:
        raise InputError("expected a run that predicts classes for --pictures")
    with writing(to):
        to.mkdir(parents=True, exist_ok=True)
    told = []
    for name, drawing in DRAWINGS.items():
        png = drawing(found, title=f"{name.removesuffix('.png')}: {of}")
        if png is not None:
            Workdir(to).write_bytes(name, png)
            told.append(printable(f"{Path(FLAGS.pictures) / name}"))
    return ["", *told]


if __name__ == "__main__":
    _script.run(main)
