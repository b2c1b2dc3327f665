"""Load an export in a process of its own, and return what it computes there."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from cnnjax.base.errors import InputError

LIMIT_SECONDS = 300
UPDATES = 5  # of an exported training step

# Each runs in a process of its own, in the folder of the export: it sets `got`, what
# the export computes of `images`, by name, and imports nothing of this library.
READERS = {
    "stablehlo": """
import pathlib, jax
from jax import export
program = export.deserialize(bytearray(pathlib.Path("forward.stablehlo").read_bytes()))
got = {"outputs": program.call(images)}
""",
    "train_step": f"""
import pathlib, jax
from jax import export
from safetensors.numpy import load_file
content = pathlib.Path("step.stablehlo").read_bytes()
program, state = export.deserialize(bytearray(content)), load_file("state.safetensors")
losses = []
for seed in range({UPDATES}):
    state, loss = program.call(state, images, labels, np.uint32(seed))
    losses.append(loss)
got = {{"losses": losses}}
""",
    "safetensors": """
import json
from safetensors.numpy import load_file
got = load_file("params.safetensors")
""",
    "numpy": """
import network
run = network.logits if hasattr(network, "logits") else network.predict
got = {"outputs": run(images)}
""",
    "onnx": """
import onnxruntime
model = onnxruntime.InferenceSession("network.onnx", providers=["CPUExecutionProvider"])
(name,) = [one.name for one in model.get_inputs()]
(outputs,) = model.run(None, {name: images.astype(np.float32)})
got = {"outputs": outputs}
""",
}
CHECK = """
import sys
import numpy as np
sys.path.insert(0, "")
given = np.load({given!r})
images, labels = given["images"], given.get("labels")
{reader}
np.savez({got!r}, **got)
"""


def read_again(
    to: Path, name: str, given: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Return what an export computes in a fresh process, by name.

    Raises:
        InputError: it cannot be loaded there, or does not run.
    """
    with tempfile.TemporaryDirectory() as folder:
        asked, got = (str(Path(folder) / n) for n in ("given.npz", "got.npz"))
        np.savez(asked, **given)  # pyright: ignore[reportArgumentType]
        program = CHECK.format(given=asked, got=got, reader=READERS[name])
        try:
            done = subprocess.run(
                [sys.executable, "-c", program],
                cwd=to,
                capture_output=True,
                text=True,
                timeout=LIMIT_SECONDS,
            )
        except subprocess.TimeoutExpired as error:
            raise InputError(
                f"{name}: what was written did not run within {LIMIT_SECONDS} seconds"
            ) from error
        if done.returncode != 0:
            (*_, last) = done.stderr.strip().splitlines() or [""]
            raise InputError(f"{name}: what was written cannot be loaded: {last[:300]}")
        with np.load(got, allow_pickle=False) as held:
            return dict(held)
