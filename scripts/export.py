"""Export the network of a run, and check each export.

    python scripts/export.py runs/digits --to=exported

stablehlo: the forward pass for CPU, CUDA and TPU, as jax.export writes it; safetensors:
the parameters; numpy: the weights, and a page of NumPy that runs them; onnx: by
jax2onnx, which is an extra; train_step: the training step as StableHLO, with the state
of the newest checkpoint, to go on elsewhere. Each is loaded again in a fresh process,
and compared.
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
from cnnjax.loaded.exports import FORMATS, export_run
from cnnjax.results.folders import folder_named
from cnnjax.telling.loaded import loaded_text

FLAGS = flags.FLAGS
DEFAULT = [name for name in FORMATS if name not in ("onnx", "train_step")]
flags.DEFINE_string("to", None, "Folder for the files. Default: WORKDIR/exported.")
flags.DEFINE_list("formats", DEFAULT, f"Which, of {', '.join(FORMATS)}.")
flags.DEFINE_string("data_dir", None, "For train_step: folder of your data files.")
flags.DEFINE_boolean("overwrite", False, "Replace files of another export.")
flags.DEFINE_integer("seed", None, "Which seed, of a run of several.", lower_bound=0)


def main(args: list[str]) -> None:
    """Load the run, export it, say what was compared."""
    if len(args) != 1:
        raise InputError(f"expected the workdir of one run, got {len(args)}")
    expect("a folder for --to", FLAGS.to, FLAGS.to != "")
    expect("formats for --formats", FLAGS.formats, bool(FLAGS.formats))
    run = load_run(args[0], seed=FLAGS.seed)
    to = FLAGS.to or str(Path(args[0]) / "exported")
    print(loaded_text(run), end="\n\n", flush=True)
    for name in FLAGS.formats:
        how = {"data_dir": FLAGS.data_dir, "overwrite": FLAGS.overwrite}
        (made,) = export_run(run, folder_named(to), [name], **how)
        files = ", ".join(path.name for path in made.files)
        same = "the same bits" if made.error == 0 else f"within {made.error:.0e}"
        print(f"{name:12} {files}: loaded again, {same}", flush=True)
    print(printable(f"in {to}"))


if __name__ == "__main__":
    _script.run(main)
