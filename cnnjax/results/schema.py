"""The contents of a run's files: every field's name, type and unit, declared once.

Writers build records with `record`, which refuses undeclared and missing fields. NaN
and infinities are written as null, because JSON has neither.
"""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any, NamedTuple

PREDICTIONS = "seed,example,label,prediction"  # the columns of predictions.csv

# Losses are in nats or squared units, accuracies are fractions from 0 to 1.
METRICS = {"loss": float, "accuracy": float, "grad_norm": float, "examples": int}
NAMES, NUMBERS = list[str], list[int]  # kinds of a list
WRITTEN_AS = {float: Real, int: Integral, NAMES: list | tuple, NUMBERS: list | tuple}
PARTS = "load advice prepare write compile train evaluate predict"


class Field(NamedTuple):
    """One field of a record."""

    kind: Any  # str, int, float, bool, dict, NAMES or NUMBERS
    what: str  # meaning and unit
    always: bool = True  # False: left out of runs that it does not apply to
    null: bool = False  # whether it may be None


OWN_METRIC = Field(float, "a metric of the loss, averaged over examples", False)


class Schema(NamedTuple):
    """The fields of one kind of record, in the order in which they are written."""

    file: str
    fields: Mapping[str, Field]
    # "train" and "test": a loss may add its own metrics, such as "test_margin".
    measured: tuple[str, ...] = ()

    def field(self, name: str) -> Field | None:
        """Return the field with this name; None: it is not declared."""
        own = name.partition("_")[0] in self.measured
        return self.fields.get(name, OWN_METRIC if own else None)

    def kind(self, name: str) -> Any:
        """Return the type of a field."""
        return self.fields[name].kind


def record(schema: Schema, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record with these values, in the order of the schema.

    Raises:
        ValueError: a field is missing, undeclared or has the wrong type: a bug in the
            caller.
    """
    needed = [name for name, field in schema.fields.items() if field.always]
    wrong = [f"{name} is missing" for name in needed if name not in values]
    for name, value in values.items():
        field = schema.field(name)
        if field is None:
            wrong.append(f"{name} is not declared")
        elif not _fits(field, value):
            wrong.append(f"{name} is not a {field.kind}: {value!r}")
    if wrong:
        raise ValueError(f"a record of {schema.file}: {'; '.join(wrong)}")
    ordered = [name for name in schema.fields if name in values]
    return {name: values[name] for name in dict.fromkeys((*ordered, *values))}


def _fits(field: Field, value: Any) -> bool:
    if value is None:
        return field.null
    if isinstance(value, bool):
        return field.kind is bool
    return isinstance(value, WRITTEN_AS.get(field.kind, field.kind))


def _measured(prefix: str, *, null: bool = False) -> dict[str, Field]:
    """Return the metric fields for one set of examples, such as "test_loss"."""
    what = f"of the {prefix} examples: nats or squared units, a fraction, or a count"
    return {f"{prefix}_{m}": Field(k, what, False, null) for m, k in METRICS.items()}


SECONDS = {
    f"{part}_seconds": Field(float, f"wall seconds of the part {part!r}", False)
    for part in PARTS.split()
}

SEAL = {
    "files": Field(dict, "sha256 of each other file of the run", False),
    "digest": Field(str, "sha256 of the other fields", False),
}

ENVIRONMENT = Schema(
    "result.json, environment",
    {
        "python": Field(str, "version"),
        "cnnjax": Field(str, "version"),
        "jax": Field(str, "version"),
        "jaxlib": Field(str, "version"),
        "flax": Field(str, "version"),
        "optax": Field(str, "version"),
        "numpy": Field(str, "version"),
        "platform": Field(str, "cpu, gpu or tpu"),
        "device_kind": Field(str, "what JAX calls the first device"),
        "num_devices": Field(int, "devices of all processes"),
        "num_processes": Field(int, "processes that train together"),
        "num_cores": Field(int, "CPU cores that the process may use", null=True),
        "machine": Field(str, "architecture of the CPU"),
        "cpu_model": Field(str, "the CPU's name, as the system knows it", null=True),
        "x64": Field(bool, "whether JAX computes in float64"),
        "matmul_precision": Field(str, "JAX's setting", null=True),
        "xla_flags": Field(str, "the variable XLA_FLAGS"),
        "commit": Field(str, "of the checkout, with + if it was changed"),
        "date": Field(str, "of the measurement, in UTC"),
    },
)

CONFIG = Schema(
    "config.json",
    {
        "recipe": Field(dict, "every field of the recipe, as it is trained"),
        "seed": Field(int, "of parameters, split, order and dropout", False),
        "seeds": Field(NUMBERS, "if several seeds are trained", False),
        "faults": Field(NAMES, "names of the faults that are switched on"),
        "microbatch_size": Field(int, "examples per microbatch", False, True),
        "evaluate_every": Field(int, "epochs between tests; 0: at the end", False),
        "group_size": Field(int, "seeds trained together in one program", False),
        "data": Field(dict, "sha256 of each file or array that was read", False),
        "class_names": Field(NAMES, "in the order of the labels", False),
        "command": Field(NAMES, "the command line"),
    },
)

EPOCH = Schema(
    "metrics.jsonl",
    {
        "seed": Field(int, "if several seeds are trained", False),
        "epoch": Field(int, "epochs done, from 1"),
        "step": Field(int, "updates done"),
        "learning_rate": Field(float, "at the first update of the epoch"),
        **_measured("train"),
        **_measured("test"),
        **_measured("validation"),
        "seconds": Field(float, "wall seconds of the training calls"),
        "examples_per_second": Field(float, "in training"),
    },
    measured=("train", "test", "validation"),
)

SEED = Schema(
    "seeds.jsonl",
    {
        "seed": Field(int, "of the run"),
        **_measured("test"),
        "dead_classes": Field(NUMBERS, "classes that are never predicted"),
        "diverged": Field(bool, "whether a loss was ever not finite"),
        "test_no_prediction": Field(int, "test examples without a class", null=True),
        "train_seconds": Field(float, "wall seconds of the training calls"),
    },
    measured=("test",),
)

_OF_BOTH = {
    "recipe": Field(str, "name of the recipe"),
    "dataset": Field(str, "name of the dataset"),
    "strategy": Field(str, "name of the strategy"),
    "seed": Field(int, "the seed, or the first of several"),
}

RESULT = Schema(
    "result.json",
    {
        **_OF_BOTH,
        "faults": Field(NAMES, "names of the faults that are switched on"),
        "epochs": Field(int, "passes over the training data"),
        "best_epoch": Field(int, "whose parameters are kept, with patience", False),
        **_measured("test"),
        **SECONDS,
        "total_seconds": Field(float, "wall seconds since the start"),
        "examples_per_second": Field(float, "in training; null: no epoch", null=True),
        "diverged": Field(bool, "whether a loss or parameter was ever not finite"),
        "divergence": Field(dict, "the update that stopped the run", False),
        "test_no_prediction": Field(int, "test examples without a class", null=True),
        "parameters": Field(int, "number of trained parameters"),
        "macs_per_example": Field(int, "multiply-adds of one forward pass"),
        "starts": Field(int, "of the program; more than 1: it was resumed", False),
        "compile_cache": Field(str, "cold, partly warm, warm or off"),
        "environment": Field(dict, "see ENVIRONMENT"),
        **SEAL,
    },
    measured=("test",),
)

RESULT_OF_SEEDS = Schema(
    "result.json",
    {
        **_OF_BOTH,
        "num_seeds": Field(int, "number of seeds trained"),
        "group_size": Field(int, "seeds trained together in one program"),
        "faults": Field(NAMES, "names of the faults that are switched on"),
        "epochs": Field(int, "passes over the training data"),
        "test_accuracy": Field(float, "mean over the seeds, a fraction", False, True),
        "test_loss": Field(float, "mean over the seeds", False, True),
        "test_accuracy_over_seeds": Field(dict, "a MeanInterval", False, True),
        "test_loss_over_seeds": Field(dict, "a MeanInterval", False, True),
        "seeds_not_finite": Field(NUMBERS, "seeds left out of the mean"),
        "seeds_diverged": Field(NUMBERS, "seeds with a loss that was not finite"),
        **SECONDS,
        "total_seconds": Field(float, "wall seconds since the start"),
        "starts": Field(int, "of the program; more than 1: it was resumed", False),
        "compile_cache": Field(str, "cold, partly warm, warm or off"),
        "environment": Field(dict, "see ENVIRONMENT"),
        **SEAL,
    },
)
