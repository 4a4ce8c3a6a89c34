import jax
import jax.numpy as jnp

import arrayoptim as ao

x = jax.random.normal(jax.random.key(0), (512, 8))
y = jnp.sin(x.sum(axis=1))
params = {
    "inner": jax.random.normal(jax.random.key(1), (8, 32)) / 3,
    "outer": jax.random.normal(jax.random.key(2), (32,)) / 6,
}

schedule = ao.schedules.CosineDecay(0.01, 300)
optimizer = ao.AdamW(schedule, beta_2=0.99, weight_decay=0.01, clipnorm=1.0, preset="optax")
state = optimizer.init_state(params)


def loss(params):
    return jnp.mean((jnp.tanh(x @ params["inner"]) @ params["outer"] - y) ** 2)


@jax.jit
def step(params, state):
    grads = jax.grad(loss)(params)
    return optimizer.stateless_apply(state, grads, params)


for _ in range(300):
    params, state = step(params, state)
print(f"loss {loss(params):.4f}")
