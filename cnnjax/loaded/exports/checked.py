"""Write an export, load it in a fresh process, and compare what it computes."""

from __future__ import annotations

import io
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cnnjax.base.errors import InputError, unknown_name
from cnnjax.loaded import LoadedRun
from cnnjax.loaded.exports import numpy_form, onnx_form, stablehlo
from cnnjax.loaded.inputs import examples_to_try, input_dtype
from cnnjax.results.checkpoints.snapshot import named
from cnnjax.results.folders import shown_path, writing
from cnnjax.results.workdir import Workdir

EXAMPLES = 16  # raw examples that are compared
LIMIT_SECONDS = 300

# Each runs in a process of its own, in the folder of the export: it sets `got`, the
# outputs for `images`, and imports nothing of this library.
READERS = {
    "stablehlo": """
import pathlib, jax
from jax import export
program = export.deserialize(bytearray(pathlib.Path("forward.stablehlo").read_bytes()))
got = program.call(images)
""",
    "safetensors": """
import json
from safetensors.numpy import load_file
held = load_file("params.safetensors")
got = np.concatenate([held[name].ravel() for name in sorted(held)])
""",
    "numpy": """
import network
got = (network.logits if hasattr(network, "logits") else network.predict)(images)
""",
    "onnx": """
import onnxruntime
model = onnxruntime.InferenceSession("network.onnx", providers=["CPUExecutionProvider"])
(name,) = [one.name for one in model.get_inputs()]
(got,) = model.run(None, {name: images.astype(np.float32)})
""",
}
CHECK = """
import sys
import numpy as np
sys.path.insert(0, "")
images = np.load({images!r})
{reader}
np.save({got!r}, np.asarray(got))
"""


class Export(NamedTuple):
    """An export that was loaded again and compared."""

    format: str
    files: tuple[Path, ...]
    error: float  # largest difference of the outputs, relative to the largest of them
    bound: float  # what was allowed


def _write_stablehlo(run: LoadedRun, to: Path) -> list[str]:
    content = stablehlo.forward(run, dtype=input_dtype(run.recipe))
    Workdir(to).write_bytes("forward.stablehlo", content)
    return ["forward.stablehlo"]


def _write_safetensors(run: LoadedRun, to: Path) -> list[str]:
    Workdir(to).write_params(run.params)
    return ["params.safetensors"]


def _write_numpy(run: LoadedRun, to: Path) -> list[str]:
    source = numpy_form.source_of(run.recipe, classifies=run.classifies)
    file = io.BytesIO()
    np.savez(file, **named(run.params))  # pyright: ignore[reportArgumentType]
    Workdir(to).write_bytes("weights.npz", file.getvalue())
    Workdir(to).write_bytes("network.py", source.encode())
    return ["weights.npz", "network.py"]


def _write_onnx(run: LoadedRun, to: Path) -> list[str]:
    with writing(to / onnx_form.NAME):
        onnx_form.write(run, to)
    return [onnx_form.NAME]


def _outputs(run: LoadedRun, images: np.ndarray) -> np.ndarray:
    return run.outputs(images)


def _of_program(run: LoadedRun, images: np.ndarray) -> np.ndarray:
    return np.asarray(stablehlo.forward_of(run)(images))


def _parameters(run: LoadedRun, images: np.ndarray) -> np.ndarray:
    held = named(run.params)
    return np.concatenate([np.ravel(held[leaf]) for leaf in sorted(held)])


class Format(NamedTuple):
    """How a format is written, what it must compute, and how exactly."""

    write: Callable[[LoadedRun, Path], list[str]]
    expected: Callable[[LoadedRun, np.ndarray], np.ndarray]
    bound: float


FORMATS = {
    "stablehlo": Format(_write_stablehlo, _of_program, 0.0),
    "safetensors": Format(_write_safetensors, _parameters, 0.0),
    "numpy": Format(_write_numpy, _outputs, 1e-5),
    "onnx": Format(_write_onnx, _outputs, 1e-5),
}


def export_run(run: LoadedRun, to: Path, formats: Sequence[str]) -> list[Export]:
    """Export a network into a folder, in each format, and check each.

    Raises:
        InputError: an unknown format; a network that has no such form; a package that
            is missing; the folder cannot be written; or what was loaded again computes
            something else.
    """
    for name in formats:
        if name not in FORMATS:
            raise unknown_name("format", name, FORMATS)
    with writing(to):
        to.mkdir(parents=True, exist_ok=True)
    return [_export(run, to, name) for name in formats]


def _export(run: LoadedRun, to: Path, name: str) -> Export:
    form = FORMATS[name]
    files = form.write(run, to)
    images = examples_to_try(run.recipe, EXAMPLES)
    expected = form.expected(run, images)
    got = _read_again(to, name, images)
    error = np.inf
    if got.shape == expected.shape and np.isfinite(got).all():
        largest = np.abs(expected).max(initial=0.0) or 1.0
        error = float(np.abs(got - expected).max(initial=0.0) / largest)
    if not error <= form.bound:
        raise InputError(
            f"{name}: what was written into {shown_path(to)} computes something else: "
            f"largest relative error {error:.1e}, allowed {form.bound:.0e}"
        )
    return Export(name, tuple(to / file for file in files), error, form.bound)


def _read_again(to: Path, name: str, images: np.ndarray) -> np.ndarray:
    """Return the outputs of an export, as a fresh process computes them."""
    with tempfile.TemporaryDirectory() as folder:
        asked, got = (str(Path(folder) / n) for n in ("images.npy", "got.npy"))
        np.save(asked, images)
        program = CHECK.format(images=asked, got=got, reader=READERS[name])
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=to,
            capture_output=True,
            text=True,
            timeout=LIMIT_SECONDS,
        )
        if done.returncode != 0:
            (*_, last) = done.stderr.strip().splitlines() or [""]
            raise InputError(f"{name}: what was written cannot be loaded: {last[:300]}")
        return np.load(got, allow_pickle=False)
