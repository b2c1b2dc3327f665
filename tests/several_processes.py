"""What `test_processes` runs in each of two processes of two devices.

    python scripts/launch_local.py -- tests/several_processes.py --output=FOLDER

Leaves FOLDER/0.npz and FOLDER/1.npz: what each process held, and what it computed.
"""

from __future__ import annotations

from pathlib import Path

import _asked
import _flags
import _script
import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from batches import distinct_weights, experiment_of, make_batch
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from strategy_table import ACROSS_PROCESSES
from test_strategy_laws import TINY

from cnnjax import devices
from cnnjax.base.errors import InputError
from cnnjax.data.order import take_batch
from cnnjax.devices import processes
from cnnjax.experiments.experiment import Experiment
from cnnjax.gradients.padding import pad_batch
from cnnjax.strategies import STRATEGIES, Options, make_strategy
from cnnjax.training.evaluation import make_evaluate

_flags.define_cluster()
OUTPUT = flags.DEFINE_string("output", None, "Folder.")


def rows_held(array: jax.Array) -> np.ndarray:
    """Return which rows lie on this process's devices, in order of the devices."""
    indices = [
        shard.index[0].indices(array.shape[0]) for shard in array.addressable_shards
    ]
    return np.concatenate([np.arange(*index) for index in indices])


def values_held(array: jax.Array) -> np.ndarray:
    """Return the rows on this process's devices, in order of the devices."""
    shards = [np.asarray(shard.data) for shard in array.addressable_shards]
    return np.concatenate(shards)


def refusal_of(name: str, experiment: Experiment, mesh: Mesh) -> str:
    """Return what `make_strategy` says to a strategy of one process."""
    try:
        make_strategy(name, experiment.objective, Options(mesh))
    except InputError as error:
        return str(error)
    return "none"


def main(args: list[str]) -> None:
    """Compute the same in all processes, and note it."""
    jax.config.update("jax_num_cpu_devices", 3)  # one more than the mesh takes
    processes.join(_asked.cluster(), alike=_asked.alike())
    mesh = devices.make_mesh(2)
    experiment = experiment_of(TINY, strategy="shard_map")
    noted = {"mesh": [device.process_index for device in mesh.devices.flat]}

    batch = make_batch(experiment, 14)._replace(weights=distinct_weights(14))
    placed = devices.split(mesh)(batch)
    noted["keys_held"] = values_held(jax.random.key_data(placed.keys))
    padded = pad_batch(batch, 4)
    noted["keys_of_all"] = jax.random.key_data(padded.keys)
    for name, array in zip(placed._fields, placed, strict=True):
        noted[f"placed_{name}"] = rows_held(array)

    @jax.jit
    def gather(examples, order):
        return devices.split(mesh)(take_batch(examples, order, 1, batch_size=16))

    put_state = devices.replicate(mesh)
    order = np.random.default_rng(0).permutation(320).astype(np.int32)
    resident = put_state((experiment.train, order))
    gathered = gather(*resident)
    noted["gathered_rows"] = rows_held(gathered.labels)
    noted["gathered_inputs"] = values_held(gathered.inputs)
    noted["expected_inputs"] = experiment.train.inputs[order[16:32]]
    noted["program"] = gather.lower(*resident).compile().as_text()

    whole = np.arange(24.0, dtype=np.float32).reshape(8, 3)
    apart = devices.place(whole, NamedSharding(mesh, P(devices.AXIS)))
    noted["to_host"] = devices.to_host({"apart": apart})["apart"]

    state = {"params": experiment.params, "key": jax.random.key(3)}
    copies = put_state(state)
    jax.block_until_ready(jax.jit(lambda tree: tree, donate_argnums=0)(copies))
    noted["key_survives"] = jax.random.key_data(state["key"])
    noted["params_survive"] = devices.to_host(state["params"])["conv_0"]["kernel"]

    params = put_state(experiment.params)
    for name in ACROSS_PROCESSES:
        strategy = STRATEGIES[name](experiment.objective, Options(mesh))
        _, grads = jax.jit(strategy.value_and_grad)(params, strategy.put_batch(batch))
        for path, leaf in jax.tree.leaves_with_path(devices.to_host(grads)):
            noted[f"{name}/{jax.tree_util.keystr(path)}"] = leaf
    evaluate = make_evaluate(
        experiment.loss_fn,
        experiment.test,
        params,
        batch_size=10,
        put_state=put_state,
        put_batch=devices.split(mesh),
    )
    noted["evaluated"] = list(evaluate(params).values())

    noted["refused"] = [
        refusal_of(name, experiment, mesh)
        for name in STRATEGIES
        if name not in ACROSS_PROCESSES
    ]
    np.savez(Path(OUTPUT.value) / f"{jax.process_index()}.npz", **noted)
    different = jnp.full(2, jax.process_index())
    processes.together(
        lambda: different, same=lambda array: {"rows": array, "flags": 1}
    )


if __name__ == "__main__":
    _script.run(main)
