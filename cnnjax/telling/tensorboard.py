"""A run as TensorBoard shows it: curves, weights, gradients, filters, mistakes."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from cnnjax.base.errors import InputError
from cnnjax.base.settings import typed_keys
from cnnjax.devices import to_host
from cnnjax.experiments.experiment import Experiment
from cnnjax.gradients import batch_value_and_grad
from cnnjax.loaded.evaluation import Evaluation, outputs_of
from cnnjax.results.checkpoints.snapshot import named
from cnnjax.telling.filters import draw_filters, first_filters
from cnnjax.telling.pictures import draw_mistakes
from cnnjax.types import Batch, Params

LOOKED_AT = 64  # training examples whose gradient is shown


class TensorBoard:
    """Writes what TensorBoard reads, by tensorboardX, at the end of every epoch."""

    def __init__(self, folder: Path, experiment: Experiment, names: tuple[str, ...]):
        """Write into a folder; `names` are those of the classes.

        Raises:
            InputError: tensorboardX is not installed.
        """
        try:
            import tensorboardX
        except ImportError as error:
            raise InputError(
                "--tensorboard needs tensorboardX, which is not installed; "
                "python -m pip install tensorboardX"
            ) from error
        self._make = tensorboardX.SummaryWriter
        self._folder, self._experiment, self._names = folder, experiment, names
        self._grad_fn = jax.jit(batch_value_and_grad(experiment.loss_fn))
        self._step = 0
        self._params: Params | None = None

    def __str__(self) -> str:
        return "--tensorboard"

    def start(self, config: Mapping[str, Any], step: int) -> None:
        """Open a file; what an earlier start wrote of later updates counts no more."""
        self._writer = self._make(str(self._folder), purge_step=step + 1)
        self._writer.add_text("config", f"```\n{config}\n```", step)

    def epoch(self, line: Mapping[str, Any], params: Params | None) -> None:
        """Write numbers of an epoch, the parameters, their gradient, the filters."""
        self._step, self._params = line["step"], to_host(params)
        for name, value in line.items():
            part, _, metric = name.partition("_")
            tag = f"{metric}/{part}" if part in ("train", "test") else name
            if isinstance(value, int | float) and name not in ("epoch", "step"):
                self._writer.add_scalar(tag, value, self._step)
        if self._params is not None:
            kinds = {"parameters": self._params, "gradients": self._gradient()}
            for kind, tree in kinds.items():
                for name, leaf in named(tree).items():
                    values = np.asarray(leaf, np.float32)
                    if np.isfinite(values).all():
                        self._writer.add_histogram(f"{kind}/{name}", values, self._step)
            filters = first_filters(self._experiment.recipe.model, self._params)
            if filters is not None:
                self._picture("filters", draw_filters(filters))
        self._writer.flush()

    def end(self, result: Mapping[str, Any]) -> None:
        """Write the most confident mistakes on the test examples."""
        experiment, params = self._experiment, self._params
        if params is not None and experiment.objective.predict is not None:
            outputs = outputs_of(experiment.apply_fn, params, experiment.test.inputs)
            found = Evaluation(np.nan, *experiment.test, outputs, self._names)
            png = draw_mistakes(found, title="the most confident mistakes")
            if png is not None:
                self._picture("mistakes", png)
        self._writer.close()

    def _gradient(self) -> Params:
        """Return the gradient of the first training examples, by the plain rule."""
        experiment = self._experiment
        inputs, labels = (array[:LOOKED_AT] for array in experiment.train)
        count, key = len(labels), typed_keys(experiment.keys.dropout)
        keys = None if key is None else jax.random.split(key, count)
        batch = Batch(jnp.asarray(inputs), jnp.asarray(labels), jnp.ones(count), keys)
        _, gradient = self._grad_fn(self._params, batch)
        return jax.device_get(gradient)

    def _picture(self, tag: str, png: bytes) -> None:
        pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
        self._writer.add_image(tag, pixels, self._step, dataformats="HWC")
