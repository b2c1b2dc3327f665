"""What the flags of `_flags` ask for: recipe, data, devices, strategy, checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import _flags
import _progress
import jax
from absl import flags

from cnnjax import devices, experiments, faults, strategies
from cnnjax.base.compile_cache import CompileCache
from cnnjax.base.errors import InputError, expect, unknown_name
from cnnjax.base.printable import printable
from cnnjax.data import Dataset, load_dataset
from cnnjax.devices.cluster import Cluster
from cnnjax.devices.processes import expect_one
from cnnjax.experiments import ensembles, recipes
from cnnjax.experiments.adapting import adapted
from cnnjax.experiments.fastest import plain_form
from cnnjax.experiments.journal import Journal
from cnnjax.experiments.overrides import override
from cnnjax.experiments.placement import Placement
from cnnjax.experiments.recipe import FASTEST
from cnnjax.results.checkpoints.policy import parse_every
from cnnjax.results.workdir import PROFILE, TENSORBOARD, Workdir, open_workdir
from cnnjax.studies.measuring import advice_cache
from cnnjax.telling import training
from cnnjax.telling.folder import Keeping
from cnnjax.telling.layout import wrap
from cnnjax.telling.watching import Profile, Watchers, called

FLAGS = flags.FLAGS
# What each of several processes may have its own of; all other flags must be alike.
OWN = (
    *("data_dir", "workdir", "overwrite"),
    *("process_index", "coordinator_address", "num_processes", "distributed"),
    *("heartbeat_seconds", "join_seconds"),
)


def parsers() -> dict[str, Callable[[str], Any]]:
    """Return what reads a value of each flag that may be swept."""
    names = [
        name for name in _flags.OVERRIDES if name not in ("validation", "patience")
    ]
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
        from cnnjax.telling.tensorboard import TensorBoard  # and Matplotlib

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
    ours = FLAGS.flags_by_module_dict()[_flags.__name__]
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
    if FLAGS.strategy != _flags.AUTO:
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
    named = None if or_auto and FLAGS.strategy == _flags.AUTO else FLAGS.strategy
    if named is not None and named not in (*strategies.STRATEGIES, FASTEST):
        raise unknown_name("strategy", named, strategies.STRATEGIES)
    dataset = FLAGS.dataset
    if dataset is None and FLAGS.data_dir is None:
        dataset = recipes.default_dataset(recipe)
    overrides = {name: FLAGS[name].value for name in _flags.OVERRIDES} | {
        "strategy": named
    }
    return override(recipe, dataset=dataset, **overrides)
