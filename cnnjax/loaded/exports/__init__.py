"""A trained network as files for other programs, each checked before it is called done.

stablehlo.py    the forward pass and a training step, as `jax.export` writes them
numpy_form.py   the weights, and a page of NumPy that runs them
onnx_form.py    an ONNX model, by jax2onnx
checked.py      write an export, load it in a fresh process, compare the outputs
"""

from cnnjax.loaded.exports.checked import FORMATS, Export, export_run

__all__ = ["FORMATS", "Export", "export_run"]
