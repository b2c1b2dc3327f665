"""What the library's functions accept and what they refuse: one table, in literals.

Each row is a call, and a part of the one line that refuses it; or ACCEPTED, where it is
taken (and true, if it is a comparison). The rows run in one process of their own, as a
user's program would: without the type checker that the other tests have.
"""

from __future__ import annotations

import json
import pickle
import sys
from dataclasses import replace
from pathlib import Path

import batches
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from strategy_table import DIVIDED

import cnnjax
from cnnjax import devices, faults, statistics
from cnnjax.data import order, preprocessing, splits
from cnnjax.experiments import adapting, ensembles
from cnnjax.gradients import microbatches, reductions
from cnnjax.models import initializers, layers, stack
from cnnjax.results import workdir
from cnnjax.strategies import Options
from cnnjax.training import epochs, evaluation, optimizers, schedules, updates

ACCEPTED = None
STRATEGIES = (
    *("eager", "serial", "jit", "vmap", "vmap_norms", "factored", "factored_norms"),
    *("sharded", "shard_map", "shard_map_vmap", "shard_map_factored"),
    *("pmap", "pmap_vmap"),
)
ON_DEVICES = STRATEGIES[8:]  # whose microbatches are of each device's part

TABLE: list[tuple[str, str | None]] = [
    # Names.
    ("get_recipe('Adam_Cosine_CNN')", "did you mean adam_cosine_cnn?"),
    ("get_recipe('adam-cosine-cnn')", "did you mean adam_cosine_cnn?"),
    ("get_recipe('sgd wide cnn')", "did you mean sgd_wide_cnn?"),
    ("get_recipe('swc')", "did you mean sgd_wide_cnn?"),
    ("get_recipe(None)", "unknown recipe None; known: adam"),
    ("get_recipe(['jit'])", "unknown recipe ['jit']; known: adam"),
    ("load_dataset('DIGITS')", "did you mean digits?"),
    ("load_dataset('Fashion-MNIST')", "did you mean fashion_mnist?"),
    ("load_dataset(None)", "unknown dataset None; known: cifar10"),
    ("load_dataset(['digits'])", "unknown dataset ['digits']; known: cifar10"),
    ("load_dataset('idx', data_dir=3)", "data_dir of kind str or PathLike, got 3"),
    ("load_dataset('mnist', data_dir=True)", "of kind str or PathLike, got True"),
    ("load_dataset('cifar10', data_dir=b'/tmp')", "str or PathLike, got b'/tmp'"),
    ("load_dataset('housing', data_dir=['a'])", "of kind str or PathLike, got ['a']"),
    ("load_dataset('tfds:mnist', data_dir=0)", "of kind str or PathLike, got 0"),
    ("load_dataset('digits', data_dir=1.5)", "of kind str or PathLike, got 1.5"),
    (
        "load_dataset('idx', data_dir=Path('/nowhere'))",
        "to be a folder, got '/nowhere'",
    ),
    ("get_loss('Softmax_Cross_Entropy')", "did you mean softmax_cross_entropy?"),
    ("get_loss(3)", "unknown loss 3; known: mean"),
    ("get_loss(np.str_('mean_squared_error'))", ACCEPTED),
    ("Activation('ReLU')", "did you mean relu?"),
    ("Activation(None)", "unknown activation None; known: leaky"),
    ("make_strategy('JIT', loss)", "did you mean jit?"),
    ("make_strategy('shard-map', loss)", "did you mean shard_map?"),
    ("make_strategy(['jit'], loss)", "unknown strategy ['jit']; known: eager"),
    ("make_strategy(None, loss)", "unknown strategy None; known: eager"),
    # Overrides: fields, and whole parts.
    ("override(recipe, epochs='3')", "epochs of at least 0, a whole number, got '3'"),
    ("override(recipe, epochs=2.0)", "epochs of at least 0, a whole number, got 2.0"),
    ("override(recipe, epochs=True)", "a whole number, got True"),
    ("override(recipe, epochs=np.bool_(True))", "a whole number, got np.True_"),
    ("override(recipe, epochs=[3])", "a whole number, got [3]"),
    ("override(recipe, batch_size=2.5)", "batch_size, a whole number, got 2.5"),
    ("override(recipe, num_train='all')", "num_train, a whole number, got 'all'"),
    ("override(recipe, learning_rate='0.1')", "learning_rate finite and at least 0, a"),
    ("override(recipe, learning_rate=True)", "a number, got True"),
    ("override(recipe, learning_rate=[0.1])", "a number, got [0.1]"),
    ("override(recipe, learning_rate=1j)", "a number, got 1j"),
    ("override(recipe, learning_rate=np.float32(np.nan))", "at least 0, got nan"),
    ("override(recipe, momentum=np.ones(2))", "a number, got array([1., 1.])"),
    ("override(recipe, l2=float('inf'))", "l2 finite and at least 0, got inf"),
    ("override(recipe, lr=0.1)", "has no lr to set; did you mean learning_rate?"),
    ("override(recipe, Epochs=3)", "has no Epochs to set; did you mean epochs?"),
    ("override(recipe, shuffle='Once')", "did you mean once?"),
    ("override(recipe, shuffle=0)", "unknown shuffle 0; known: every_epoch"),
    ("override(recipe, precision='Float32')", "did you mean float32?"),
    ("override(recipe, precision=np.int32)", "unknown precision 'int32'; known: bf"),
    ("override(recipe, matmul_precision='low')", "unknown matmul_precision 'low'"),
    ("override(recipe, initializer=3)", "initializer of kind Initializer, got 3"),
    ("override(recipe, algorithm=3)", "algorithm of kind Adam or AdamW or Sgd or Muon"),
    (
        "override(recipe, schedule=Sgd())",
        "kind Constant or Cosine or OneCycle or WarmupCosine, or one with rates, got",
    ),
    ("override(recipe, model='cnn')", "model of kind ModelConfig, got 'cnn'"),
    ("override(recipe, optimizer=Adam())", "optimizer of kind OptimizerConfig, got A"),
    ("override(recipe, split=0.2)", "split of kind Official or HoldOut, got 0.2"),
    ("override(recipe, preprocessing='unit')", "preprocessing of kind Identity or"),
    ("override(recipe, dataset=3)", "dataset of kind str, got 3"),
    ("override(recipe, loss='mse')", "did you mean mean_squared_error?"),
    ("override('adam_cosine_cnn')", "recipe (see get_recipe) of kind Recipe, got 'ad"),
    ("override(recipe, model=other, epochs=2).model == other", ACCEPTED),
    ("override(recipe, model=other, dtype='bfloat16').model.layers", ACCEPTED),
    ("override(recipe, optimizer=adam).optimizer == adam", ACCEPTED),
    (
        "override(recipe, optimizer=adam, b1=0.5).optimizer.algorithm.b1 == 0.5",
        ACCEPTED,
    ),
    ("override(recipe, optimizer=adam, l2=0.5).optimizer.l2 == 0.5", ACCEPTED),
    ("override(recipe, optimizer=adam, momentum=0.5)", "with Adam and Constant, has"),
    ("override(recipe, algorithm=Adam()).optimizer.algorithm == Adam()", ACCEPTED),
    (
        "override(recipe, schedule=Cosine(cosine_epochs=3), min_learning_rate=0.01)",
        None,
    ),
    ("override(recipe, initializer=PYTORCH).model.initializer == PYTORCH", ACCEPTED),
    ("override(recipe, split=HoldOut(0.5)).split == HoldOut(0.5)", ACCEPTED),
    ("override(recipe, preprocessing=Identity()).preprocessing", ACCEPTED),
    ("override(cosine, learning_rate=1, min_learning_rate=0.9)", ACCEPTED),
    # NumPy's and JAX's numbers, which are kept as Python's.
    ("override(recipe, epochs=np.int64(3)) == override(recipe, epochs=3)", ACCEPTED),
    ("hash(override(recipe, epochs=jnp.int32(3)))", ACCEPTED),
    ("type(override(recipe, batch_size=np.array(16)).batch_size) is int", ACCEPTED),
    ("type(override(recipe, num_train=np.uint8(16)).num_train) is int", ACCEPTED),
    ("type(override(cosine, cosine_epochs=np.int8(2)).epochs) is int", ACCEPTED),
    ("override(recipe, l2=np.float32(0.5)) == override(recipe, l2=0.5)", ACCEPTED),
    ("override(recipe, l2=jnp.bfloat16(0.5)) == override(recipe, l2=0.5)", ACCEPTED),
    ("override(recipe, l2=jnp.asarray(0.5)) == override(recipe, l2=0.5)", ACCEPTED),
    ("type(override(recipe, momentum=np.int64(0)).optimizer.l2) is float", ACCEPTED),
    ("json.dumps(plain(override(recipe, epochs=np.int64(3), l2=np.float32(1))))", None),
    ("pickle.loads(pickle.dumps(override(recipe, epochs=np.int64(3))))", ACCEPTED),
    # Layers, networks, initializers, optimizers, schedules.
    ("Conv(np.int64(3), kernel_size=jnp.int32(3)) == Conv(3, kernel_size=3)", ACCEPTED),
    ("Conv('3', kernel_size=3)", "features of at least 1, a whole number, got '3'"),
    ("Conv(3, kernel_size=(3, 3))", "kernel_size of at least 1, a whole number, got ("),
    ("Conv(3, kernel_size=3, padding='SAME')", "padding of at least 0, a whole number"),
    ("Dense(2.5)", "features of at least 1, a whole number, got 2.5"),
    ("Dense(np.array([3]))", "features of at least 1, a whole number, got array([3])"),
    ("MaxPool(np.int32(2)) == MaxPool(2)", ACCEPTED),
    ("MaxPool(0)", "window of at least 1, got 0"),
    ("Dropout(np.float64(0.5)) == Dropout(0.5)", ACCEPTED),
    ("Dropout('0.5')", "rate in [0, 1), a number, got '0.5'"),
    ("replace(other, input_shape=[8, np.int64(8), 1]) == other", ACCEPTED),
    ("replace(other, input_shape=np.array([8, 8, 1])) == other", ACCEPTED),
    ("replace(other, layers=list(other.layers)) == other", ACCEPTED),
    ("replace(other, dtype=jnp.float32) == other", ACCEPTED),
    ("replace(other, input_shape=8)", "input_shape to be a tuple, got 8"),
    ("replace(other, input_shape=(8, 0, 1))", "input_shape of at least 1, got 0"),
    ("replace(other, layers=Dense(3))", "layers to be a tuple, got Dense(features=3)"),
    ("replace(other, layers=('relu',))", "layers of kind Conv or Dense or"),
    ("replace(other, layers=())", "at least one layer, got ()"),
    ("replace(other, initializer='pytorch')", "initializer of kind Initializer, got '"),
    ("replace(other, dtype='int32')", "unknown dtype 'int32'; known: bfloat16"),
    ("Initializer(gain=np.float32(2)) == Initializer(gain=2.0)", ACCEPTED),
    ("Initializer(gain='2')", "gain finite and at least 0, a number, got '2'"),
    ("Initializer(gain=1.0, fan='out')", "unknown fan 'out'; known: in, one, sum"),
    ("Adam(b1='0.9')", "b1 in [0, 1), a number, got '0.9'"),
    ("Cosine(cosine_epochs=2.0)", "cosine_epochs of at least 1, a whole number, got 2"),
    ("Cosine(cosine_epochs=2, cosine_unit='epochs')", "did you mean epoch? known: "),
    ("HoldOut('0.2')", "fraction in (0, 1), a number, got '0.2'"),
    ("HoldOut(2)", "fraction in (0, 1), got 2.0"),
    ("HoldOut(np.float64(0.5)) == HoldOut(0.5)", ACCEPTED),
    ("Standardize([0.5], np.ones(1)) == Standardize((0.5,), (1.0,))", ACCEPTED),
    ("Standardize(0.5)", "mean to be a tuple, got 0.5"),
    ("Standardize(std=(0.0,))", "std above 0, got 0.0"),
    ("make_schedule(adam, steps_per_epoch=0)", "steps_per_epoch of at least 1, got 0"),
    ("make_schedule(adam, steps_per_epoch=1.5)", "steps_per_epoch of at least 1, a"),
    ("make_schedule(Adam(), steps_per_epoch=1)", "config of kind OptimizerConfig, got"),
    ("make_schedule(adam, steps_per_epoch=np.int64(3))", ACCEPTED),
    ("make_optimizer(Adam(), schedule)", "config of kind OptimizerConfig, got Adam"),
    ("make_optimizer(adam, 0.1)", "schedule to be a function, got 0.1"),
    ("make_optimizer(adam, schedule)", ACCEPTED),
    ("reductions.clipped('1')", "max_norm of at least 1e-12, a number, got '1'"),
    ("reductions.clipped(np.float32(1))", ACCEPTED),
    ("summary(recipe)", "config (a recipe's model) of kind ModelConfig, got Recipe"),
    ("summary(other)", ACCEPTED),
    # What float32 does not hold as what it means.
    ("Adam(b1=1 - 1e-9)", "b1 in [0, 1), got 0.999999999, which is 1.0 in float32"),
    ("Adam(b2=1 - 1e-9)", "b2 in [0, 1), got 0.999999999, which is 1.0 in float32"),
    ("Adam(b2=1 - 1e-7)", ACCEPTED),
    ("Adam(eps=1e-46)", "eps above 0, got 1e-46, which is 0.0 in float32"),
    ("Adam(eps=1e-40)", "eps above 0, got 1e-40, which is 0.0 in float32"),
    ("Adam(eps=1e-37)", ACCEPTED),
    ("AdamW(weight_decay=-0.1)", "weight_decay finite and at least 0, got -0.1"),
    ("AdamW(weight_decay='much')", "weight_decay finite and at least 0, a number, got"),
    ("Muon(momentum=1.0)", "momentum in [0, 1), got 1.0"),
    ("Muon(weight_decay=np.inf)", "weight_decay finite and at least 0, got inf"),
    ("Sgd(nesterov=True)", "momentum above 0 with nesterov, got 0.0"),
    ("Sgd(momentum=0.9, nesterov=1)", "nesterov of kind bool, got 1"),
    ("WarmupCosine(warmup_epochs=-1)", "warmup_epochs finite and at least 0, got -1"),
    ("override(recipe, max_norm=0)", "max_norm above 0, got 0"),
    ("override(recipe, max_norm=np.nan)", "max_norm above 0, got nan"),
    ("override(recipe, label_smoothing=1)", "label_smoothing in [0, 1), got 1"),
    ("override(recipe, label_smoothing='0.1')", "label_smoothing in [0, 1), a number"),
    ("adapted(recipe, 'digits')", "dataset (see load_dataset) of kind Dataset, got 'd"),
    ("adapted('cnn', data)", "recipe (see get_recipe) of kind Recipe, got 'cnn'"),
    ("load_dataset('npz:')", "unknown dataset 'npz:'; did you mean npz:FILE?"),
    ("load_dataset('folder:/nowhere')", "what follows folder: to be a folder, got '/n"),
    ("Sgd(momentum=1 - 1e-8)", "momentum in [0, 1), got 0.99999999, which is 1.0 in"),
    ("Sgd(momentum=1e-50)", "momentum in [0, 1), got 1e-50, which is 0.0 in float32"),
    ("override(recipe, learning_rate=1e-46)", "0, got 1e-46, which is 0.0 in float32"),
    ("override(recipe, learning_rate=1e39)", "0, got 1e+39, which is inf in float32"),
    ("override(recipe, learning_rate=1e38)", ACCEPTED),
    ("override(recipe, l2=1e-39)", "l2 finite and at least 0, got 1e-39, which is 0.0"),
    ("override(cosine, min_learning_rate=1e-60)", "got 1e-60, which is 0.0 in float32"),
    ("Standardize(std=(1e-46,))", "std above 0, got 1e-46, which is 0.0 in float32"),
    (
        "Standardize(std=(1.0, 1e300))",
        "std above 0, got 1e+300, which is inf in float3",
    ),
    ("Standardize(mean=(-1e39,))", "mean to be finite, got -1e+39, which is -inf in "),
    ("Initializer(gain=1e80)", "gain finite and at least 0, got 1e+80, which is inf i"),
    ("Dropout(1 - 1e-9)", "rate in [0, 1), got 0.999999999, which is 1.0 in float32"),
    ("HoldOut(1e-50)", "fraction in (0, 1), got 1e-50, which is 0.0 in float32"),
    # Parameters, and the network.
    ("init(0, other)", "key to be one key, as of jax.random.key(0), got 0"),
    ("init(jax.random.split(key, 2), other)", "key to be one key, as of jax.random.ke"),
    ("init(np.zeros(2), other)", "key to be one key, as of jax.random.key(0), got a"),
    ("init(key, recipe)", "config of kind ModelConfig, got Recipe("),
    ("init(jax.random.PRNGKey(0), other)", ACCEPTED),
    ("make_apply(recipe)", "config of kind ModelConfig, got Recipe("),
    ("apply(params, image)", ACCEPTED),
    ("apply(params, image[..., 0])", "network's input_shape (8, 8, 1) (jax.vmap map"),
    ("apply(params, image[None])", "(jax.vmap maps it), got (1, 8, 8, 1)"),
    ("apply(params, image[:7])", "input_shape (8, 8, 1) (jax.vmap maps it), got (7, 8"),
    ("apply({}, image)", "the parameters of this network, as init draws them: "),
    ("apply({'flat': params['dense_1']}, image)", "the parameters of this network, as"),
    ("apply({'dense_1': narrow}, image)", "the parameters of this network, as init dr"),
    # Convolution and pooling.
    (
        "conv2d(plane, kernel, padding=[[1, np.int64(1)], (0, 0)]).shape == (6, 4, 4)",
        None,
    ),
    ("conv2d(np.ones((6, 6, 2)), np.ones((3, 3, 2, 4))).shape == (4, 4, 4)", ACCEPTED),
    ("conv2d(plane[None], kernel)", "an array [height, width, channels], got (1, 6, 6"),
    ("conv2d(plane[..., 0], kernel)", "an array [height, width, channels], got (6, 6)"),
    ("conv2d([[1.0]], kernel)", "an array [height, width, channels], got [[1.0]]"),
    ("conv2d(plane, kernel[0])", "[kernel_height, kernel_width, channels, features]"),
    ("conv2d(plane[..., :1], kernel)", "a kernel of 1 channels, as the image has, got"),
    ("conv2d(plane.astype(np.uint8), kernel)", "a kernel of uint8, as the image is"),
    ("conv2d(plane[:2], kernel)", "a kernel that fits in (2, 6), padded, got (3, 3)"),
    (
        "conv2d(plane.astype('uint8'), kernel.astype('uint8'))",
        "floats, got dtype('uint",
    ),
    (
        "conv2d(plane.astype('int32'), kernel.astype('int32'))",
        "floats, got dtype('int3",
    ),
    ("conv2d(plane.astype(bool), kernel.astype(bool))", "of floats, got dtype('bool')"),
    ("conv2d(plane.astype('bfloat16'), kernel.astype('bfloat16'))", ACCEPTED),
    ("conv2d(plane, kernel, precision='foo')", "unknown precision 'foo'; known: defau"),
    ("conv2d(plane, kernel, precision='HIGH')", "did you mean high?"),
    ("conv2d(plane, kernel, precision=3)", "unknown precision 3; known: default, high"),
    ("conv2d(plane, kernel, precision=None)", ACCEPTED),
    ("conv2d(plane, kernel, precision=jax.lax.Precision.HIGHEST)", ACCEPTED),
    ("conv2d(plane, kernel, padding='SAME')", "padding to be a tuple, got 'SAME'"),
    ("conv2d(plane, kernel, padding=(1, 1))", "padding to be a tuple, got 1"),
    ("conv2d(plane, kernel, padding=((0, 0),) * 3)", "((top, bottom), (left, right)),"),
    ("conv2d(plane, kernel, padding=((-1, 0), (0, 0)))", "padding of at least 0, got "),
    ("max_pool2d(plane, window=np.int64(2)).shape == (3, 3, 2)", ACCEPTED),
    ("max_pool2d(plane, window=7)", "window to fit in 6 x 6, got 7"),
    ("max_pool2d(plane, window=0)", "window of at least 1, got 0"),
    ("max_pool2d(plane, window=2.0)", "window of at least 1, a whole number, got 2.0"),
    ("max_pool2d(plane[None], window=2)", "an array [height, width, channels], got (1"),
    # Losses, strategies, steps.
    ("make_loss_fn(apply, loss_of_output='mse', preprocess=abs)", "(see get_loss) to "),
    ("make_loss_fn(params, loss_of_output=abs, preprocess=abs)", "apply_fn to be a fu"),
    ("make_loss_fn(apply, loss_of_output=abs, preprocess=None)", "preprocess to be a "),
    ("make_strategy('jit', 'mse')", "loss_fn to be a function, got 'mse'"),
    ("make_strategy('jit', loss, {})", "options of kind Options, got {}"),
    ("make_strategy('jit', loss, 16)", "options of kind Options, got 16"),
    ("make_strategy('jit', loss, Options(mesh=2))", "made by devices.make_mesh, got"),
    ("make_strategy('shard_map', loss, Options(own_mesh))", "make_mesh, got ('x',)"),
    ("STRATEGIES['pmap'](loss, Options(own_mesh))", "make_mesh, got ('x',)"),
    ("make_strategy('jit', loss, Options(None, '3'))", "microbatch_size of at least 1"),
    ("make_strategy('jit', loss, Options(None, 2.5))", "a whole number, got 2.5"),
    ("make_strategy('jit', loss, Options(None, True))", "a whole number, got True"),
    ("STRATEGIES['jit'](loss, Options(None, 0))", "microbatch_size of at least 1, got"),
    ("grads('jit', microbatch_size=np.int64(12))", ACCEPTED),
    ("microbatched(abs, size=0)", "microbatch_size of at least 1, got 0"),
    ("make_mesh(np.int64(2), model_devices=np.int8(2)).size == 2", ACCEPTED),
    ("make_mesh('2')", "num_devices from 1 to the 4 available cpu devices (see --"),
    ("make_mesh(2.0)", "(see --num_devices), a whole number, got 2.0"),
    ("make_mesh(True)", "(see --num_devices), a whole number, got True"),
    ("make_mesh(5)", "num_devices from 1 to the 4 available cpu devices (see --nu"),
    ("make_mesh(model_devices='2')", "model_devices to divide the 4 devices, a whole"),
    ("make_mesh(model_devices=3)", "model_devices to divide the 4 devices, got 3"),
    ("init_state(params, adam)", "(see make_optimizer) of kind GradientTransformation"),
    ("init_state(params, optimizer)", ACCEPTED),
    ("make_train_step(jit, optimizer)", "value_and_grad (of a strategy) to be a funct"),
    ("make_train_step(jit.value_and_grad, adam)", "of kind GradientTransformation, go"),
    ("make_train_step(jit.value_and_grad, optimizer)", ACCEPTED),
    # A microbatch that is larger than what it is taken from.
    *[
        (f"grads('{name}', microbatch_size=4)", ACCEPTED)  # of 12, or of 4 of them
        for name in STRATEGIES
    ],
    *[
        (f"grads('{name}', microbatch_size=13)", "microbatch_size of at most the ")
        for name in STRATEGIES
    ],
    *[
        (f"grads('{name}', microbatch_size=5)", "of at most the 4 examples to take it ")
        for name in ON_DEVICES
    ],
    ("prepared('jit', microbatch_size=17)", "at most 16, the batch size, for strategy"),
    ("prepared('shard_map', microbatch_size=7)", "at most 6, each device's part of 16"),
    ("prepared('shard_map', microbatch_size=6)", ACCEPTED),
    ("prepared('sharded', microbatch_size=16)", ACCEPTED),
    ("type(prepared('jit', microbatch_size=np.int64(2)).options[1]) is int", ACCEPTED),
    # Training and testing.
    ("prepare('tiny', data)", "recipe (see get_recipe) of kind Recipe, got 'tiny'"),
    ("prepare(recipe, 'digits')", "dataset (see load_dataset) of kind Dataset, got 'd"),
    ("prepare(recipe, data, options=None)", "options of kind Options, got None"),
    ("switch_in(prepare(recipe, data), 'no_momentum')", "names of faults as a list, "),
    ("prepare(recipe, data, seed=1.5)", "seed from 0 to 2**32 - 1, a whole number, go"),
    ("prepare(recipe, data, seed='0')", "seed from 0 to 2**32 - 1, a whole number, go"),
    ("prepare(recipe, data, seed=2**32)", "seed from 0 to 2**32 - 1, got 4294967296"),
    ("prepare(recipe, data, seed=-1)", "seed from 0 to 2**32 - 1, got -1"),
    ("type(prepare(recipe, data, seed=np.int64(3)).seed) is int", ACCEPTED),
    ("prepare(override(recipe, num_train=np.int64(41)), data)", "num_train from 1 to"),
    ("fit(recipe, data, seed=True)", "seed from 0 to 2**32 - 1, a whole number, got T"),
    ("fit(recipe, data, evaluate_every=-1)", "evaluate_every of at least 0, got -1"),
    ("run(experiment, evaluate_every=0.5)", "evaluate_every of at least 0, a whole n"),
    ("fit(recipe, data, on_epoch=None)", "on_epoch to be a function, got None"),
    ("fit(recipe, data, on_epoch=5)", "on_epoch to be a function, got 5"),
    ("run(experiment, on_epoch='print')", "on_epoch to be a function, got 'print'"),
    ("run(experiment, on_progress=None)", "on_progress to be a function, got None"),
    ("run(experiment, clock=5)", "clock of kind Clock, got 5"),
    ("run(experiment, updates=[])", "updates of kind Updates, got []"),
    (
        "train(params, data.train, **loop, callbacks=None)",
        "of kind Callbacks, got None",
    ),
    (
        "train(params, data.train, **loop, callbacks=Callbacks(on_epoch=5))",
        "on_epoch to be a function, got 5",
    ),
    ("list(run_seeds(abs, [0], callbacks=Callbacks()))", "of kind SeedCallbacks, got "),
    (
        "list(run_seeds(abs, [0], callbacks=SeedCallbacks(on_progress=None)))",
        "on_progress to be a function, got None",
    ),
    ("list(run_seeds(abs, [0], clock=1.0))", "clock of kind Clock, got 1.0"),
    ("run(recipe)", "experiment (see prepare) of kind Experiment, got Recipe("),
    ("list(run_seeds(abs, [0, '1']))", "seeds of at least 0, a whole number, got '1'"),
    ("list(run_seeds(abs, 3))", "seeds to be a tuple, got 3"),
    ("list(run_seeds(abs, [2, np.int64(2)]))", "each seed once, got (2, 2)"),
    ("list(run_seeds(None, [0]))", "prepare_fn to be a function, got None"),
    ("list(run_seeds(abs, [0], group_size=0))", "group_size of at least 1, got 0"),
    ("list(run_seeds(abs, [0], evaluate_every=None))", "evaluate_every of at least 0,"),
    ("make_evaluate('mse', data.test, params)", "loss_fn to be a function, got 'mse'"),
    ("make_evaluate(loss, data.test, params)(params)", ACCEPTED),
    ("make_evaluate(loss, data.test, params)(np_params)", ACCEPTED),
    ("make_evaluate(loss, tuple(data.test), params)(params)", ACCEPTED),
    (
        "make_evaluate(loss, data.test, params, put_state=None)",
        "put_state to be a func",
    ),
    ("make_evaluate(loss, data.test, params, put_batch=5)", "put_batch to be a functi"),
    ("make_evaluate(loss, data.test, None)", "params to be a tree of arrays, got None"),
    ("make_evaluate(loss, data.test, 'best')", "to be a tree of arrays, got 'best'"),
    (
        "make_evaluate(loss, None, params)",
        "expected Examples(inputs, labels), got None",
    ),
    ("make_evaluate(loss, 3, params)", "examples: expected Examples(inputs, labels), "),
    (
        "make_evaluate(loss, (1, 2, 3), params)",
        "Examples(inputs, labels), got tuple of 3",
    ),
    (
        "make_evaluate(loss, data.test, params)({'dense_1': narrow})",
        "params['dense_1']['kernel'] of float32 (64, 3), as compiled for, got float32",
    ),
    ("make_evaluate(loss, data.test, params)({})", "as compiled for, got no leaf; com"),
    (
        "make_evaluate(loss, data.test, params)(None)",
        "to be a tree of arrays, got None",
    ),
    (
        "make_evaluate(loss, data.test, params)({**params, 'more': narrow})",
        "params['more']['bias'] of no leaf, as compiled for, got float32 (3,)",
    ),
    ("make_evaluate(loss, data.test, params)(params, 5)", "Examples(inputs, labels), "),
    ("make_predict(None, data.test)", "apply_fn to be a function, got None"),
    ("make_evaluate(loss, data.test, params, batch_size=0)", "batch_size of at least "),
    ("make_evaluate(loss, data.test, params, batch_size=1.5)", "at least 1, a whole n"),
    ("LoopConfig(batch_size='8', epochs=1)", "batch_size, a whole number, got '8'"),
    ("LoopConfig(batch_size=8, epochs=1.5)", "epochs of at least 0, a whole number, g"),
    ("LoopConfig(batch_size=8, epochs=1, shuffle=True)", "unknown shuffle True; known"),
    (
        "LoopConfig(batch_size=8, epochs=1, examples_per_epoch=0).check(40)",
        "from 8 to 40",
    ),
    ("type(LoopConfig(batch_size=np.int64(8), epochs=1).batch_size) is int", ACCEPTED),
    ("take_batch(data.train, order, 0, batch_size=np.int64(8))", ACCEPTED),
    ("take_batch(data.train, order, 0, batch_size=0)", "batch_size of at least 1, got"),
    ("take_batch(data.train, order[:8], 0, batch_size=8)", ACCEPTED),
    ("take_batch(data.train, np.arange(40), 4, batch_size=8)", ACCEPTED),
    ("take_batch(data.train, order, jnp.int32(4), batch_size=8)", ACCEPTED),
    ("take_batch(data.train, order, 5, batch_size=8)", "index from 0 to 4, got 5"),
    ("take_batch(data.train, order, -1, batch_size=8)", "index from 0 to 4, got -1"),
    ("take_batch(data.train, order, 0.5, batch_size=8)", "to 4, a whole number, got 0"),
    ("take_batch(data.train, order, True, batch_size=8)", "a whole number, got True"),
    ("take_batch(data.train, order, None, batch_size=8)", "a whole number, got None"),
    ("take_batch(data.train, order + 1, 0, batch_size=8)", "0 to 39, got (1, 40)"),
    ("take_batch(data.train, order - 1, 0, batch_size=8)", "0 to 39, got (-1, 38)"),
    ("take_batch(data.train, np.array([99]), 0, batch_size=8)", "39, got (99, 99)"),
    ("take_batch(data.train, [0, 1], 0, batch_size=2)", "whole numbers, got [0, 1]"),
    ("take_batch(data.train, None, 0, batch_size=2)", "whole numbers, got None"),
    ("take_batch(data.train, order / 2, 0, batch_size=8)", "numbers, got dtype('float"),
    ("take_batch(data.train, order > 8, 0, batch_size=8)", "numbers, got dtype('bool'"),
    ("take_batch(data.train, order[None], 0, batch_size=8)", "there are, got (1, 40)"),
    ("take_batch(None, order, 0, batch_size=8)", "examples of kind Examples, got None"),
    ("jax.jit(batch_at)(order, 0)", ACCEPTED),  # traced: nothing is known
    ("jax.jit(lambda: batch_at(order + 0, 0))()", ACCEPTED),
    ("jax.jit(lambda: batch_at(own_order, 0))()", "from 0 to 39, got (0, 40)"),
    ("take_batch(data.train, order[:0], 0, batch_size=8)", "an order of 1 to 40 examp"),
    ("take_batch(data.test, order, 0, batch_size=8)", "an order of 1 to 8 examples, a"),
    # Predictions.
    ("predict(experiment, params, data.test.inputs[0]).shape == ()", ACCEPTED),
    ("predict(experiment, params, data.test.inputs).shape == (8,)", ACCEPTED),
    ("predict(experiment, params, data.test.inputs[:0]).shape == (0,)", ACCEPTED),
    ("(predict(experiment, params, data.test.inputs) == singly()).all()", ACCEPTED),
    ("predict(experiment, params, data.test.inputs[0].tolist()).shape == ()", ACCEPTED),
    ("predict(experiment, params, jnp.zeros((8, 8, 1))).shape == ()", ACCEPTED),
    ("predict(experiment, params, np.zeros((8, 8)))", "one example of shape (8, 8, 1)"),
    ("predict(experiment, params, np.zeros((9, 8, 1)))", "a new first axis, got (9, 8"),
    ("predict(experiment, params, np.zeros((2, 2, 8, 8, 1)))", "axis, got (2, 2, 8, 8"),
    ("predict(experiment, params, 3)", "one example of shape (8, 8, 1), or several"),
    ("predict(experiment, params, np.full((8, 8, 1), 0.5))", "expects 0 to 255; got g"),
    ("predict(experiment, params, np.full((8, 8, 1), np.nan))", "expected finite numb"),
    ("predict(experiment, params, np.full((8, 8, 1), np.inf))", "expected finite numb"),
    ("predict(experiment, params, np.ones((8, 8, 1), 'uint8')).shape == ()", ACCEPTED),
    ("predict(experiment, params, np.full((8, 8, 1), 256))", "divides pixels by 255, "),
    ("predict(experiment, params, np.full((8, 8, 1), -0.5))", "divides pixels by 255,"),
    ("predict(experiment, params, np.full((8, 8, 1), 'a'))", "integers or floats, got"),
    ("predict(experiment, params, np.full((8, 8, 1), 1j))", "integers or floats, got"),
    ("predict(experiment, {}, data.test.inputs[0])", "the parameters of this network"),
    ("predict(recipe, params, data.test.inputs[0])", "of kind Experiment, got Recipe("),
]

# What no sample of numbers is. Each function has the arguments before and behind it.
SAMPLES = {
    "compare_means": ("", ", [0.1, 0.2, 0.3]"),
    "compare_pairs": ("[0.1, 0.2, 0.4], ", ""),
    "mean_interval": ("", ""),
    "prediction_interval": ("", ""),
}
NO_SAMPLES = (
    *("['a', 'b', 'c']", "['0.9', '0.8', '0.7']", "np.array(['0.9', '0.8', '0.7'])"),
    *("'abc'", "b'abc'", "0.9", "np.float64(0.9)", "None", "{0.9: 1, 0.8: 2, 0.7: 3}"),
    *("iter([0.9, 0.8, 0.7])", "(v for v in [0.9, 0.8, 0.7])", "{0.9, 0.8, 0.7}"),
    *("[True, False, True]", "np.array([True, False, True])", "[0.9, 0.8, True]"),
    *("[0.9, 0.8, 1j]", "np.array([0.9, 0.8, 1j])", "[0.9, 0.8, 10**400]", "[{}] * 3"),
    *("[0.9, 0.8, None]", "[0.9, 0.8, np.nan]", "np.array([0.9, 0.8, -np.inf])"),
    *("[[0.9, 0.8, 0.7]]", "np.ones((3, 3))", "[[0.9], [0.8, 0.7], []]"),
    *("np.ma.array([0.9, 0.8, 0.7], mask=[0, 0, 1])", "np.array('2020', 'M8[D]')"),
    *("np.array([0.9, 0.8, 0.7], object) * 1j", "jax.random.split(key, 3)"),
)
# Whole numbers are wanted of these.
ONES = "[1, 0, 1]"
CLASSES = (f"{{0}}, {ONES}, {ONES}", f"{ONES}, {{0}}, {ONES}", f"{ONES}, {ONES}, {{0}}")
NO_CLASSES = (
    *("[1, 0, 1.0]", "np.ones(3)", "['1', '0', '1']", "[True, False, True]", "'101'"),
    *("np.array([True, False, True])", "np.ones((3, 1), int)", "[[1, 0, 1]]", "1"),
    *("np.ma.array([1, 0, 1], mask=[0, 0, 1])", "iter([1, 0, 1])", "None", "{1, 0, 2}"),
    *("{1: 1, 0: 0, 2: 1}", "[1, 0, None]", "[1, 0, 1j]", "[[1], [0, 1], []]"),
)
TABLE += [
    (f"{name}({before}{wrong}{behind})", "expected values to be ")
    for name, (before, behind) in SAMPLES.items()
    for wrong in NO_SAMPLES
]
TABLE += [
    (f"mcnemar({where.format(wrong)})", "expected ")
    for where in CLASSES
    for wrong in NO_CLASSES
]
TABLE += [
    (f"{call} == {call.format('(3, 4, 5)')}".format(values), ACCEPTED)
    for call in (
        "mean_interval({0})",
        "prediction_interval({0})",
        "compare_means({0}, [1, 2])",
        "compare_pairs({0}, [1, 2, 4])",
        "mcnemar({0}, [3, 2, 5], [3, 4, 1])",
    )
    for values in (
        *("[3, 4, 5]", "np.array([3, 4, 5], 'uint8')"),
        *("jnp.array([3, 4, 5])", "np.ma.array([3, 4, 5])", "[np.int32(3), 4, 5]"),
    )
]
TABLE += [
    ("mcnemar([1, 0], [1], [0, 1])", "and at least one, got (2, 1, 2)"),
    ("mcnemar([1], [1, 0], [1, 0])", "and at least one, got (1, 2, 2)"),
    ("mcnemar([], [], [])", "and at least one, got (0, 0, 0)"),
    ("mcnemar([1, 0, 2], [1, 0, 1], [1, 1, 1])[:4] == (1, 1, 0, 1)", ACCEPTED),
    ("compare_pairs([1, 2, 3], [1, 2, 3, 4])", "as many values in a as in b, got (3,"),
]


@pytest.fixture(scope="module")
def outcomes(forks, tmp_path_factory):
    """Run every call; return the type and the words of what each raised, or None."""
    done = forks.run(Path(__file__), cwd=tmp_path_factory.mktemp("arguments"))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.xdist_group("arguments")  # the outcomes are of one process
@pytest.mark.parametrize(("call", "refusal"), TABLE, ids=[call for call, _ in TABLE])
def test_the_call_is_accepted_or_refused_in_one_line(call, refusal, outcomes):
    if refusal is ACCEPTED:
        assert outcomes[call] is None
        return
    kind, message = outcomes[call]
    assert kind == "InputError", message
    assert refusal in message
    assert "\n" not in message


def outcome(call: str, names: dict) -> list[str] | None:
    """Return the type and the words of what a call raises; None: it is accepted."""
    try:
        value = eval(call, names)
    except Exception as error:
        return [type(error).__name__, str(error)]
    return ["False", call] if value is False else None


def names_of_the_table() -> dict:
    """Return what the calls of the table name."""
    jax.config.update("jax_num_cpu_devices", 4)
    names = {name: getattr(cnnjax, name) for name in cnnjax.__all__}
    modules = (evaluation, epochs, initializers, layers, optimizers, stack)
    modules = (*modules, microbatches, devices, ensembles, faults, updates, workdir)
    modules = (*modules, schedules, adapting)
    for module in (*modules, statistics, order, preprocessing, splits):
        names = {**vars(module), **names}
    recipe = batches.TINY
    other = replace(recipe.model, layers=(stack.Flatten(), stack.Dense(3)))
    small = replace(recipe, model=other)
    dataset = batches.random_dataset(recipe, train=40, test=8)
    experiment = cnnjax.prepare(small, dataset)
    params, batch = experiment.params, batches.make_batch(experiment, 12)
    adam = optimizers.OptimizerConfig(algorithm=optimizers.Adam(), learning_rate=0.1)

    def grads(name: str, *, microbatch_size: object) -> object:
        mesh = devices.make_mesh(3) if name in DIVIDED else None
        options = experiment.options._replace(
            mesh=mesh, microbatch_size=microbatch_size
        )
        strategy = cnnjax.make_strategy(name, experiment.objective, options)
        return jax.eval_shape(strategy.value_and_grad, params, batch)

    def prepared(name: str, *, microbatch_size: object) -> object:
        options = Options(devices.make_mesh(3), microbatch_size)
        return cnnjax.prepare(replace(small, strategy=name), dataset, options=options)

    def singly() -> np.ndarray:
        images = dataset.test.inputs
        return np.array([cnnjax.predict(experiment, params, one) for one in images])

    return {
        **globals(),
        **names,
        "pickle": pickle,
        "reductions": reductions,
        "recipe": recipe,
        "other": other,
        "data": dataset,
        "experiment": experiment,
        "params": params,
        "loss": experiment.loss_fn,
        "optimizer": experiment.optimizer,
        "adam": adam,
        "grads": grads,
        "prepared": prepared,
        "singly": singly,
        "cosine": cnnjax.get_recipe("adam_cosine_cnn"),
        "schedule": cnnjax.make_schedule(adam, steps_per_epoch=1),
        "key": jax.random.key(0),
        "image": jnp.zeros((8, 8, 1)),
        "plane": jnp.ones((6, 6, 2)),
        "kernel": jnp.ones((3, 3, 2, 4)),
        "apply": cnnjax.make_apply(other),
        "narrow": {"kernel": jnp.zeros((3, 3)), "bias": jnp.zeros(3)},
        "order": jnp.arange(40),
        "own_order": jnp.arange(41)[1:].at[0].set(0),
        "batch_at": lambda order, index: names["take_batch"](
            dataset.train, order, index, batch_size=8
        ),
        "np_params": jax.tree.map(np.asarray, params),
        "loop": {
            "strategy": experiment.strategy,
            "optimizer": experiment.optimizer,
            "schedule": experiment.schedule,
            "config": experiment.loop,
            "keys": experiment.keys,
        },
        "own_mesh": jax.make_mesh((2,), ("x",)),
        "jit": cnnjax.make_strategy("jit", experiment.loss_fn),
    }


if __name__ == "__main__":
    known = names_of_the_table()
    print(json.dumps({call: outcome(call, dict(known)) for call, _ in TABLE}))
    sys.exit(0)
