"""Say what a run of train.py sees in your own pictures.

    python scripts/predict.py runs/digits seven.png more_of_them/

A picture is made like the data that the network was trained on. A drawn digit is
inverted if its ground is light, cut out, scaled and centred, as MNIST's makers did;
--raw only scales the picture. Prints what the network saw, and the three most likely
classes.
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
from cnnjax.data.pictures import as_digit, as_image, find_pictures, read_picture
from cnnjax.loaded import LoadedRun, load_run
from cnnjax.telling.guesses import guess_lines, guesses_of
from cnnjax.telling.loaded import loaded_text

FLAGS = flags.FLAGS
flags.DEFINE_bool("raw", False, "Only scale pictures: do not invert, cut or centre.")
flags.DEFINE_bool("show", None, "Draw what the network saw. Default: of one picture.")
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
    shares = run.probabilities(np.stack([image for _, image in seen]))
    show = len(seen) == 1 if FLAGS.show is None else FLAGS.show
    if not FLAGS.json:
        print(loaded_text(run), end="\n\n")
    for (path, image), own in zip(seen, shares, strict=True):
        if FLAGS.json:
            guesses = guesses_of(own, run.class_names)
            print(json.dumps({"picture": str(path), "guesses": guesses}))
        else:
            print(*guess_lines(path, image, own, run.class_names, show=show), sep="\n")


def prepared(path: Path, run: LoadedRun) -> np.ndarray:
    """Read a picture, and make it like those that the network was trained on.

    Raises:
        InputError: it cannot be; the message names it.
    """
    shape = run.recipe.model.input_shape
    picture = read_picture(path)
    make = as_image if FLAGS.raw or shape[-1:] != (1,) else as_digit
    try:
        return make(picture, shape)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


if __name__ == "__main__":
    _script.run(main)
