"""A trained network as files for other programs, each checked before it is called done.

stablehlo.py    the forward pass and a training step, as `jax.export` writes them
numpy_form.py   the weights, and a page of NumPy that runs them
onnx_form.py    an ONNX model, by jax2onnx
formats.py      each format: how it is written, and what it must compute
fresh.py        load an export in a process of its own
checked.py      write an export, load it again, compare the outputs
"""

from cnnjax.loaded.exports.checked import Export, export_run
from cnnjax.loaded.exports.formats import FORMATS

__all__ = ["FORMATS", "Export", "export_run"]
