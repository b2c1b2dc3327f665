"""Small faults, each of which changes a result: what `mutate.py` puts into the library.

A mutant replaces a text that its file has exactly once. Tests that are likely to catch
it come with it and are run first; whether any test at all does is the question.
"""

from __future__ import annotations

import mutant
from mutant import Mutant
from mutants_blind import BLIND_MUTANTS

OPTIMIZERS = ("tests/test_optimizers.py",)
AUGMENTATION = ("tests/test_augmentation.py",)
FASTEST = ("tests/test_fastest.py",)
ORDER = ("tests/test_data_order.py",)
DROPOUT = ("tests/test_dropout.py",)
LAYERS = ("tests/test_layers.py",)
MODELS = ("tests/test_models.py",)
HIGHEST = ("tests/test_highest.py",)
DEALING = ("tests/test_dealing.py",)
LAWS = ("tests/test_dealing.py", "tests/test_strategy_laws.py")
EVALUATION = ("tests/test_evaluation.py",)
TRAINING = ("tests/test_training.py",)
EPOCHS = ("tests/test_epochs.py", "tests/test_evaluation.py")
PER_EXAMPLE = ("tests/test_per_example.py",)
SEEDS = ("tests/test_data_order.py", "tests/test_ensembles.py")
FINGERPRINTS = ("tests/test_fingerprints.py",)
FUZZED = ("tests/test_fuzz_data.py", "tests/test_data_idx.py")
CHECKPOINTS = ("tests/test_checkpoints.py",)
WORKDIR = ("tests/test_workdir.py", "tests/test_evaluation.py")

AVERAGES = ("tests/test_averages.py",)
STREAMING = ("tests/test_streaming.py",)
SWEEP = ("tests/test_sweep.py",)

MUTANTS = (
    # Streams and sweeps.
    Mutant(
        "window_begins_one_late",
        "A streamed window has the examples from one place further on.",
        "cnnjax/training/streaming.py",
        "places = self.starts[operator.index(index)] + np.arange(self.rows)",
        "places = self.starts[operator.index(index)] + 1 + np.arange(self.rows)",
        STREAMING,
    ),
    Mutant(
        "padding_of_a_stream_counts",
        "The copies that fill up the last streamed batch have weight 1.",
        "cnnjax/data/order.py",
        "weights=(positions < num_examples)",
        "weights=(positions < positions + 1)",
        STREAMING,
    ),
    Mutant(
        "validation_by_the_same_key",
        "Validation examples are drawn by the key that drew the test examples.",
        "cnnjax/data/splits.py",
        "key = jax.random.fold_in(key, _depth(split))",
        "key = key",
        SWEEP,
    ),
    Mutant(
        "choice_that_diverged",
        "A sweep chooses among all, also those that diverged.",
        "cnnjax/studies/sweeping/choosing.py",
        "whole = [one for one in tried if not one.diverged]",
        "whole = list(tried)",
        SWEEP,
    ),
    # Optimizers and schedules.
    Mutant(
        "clipped_number_by_number",
        "Each number of the gradient is clipped, and not its norm.",
        "cnnjax/training/optimizers.py",
        "optax.clip_by_global_norm(config.max_norm)",
        "optax.clip(config.max_norm)",
        OPTIMIZERS,
    ),
    Mutant(
        "clipped_after_the_l2",
        "What is clipped is the sum of the gradient and the L2.",
        "cnnjax/training/optimizers.py",
        "steps.insert(0, optax.clip_by_global_norm",
        "steps.insert(len(steps) - 1, optax.clip_by_global_norm",
        OPTIMIZERS,
    ),
    Mutant(
        "decay_of_biases",
        "AdamW's weight decay is on biases, too.",
        "cnnjax/training/algorithms.py",
        "mask=is_weight,",
        "mask=None,",
        OPTIMIZERS,
    ),
    Mutant(
        "kernels_as_they_lie",
        "Muon takes the last two axes of a kernel as its matrix.",
        "cnnjax/training/algorithms.py",
        "inputs = tuple(range(leaf.ndim - 1))",
        "inputs = (leaf.ndim - 2,)",
        OPTIMIZERS,
    ),
    Mutant(
        "warmup_begins_at_zero",
        "The first update of a warm-up learns nothing.",
        "cnnjax/training/schedules.py",
        "learning_rate * (done + 1) / warm",
        "learning_rate * done / warm",
        OPTIMIZERS,
    ),
    Mutant(
        "smoothing_for_the_others",
        "A smoothed label shares with the other classes only.",
        "cnnjax/models/losses.py",
        "jax.nn.logsumexp(logits) - jnp.mean(logits)",
        "jax.nn.logsumexp(logits) - (jnp.sum(logits) - logits[label]) / "
        "(logits.size - 1)",
        ("tests/test_losses.py",),
    ),
    Mutant(
        "smoothed_in_the_test",
        "The test measures the loss of smoothed labels.",
        "cnnjax/gradients/objective.py",
        "        test_loss_fn=measured,\n",
        "        test_loss_fn=replace(own, augment=None),\n",
        ("tests/test_losses.py",),
    ),
    Mutant(
        "average_of_one_decay",
        "The first parameters weigh in the average for as long as the decay says.",
        "cnnjax/training/averages.py",
        "jnp.minimum(decay, t / (t + 9.0))",
        "jnp.asarray(decay, t.dtype)",
        AVERAGES,
    ),
    Mutant(
        "average_is_not_tested",
        "The parameters are tested and kept, and not their average.",
        "cnnjax/training/loop.py",
        "return kept_params(self.state)",
        "return self.state.params",
        AVERAGES,
    ),
    Mutant(
        "l2_after_momentum",
        "Of SGD, the L2 is added to the velocity and not to the gradient.",
        "cnnjax/training/optimizers.py",
        "        steps.insert(0, optax.add_decayed_weights(config.l2, mask=shrunk))\n",
        "        steps.insert(0, optax.add_decayed_weights(config.l2, mask=shrunk))\n"
        "        if isinstance(config.algorithm, Sgd):\n"
        "            trace = optax.trace(config.algorithm.momentum)\n"
        "            rate = optax.scale_by_learning_rate(schedule)\n"
        "            steps = [trace, steps[0], rate]\n",
        OPTIMIZERS,
    ),
    Mutant(
        "l2_of_first_layer",
        "The L2 is only on the kernel of a network's first layer.",
        "cnnjax/training/algorithms.py",
        'simple=True) == "kernel"',
        'simple=True) == "kernel" and path[0].key.endswith("_0")',
        OPTIMIZERS,
    ),
    Mutant(
        "l2_of_dense_kernels",
        "The L2 is on the kernels of dense layers only.",
        "cnnjax/training/algorithms.py",
        "lambda path, _: keystr",
        "lambda path, leaf: leaf.ndim == 2 and keystr",
        OPTIMIZERS,
    ),
    Mutant(
        "rate_in_velocity",
        "The velocity adds up rates times gradients, so old rates outlive a schedule.",
        "cnnjax/training/algorithms.py",
        mutant.SGD_RULE,
        "return optax.chain(optax.sgd(schedule), optax.trace(self.momentum))",
        OPTIMIZERS,
    ),
    Mutant(
        "nesterov",
        "Momentum is Nesterov's.",
        "cnnjax/training/algorithms.py",
        "momentum=self.momentum or None, nesterov=self.nesterov",
        "momentum=self.momentum or None, nesterov=True",
        OPTIMIZERS,
    ),
    Mutant(
        "second_moment_never_falls",
        "Adam divides by the largest second moment so far: AMSGrad.",
        "cnnjax/training/algorithms.py",
        "optax.adam(schedule",
        "optax.amsgrad(schedule",
        OPTIMIZERS,
    ),
    Mutant(
        "eps_in_the_root",
        "Adam adds eps inside the root.",
        "cnnjax/training/algorithms.py",
        "b2=self.b2, eps=self.eps)",
        "b2=self.b2, eps=0.0, eps_root=self.eps)",
        OPTIMIZERS,
    ),
    Mutant(
        "moments_not_corrected",
        "Adam's moments are not corrected for their start at zero.",
        "cnnjax/training/algorithms.py",
        "        return optax.adam(schedule, b1=self.b1, b2=self.b2, eps=self.eps)\n",
        "        rms = optax.scale_by_rms(self.b2, self.eps, eps_in_sqrt=False)\n"
        "        first = optax.ema(self.b1, debias=False)\n"
        "        rate = optax.scale_by_learning_rate(schedule)\n"
        "        return optax.chain(first, rms, rate)\n",
        OPTIMIZERS,
    ),
    Mutant(
        "rate_of_next_update",
        "A cosine by epoch is lowered one update too early.",
        "cnnjax/training/schedules.py",
        "jnp.floor_divide(step, steps_per_epoch)",
        "jnp.floor_divide(step + 1, steps_per_epoch)",
        OPTIMIZERS,
    ),
    Mutant(
        "cycle_turns_one_update_late",
        "A one-cycle is at its highest one update too late.",
        "cnnjax/training/schedules.py",
        "(self.pct_start * total - 1, learning_rate)",
        "(self.pct_start * total, learning_rate)",
        OPTIMIZERS,
    ),
    Mutant(
        "one_key_for_all_changes",
        "Crop and flip of an image are drawn with the same key.",
        "cnnjax/data/augmentation.py",
        "image = step(image, own)",
        "image = step(image, key)",
        AUGMENTATION,
    ),
    Mutant(
        "never_cropped_at_the_end",
        "A crop never reaches the last row and column of the padded image.",
        "cnnjax/data/augmentation.py",
        "2 * self.padding + 1)",
        "2 * self.padding)",
        AUGMENTATION,
    ),
    Mutant(
        "augmented_with_the_key_of_dropout",
        "Augmentation draws with the key that dropout uses.",
        "cnnjax/models/network_loss.py",
        "jax.random.fold_in(key, _AUGMENTATION)",
        "key",
        AUGMENTATION,
    ),
    Mutant(
        "faults_lose_the_chosen_form",
        "Faults, even none, are switched into another form than the one that is told.",
        "cnnjax/faults/switch.py",
        "build(wrong, experiment.form.options)",
        "build(wrong, experiment.options)",
        FASTEST,
    ),
    Mutant(
        "microbatch_with_most_copies",
        "The microbatch that is chosen needs the most padding copies.",
        "cnnjax/experiments/fastest.py",
        "min(sizes, key=",
        "max(sizes, key=",
        FASTEST,
    ),
    Mutant(
        "processor_ignored",
        "The first entry for a CPU is taken on every CPU.",
        "cnnjax/experiments/fastest.py",
        'known.processor not in (cpu_model() or "")',
        "False",
        FASTEST,
    ),
    Mutant(
        "reference_where_the_strategies_run",
        "The platform that is asked for the reference is not used.",
        "cnnjax/laws/references.py",
        "jax.default_device(_first_device(platform))",
        "jax.default_device(None and _first_device(platform))",
        ("tests/test_equivalence.py",),
    ),
    Mutant(
        "short_batch_not_in_schedule",
        "The schedule's epochs leave the last, short batch out.",
        "cnnjax/experiments/experiment.py",
        "steps_per_epoch=-(-num_examples // batch_size)",
        "steps_per_epoch=num_examples // batch_size",
        ("tests/test_epochs.py",),
    ),
    # The order of examples, and what is random in a run.
    Mutant(
        "order_of_eight_epochs",
        "The orders of eight epochs come back again and again.",
        "cnnjax/data/order.py",
        '0 if shuffle == "once" else epoch)',
        '0 if shuffle == "once" else epoch % 8)',
        ORDER,
    ),
    Mutant(
        "order_of_a_hundred_epochs",
        "A run's orders come back after a hundred epochs.",
        "cnnjax/training/calls.py",
        "order = updates.order_of(keys, np.int32(at.epoch))",
        "order = updates.order_of(keys, np.int32(at.epoch % 100))",
        ORDER,
    ),
    Mutant(
        "order_is_rolled",
        "Each epoch's order is that of the one before, one place on.",
        "cnnjax/data/order.py",
        "return jax.random.permutation(epoch_key, num_examples).astype(jnp.int32)",
        'rolled = epoch if shuffle == "every_epoch" else 0\n'
        "    order = jax.random.permutation(key, num_examples).astype(jnp.int32)\n"
        "    return jnp.roll(order, rolled)",
        ORDER,
    ),
    Mutant(
        "order_turns_round",
        "Every second epoch goes backwards through the one before.",
        "cnnjax/data/order.py",
        "return jax.random.permutation(epoch_key, num_examples).astype(jnp.int32)",
        'pair, odd = divmod(epoch, 2) if shuffle == "every_epoch" else (0, 0)\n'
        "    pair_key = jax.random.fold_in(key, pair)\n"
        "    order = jax.random.permutation(pair_key, num_examples).astype(jnp.int32)\n"
        "    return jnp.where(odd == 1, order[::-1], order)",
        ORDER,
    ),
    Mutant(
        "order_of_every_seed",
        "All seeds visit the examples in the same orders.",
        "cnnjax/experiments/experiment.py",
        "loop=loop,\n        keys=LoopKeys(keys.order,",
        "loop=loop,\n        keys=LoopKeys(keys_of(0).order,",
        SEEDS,
    ),
    Mutant(
        "dropout_draws_from_the_order",
        "Dropout draws from the key of the order.",
        "cnnjax/experiments/experiment.py",
        "keys.dropout if recipe.needs_keys",
        "keys.order if recipe.model.has_dropout",
        SEEDS,
    ),
    Mutant(
        "split_of_every_seed",
        "All seeds hold the same examples out.",
        "cnnjax/experiments/experiment.py",
        "key=keys.split,",
        "key=keys_of(0).split,",
        SEEDS,
    ),
    Mutant(
        "parameters_of_every_seed",
        "All seeds begin with the same parameters.",
        "cnnjax/experiments/experiment.py",
        "models.init(keys.params,",
        "models.init(keys_of(0).params,",
        SEEDS,
    ),
    Mutant(
        "last_example_never_seen",
        "A batch takes the first example in the place of the last.",
        "cnnjax/data/order.py",
        "rows = order[jnp.minimum(positions, order.size - 1)]",
        "rows = order[jnp.minimum(positions, order.size - 1) % (order.size - 1)]",
        ORDER,
    ),
    # Dropout.
    Mutant(
        "masks_repeat_in_a_batch",
        "The ninth example of a batch has the mask of the first.",
        "cnnjax/data/order.py",
        "        step_key, jnp.arange(batch_size)\n",
        "        step_key, jnp.arange(batch_size) % 8\n",
        DROPOUT,
    ),
    Mutant(
        "masks_repeat_over_updates",
        "Masks come back after 64 updates.",
        "cnnjax/data/order.py",
        "step_key = jax.random.fold_in(key, step)",
        "step_key = jax.random.fold_in(key, step % 64)",
        DROPOUT,
    ),
    Mutant(
        "masks_of_the_next_update",
        "An update's later examples have the masks of the next one's first.",
        "cnnjax/data/order.py",
        "    step_key = jax.random.fold_in(key, step)\n"
        "    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(\n"
        "        step_key, jnp.arange(batch_size)\n",
        "    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(\n"
        "        key, 8 * step + jnp.arange(batch_size)\n",
        DROPOUT,
    ),
    Mutant(
        "masks_of_the_place_in_the_epoch",
        "A mask follows the place in the epoch, so every epoch drops alike.",
        "cnnjax/training/updates.py",
        "batch = batch_of(feed, order, index, state.step)\n        metrics, grads =",
        "batch = batch_of(feed, order, index, index)\n        metrics, grads =",
        DROPOUT,
    ),
    Mutant(
        "updates_are_not_counted",
        "The count of updates stands still, and with it the masks.",
        "cnnjax/training/step.py",
        "TrainState(params, opt_state, state.step + 1)",
        "TrainState(params, opt_state, state.step)",
        DROPOUT,
    ),
    Mutant(
        "whole_channels_dropped",
        "Of an image, dropout drops whole channels.",
        "cnnjax/models/network.py",
        "drop = nn.Dropout(layer.rate, name=row.name)",
        "axes = (0, 1) if len(row.input_shape) == 3 else ()\n"
        "                drop = nn.Dropout(\n"
        "                    layer.rate, broadcast_dims=axes, name=row.name\n"
        "                )",
        DROPOUT,
    ),
    Mutant(
        "dropped_without_rescaling",
        "In training, what is kept is not rescaled.",
        "cnnjax/models/network.py",
        "x = drop(x, deterministic=deterministic)",
        "x = drop(x, deterministic=deterministic)\n"
        "                x = x * (1.0 if deterministic else 1.0 - layer.rate)",
        DROPOUT,
    ),
    # Layers and activations.
    Mutant(
        "relu_shares_the_tie",
        "The derivative of relu at 0 is 1/2.",
        "cnnjax/models/layers.py",
        '"relu": jax.nn.relu,',
        '"relu": lambda x: jnp.maximum(x, 0),',
        LAYERS,
    ),
    Mutant(
        "relu_hides_a_nan",
        "The relu of a NaN is 0.",
        "cnnjax/models/layers.py",
        '"relu": jax.nn.relu,',
        '"relu": lambda x: jnp.where(x > 0, x, jnp.zeros_like(x)),',
        LAYERS,
    ),
    Mutant(
        "leaky_relu_is_steep_at_zero",
        "The derivative of leaky_relu at 0 is 1.",
        "cnnjax/models/layers.py",
        "jnp.where(x > 0, x, slope * x)",
        "jnp.where(x >= 0, x, slope * x)",
        LAYERS,
    ),
    Mutant(
        "tanh_is_flat_at_zero",
        "The derivative of tanh at 0 is 0.",
        "cnnjax/models/layers.py",
        '"tanh": jnp.tanh,',
        '"tanh": lambda x: jnp.where(x == 0, jnp.zeros_like(x), jnp.tanh(x)),',
        LAYERS,
    ),
    Mutant(
        "tanh_is_cut_off",
        "Beyond 8 tanh is exactly 1 and has no derivative.",
        "cnnjax/models/layers.py",
        '"tanh": jnp.tanh,',
        '"tanh": lambda x: jnp.tanh(jnp.clip(x, -8, 8)),',
        LAYERS,
    ),
    Mutant(
        "taps_transposed",
        "Patches are laid out column by column.",
        "cnnjax/models/layers.py",
        "        for i in range(kernel_size[0])\n"
        "        for j in range(kernel_size[1])\n    ]\n    rows",
        "        for j in range(kernel_size[1])\n"
        "        for i in range(kernel_size[0])\n    ]\n    rows",
        LAYERS,
    ),
    Mutant(
        "last_of_a_tie",
        "Of equal entries of a block the last has the gradient.",
        "cnnjax/models/layers.py",
        "(new > best) | jnp.isnan(new)",
        "(new >= best) | jnp.isnan(new)",
        LAYERS,
    ),
    Mutant(
        "pool_hides_a_nan",
        "A NaN that is not the first of a block is not its maximum.",
        "cnnjax/models/layers.py",
        "(new > best) | jnp.isnan(new)",
        "new > best",
        LAYERS,
    ),
    Mutant(
        "first_rows_dropped",
        "What is left over by a pool is dropped at the other edge.",
        "cnnjax/models/layers.py",
        "image[: out_height * window, : out_width * window].reshape(",
        "image[image.shape[0] % window :, image.shape[1] % window :].reshape(",
        LAYERS,
    ),
    # Networks and how they are drawn.
    Mutant(
        "padded_on_one_side",
        "All the zeros around an image are below it and on its right.",
        "cnnjax/models/kinds.py",
        "layers.conv2d, padding=(zeros, zeros), precision=precision",
        "layers.conv2d,\n"
        "            padding=((0, 2 * self.padding),) * 2,\n"
        "            precision=precision,",
        MODELS,
    ),
    Mutant(
        "channels_flattened_first",
        "An image is laid out channel by channel.",
        "cnnjax/models/kinds.py",
        "return jnp.ravel",
        "return lambda x: jnp.ravel(jnp.moveaxis(x, -1, 0))",
        MODELS,
    ),
    Mutant(
        "activation_before_the_layer",
        "The activation of an MLP stands before its dense layer.",
        "cnnjax/experiments/networks.py",
        "layers += [Dense(features), Activation(activation)]",
        "layers += [Activation(activation), Dense(features)]",
        MODELS,
    ),
    Mutant(
        "logits_in_half_precision",
        "Of a bfloat16 network, the logits and the loss are bfloat16, too.",
        "cnnjax/models/network.py",
        "return x.astype(param_dtype)",
        "return x",
        MODELS,
    ),
    Mutant(
        "bias_by_features",
        "The biases of a dense layer are drawn by its outputs.",
        "cnnjax/models/network.py",
        "initializers.bias_scale(init, math.prod(shape[:-1]))",
        "initializers.bias_scale(init, shape[-1])",
        MODELS,
    ),
    Mutant(
        "fan_without_taps",
        "The fan of a convolution's outputs leaves its taps out.",
        "cnnjax/models/initializers.py",
        "num_taps * (fan_in + fan_out)",
        "num_taps * fan_in + fan_out",
        MODELS,
    ),
    Mutant(
        "normal_cut_at_two",
        "Normal kernels are cut off at two deviations.",
        "cnnjax/models/initializers.py",
        "scale * jax.random.normal(key, shape, dtype)",
        "scale * jax.random.truncated_normal(key, -2, 2, shape, dtype)",
        MODELS,
    ),
    # Precision on other platforms.
    Mutant(
        "xla_convolution_in_default_precision",
        "Where XLA convolves, it may take less than float32.",
        "cnnjax/models/layers.py",
        "default=functools.partial(conv2d_xla, padding=padding, precision=precision)",
        "default=functools.partial(conv2d_xla, padding=padding, precision=None)",
        HIGHEST,
    ),
    Mutant(
        "networks_in_default_precision",
        "The precision that a network asks for is not passed on to its layers.",
        "cnnjax/models/network.py",
        "precision = self.config.matmul_precision",
        "precision = None",
        HIGHEST,
    ),
    Mutant(
        "factors_in_default_precision",
        "Factors are multiplied in less than float32.",
        "cnnjax/gradients/factors.py",
        'precision="highest"',
        'precision="default"',
        HIGHEST,
    ),
    Mutant(
        "rows_in_default_precision",
        "Rows are added up in less than float32.",
        "cnnjax/gradients/per_example.py",
        'precision="highest"',
        'precision="default"',
        HIGHEST,
    ),
    Mutant(
        "precision_not_asked_for",
        "A dense layer takes JAX's own precision, whatever its network says.",
        "cnnjax/models/kinds.py",
        "return functools.partial(jnp.dot, precision=precision)",
        "return jnp.dot",
        HIGHEST,
    ),
    # Losses and metrics.
    Mutant(
        "error_summed_over_targets",
        "The squared error is summed over targets.",
        "cnnjax/models/losses.py",
        "jnp.mean(jnp.square(prediction - target))",
        "jnp.sum(jnp.square(prediction - target))",
        ("tests/test_losses.py",),
    ),
    Mutant(
        "every_update_counts_alike",
        "The means of an epoch are means over its updates.",
        "cnnjax/training/records.py",
        "np.sum(np.asarray(values, np.float64) * weight) / weight.sum()",
        "np.mean(np.asarray(values, np.float64))",
        TRAINING,
    ),
    Mutant(
        "rate_after_the_epoch",
        "A record has the learning rate of the next epoch.",
        "cnnjax/training/records.py",
        "schedule((epoch - 1) * num_steps)",
        "schedule(epoch * num_steps)",
        TRAINING,
    ),
    Mutant(
        "metrics_after_the_update",
        "The metrics of an update are of the parameters after it.",
        "cnnjax/training/updates.py",
        "        return move(state, grads), metrics\n",
        "        moved = move(state, grads)\n"
        "        metrics, _ = value_and_grad(moved.params, batch)\n"
        "        return moved, metrics\n",
        TRAINING,
    ),
    # Gradients, one example at a time and by their factors.
    Mutant(
        "rows_averaged_over_places",
        "Rows are averaged over the places of a batch, full or not.",
        "cnnjax/gradients/per_example.py",
        "lambda values: values.sum(axis=0)",
        "lambda values: values.mean(axis=0)",
        LAWS,
    ),
    Mutant(
        "norm_without_biases",
        "The norm of rows leaves the biases out.",
        "cnnjax/gradients/factors.py",
        "return _squares(gradients.kernel) + _squares(gradients.bias)",
        "return _squares(gradients.kernel)",
        PER_EXAMPLE,
    ),
    Mutant(
        "clipped_leaf_by_leaf",
        "The norm that is clipped by is that of the largest leaf.",
        "cnnjax/gradients/reductions.py",
        "sum((jnp.sum(jnp.square(leaf)) for leaf in wide), jnp.float32(0))",
        "jnp.stack([jnp.sum(jnp.square(leaf)) for leaf in wide]).max()",
        PER_EXAMPLE,
    ),
    # Microbatches and devices.
    Mutant(
        "dealt_and_not_gathered",
        "What was kept of dealt examples comes out in the order of the parts.",
        "cnnjax/gradients/microbatches.py",
        "    lambda a: a.swapaxes(0, 1).reshape(-1, *a.shape[2:]),",
        "    lambda a: a.reshape((-1, *a.shape[2:])),",
        DEALING,
    ),
    Mutant(
        "neighbours_dealt",
        "Neighbours are dealt out, and laid together as if they were not.",
        "cnnjax/gradients/microbatches.py",
        "    lambda a, size: a.reshape(-1, size, *a.shape[1:]),",
        "    lambda a, size: a.reshape(size, -1, *a.shape[1:]).swapaxes(1, 0),",
        DEALING,
    ),
    Mutant(
        "dealt_as_neighbours",
        "What should be dealt stays together, so that one device does all of it.",
        "cnnjax/gradients/microbatches.py",
        "    lambda a, size: a.reshape(size, -1, *a.shape[1:]).swapaxes(0, 1),",
        "    lambda a, size: a.reshape((-1, size, *a.shape[1:])),",
        LAWS,
    ),
    Mutant(
        "microbatch_left_over",
        "The examples that fill no microbatch are left out.",
        "cnnjax/gradients/microbatches.py",
        "lambda a: grouping.split(a, size), pad_batch(batch, size))",
        "lambda a: grouping.split(a[: len(a) // size * size], size), batch)",
        DEALING,
    ),
    Mutant(
        "filled_up_at_full_weight",
        "What a batch is filled up with counts.",
        "cnnjax/gradients/padding.py",
        "jnp.where(real, padded.weights, 0)",
        "padded.weights",
        DEALING,
    ),
    Mutant(
        "pmap_leaves_over",
        "By pmap, examples that do not divide over the devices are left out.",
        "cnnjax/devices/maps.py",
        "        padded, unit = ready(batch, multiple=mesh.size)\n",
        "        whole = len(batch.weights) // mesh.size * mesh.size\n"
        "        padded, unit = ready(jax.tree.map(lambda a: a[:whole], batch))\n",
        DEALING,
    ),
    Mutant(
        "one_device_counts_padding",
        "A device whose examples are all padding counts one of them.",
        "cnnjax/devices/maps.py",
        "total = lax.psum(padding.total_weight(part), AXIS)",
        "total = lax.psum(jnp.maximum(padding.total_weight(part), 1), AXIS)",
        LAWS,
    ),
    Mutant(
        "weight_of_one_device",
        "Each device takes the batch to weigh as much as its own part, N times.",
        "cnnjax/devices/maps.py",
        "total = lax.psum(padding.total_weight(part), AXIS)",
        "total = padding.total_weight(part) * lax.psum(1, AXIS)",
        LAWS,
    ),
    Mutant(
        "metrics_averaged_over_devices",
        "The devices' shares in the metrics are averaged.",
        "cnnjax/devices/maps.py",
        "means, grads = lax.psum(jax.tree.map(widen, (means, grads)), AXIS)",
        "means, grads = lax.pmean(means, AXIS), lax.psum(grads, AXIS)",
        LAWS,
    ),
    # Evaluation.
    Mutant(
        "others_not_asked",
        "An evaluation of other examples is of those that it was made with.",
        "cnnjax/training/evaluation.py",
        "            of = place(others)\n",
        "            of = placed\n",
        EVALUATION,
    ),
    Mutant(
        "tested_on_training_examples",
        "A run is tested on the first of its training examples.",
        "cnnjax/experiments/judging.py",
        "        experiment.test,\n        params,\n",
        "        type(experiment.test)(\n"
        "            *(a[: len(experiment.test.labels)] for a in experiment.train)\n"
        "        ),\n        params,\n",
        EVALUATION,
    ),
    Mutant(
        "evaluated_at_the_wrong_epochs",
        "Of every second epoch, the odd ones are evaluated.",
        "cnnjax/experiments/judging.py",
        "epoch % evaluate_every == 0",
        "epoch % evaluate_every == 1 % evaluate_every",
        EVALUATION,
    ),
    Mutant(
        "predicts_training_examples",
        "What a run predicts is of its training examples.",
        "cnnjax/experiments/predictions.py",
        "make_predict(experiment.apply_fn, experiment.test)",
        "make_predict(experiment.apply_fn, experiment.train)",
        EVALUATION,
    ),
    Mutant(
        "tested_an_epoch_late",
        "An epoch is tested where the one before it should be.",
        "cnnjax/training/epochs.py",
        "test = callbacks.evaluate(epoch, all_params[index])",
        "test = callbacks.evaluate(epoch - 1, all_params[index])",
        EPOCHS,
    ),
    Mutant(
        "tested_before_training",
        "After each epoch the parameters of the beginning are tested.",
        "cnnjax/experiments/runs.py",
        "return looks[index](epoch, params) if due else None",
        "return looks[index](epoch, group[index].params) if due else None",
        EVALUATION,
    ),
    Mutant(
        "last_test_example_twice",
        "The first test example is left out, and the last counted twice.",
        "cnnjax/training/evaluation.py",
        "order = np.arange(num_examples, dtype=np.int32)",
        "order = np.arange(num_examples, dtype=np.int32)\n"
        "    order = np.minimum(order + 1, num_examples - 1)",
        EVALUATION,
    ),
    Mutant(
        "last_of_equal_logits",
        "Of equal logits the last is the prediction.",
        "cnnjax/models/losses.py",
        "jnp.where(has_softmax, jnp.argmax(logits), NO_PREDICTION)",
        "jnp.where(\n"
        "        has_softmax,\n"
        "        logits.size - 1 - jnp.argmax(logits[::-1]),\n"
        "        NO_PREDICTION,\n"
        "    )",
        EVALUATION,
    ),
    # Many seeds at once.
    Mutant(
        "one_key_for_a_group",
        "The seeds of a group draw from the keys of its first.",
        "cnnjax/experiments/runs.py",
        "keys=of_all([experiment.keys for experiment in group]),",
        "keys=of_all([one.keys for _ in group]),",
        SEEDS,
    ),
    Mutant(
        "one_test_for_a_group",
        "The seeds of a group are tested on the examples that its first holds out.",
        "cnnjax/experiments/runs.py",
        "return looks[index](epoch, params) if due else None",
        "return looks[0](epoch, params) if due else None",
        SEEDS,
    ),
    # Data.
    Mutant(
        "divided_by_256",
        "Pixels are divided by 256.",
        "cnnjax/data/preprocessing.py",
        "x / 255 - shift",
        "x / 256 - shift",
        ("tests/test_data_order.py",),
    ),
    Mutant(
        "divided_before_the_mean",
        "The mean is taken off what was divided by the deviation.",
        "cnnjax/data/preprocessing.py",
        "return (x / 255 - shift) / scale",
        "return x / 255 / scale - shift",
        ("tests/test_data_order.py",),
    ),
    Mutant(
        "one_held_out_is_trained_on",
        "One of the examples that are held out is trained on, too.",
        "cnnjax/data/splits.py",
        "kept, held_out = order[num_held_out:], order[:num_held_out]",
        "kept, held_out = order[num_held_out - 1 :], order[:num_held_out]",
        ("tests/test_data_order.py",),
    ),
    Mutant(
        "held_out_rounded_down",
        "How many examples are held out is rounded down.",
        "cnnjax/data/splits.py",
        "round(split.fraction * available)",
        "int(split.fraction * available)",
        ("tests/test_data_order.py",),
    ),
    # What is written, and what is told.
    Mutant(
        "missing_field",
        "A record of a run may lack a field that its schema declares.",
        "cnnjax/results/schema.py",
        "for name, field in schema.fields.items() if field.always]",
        "for name, field in schema.fields.items() if field.always][:0]",
        ("tests/test_schema.py",),
    ),
    Mutant(
        "diverged_are_those_left_out",
        "Of several seeds, those that the mean leaves out are kept as diverged.",
        "cnnjax/experiments/summaries.py",
        '"seeds_diverged": self.diverged,',
        '"seeds_diverged": self.not_finite,',
        ("tests/test_divergence.py",),
    ),
    Mutant(
        "divergence_is_thinned_out",
        "Of many fast epochs, the one in which a run diverges may not be shown.",
        "cnnjax/telling/epochs.py",
        "(ends or news or slow or",
        "(ends or slow or",
        ("tests/test_terminal.py",),
    ),
    Mutant(
        "label_and_prediction_exchanged",
        "In predictions.csv, label and prediction are exchanged.",
        "cnnjax/results/workdir.py",
        "{index},{label},{own}",
        "{index},{own},{label}",
        WORKDIR,
    ),
    Mutant(
        "examples_counted_from_one",
        "In predictions.csv, examples are counted from 1.",
        "cnnjax/results/workdir.py",
        "tolist(), strict=True))\n        lines",
        "tolist(), strict=True), 1)\n        lines",
        WORKDIR,
    ),
    Mutant(
        "transposed_tensors",
        "A kernel that lies transposed in memory is written as it lies.",
        "cnnjax/results/workdir.py",
        "np.ascontiguousarray(leaf)",
        "np.asarray(leaf).ravel('K').reshape(leaf.shape)",
        WORKDIR,
    ),
    Mutant(
        "short_call_left_out",
        "The last updates of an epoch are left out where they do not fill a call.",
        "cnnjax/training/calls.py",
        "for first in range(at.update, num_steps, per_call)",
        "for first in range(at.update, num_steps - per_call + 1, per_call)",
        ("tests/test_epochs.py",),
    ),
    # What is read of files.
    Mutant(
        "fingerprint_without_shapes",
        "Two arrays of the same bytes, in another shape, have the same fingerprint.",
        "cnnjax/data/fingerprints.py",
        'f"{array.dtype.name} {array.shape}\\n".encode()',
        'f"{array.dtype.name}\\n".encode()',
        FINGERPRINTS,
    ),
    Mutant(
        "last_gzip_member_cut",
        "A gzip file whose last member is cut off is read as far as it goes.",
        "cnnjax/data/streams.py",
        "if member is not None or not count:",
        "if not count:",
        FUZZED,
    ),
    Mutant(
        "records_of_several_officials",
        "A damaged file of CIFAR-10 is only seen where the first one is whole.",
        "cnnjax/data/cifar10.py",
        "if any(same) and not is_official",
        "if same[0] and not is_official",
        FINGERPRINTS,
    ),
    # Checkpoints.
    Mutant(
        "checkpoint_without_its_epoch",
        "The epochs done are not restored: they are trained again.",
        "cnnjax/results/checkpoints/snapshot.py",
        'epoch=facts["epoch"],',
        "epoch=0,",
        CHECKPOINTS,
    ),
    Mutant(
        "checkpoint_one_batch_behind",
        "The updates done are counted one short: a batch is trained twice.",
        "cnnjax/results/checkpoints/snapshot.py",
        'update=facts["update"],',
        'update=max(facts["update"] - 1, 0),',
        CHECKPOINTS,
    ),
    Mutant(
        "checkpoint_of_any_seed",
        "The random keys of a checkpoint are not compared with the run's.",
        "cnnjax/results/checkpoints/snapshot.py",
        "same = name in arrays and np.array_equal(arrays[name], data)",
        "same = name in arrays",
        CHECKPOINTS,
    ),
    Mutant(
        "checkpoint_of_deleted_arrays",
        "A snapshot shares the memory of arrays that the next update overwrites.",
        "cnnjax/results/checkpoints/snapshot.py",
        "np.array(leaf, copy=True) for name, leaf in named(trees).items()",
        "np.asarray(leaf) for name, leaf in named(trees).items()",
        CHECKPOINTS,
    ),
    Mutant(
        "checkpoint_of_the_right_size",
        "Of a checkpoint's files, only the sizes are compared.",
        "cnnjax/results/checkpoints/manifest.py",
        "if got != expected:",
        'if got["bytes"] != expected["bytes"]:',
        CHECKPOINTS,
    ),
    Mutant(
        "run_with_another_setting",
        "A run is resumed with other settings of its recipe.",
        "cnnjax/experiments/beginning.py",
        "    if different:\n",
        "    if different and False:\n",
        ("tests/test_beginning.py",),
    ),
    Mutant(
        "run_that_never_resumes",
        "A killed run begins anew: it ends in the same bits, but nothing was kept.",
        "cnnjax/telling/training.py",
        "        resume = keeper.resume(like=like, keys=keys)\n",
        "        resume = None\n",
        ("tests/faults/test_faults.py",),
    ),
    Mutant(
        "result_of_any_files",
        "The digests of a finished run's files are not compared.",
        "cnnjax/results/seal.py",
        "same = path.is_file() and digests.of_file(path) == digest",
        "same = path.is_file()",
        ("tests/test_beginning.py",),
    ),
    *BLIND_MUTANTS,
)
