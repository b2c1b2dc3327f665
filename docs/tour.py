"""From one image to many devices. Read from top to bottom; run: python docs/tour.py.

All of it is plain JAX, written by hand. cnnjax reads the data, says what "equal" means,
and at the end computes the same gradient.
"""

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

import cnnjax
from cnnjax.laws.comparison import TOLERANCES, largest_error

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 4)  # four virtual devices, on any laptop

# 1. ONE image. 28 x 28 grey values, and the digit that it shows.
digits = cnnjax.load_dataset("digits").train
images, labels = digits.inputs[:8, :, :, 0] / 255.0, digits.labels[:8]
image, label = images[0], labels[0]

# 2. A network of ONE image, without a batch axis: 3 x 3 convolution, ReLU, max pooling,
# dense layer. The convolution is a matrix product, too, of patches and kernel: a patch
# is the nine pixels in a window.
keys = jax.random.split(jax.random.key(0))
params = {
    "conv": jax.random.normal(keys[0], (9, 8)) / 3,  # 8 filters
    "dense": jax.random.normal(keys[1], (13 * 13 * 8, 10)) / 37,  # 10 classes
}
# Zeros that are added to what each layer computes; section 7 needs them.
ZEROS = {"conv": jnp.zeros((26 * 26, 8)), "dense": jnp.zeros((1, 10))}


def network(params, image, added=ZEROS):
    """Return the logits of one image, and what each layer multiplies by its kernel."""
    windows = [image[i : i + 26, j : j + 26] for i in range(3) for j in range(3)]
    patches = jnp.stack(windows, axis=-1).reshape(26 * 26, 9)
    hidden = jax.nn.relu(patches @ params["conv"] + added["conv"])
    pooled = hidden.reshape(13, 2, 13, 2, 8).max(axis=(1, 3)).reshape(1, -1)
    logits = pooled @ params["dense"] + added["dense"]
    return logits[0], {"conv": patches, "dense": pooled}


# 3. The loss of ONE image: minus the log of the probability of the right digit.
def loss_of_one(params, image, label, key=None):
    """Return the cross-entropy of one image (a key would be for dropout)."""
    logits, _ = network(params, image)
    return -jax.nn.log_softmax(logits)[label]


# 4. Its gradient: how the loss changes with each parameter, shaped like the parameters.
grads_of_one = jax.grad(loss_of_one)
shapes = jax.tree.map(jnp.shape, grads_of_one(params, image, label))
print(f"one image: loss {loss_of_one(params, image, label):.4f}; gradient {shapes}")

# 5. MANY images, each with a weight: six count 1; two are padding, which fills up the
# batch, and count 0. The plainest mean gradient is a loop, and a division by the SUM OF
# THE WEIGHTS. It is the reference: every form below has to equal it.
weights = jnp.array([1.0] * 6 + [0.0] * 2)
total = {"conv": 0.0, "dense": 0.0}
for x, y, w in zip(images, labels, weights, strict=True):
    grads = grads_of_one(params, x, y)
    total = {name: total[name] + w * grads[name] for name in params}
reference = {name: total[name] / weights.sum() for name in params}


def compare(name, grads):
    """Print how far a gradient is from the reference, relative to its largest entry."""
    error = largest_error(grads, reference)
    verdict = "equal" if error <= TOLERANCES["float32"] else "WRONG"
    print(f"{name:31}largest relative error {error:.0e}: {verdict}")


# A common fault: to divide by the size of the batch, padding included.
compare("fault: padding is counted", {n: total[n] / len(weights) for n in params})

# 6. `vmap` runs a function of one image for all images side by side. The model does not
# change: images and labels have a batch axis (0), the parameters have none.
of_each = jax.vmap(grads_of_one, in_axes=(None, 0, 0))(params, images, labels)
part = weights / weights.sum()
mean = {n: jnp.tensordot(part, of_each[n], axes=1) for n in params}
compare("per-example gradients (vmap)", mean)


# Or differentiate the summed loss of the batch, once, as most training code does.
def summed_loss(params, images, labels, weights):
    """Return the weighted sum of the losses."""
    losses = jax.vmap(loss_of_one, in_axes=(None, 0, 0))(params, images, labels)
    return jnp.sum(weights * losses)


summed = jax.grad(summed_loss)(params, images, labels, weights)
compare("the batch at once", {n: summed[n] / weights.sum() for n in params})


# 7. The FACTORED form. A layer computes X @ kernel. The kernel's gradient is X'D: D is
# the gradient with respect to that product, or to a zero that is added to it. X and D
# come from one backward pass; one matrix product per layer then sums over the images.
def loss_and_inputs(added, image, label):
    """Return the loss of one image as a function of the added zeros, and each X."""
    logits, inputs = network(params, image, added)
    return -jax.nn.log_softmax(logits)[label], inputs


factors_of_one = jax.grad(loss_and_inputs, has_aux=True)
d, x = jax.vmap(factors_of_one, in_axes=(None, 0, 0))(ZEROS, images, labels)
factored = {n: jnp.einsum("i,ipk,ipf->kf", part, x[n], d[n]) for n in params}
compare("factored (X'D)", factored)


# 8. MANY devices. Each has a copy of the parameters and two of the images. It computes
# its SHARE: what its images add to the mean over all. Shares add up: `psum` gives the
# mean. (The mean of the devices' own means is 0/0 here: the last has only padding.)
def over_devices(mark_params=True):
    """Return the gradient of the whole batch, computed by four devices."""

    def of_device(params, images, labels, weights):
        if mark_params:  # as different on each device: section 9 says why
            params = lax.pcast(params, "data", to="varying")
        n = lax.psum(weights.sum(), "data")
        grads = jax.grad(summed_loss)(params, images, labels, weights)
        return lax.psum({name: grads[name] / n for name in params}, "data")

    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
    parts = (P(), P("data"), P("data"), P("data"))
    mapped = jax.shard_map(of_device, mesh=mesh, in_specs=parts, out_specs=P())
    return jax.jit(mapped)(params, images, labels, weights)


compare("four devices (shard_map)", over_devices())

# 9. A FAULT, caught. Without the mark JAX knows that the parameters are equal on all
# devices, and sums their gradient over the devices by itself; the psum then makes it
# 4 times too large. The loss is right, and Adam divides the factor away.
wrong = over_devices(mark_params=False)
compare("fault: summed twice", wrong)
adam, norm = optax.adam(1e-3), optax.global_norm
steps = [adam.update(g, adam.init(g))[0] for g in (wrong, reference)]
longer, step = norm(wrong) / norm(reference), norm(steps[0]) / norm(steps[1])
print(f"  the gradient is {longer:.2f} times as long, a step of Adam {step:.2f} times")

# 10. cnnjax has these forms in one table, and asks for the loss of ONE example only.
batch = cnnjax.Batch(images, labels, weights, keys=None)
for name in ("serial", "jit", "vmap", "sharded", "shard_map", "shard_map_vmap"):
    strategy = cnnjax.make_strategy(name, loss_of_one)
    compare(f"cnnjax {name}", jax.jit(strategy.value_and_grad)(params, batch)[1])
