"""The formats of an export: how each is written, and what it must compute."""

from __future__ import annotations

import functools
import io
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors.numpy import save

from cnnjax.experiments.experiment import Experiment
from cnnjax.loaded import LoadedRun
from cnnjax.loaded.exports import numpy_form, onnx_form, stablehlo
from cnnjax.loaded.exports.fresh import UPDATES
from cnnjax.loaded.inputs import examples_to_try, input_dtype
from cnnjax.results.checkpoints.snapshot import named
from cnnjax.results.folders import writing
from cnnjax.results.workdir import Workdir
from cnnjax.types import TrainState

EXAMPLES = 16  # raw examples that are compared
WITHIN = 1e-5  # of the largest output, where other programs compute in their own order
Named = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Source:
    """What is exported: a run and, of its training, what is read where it is used."""

    run: LoadedRun
    data_dir: str | None

    @functools.cached_property
    def training(self) -> tuple[Experiment, TrainState]:
        """The experiment once more, and the state of its newest checkpoint."""
        experiment, at = self.run.training(data_dir=self.data_dir)
        return experiment, at.state

    @functools.cached_property
    def images(self) -> np.ndarray:
        """Raw examples to compare outputs with."""
        return examples_to_try(self.run.recipe, EXAMPLES)


def _write_stablehlo(source: Source, to: Path) -> list[str]:
    run = source.run
    content = stablehlo.forward(run, dtype=input_dtype(run.recipe))
    Workdir(to).write_bytes("forward.stablehlo", content)
    return ["forward.stablehlo"]


def _write_train_step(source: Source, to: Path) -> list[str]:
    experiment, state = source.training
    folder, program = Workdir(to), stablehlo.train_step(experiment)
    folder.write_bytes("step.stablehlo", bytes(program.serialize()))
    folder.write_bytes("state.safetensors", save(stablehlo.leaves_of(state)))
    return ["step.stablehlo", "state.safetensors"]


def _write_safetensors(source: Source, to: Path) -> list[str]:
    Workdir(to).write_params(source.run.params)
    return ["params.safetensors"]


def _write_numpy(source: Source, to: Path) -> list[str]:
    run = source.run
    page = numpy_form.source_of(run.recipe, classifies=run.classifies)
    Workdir(to).write_bytes("weights.npz", _npz(named(run.params)))
    Workdir(to).write_bytes("network.py", page.encode())
    return ["weights.npz", "network.py"]


def _npz(arrays: Named) -> bytes:
    """Return what `np.savez` writes, but for the time: equal arrays, equal bytes."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, array in arrays.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w") as file:
                np.lib.format.write_array(file, np.asarray(array), allow_pickle=False)
    return content.getvalue()


def _write_onnx(source: Source, to: Path) -> list[str]:
    with writing(to / onnx_form.NAME):
        onnx_form.write(source.run, to)
    return [onnx_form.NAME]


def _outputs(source: Source) -> Named:
    return {"outputs": source.run.outputs(source.images)}


def _of_program(source: Source) -> Named:
    return {"outputs": np.asarray(stablehlo.forward_of(source.run)(source.images))}


def _losses(source: Source) -> Named:
    """Return the losses of updates of the library: each depends on those before."""
    experiment, state = source.training
    step, leaves = stablehlo.train_step_of(experiment), stablehlo.leaves_of(state)
    examples, losses = _examples(source).values(), []
    for seed in range(UPDATES):
        leaves, loss = step(leaves, *examples, np.uint32(seed))
        losses.append(loss)
    return {"losses": np.asarray(losses)}


def _parameters(source: Source) -> Named:
    return named(source.run.params)


def _images(source: Source) -> Named:
    return {"images": source.images}


def _examples(source: Source) -> Named:
    inputs, labels = source.training[0].train
    return {"images": inputs[:EXAMPLES], "labels": labels[:EXAMPLES]}


class Format(NamedTuple):
    """How a format is written, what it must compute, how exactly, and of what."""

    write: Callable[[Source, Path], list[str]]
    expected: Callable[[Source], Named]
    bound: float
    given: Callable[[Source], Named] = _images


FORMATS = {
    "stablehlo": Format(_write_stablehlo, _of_program, 0.0),
    "train_step": Format(_write_train_step, _losses, WITHIN, _examples),
    "safetensors": Format(_write_safetensors, _parameters, 0.0),
    "numpy": Format(_write_numpy, _outputs, WITHIN),
    "onnx": Format(_write_onnx, _outputs, WITHIN),
}
