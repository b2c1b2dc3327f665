"""The flags that several scripts have, by groups, and what is made of them.

A script defines the groups that it wants as it is imported, and adopts them:
`flags.adopt_module_key_flags(_flags)`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import _progress
import jax
from absl import flags

from cnnjax import devices, experiments, faults, strategies
from cnnjax.base.compile_cache import CompileCache
from cnnjax.base.errors import InputError, expect, unknown_name
from cnnjax.base.printable import printable
from cnnjax.data import Dataset, load_dataset
from cnnjax.data.order import Shuffle
from cnnjax.devices.cluster import (
    HEARTBEAT_SECONDS,
    JOIN_SECONDS,
    LOCAL_JOIN_SECONDS,
    Cluster,
)
from cnnjax.devices.processes import expect_one
from cnnjax.experiments import ensembles, recipes
from cnnjax.experiments.adapting import adapted
from cnnjax.experiments.beginning import Resume
from cnnjax.experiments.fastest import plain_form
from cnnjax.experiments.journal import Journal
from cnnjax.experiments.overrides import override
from cnnjax.experiments.placement import Placement
from cnnjax.experiments.recipe import FASTEST
from cnnjax.models import initializers
from cnnjax.models.stack import MatmulPrecision
from cnnjax.results.checkpoints.policy import FORMS, parse_every
from cnnjax.results.checkpoints.store import KEEP
from cnnjax.results.workdir import PROFILE, TENSORBOARD, Workdir, open_workdir
from cnnjax.studies.measuring import advice_cache
from cnnjax.telling import training
from cnnjax.telling.folder import Keeping
from cnnjax.telling.layout import wrap
from cnnjax.telling.tensorboard import TensorBoard
from cnnjax.telling.watching import Profile, Watchers, called
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

# What each of several processes may have its own of; all other flags must be alike.
OWN = (
    *("data_dir", "workdir", "overwrite"),
    *("process_index", "coordinator_address", "num_processes", "distributed"),
    *("heartbeat_seconds", "join_seconds"),
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
    """Define which processes train together: see `cluster`."""
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


def parsers() -> dict[str, Callable[[str], Any]]:
    """Return what reads a value of each flag that may be swept."""
    names = [name for name in OVERRIDES if name not in ("validation", "patience")]
    return {name: FLAGS[name].parser.parse for name in names}


def watchers(journal: Journal) -> Watchers:
    """Return who looks on while a run is trained; of several processes, only the first.

    Raises:
        InputError: a --callback that cannot be imported, or TensorBoard's files cannot
            be written here.
    """
    found: list[Any] = [called(name) for name in FLAGS.callback]
    path = journal.workdir.path
    if path is None:  # nothing is kept here: --tensorboard and --profile were refused
        return Watchers(found * (jax.process_index() == 0))
    if FLAGS.tensorboard:
        names, folder = tuple(journal.class_names), path / TENSORBOARD
        found.append(TensorBoard(folder, journal.experiment, names))
    if FLAGS.profile is not None:
        shown = printable(f"{FLAGS.workdir}/{PROFILE}")
        found.append(Profile(path / PROFILE, shown, FLAGS.profile))
    return Watchers(found)


def how(
    journal: Journal, cache: CompileCache, prepare_fn: Callable[[int], Any]
) -> training.How:
    """Return how the flags say to train; see `watchers`."""
    named = FLAGS.evaluate_every, FLAGS.on_nan, FLAGS.group_size
    return training.How(*named, cache, prepare_fn, watchers(journal))


def seeds() -> range:
    """Return the seeds that the flags ask for.

    Raises:
        InputError: several in several processes, or some that are too large.
    """
    asked = ensembles.seeds_from(FLAGS.seed, FLAGS.num_seeds)
    if len(asked) > 1:
        name = f"--num_seeds={len(asked)}"
        expect_one(name, hint="give each its own --seed and --workdir")
    return asked


def keeping() -> Keeping:
    """Return what the flags say of checkpoints.

    Raises:
        InputError: --checkpoint_every says nothing that is known.
    """
    every = parse_every(FLAGS.checkpoint_every)
    return Keeping(every, FLAGS.keep_checkpoints, FLAGS.resume, FLAGS.overwrite)


def workdir() -> Workdir:
    """Return the folder for the results: of several processes, that of process 0."""
    return open_workdir(FLAGS.workdir if jax.process_index() == 0 else None)


def noted() -> dict[str, int]:
    """Return the flags that config.json holds besides the recipe."""
    own = {"evaluate_every": FLAGS.evaluate_every}
    return own if FLAGS.num_seeds == 1 else {**own, "group_size": FLAGS.group_size}


def refuse_idle() -> None:
    """Raise InputError for a flag that would do nothing beside the others."""
    workdir, many = FLAGS.workdir, FLAGS.num_seeds
    kept, grouped = workdir is not None, FLAGS.group_size != ensembles.GROUP_SIZE
    expect("--workdir with --overwrite", workdir, kept or not FLAGS.overwrite)
    expect("--workdir with --log_steps", workdir, kept or not FLAGS.log_steps)
    expect("--workdir with --resume=must", workdir, kept or FLAGS.resume != "must")
    expect("--num_seeds=1 with --log_steps", many, many == 1 or not FLAGS.log_steps)
    expect("--workdir with --tensorboard", workdir, kept or not FLAGS.tensorboard)
    expect("--workdir with --profile", workdir, kept or FLAGS.profile is None)
    alone = many == 1 or (FLAGS.profile is None and not FLAGS.tensorboard)
    expect("--num_seeds=1 with --tensorboard and --profile", many, alone)
    every, patience = FLAGS.evaluate_every, FLAGS.patience
    often = patience is None or 1 <= every <= patience
    expect("--evaluate_every from 1 to --patience", every, often)
    if FLAGS.tensorboard:
        expect_one("--tensorboard", hint="use --callback, which process 0 calls")
    expect("several --num_seeds with --group_size", many, many > 1 or not grouped)


def same(experiment: experiments.Experiment) -> dict[str, Any]:
    """Return what each of several processes must have alike, besides the flags."""
    return {
        "recipe": experiment.recipe,
        "training examples": experiment.train,
        "test examples": experiment.test,
        "initial parameters": experiment.params,
    }


def alike() -> dict[str, str]:
    """Return the flags that each of several processes must be given alike."""
    ours = FLAGS.flags_by_module_dict()[__name__]
    return {
        f"--{flag.name}": str(flag.value)
        for flag in ours
        if flag.name not in OWN and flag.value is not None
    }


def cluster() -> Cluster:
    """Return which processes train together, by the flags."""
    given: dict[str, Any] = {name: FLAGS[name].value for name in Cluster._fields}
    return Cluster(**given)


def start_jax() -> None:
    """Set precision and devices, before anything else asks JAX for a device.

    Raises:
        InputError: more devices than a batch has examples; or JAX has started in this
            process, with fewer devices.
    """
    jax.config.update("jax_enable_x64", FLAGS.precision == "float64")
    if FLAGS.num_devices is not None:
        size = FLAGS.batch_size or recipes.get_recipe(FLAGS.recipe).batch_size
        placement().make_devices(batch_size=size)


def placement() -> Placement:
    """Return the devices that the flags ask for."""
    return Placement(
        num_devices=FLAGS.num_devices,
        model_devices=FLAGS.model_devices,
        microbatch_size=FLAGS.microbatch_size,
    )


def load(recipe: recipes.Recipe) -> tuple[recipes.Recipe, Dataset]:
    """Read the recipe's data set; return the recipe adapted to it, and the data set.

    Raises:
        InputError: the files are missing, or cannot be used.
    """
    dataset = load_dataset(recipe.dataset, data_dir=FLAGS.data_dir)
    return adapted(recipe, dataset), dataset


def settle(
    recipe: recipes.Recipe, dataset: Dataset, cache: CompileCache
) -> tuple[recipes.Recipe, strategies.Options]:
    """Return the recipe with its strategy and options: those of the flags, or the best.

    With --strategy=auto it says what was chosen, and why.

    Raises:
        InputError: the flags do not fit together, or the data set does not fit.
    """
    if FLAGS.strategy != AUTO:
        options = placement().strict_options_for(recipe)
        if FLAGS.fault and FLAGS.strategy is None and recipe.strategy == FASTEST:
            # Faults are of the plain form, and then the only thing that differs.
            recipe = override(recipe, strategy=plain_form(options))
        return recipe, options
    expect_one("--strategy=auto", hint="name a strategy")
    if FLAGS.microbatch_size is not None or FLAGS.model_devices > 1:
        raise InputError(
            "--strategy=auto chooses the microbatch and cuts no kernels: leave "
            "--microbatch_size and --model_devices out, or name a strategy"
        )
    options = strategies.Options(devices.make_mesh(FLAGS.num_devices))
    recipe = override(recipe, strategy=plain_form(strategies.NO_OPTIONS))
    experiment = experiments.prepare(recipe, dataset, options=options)
    choice = advice_cache.choose(experiment, advise=_progress.advise, cache=cache)
    print(wrap(f"strategy auto: {choice.why}"))
    print(wrap(f"({choice.remembered})"), end="\n\n", flush=True)
    return choice.recipe_and_options(experiment)


def recipe_from_flags(*, or_auto: bool = False) -> recipes.Recipe:
    """Return the recipe that the flags ask for, with strategy and dataset settled.

    With `or_auto`, --strategy=auto leaves the recipe's own strategy to be replaced.

    Raises:
        InputError: an unknown name, or a value that the recipe refuses.
    """
    recipe = recipes.get_recipe(FLAGS.recipe)
    for name in ("dataset", "data_dir", "strategy"):
        expect(f"a value for --{name}", FLAGS[name].value, FLAGS[name].value != "")
    for name in FLAGS.fault:
        faults.get_fault(name)
    named = None if or_auto and FLAGS.strategy == AUTO else FLAGS.strategy
    if named is not None and named not in (*strategies.STRATEGIES, FASTEST):
        raise unknown_name("strategy", named, strategies.STRATEGIES)
    dataset = FLAGS.dataset
    if dataset is None and FLAGS.data_dir is None:
        dataset = recipes.default_dataset(recipe)
    overrides = {name: FLAGS[name].value for name in OVERRIDES} | {"strategy": named}
    return override(recipe, dataset=dataset, **overrides)
