"""A run read back from its folder: predict with it, evaluate it, go on training.

run.py          the run as a value
reading.py      its settings and its parameters, from the files
parts.py        its data set, read again, and the parts of it
inputs.py       raw examples, as a caller gives them
continuing.py   training that goes on from its newest checkpoint
evaluation.py   its predictions on examples, and how good they are
likeness.py     whether an example is like those that it was trained on
"""

from cnnjax.loaded.evaluation import Evaluation
from cnnjax.loaded.run import LoadedRun, load_run

__all__ = ["Evaluation", "LoadedRun", "load_run"]
