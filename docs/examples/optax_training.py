"""
optax: in a chain, and over from optax
======================================

A network is trained in a chain of optax; another training changes over without losing its moments.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

import arrayoptim as ao

x = jax.random.uniform(jax.random.key(1), (256, 2))
y = x.prod(axis=1, keepdims=True)


def start() -> dict[str, Any]:
    """Make the parameters."""
    shapes = {"hidden": (2, 16), "out": (16, 1)}
    keys = jax.random.split(jax.random.key(0), len(shapes))
    return {
        name: {"kernel": jax.random.normal(key, shape) / 4, "bias": jnp.zeros(shape[1])}
        for key, (name, shape) in zip(keys, shapes.items(), strict=True)
    }


def loss(params: Any) -> Any:
    """Return the mean squared error of the product of two numbers."""
    hidden = jnp.tanh(x @ params["hidden"]["kernel"] + params["hidden"]["bias"])
    return jnp.mean((hidden @ params["out"]["kernel"] + params["out"]["bias"] - y) ** 2)


def train(tx: Any, params: Any, state: Any, steps: int) -> tuple[Any, Any]:
    """Take steps in one compiled loop."""

    def body(carry: Any, _: Any) -> Any:
        params, state = carry
        updates, state = tx.update(jax.grad(loss)(params), state, params)
        return (optax.apply_updates(params, updates), state), None

    return jax.jit(lambda carry: jax.lax.scan(body, carry, length=steps)[0])((params, state))


# %%
# ``arrayoptim.optax.Adam`` is a gradient transformation like any other.

if __name__ == "__main__":
    ours = optax.inject_hyperparams(ao.optax.Adam)(learning_rate=0.05, epsilon=1e-8)
    chain = optax.chain(optax.clip_by_global_norm(1.0), ours)
    params, state = train(chain, start(), chain.init(start()), 200)
    optax.tree.get(state, "hyperparams")["learning_rate"] *= 0.5
    print(f"loss after 400 steps: {loss(train(chain, params, state, 200)[0]):.6f}")

    adam, optimizer = optax.adam(0.05, eps=0.0), ao.Adam(lr=0.05, epsilon=0.0)
    whole, _ = train(adam, start(), adam.init(start()), 200)
    params, state = train(adam, start(), adam.init(start()), 100)
    ao.optax.load_state(optimizer, state, params)
    tx = ao.optax.wrap(optimizer)
    moved, _ = train(tx, params, tx.init(params), 100)
    print(f"200 steps in optax: {loss(whole):.6f}; 100 there and 100 here: {loss(moved):.6f}")
