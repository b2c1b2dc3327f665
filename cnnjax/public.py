"""What most people need: `cnnjax.NAME` is what NAME is here."""

from cnnjax.base.errors import InputError
from cnnjax.data import Dataset, dataset_names, load_dataset
from cnnjax.experiments.experiment import Experiment, prepare
from cnnjax.experiments.overrides import override
from cnnjax.experiments.predictions import predict
from cnnjax.experiments.recipes import RECIPES, Recipe, get_recipe
from cnnjax.experiments.runs import Run, fit, run
from cnnjax.faults import FAULTS
from cnnjax.gradients.shares import batch_value_and_grad, serial_value_and_grad
from cnnjax.loaded import LoadedRun, load_run
from cnnjax.models.layers import conv2d, max_pool2d
from cnnjax.models.losses import get_loss, make_loss_fn
from cnnjax.models.network import init, make_apply
from cnnjax.models.stack import ModelConfig
from cnnjax.results.environment import describe_environment
from cnnjax.strategies import STRATEGIES, make_strategy
from cnnjax.telling.text import summary
from cnnjax.training.evaluation import make_evaluate
from cnnjax.training.optimizers import OptimizerConfig, make_optimizer, make_schedule
from cnnjax.training.step import init_state, make_train_step
from cnnjax.types import Batch, Examples, Metrics, Strategy, TrainState

__all__ = [
    "FAULTS",
    "RECIPES",
    "STRATEGIES",
    "Batch",
    "Dataset",
    "Examples",
    "Experiment",
    "InputError",
    "LoadedRun",
    "Metrics",
    "ModelConfig",
    "OptimizerConfig",
    "Recipe",
    "Run",
    "Strategy",
    "TrainState",
    "batch_value_and_grad",
    "conv2d",
    "dataset_names",
    "describe_environment",
    "fit",
    "get_loss",
    "get_recipe",
    "init",
    "init_state",
    "load_dataset",
    "load_run",
    "make_apply",
    "make_evaluate",
    "make_loss_fn",
    "make_optimizer",
    "make_schedule",
    "make_strategy",
    "make_train_step",
    "max_pool2d",
    "override",
    "predict",
    "prepare",
    "run",
    "serial_value_and_grad",
    "summary",
]
