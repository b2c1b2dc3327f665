"""Every product in full float32 on every platform, forward and backward.

A GPU or a TPU takes less, unless a program asks for more. No test on a CPU sees it in
the values, so the programs are read: traced, both lowerings of a convolution are there.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from dataclasses import replace

import jax
import jax.numpy as jnp
import pytest
from jax import export
from jax.extend.core import ClosedJaxpr, Jaxpr
from strategy_table import DIVIDED, PER_EXAMPLE, share_by

from cnnjax import devices, models
from cnnjax.data.order import example_keys
from cnnjax.experiments.objectives import objective_of
from cnnjax.experiments.recipes import DEFAULT_RECIPE, RECIPES, Recipe
from cnnjax.gradients.shares import with_per_example
from cnnjax.models.contract import checked
from cnnjax.models.stack import layer_rows
from cnnjax.strategies import STRATEGIES, Options
from cnnjax.types import Batch

PRODUCTS = ("dot_general", "conv_general_dilated")
HIGHEST = {(jax.lax.Precision.HIGHEST,) * 2}


def shapes_of(recipe: Recipe, size: int = 4):
    """Return parameters and a batch of a recipe, as shapes."""
    is_class = recipe.loss == "softmax_cross_entropy"
    outputs = () if is_class else layer_rows(recipe.model)[-1].output_shape

    def make():
        batch = Batch(
            inputs=jnp.zeros((size, *recipe.model.input_shape), "float32"),
            labels=jnp.zeros((size, *outputs), "int32" if is_class else "float32"),
            weights=jnp.ones(size),
            keys=example_keys(jax.random.key(0), 0, batch_size=size),
        )
        return models.init(jax.random.key(0), recipe.model), batch

    return jax.eval_shape(make)


def losses_by(loss_fn):
    """Return the losses of a batch, as an evaluation takes them."""
    losses_of = jax.vmap(checked(loss_fn), (None, 0, 0, None))
    return lambda params, batch: losses_of(params, batch.inputs, batch.labels, None)


@functools.cache
def forms(recipe: Recipe) -> dict:
    """Return all that computes with products: {name: fn(params, batch)}."""
    objective = objective_of(recipe)
    found = {"evaluation": losses_by(objective.test_loss_fn)}
    for name in PER_EXAMPLE:
        found[name] = with_per_example(share_by(name, objective, 1.0))
    for name, builder in STRATEGIES.items():
        mesh = devices.make_mesh(2) if name in DIVIDED else None
        found[name] = builder(objective, Options(mesh)).value_and_grad
    return found


def products_in(jaxpr: Jaxpr) -> Iterator:
    """Yield every product of a program, those of the programs within it, too."""
    for equation in jaxpr.eqns:
        if equation.primitive.name in PRODUCTS:
            yield equation
        for value in equation.params.values():
            for inner in value if isinstance(value, tuple | list) else [value]:
                if isinstance(inner, ClosedJaxpr | Jaxpr):
                    yield from products_in(getattr(inner, "jaxpr", inner))


def precisions(recipe: Recipe, form: str) -> tuple[int, set]:
    """Return how many products there are, and what precisions they ask for."""
    program = jax.make_jaxpr(forms(recipe)[form])(*shapes_of(recipe))
    products = list(products_in(program.jaxpr))
    asked = {
        p if isinstance(p := equation.params["precision"], tuple) else (p, p)
        for equation in products
    }
    return len(products), asked


def cases() -> list:
    """List (recipe, form): all forms of the default recipe, one of every other."""
    networks = {recipe.model: name for name, recipe in RECIPES.items()}
    listed = {(name, "jit") for name in networks.values()}
    default = forms(RECIPES[DEFAULT_RECIPE])
    return sorted(listed | {(DEFAULT_RECIPE, form) for form in default})


@pytest.mark.parametrize(("recipe", "form"), cases())
def test_every_product_asks_for_full_float32(recipe, form):
    count, asked = precisions(RECIPES[recipe], form)
    layers = sum(row.parameters > 0 for row in layer_rows(RECIPES[recipe].model))
    backward = 0 if form == "evaluation" else layers
    assert count >= layers + backward
    assert asked == HIGHEST


@pytest.mark.parametrize("precision", ["default", "high"])
def test_a_network_that_asks_for_less_has_less(precision):
    recipe = RECIPES[DEFAULT_RECIPE]
    less = replace(recipe, model=replace(recipe.model, matmul_precision=precision))
    expected = jax.lax.Precision(precision)
    assert precisions(less, "jit")[1] == {(expected, expected)}


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_what_is_exported_keeps_it(platform):
    recipe = RECIPES[DEFAULT_RECIPE]
    run = jax.jit(forms(recipe)["jit"])
    text = export.export(run, platforms=[platform])(*shapes_of(recipe)).mlir_module()
    products = re.findall(r"stablehlo\.(?:dot_general|convolution).*", text)
    assert len(products) >= 6  # of three layers, forward and backward
    assert all(line.count("HIGHEST") == 2 for line in products)
