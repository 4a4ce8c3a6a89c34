import jax
import jax.numpy as jnp
import optax

x = jax.random.normal(jax.random.key(0), (512, 8))
y = jnp.sin(x.sum(axis=1))
params = {
    "inner": jax.random.normal(jax.random.key(1), (8, 32)) / 3,
    "outer": jax.random.normal(jax.random.key(2), (32,)) / 6,
}

schedule = optax.cosine_decay_schedule(0.01, 300)
optimizer = optax.chain(
    optax.clip_by_global_norm(1.0),
    optax.adamw(schedule, b2=0.99, weight_decay=0.01),
)
state = optimizer.init(params)


def loss(params):
    return jnp.mean((jnp.tanh(x @ params["inner"]) @ params["outer"] - y) ** 2)


@jax.jit
def step(params, state):
    grads = jax.grad(loss)(params)
    updates, state = optimizer.update(grads, state, params)
    return optax.apply_updates(params, updates), state


for _ in range(300):
    params, state = step(params, state)
print(f"loss {loss(params):.4f}")
