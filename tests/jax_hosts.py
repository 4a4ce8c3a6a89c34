"""One process of several of JAX, each with two devices of its own; `test_jax_hosts` starts them.

``python tests/jax_hosts.py train 0 2 localhost:1234 folder``: steps over a mesh of all devices come
to what NumPy does, and a training goes on from files that another number of processes wrote.
"""

from __future__ import annotations

import faulthandler
import os
import sys
import weakref
from pathlib import Path
from typing import Any

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"

import jax
import numpy as np
import pytest
from jax.experimental import multihost_utils
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import arrayoptim as ao

SHAPES = {"kernel": (8, 4), "bias": (4,), "long": (16,)}
SPECS = {
    "kernel": PartitionSpec("all"),
    "bias": PartitionSpec("all"),
    "long": PartitionSpec(),
}
MADE = {
    "adam": lambda: ao.Adam(0.05, clipnorm=0.5, ema_momentum=0.9),
    "lamb": lambda: ao.LAMB(0.05, clipnorm_per_tensor=0.5),
    "muon": lambda: ao.Muon(0.05),
}


def drawn(seed: int, mesh: Any = None) -> dict[str, Any]:
    """Return arrays on the host, or over a mesh."""
    rng = np.random.default_rng(seed)
    found = {name: rng.standard_normal(shape) for name, shape in SHAPES.items()}
    if mesh is None:
        return found
    return {
        name: jax.make_array_from_callback(
            x.shape, NamedSharding(mesh, SPECS[name]), lambda at, x=x: x[at]
        )
        for name, x in found.items()
    }


def same(params: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Assert that what is here of some parameters is what it should be."""
    for name, x in params.items():
        for shard in x.addressable_shards:
            np.testing.assert_allclose(
                np.asarray(shard.data), wanted[name][shard.index], rtol=1e-12, atol=1e-13
            )


def alone(name: str, steps: int) -> dict[str, Any]:
    """Return what NumPy comes to."""
    params, optimizer = drawn(0), MADE[name]()
    for step in range(steps):
        params = optimizer.apply(drawn(1 + step), params)
    return params


def stepped(opt: Any, state: Any, params: Any, mesh: Any, steps: range) -> Any:
    """Take steps, compiled."""
    step = jax.jit(opt.stateless_apply)
    for k in steps:
        params, state = step(state, drawn(1 + k, mesh), params)
    return params, state


def everywhere(state: Any, mesh: Any) -> Any:
    """Return a state whose numbers are on all devices: Orbax puts them where it finds them here."""
    whole = NamedSharding(mesh, PartitionSpec())
    return jax.tree.map(lambda x: x if x.ndim else jax.device_put(x, whole), state)


def train(mesh: Any, folder: Path) -> None:
    """Train half-way; save by Orbax, and by files of our own."""
    import orbax.checkpoint as ocp

    for name, made in MADE.items():
        opt, params = made(), drawn(0, mesh)
        params, state = stepped(opt, opt.init_state(params), params, mesh, range(3))
        same(params, alone(name, 3))
        with ocp.StandardCheckpointer() as saver:
            saver.save(folder / f"{name}.orbax", {"params": params, "state": state})
        opt.load_state(state, params)
        opt.save_weights(folder / f"{name}.h5")
        ao.save_checkpoint(folder / f"{name}.run.h5", params, opt, epoch=3)
        # In the process that writes its own error, in the others that it could not.
        with pytest.raises(RuntimeError if jax.process_index() else FileNotFoundError):
            opt.save_weights(folder / "nowhere" / "x.h5")


def resume(mesh: Any, folder: Path) -> None:
    """Go on from each of the files."""
    import orbax.checkpoint as ocp

    for name, made in MADE.items():
        opt, params = made(), drawn(0, mesh)
        like = {"params": params, "state": everywhere(opt.init_state(params), mesh)}
        with ocp.StandardCheckpointer() as saver:
            found = saver.restore(folder / f"{name}.orbax", like)
        params, state = found["params"], found["state"]
        ends, _ = stepped(opt, state, params, mesh, range(3, 6))
        same(ends, alone(name, 6))

        again = made()
        again.init(params)
        again.load_weights(folder / f"{name}.h5")
        ends, _ = stepped(again, again.export_state(params), params, mesh, range(3, 6))
        same(ends, alone(name, 6))

        params, loaded, extra = ao.load_checkpoint(folder / f"{name}.run.h5", drawn(9, mesh))
        assert extra == {"epoch": 3}
        for k in range(3, 6):
            params = loaded.apply(drawn(1 + k, mesh), params)
        same(params, alone(name, 6))


MANY = {
    "measured": lambda: ao.Adam(0.05, measure=("gradient", "update"), skip_spikes=3.0),
    "decays": lambda: ao.Adam(
        0.05, weight_decay=0.1, cautious_decay=True, corrected_decay=True, peak_lr=0.1
    ),
    "families": lambda: ao.Adam(
        0.05, groups=[ao.group("kernel", optimizer=ao.NorMuon(0.05)), ao.group("long", lr=0.1)]
    ),
}


def each(mesh: Any, folder: Path) -> None:
    """Step by some rules, and with what goes by the gradients of all."""
    for name in sys.argv[6:]:
        MADE[name] = optimizer = MANY.get(name, lambda name=name: ao.get(name))
        opt, params = optimizer(), drawn(0, mesh)
        params, _ = stepped(opt, opt.init_state(params), params, mesh, range(2))
        try:
            same(params, alone(name, 2))
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}") from error


def models(mesh: Any, folder: Path) -> None:
    """Step many models, of which each device has some."""
    over, shape = NamedSharding(mesh, PartitionSpec("all")), (2 * jax.device_count(), 3)
    rng = np.random.default_rng(0)
    start, slope = (rng.standard_normal(shape) for _ in range(2))
    rates = [0.01 * (1 + k) for k in range(shape[0])]
    opt, one = (ao.Adam(lr=rates, models=shape[0]) for _ in range(2))
    params, grads = (
        {"w": jax.make_array_from_callback(shape, over, lambda at, x=x: x[at])}
        for x in (start, slope)
    )
    state = opt.init_state(params)
    for _ in range(2):
        params, state = jax.jit(opt.stateless_apply)(state, grads, params)
        start = one.apply({"w": slope}, {"w": start})["w"]
    for shard in params["w"].addressable_shards:
        np.testing.assert_allclose(np.asarray(shard.data), start[shard.index], rtol=1e-12)


class Kept:
    """Counts the bytes of state that a process has on the host at a time while it saves."""

    def __init__(self) -> None:
        self.now = self.most = 0

    def watch(self, array: Any) -> Any:
        """Count an array until it is freed."""
        self.now += array.nbytes
        self.most = max(self.most, self.now)
        weakref.finalize(array, self.free, array.nbytes)
        return array

    def free(self, size: int) -> None:
        """Count one less."""
        self.now -= size


def saving(mesh: Any, folder: Path) -> None:
    """Save without ever having the whole state on one host."""
    shape, count = (64, 1024), 12
    over = NamedSharding(mesh, PartitionSpec("all"))
    params = {
        f"{k}": jax.make_array_from_callback(shape, over, lambda at: np.ones(shape)[at])
        for k in range(count)
    }
    opt = ao.Adam()
    opt.init(params)
    kept, plain = Kept(), multihost_utils.process_allgather
    multihost_utils.process_allgather = lambda *a, **k: kept.watch(np.array(plain(*a, **k)))
    opt.save_weights(folder / "whole.h5")
    each = shape[0] * shape[1] * 8
    assert kept.most >= each, "nothing was brought together"
    # Some are on their way to the file while the next comes; 24 are the whole state.
    assert kept.most <= 10 * each, kept.most / each


def main() -> None:
    """Meet the others, and do what was asked for."""
    case, rank, world, meeting, folder = sys.argv[1], *map(int, sys.argv[2:4]), *sys.argv[4:6]
    faulthandler.dump_traceback_later(400, exit=True)
    jax.config.update("jax_enable_x64", True)
    # Else computations that wait for other processes may overtake each other, and wait for ever.
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    jax.distributed.initialize(meeting, world, rank, initialization_timeout=60)
    assert jax.process_count() == world
    mesh = jax.make_mesh((jax.device_count(),), ("all",), axis_types=(AxisType.Auto,))
    cases = {case.__name__: case for case in (train, resume, each, models, saving)}
    cases[case](mesh, Path(folder))
    jax.distributed.shutdown()
    sys.stdout.write("fine\n")


if __name__ == "__main__":
    main()
