"""The flags that choose a recipe and override its fields."""

from __future__ import annotations

import jax
from absl import flags

from cnnjax import devices, faults, strategies
from cnnjax.base.errors import InputError, expect, unknown_name
from cnnjax.experiments import recipes
from cnnjax.experiments.overrides import override
from cnnjax.models import initializers
from cnnjax.results.environment import MOST_DEVICES

FLAGS = flags.FLAGS
flags.DEFINE_string(
    "recipe", recipes.DEFAULT_RECIPE, f"What to train: {', '.join(recipes.RECIPES)}."
)
flags.DEFINE_string(
    "dataset",
    None,
    "Data set. Default: the recipe's own where --data_dir is given or images of "
    "28 x 28 pixels do not fit; else digits, which needs no files.",
)
flags.DEFINE_string("data_dir", None, "Folder that holds the data set's files.")
flags.DEFINE_integer("seed", 0, "Seed of parameters, split, order and dropout.")
flags.DEFINE_string(
    "strategy",
    None,
    f"How gradients are computed: {', '.join(strategies.STRATEGIES)}. "
    "Default: the recipe's own. train.py also takes auto: the fastest one here.",
)
flags.DEFINE_integer(
    "num_devices",
    None,
    "Devices that a batch is divided over; on a CPU, so many virtual ones are made. "
    f"For {', '.join(strategies.names_of(divides=True))}. Default: all that are there. "
    "Of several processes: of each.",
    lower_bound=1,
)
flags.DEFINE_integer(
    "model_devices",
    1,
    "Of the devices, how many share one copy of the dense kernels, which are cut among "
    "them. For sharded.",
    lower_bound=1,
)
flags.DEFINE_integer(
    "microbatch_size",
    None,
    "Examples that a device takes at a time; less memory, the same gradient.",
    lower_bound=1,
)
flags.DEFINE_enum(
    "precision",
    None,
    ["bfloat16", "float32", "float64"],
    "Type of parameters and arithmetic; with bfloat16 parameters stay float32.",
)
flags.DEFINE_multi_string(
    "fault",
    [],
    "Switch a known fault in, on purpose; may be given again. Of "
    f"{', '.join(faults.FAULTS)}; see docs/faults.md",
)

# Each overrides one field of the recipe; left out, it is as published.
flags.DEFINE_integer("epochs", None, "Times that the data is seen.")
flags.DEFINE_integer("batch_size", None, "Examples of one update.")
flags.DEFINE_integer("num_train", None, "Train on the first so many examples only.")
flags.DEFINE_enum(
    "shuffle",
    None,
    ["every_epoch", "once", "never"],
    "When the order of the examples is drawn.",
)
flags.DEFINE_enum(
    "initializer",
    None,
    list(initializers.INITIALIZERS),
    "How parameters are drawn.",
)
flags.DEFINE_enum(
    "matmul_precision",
    None,
    ["default", "high", "highest"],
    "Of products on a GPU or TPU; highest is full float32.",
)
flags.DEFINE_enum("algorithm", None, ["adam", "sgd"], "What is done with a gradient.")
flags.DEFINE_float("learning_rate", None, "Learning rate, the highest of a schedule.")
flags.DEFINE_float("l2", None, "L2 coefficient: gradient of a weight += l2 * weight.")
flags.DEFINE_float("momentum", None, "Of SGD: v = momentum v + gradient.")
flags.DEFINE_float("b1", None, "Of Adam: decay of the first moment.")
flags.DEFINE_float("b2", None, "Of Adam: decay of the second moment.")
flags.DEFINE_float("eps", None, "Of Adam: added outside the root.")
flags.DEFINE_enum("schedule", None, ["constant", "cosine"], "Of the learning rate.")
flags.DEFINE_float("min_learning_rate", None, "Of a cosine: where it ends.")
flags.DEFINE_integer("cosine_epochs", None, "Of a cosine: epochs until it ends.")
flags.DEFINE_enum(
    "cosine_unit", None, ["epoch", "step"], "Of a cosine: how often it falls."
)

AUTO = "auto"  # of --strategy
OVERRIDES = (
    *("precision", "epochs", "batch_size", "num_train", "shuffle", "matmul_precision"),
    *("initializer", "algorithm", "learning_rate", "l2", "momentum", "b1", "b2", "eps"),
    *("schedule", "min_learning_rate", "cosine_epochs", "cosine_unit", "strategy"),
)


def start_jax() -> None:
    """Set precision and devices, before anything else asks JAX for a device.

    Raises:
        InputError: more devices than a batch has examples; or JAX has started in this
            process, with fewer devices.
    """
    jax.config.update("jax_enable_x64", FLAGS.precision == "float64")
    if FLAGS.num_devices is None:
        return
    size = FLAGS.batch_size or recipes.get_recipe(FLAGS.recipe).batch_size
    most, why = MOST_DEVICES, "more take long to make"
    if size is not None and 0 < size * FLAGS.model_devices < most:
        most, why = size * FLAGS.model_devices, f"a batch of {size} keeps no more busy"
    what = f"--num_devices of at most {most} ({why})"
    expect(what, FLAGS.num_devices, FLAGS.num_devices <= most)
    try:
        jax.config.update("jax_num_cpu_devices", FLAGS.num_devices)
    except RuntimeError as error:
        if (there := jax.local_device_count()) < FLAGS.num_devices:
            raise InputError(
                f"--num_devices={FLAGS.num_devices} comes too late: JAX has started in "
                f"this process, with {there}; start a new one (in a notebook, write "
                "!python in front, or restart the kernel)"
            ) from error


def options_for(recipe: recipes.Recipe) -> strategies.Options:
    """Return the devices and the microbatch that the flags ask of a strategy.

    A strategy of one device takes one, however many there are.

    Raises:
        InputError: more devices than there are.
    """
    at = strategies.STRATEGIES[recipe.strategy].device_map
    mesh = None
    if at.divides:
        # Where no kernels are cut, all devices are for the batch.
        cuts = at.cuts_kernels
        mesh = devices.make_mesh(
            FLAGS.num_devices, model_devices=FLAGS.model_devices if cuts else 1
        )
    return strategies.Options(mesh, FLAGS.microbatch_size)


def options_from_flags(recipe: recipes.Recipe) -> strategies.Options:
    """Return the options of the one strategy that the flags choose.

    Raises:
        InputError: more devices than there are, or than the strategy can use.
    """
    at = strategies.STRATEGIES[recipe.strategy].device_map
    if not at.divides and (FLAGS.num_devices or 1) > 1:
        raise InputError(
            f"strategy {recipe.strategy!r} runs on one device, got --num_devices="
            f"{FLAGS.num_devices}; use {', '.join(strategies.names_of(divides=True))}"
        )
    if not at.cuts_kernels and FLAGS.model_devices > 1:
        raise InputError(
            f"strategy {recipe.strategy!r} cuts no kernels, got --model_devices="
            f"{FLAGS.model_devices}; use sharded"
        )
    return options_for(recipe)


def recipe_from_flags(*, or_auto: bool = False) -> recipes.Recipe:
    """Return the recipe that the flags ask for, with strategy and dataset settled.

    With `or_auto`, --strategy=auto leaves the strategy to `_advice`.

    Raises:
        InputError: an unknown name, or a value that the recipe refuses.
    """
    recipe = recipes.get_recipe(FLAGS.recipe)
    for name in ("dataset", "data_dir", "strategy"):
        expect(f"a value for --{name}", FLAGS[name].value, FLAGS[name].value != "")
    for name in FLAGS.fault:
        faults.get_fault(name)
    named = None if or_auto and FLAGS.strategy == AUTO else FLAGS.strategy
    if named is not None and named not in strategies.STRATEGIES:
        raise unknown_name("strategy", named, strategies.STRATEGIES)
    dataset = FLAGS.dataset
    if dataset is None and FLAGS.data_dir is None:
        dataset = recipes.default_dataset(recipe)
    overrides = {name: FLAGS[name].value for name in OVERRIDES} | {"strategy": named}
    return override(recipe, dataset=dataset, **overrides)
