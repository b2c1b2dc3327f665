"""The flags that several scripts have, by groups; `_asked` is what they ask for.

A script defines the groups that it wants as it is imported, and adopts them:
`flags.adopt_module_key_flags(_flags)`.
"""

from __future__ import annotations

from typing import get_args

import _script  # noqa: F401  # before what imports JAX
from absl import flags

from cnnjax import strategies
from cnnjax.data.order import Shuffle
from cnnjax.devices.cluster import HEARTBEAT_SECONDS, JOIN_SECONDS, LOCAL_JOIN_SECONDS
from cnnjax.experiments import ensembles, recipes
from cnnjax.experiments.beginning import Resume
from cnnjax.models import initializers
from cnnjax.models.stack import MatmulPrecision
from cnnjax.results.checkpoints.policy import FORMS
from cnnjax.results.checkpoints.store import KEEP
from cnnjax.training.algorithms import ALGORITHMS
from cnnjax.training.divergence import OnNan
from cnnjax.training.schedules import SCHEDULES, CosineUnit

FLAGS = flags.FLAGS
AUTO = "auto"  # of --strategy
OVERRIDES = (
    *("precision", "epochs", "batch_size", "num_train", "shuffle", "matmul_precision"),
    *("initializer", "algorithm", "learning_rate", "l2", "momentum", "b1", "b2", "eps"),
    *("nesterov", "weight_decay", "max_norm", "label_smoothing", "average_decay"),
    *("schedule_free", "class_weights"),
    *("validation", "patience"),
    *("schedule", "min_learning_rate", "warmup_epochs", "cosine_epochs", "cosine_unit"),
    *("pct_start", "div_factor", "final_div_factor", "strategy"),
)


def define_recipe(*, compares: bool = False) -> None:
    """Define what is trained, on which data and devices.

    The flags of `OVERRIDES` override one field of the recipe each; left out, it is as
    published. A script that `compares` strategies takes all where none is named.
    """
    text, choice = flags.DEFINE_string, flags.DEFINE_enum
    whole, number = flags.DEFINE_integer, flags.DEFINE_float
    divided = ", ".join(strategies.names_of(divides=True))

    text("dataset", None, "Data set. Default: the recipe's own, or digits (no files).")
    text("data_dir", None, "Folder that holds your data files.")
    whole("num_train", None, "Use only the first N training examples.")

    meaning = (
        "Share of the training examples to look at after every epoch, in place of "
    )
    meaning += "the test examples, which are then looked at once, at the end."
    number("validation", None, meaning)
    meaning = "Stop after so many epochs without a lower loss on these, and keep the "
    meaning += "parameters with the lowest."
    whole("patience", None, meaning, lower_bound=1)

    named = ", ".join(recipes.RECIPES)
    text("recipe", recipes.DEFAULT_RECIPE, f"Recipe: {named}.")
    whole("epochs", None, "Passes over the training data.")
    whole("batch_size", None, "Examples per update.")
    whole("seed", 0, "Seed of parameters, split, order and dropout.")
    meaning = "When to shuffle the training examples."
    choice("shuffle", None, get_args(Shuffle), meaning)
    drawn = list(initializers.INITIALIZERS)
    choice("initializer", None, drawn, "How to draw the first parameters.")
    types = ["bfloat16", "float32", "float64"]
    meaning = "Type of the arithmetic; with bfloat16 the parameters stay float32."
    choice("precision", None, types, meaning)
    meaning = "Precision of products on a GPU or TPU; highest: full float32."
    choice("matmul_precision", None, get_args(MatmulPrecision), meaning)
    meaning = "Switch a known bug on (repeatable); list in docs/faults.md."
    flags.DEFINE_multi_string("fault", [], meaning)

    choice("algorithm", None, list(ALGORITHMS), "Optimizer.")
    number("learning_rate", None, "Learning rate; with a schedule, the highest.")
    number("l2", None, "L2 coefficient, added as l2 * weight to a weight's gradient.")
    meaning = "AdamW's or Muon's decay of weights, which the moments do not see."
    number("weight_decay", None, meaning)
    meaning = "Clip the gradient of an update to this norm over all parameters."
    number("max_norm", None, meaning)
    meaning = "Test and keep a moving average of the parameters, with this decay."
    number("average_decay", None, meaning)
    meaning = "Train without a schedule by interpolation and averaging, with this beta "
    meaning += "(0.9); b1 or momentum should be 0."
    number("schedule_free", None, meaning)
    meaning = "Share of a label that all classes get, in the training loss."
    number("label_smoothing", None, meaning)
    meaning = "balanced: every class gets the same part in the training loss, however "
    meaning += "few its examples are."
    choice("class_weights", None, ["balanced", "none"], meaning)
    number("momentum", None, "Momentum of SGD or Muon.")
    flags.DEFINE_bool("nesterov", None, "Nesterov's momentum, of SGD.")
    number("b1", None, "Adam's beta1.")
    number("b2", None, "Adam's beta2.")
    number("eps", None, "Adam's epsilon, outside the root.")
    choice("schedule", None, list(SCHEDULES), "Schedule of the learning rate.")
    number("min_learning_rate", None, "Learning rate at the end of a cosine.")
    number("warmup_epochs", None, "Epochs in which a warmup_cosine rises.")
    number("pct_start", None, "Share of the updates in which a one_cycle rises.")
    number("div_factor", None, "Largest rate of a one_cycle / its first rate.")
    number("final_div_factor", None, "First rate of a one_cycle / its last.")
    whole("cosine_epochs", None, "Epochs until a cosine ends.")
    choice("cosine_unit", None, get_args(CosineUnit), "How often a cosine falls.")

    names = ", ".join(strategies.STRATEGIES)
    meaning = f"How to compute gradients: {names}; "
    meaning += "fastest: the fastest form known for this network, platform and number "
    meaning += "of devices (the default, unless the recipe names a strategy); auto: "
    meaning += "tries them for a minute or two."
    if compares:
        meaning = f"The only strategy to compare: {names}. Default: all."
    text("strategy", None, meaning)
    meaning = "Devices to divide a batch over; a CPU makes as many virtual ones. "
    meaning += f"For {divided}. Default: all (of several processes, in each); one, "
    meaning += "where no strategy is named."
    whole("num_devices", None, meaning, lower_bound=1)
    meaning = (
        "Devices that share one copy of the dense kernels, each a part. For sharded."
    )
    whole("model_devices", 1, meaning, lower_bound=1)
    meaning = "Examples that a device takes at a time: less memory, the same gradient."
    whole("microbatch_size", None, meaning, lower_bound=1)


def define_training() -> None:
    """Define how a recipe is trained and tested, and where results are kept."""
    whole, switch = flags.DEFINE_integer, flags.DEFINE_bool
    whole("num_seeds", 1, "Seeds to train, counted from --seed.", lower_bound=1)
    meaning = "Of several seeds, how many to train at once, as one program."
    whole("group_size", ensembles.GROUP_SIZE, meaning, lower_bound=1)
    meaning = "Keep the training examples on the host, and have those of N updates on "
    meaning += "the devices at a time: for data sets that do not fit there."
    whole("stream", None, meaning, lower_bound=1)
    meaning = "Epochs between tests; 0: only at the end."
    whole("evaluate_every", 1, meaning, lower_bound=0)
    meaning = "Folder for the results; without it, none are kept."
    flags.DEFINE_string("workdir", None, meaning)
    switch("overwrite", False, "Replace an earlier run in --workdir.")
    meaning = (
        "Go on where a run in --workdir was stopped: auto, if there is one; never; "
    )
    meaning += "must, or else an error."
    flags.DEFINE_enum("resume", "auto", get_args(Resume), meaning)
    meaning = f"When to save a checkpoint, besides at the end and at a signal: {FORMS}."
    flags.DEFINE_string("checkpoint_every", "60s", meaning)
    meaning = "Checkpoints to keep: the newest, and the best of all."
    whole("keep_checkpoints", KEEP, meaning, lower_bound=1, upper_bound=1000)
    meaning = "What to do when a loss or a parameter is not finite."
    flags.DEFINE_enum("on_nan", "stop", get_args(OnNan), meaning)
    switch("log_steps", False, "Keep the loss of every update, in steps.csv.")
    switch("tensorboard", False, "Write what TensorBoard shows, in --workdir.")
    meaning = "Trace so many updates by JAX's profiler, in --workdir."
    whole("profile", None, meaning, lower_bound=1)
    meaning = (
        "MODULE:FUNCTION of yours that is called with (event, values) as training "
    )
    meaning += "starts, after each epoch and at the end (repeatable)."
    flags.DEFINE_multi_string("callback", [], meaning)


def define_cluster() -> None:
    """Define which processes train together: see `_asked.cluster`."""
    whole = flags.DEFINE_integer
    meaning = "HOST:PORT where process 0 waits for the others."
    flags.DEFINE_string("coordinator_address", None, meaning)
    whole("num_processes", None, "Processes that train together.", lower_bound=1)
    whole("process_index", None, "Index of this process, from 0.", lower_bound=0)
    meaning = "Join the processes of a Slurm, Open MPI, Kubernetes or TPU cluster."
    flags.DEFINE_bool("distributed", False, meaning)
    meaning = "Seconds until a silent process counts as lost, and the others end. "
    meaning += f"Default: {HEARTBEAT_SECONDS}."
    whole("heartbeat_seconds", None, meaning, lower_bound=1)
    meaning = "Seconds to wait for the other processes at the start. Default: "
    meaning += f"{JOIN_SECONDS}, on one machine {LOCAL_JOIN_SECONDS}; at most 10 times "
    meaning += "--heartbeat_seconds."
    whole("join_seconds", None, meaning, lower_bound=1)
