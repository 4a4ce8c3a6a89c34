"""
Loss against bytes of state
===========================

The state of Adam is twice as large as the parameters. The same network is trained with state in
fewer bits, and with rules that keep less.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import arrayoptim as ao

x, labels = load_digits(return_X_y=True)
x, y = (x / 16).astype(np.float32), np.eye(10, dtype=np.float32)[labels]


def start():
    """Return the parameters of a network 64-128-10."""
    rng = np.random.default_rng(0)
    shapes = {"hidden": (64, 128), "output": (128, 10)}
    return {k: rng.normal(scale=0.1, size=s).astype(np.float32) for k, s in shapes.items()}


def loss_and_grads(params, x, y):
    """Return the cross-entropy, and its gradients."""
    hidden = np.tanh(x @ params["hidden"])
    scores = hidden @ params["output"]
    p = np.exp(scores - scores.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    error = (p - y) / len(x)
    back = error @ params["output"].T * (1 - hidden**2)
    loss = -np.mean(np.log((p * y).sum(axis=1) + 1e-12))
    return loss, {"hidden": x.T @ back, "output": hidden.T @ error}


def run(optimizer):
    """Return bytes of state for each parameter, and the loss after ten epochs."""
    params, rng = start(), np.random.default_rng(1)
    for _ in range(10):
        for rows in np.array_split(rng.permutation(len(x)), 28):
            params = optimizer.apply(loss_and_grads(params, x[rows], y[rows])[1], params)
    held = sum(w.nbytes for w in optimizer.weights if isinstance(w, np.ndarray))
    return held / sum(p.size for p in params.values()), loss_and_grads(params, x, y)[0]


# %%
# ``state_dtype`` works with every optimizer; `Lion`, `SM3` and `Adafactor` keep less by themselves.

runs = {
    "Adam": ao.Adam(lr=0.01),
    "Adam, bfloat16": ao.Adam(lr=0.01, state_dtype="bfloat16", stochastic_rounding=True),
    "Adam, int8": ao.Adam(lr=0.01, state_dtype="int8"),
    "Lion": ao.Lion(lr=0.002),
    "Lion, int8": ao.Lion(lr=0.002, state_dtype="int8"),
    "SM3": ao.SM3(lr=0.1),
    "Adafactor": ao.Adafactor(lr=0.03),
}
figure, axes = plt.subplots(figsize=(7.5, 4), layout="constrained")
for name, optimizer in runs.items():
    size, loss = run(optimizer)
    axes.plot(size, loss, "o", color="#4477AA")
    axes.annotate(f"{name} ({size:.2g})", (size, loss), (6, 4), textcoords="offset points")
axes.set(
    xlabel="bytes of state for each parameter", ylabel="loss after 10 epochs", xlim=(-0.3, 9.8)
)
axes.set(ylim=(0, 0.075))
plt.show()
