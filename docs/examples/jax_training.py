"""
JAX: a whole training in one compiled scan
==========================================

The state of the optimizer is a value, and the learning rate a number in it: ``jax.vmap`` trains
with three rates at once.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

import arrayoptim as ao

OPTIMIZER = ao.Adam(lr=0.05, clipnorm=1.0)


def start(key: Any) -> dict[str, Any]:
    """Make the parameters."""
    first, second = jax.random.split(key)
    return {
        "hidden": {"kernel": jax.random.normal(first, (2, 16)), "bias": jnp.zeros(16)},
        "output": {"kernel": jax.random.normal(second, (16, 1)), "bias": jnp.zeros(1)},
    }


def loss(params: dict[str, Any], x: Any) -> Any:
    """Return the error of the product of two numbers."""
    hidden = jnp.tanh(x @ params["hidden"]["kernel"] + params["hidden"]["bias"])
    y = hidden @ params["output"]["kernel"] + params["output"]["bias"]
    return jnp.mean((y - x.prod(axis=1, keepdims=True)) ** 2)


@jax.jit
def train(rate: Any, params: dict[str, Any]) -> Any:
    """Return the loss at every step of a course with a learning rate."""
    state = OPTIMIZER.init_state(params)
    state["hyper"]["lr"] = rate

    def step(carry: Any, key: Any) -> Any:
        state, params = carry
        value, grads = jax.value_and_grad(loss)(params, jax.random.uniform(key, (64, 2)))
        params, state = OPTIMIZER.stateless_apply(state, grads, params)
        return (state, params), value

    return jax.lax.scan(step, (state, params), jax.random.split(jax.random.key(1), 400))[1]


# %%
# One compilation serves all rates.

if __name__ == "__main__":
    params = start(jax.random.key(0))
    rates = jnp.asarray([0.001, 0.01, 0.05])
    courses = jax.vmap(train, in_axes=(0, None))(rates, params)
    for rate, course in zip(rates, courses):
        print(f"lr {rate:.3f}: loss {course[0]:.4f} at first, {course[-1]:.6f} after 400 steps")
    assert float(courses[:, -1].min()) < 0.01
