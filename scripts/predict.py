"""Say what a run of train.py sees in your own pictures.

    python scripts/predict.py runs/digits seven.png more_of_them/

A picture is made like the data that the network was trained on. A drawn digit is
inverted if its ground is light, cut out, scaled and centred, as the makers of MNIST, or
of scikit-learn's digits, did; --raw only scales the picture. Prints what the network
saw, the three most likely classes, and a hint where a picture is unlike the training
data, if that can be read again.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # python -I leaves it out

import _script
import numpy as np
from absl import flags

from cnnjax.base.errors import InputError, expect
from cnnjax.data.drawn import preparation_of
from cnnjax.data.pictures import find_pictures, read_picture
from cnnjax.loaded import LoadedRun, load_run
from cnnjax.loaded.likeness import Likeness, likeness_of
from cnnjax.telling.guesses import guess_lines, guesses_of
from cnnjax.telling.loaded import loaded_text

FLAGS = flags.FLAGS
flags.DEFINE_bool("raw", False, "Only scale pictures: do not invert, cut or centre.")
flags.DEFINE_bool("show", None, "Draw what the network saw. Default: of one picture.")
flags.DEFINE_string(
    "data_dir", None, "Folder of your data files. Default: that of the training."
)
flags.DEFINE_integer("seed", None, "Which seed, of a run of several.", lower_bound=0)
flags.DEFINE_bool("json", False, "Print one JSON object per picture, and no text.")


def main(args: list[str]) -> None:
    """Load the run; of each picture, say what it is taken for."""
    if len(args) < 2:
        raise InputError(
            f"expected the workdir of a run, and pictures or folders, got {args}"
        )
    run = load_run(args[0], seed=FLAGS.seed)
    expect("a run that predicts classes", run.recipe.loss, run.classifies)
    paths = [one for name in args[1:] for one in find_pictures(Path(name))]
    seen = [(path, prepared(path, run)) for path in paths]  # all, or none
    images = np.stack([image for _, image in seen])
    shares, known = run.probabilities(images), likeness(run)
    signs = known.unlike(images, run.outputs(images)) if known else [None] * len(seen)
    show = len(seen) == 1 if FLAGS.show is None else FLAGS.show
    if not FLAGS.json:
        print(loaded_text(run), end="\n\n")
    names = run.class_names
    for (path, image), own, sign in zip(seen, shares, signs, strict=True):
        if FLAGS.json:
            told = {"picture": str(path), "guesses": guesses_of(own, names)}
            print(json.dumps({**told, "unlike": sign} if known else told))
        else:
            lines = guess_lines(path, image, own, names, show=show, unlike=sign)
            print(*lines, sep="\n")


def prepared(path: Path, run: LoadedRun) -> np.ndarray:
    """Read a picture, and make it like those that the network was trained on.

    Raises:
        InputError: it cannot be; the message names it.
    """
    shape = run.recipe.model.input_shape
    picture = read_picture(path)
    make = preparation_of(run.recipe.dataset, shape, raw=FLAGS.raw)
    try:
        return make(picture, shape)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def likeness(run: LoadedRun) -> Likeness | None:
    """Learn what the training data is like; None: it is not here any more.

    Raises:
        InputError: there is a --data_dir, and what is in it cannot be used.
    """
    folder = FLAGS.data_dir or run.settings.flag("data_dir")
    here = run.recipe.dataset.startswith(("digits", "folder:", "npz:"))
    if folder is None and not here:
        return None  # nothing is downloaded for a hint
    try:
        return likeness_of(run, data_dir=folder)
    except InputError:
        if FLAGS.data_dir:
            raise
        return None


if __name__ == "__main__":
    _script.run(main)
