"""Steps on eight devices of JAX, in a process of its own: ``python tests/jax_devices.py Adam SGD``.

Fails where the state is not distributed as the parameters are, where the compiled step gathers
them, or where it is not the step on one device.
"""

from __future__ import annotations

import os
import sys
from typing import Any

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"

import jax
import numpy as np
import optax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import arrayoptim as ao

STEPS = 3
GATHERS = ("all-gather", "all-to-all", "collective-permute")
SPECS = {
    "kernel": PartitionSpec("data", "model"),
    "bias": PartitionSpec("model"),
    "scale": PartitionSpec(),
}
SHAPES = {"kernel": (32, 24), "bias": (24,), "scale": ()}


def drawn(seed: int, mesh: Any = None, steps: tuple[int, ...] = ()) -> dict[str, Any]:
    """Return parameters, or a stack of gradients, on a mesh or on one device."""
    rng = np.random.default_rng(seed)
    arrays = {k: rng.standard_normal((*steps, *shape)) for k, shape in SHAPES.items()}
    if mesh is None:
        return {key: jax.device_put(x, jax.devices()[0]) for key, x in arrays.items()}
    lead = (None,) * len(steps)
    return {
        key: jax.device_put(x, NamedSharding(mesh, PartitionSpec(*lead, *SPECS[key])))
        for key, x in arrays.items()
    }


def placed(tree: Any, params: Any, what: str) -> None:
    """Assert that a tree is distributed as the parameters are."""
    for key, x in tree.items():
        if x is None or x.shape != params[key].shape:
            continue  # a slot of its own shape, or one that vectors do not have
        wanted = params[key].sharding
        assert x.sharding.is_equivalent_to(wanted, x.ndim), f"{what} of {key}: {x.sharding}"


def scanned(opt: Any) -> Any:
    """Return several steps, half of them in each form, as one compiled function."""
    tx = ao.optax.wrap(opt)

    def body(carry: Any, grads: Any) -> Any:
        params, state = opt.stateless_apply(carry[1], grads, carry[0])
        updates, state = tx.update(grads, state, params)
        return (optax.apply_updates(params, updates), state), None

    return jax.jit(lambda carry, grads: jax.lax.scan(body, carry, grads)[0])


def check(name: str, mesh: Any) -> None:
    """Step on the mesh and on one device."""
    opt = type(ao.get(name))(clipnorm=1.0, ema_momentum=0.5)
    params, grads, steps = drawn(1, mesh), drawn(2, mesh, (STEPS,)), scanned(opt)
    carry = params, opt.init_state(params)
    for slot, tree in carry[1]["slots"].items():
        placed(tree, params, slot)
    compiled = steps.lower(carry, grads).compile()
    text = compiled.as_text()
    if opt.rule.kind != "matrix":  # products of matrices need them whole
        assert not any(word in text for word in GATHERS), f"{name} gathers"
    assert "all-reduce" in text  # of the global norm
    found, state = compiled(carry, grads)
    for slot, tree in {**state["slots"], "parameter": found}.items():
        placed(tree, params, slot)
    alone = drawn(1)
    wanted, one = steps((alone, opt.init_state(alone)), drawn(2, None, (STEPS,)))
    pairs = zip(jax.tree.leaves((found, state)), jax.tree.leaves((wanted, one)), strict=True)
    # The first basis of SOAP is not unique where a gradient lacks full rank.
    for a, b in pairs if name != "SOAP" else ():
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=1e-8, atol=1e-9, err_msg=name)
    moved = [float(np.max(np.abs(found[key] - params[key]))) for key in params]
    assert min(moved) > 0, name


def check_types(name: str, mesh: Any) -> None:
    """With a mesh whose axes are part of types, init and update agree on the state's."""
    shapes = {"a": ((8, 4), PartitionSpec("data")), "b": ((2, 8, 4), PartitionSpec(None, "data"))}
    with jax.set_mesh(mesh):
        params = {
            key: jax.numpy.ones(shape, "float16", out_sharding=NamedSharding(mesh, spec))
            for key, (shape, spec) in shapes.items()
        }
        tx = getattr(ao.optax, name)(clipnorm=1.0)
        state = tx.init(params)
        compiled = jax.jit(tx.init)(params)
        updates, after = jax.jit(tx.update)(params, state, params)
        for tree in (compiled, after):
            assert jax.tree.map(jax.typeof, state) == jax.tree.map(jax.typeof, tree), name
        assert jax.tree.map(jax.typeof, updates) == jax.tree.map(jax.typeof, params), name
        for slot, tree in after["slots"].items():
            placed(tree, params, slot)


def main(names: list[str]) -> None:
    """Check some optimizers."""
    # Bases of matrices magnify what rounding leaves of other orders of additions.
    jax.config.update("jax_enable_x64", True)
    assert jax.device_count() == 8
    made = {
        kind: jax.make_mesh((4, 2), ("data", "model"), axis_types=(kind, kind))
        for kind in (AxisType.Auto, AxisType.Explicit)
    }
    for name in names:
        check(name, made[AxisType.Auto])
        check_types(name, made[AxisType.Explicit])
    params = drawn(1, made[AxisType.Auto])
    stepped = ao.Adam(clipnorm=1.0).apply(drawn(2, made[AxisType.Auto]), params)
    placed(stepped, params, "apply")
    sys.stdout.write("fine\n")


if __name__ == "__main__":
    main(sys.argv[1:])
