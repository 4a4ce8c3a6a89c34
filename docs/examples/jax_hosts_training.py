"""Train over several hosts: ``python jax_hosts_training.py RANK WORLD localhost:1234 run.h5``.

Start one such process for each host. Started again, they go on where they were, in any number.
"""

from __future__ import annotations

import sys
from pathlib import Path

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import arrayoptim as ao

ROWS = 48  # of data in a step


def main(rank: int, world: int, meeting: str, path: str) -> None:
    """Train twenty steps, and save."""
    jax.distributed.initialize(meeting, world, rank)
    kinds = (AxisType.Auto,)
    mesh = jax.make_mesh((jax.device_count(),), ("all",), axis_types=kinds)

    def spread(x: np.ndarray) -> jax.Array:
        sharding = NamedSharding(mesh, PartitionSpec("all"))
        return jax.make_array_from_callback(x.shape, sharding, lambda at: x[at])

    rng = np.random.default_rng(0)
    shapes = {"in": (16, 4), "out": (16,)}
    params = {k: spread(np.float32(rng.standard_normal(s) / 2)) for k, s in shapes.items()}
    optimizer = ao.LAMB(lr=0.05, clipnorm=1.0)
    first = 0
    if Path(path).exists():
        params, optimizer, extra = ao.load_checkpoint(path, params, optimizer)
        first = extra["step"]

    @jax.jit
    def slopes(params, x):
        def loss(params):
            made = jax.numpy.tanh(x @ params["in"].T) @ params["out"]
            return jax.numpy.mean((made - x.prod(axis=1)) ** 2)

        return jax.value_and_grad(loss)(params)

    for step in range(first, first + 20):
        x = np.float32(np.random.default_rng(step).standard_normal((ROWS, 4)))
        loss, grads = slopes(params, spread(x))
        params = optimizer.apply(grads, params)
    ao.save_checkpoint(path, params, optimizer, step=first + 20)
    if rank == 0:
        print(f"step {first + 20}: loss {float(loss):.3f}")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:5])
