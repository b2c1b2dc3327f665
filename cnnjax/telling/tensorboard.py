"""A run as TensorBoard shows it: curves, weights, gradients, filters, mistakes."""

from __future__ import annotations

import importlib
import io
import platform
import struct
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from cnnjax.base import durable
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
BINS = 64  # of a histogram


class TensorBoard:
    """Writes what TensorBoard reads, by tensorboardX's events, at every epoch's end.

    The file is written here: tensorboardX writes it in a thread, and waits for this for
    ever if the system refuses to write.
    """

    def __init__(self, folder: Path, experiment: Experiment, names: tuple[str, ...]):
        """Write into a folder; `names` are those of the classes.

        Raises:
            InputError: tensorboardX is not installed.
        """
        try:
            from tensorboardX import summary
            from tensorboardX.record_writer import masked_crc32c
        except ImportError as error:
            raise InputError(
                "--tensorboard needs tensorboardX, which is not installed; "
                "python -m pip install tensorboardX"
            ) from error
        events = importlib.import_module("tensorboardX.proto.event_pb2")  # has no types
        self._summary, self._event, self._crc = summary, events.Event, masked_crc32c
        self._restarted = events.SessionLog(status=events.SessionLog.START)
        self._records: list[bytes] = []  # not written yet
        self._folder, self._experiment, self._names = folder, experiment, names
        self._grad_fn = jax.jit(batch_value_and_grad(experiment.loss_fn))
        self._step = 0
        self._params: Params | None = None

    def __str__(self) -> str:
        return "--tensorboard"

    def start(self, config: Mapping[str, Any], step: int) -> None:
        """Begin a file; what an earlier start wrote of later updates counts no more."""
        self._folder.mkdir(exist_ok=True)
        name = f"events.out.tfevents.{int(time.time())}.{platform.node()}"
        self._file = self._folder / name
        self._add(step + 1, file_version="brain.Event:2")
        self._add(step + 1, session_log=self._restarted)
        self._show(step, self._summary.text("config", f"```\n{config}\n```"))
        self._write()

    def epoch(self, line: Mapping[str, Any], params: Params | None) -> None:
        """Write numbers of an epoch, the parameters, their gradient, the filters."""
        self._step, self._params = line["step"], to_host(params)
        for name, value in line.items():
            part, _, metric = name.partition("_")
            tag = f"{metric}/{part}" if part in ("train", "test") else name
            if isinstance(value, int | float) and name not in ("epoch", "step"):
                self._show(self._step, self._summary.scalar(tag, value))
        if self._params is not None:
            kinds = {"parameters": self._params, "gradients": self._gradient()}
            for kind, tree in kinds.items():
                for name, leaf in named(tree).items():
                    values = np.asarray(leaf, np.float32)
                    if np.isfinite(values).all():
                        shown = self._summary.histogram(f"{kind}/{name}", values, BINS)
                        self._show(self._step, shown)
            filters = first_filters(self._experiment.recipe.model, self._params)
            if filters is not None:
                self._picture("filters", draw_filters(filters))
        self._write()

    def end(self, result: Mapping[str, Any]) -> None:
        """Write the most confident mistakes on the test examples."""
        experiment, params = self._experiment, self._params
        if params is not None and experiment.objective.predict is not None:
            outputs = outputs_of(experiment.apply_fn, params, experiment.test.inputs)
            found = Evaluation(np.nan, *experiment.test, outputs, self._names)
            png = draw_mistakes(found, title="the most confident mistakes")
            if png is not None:
                self._picture("mistakes", png)
        self._write()

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
        self._show(self._step, self._summary.image(tag, pixels, dataformats="HWC"))

    def _show(self, step: int, summary: Any) -> None:
        self._add(step, summary=summary)

    def _add(self, step: int, **what: Any) -> None:
        """Add an event, as a TFRecord: length and content, each with its checksum."""
        content = self._event(wall_time=time.time(), step=step, **what)
        content = content.SerializeToString()
        length = struct.pack("<Q", len(content))
        sums = [struct.pack("<I", self._crc(part)) for part in (length, content)]
        self._records += [length, sums[0], content, sums[1]]

    def _write(self) -> None:
        records, self._records = self._records, []
        durable.append_bytes(self._file, b"".join(records))
