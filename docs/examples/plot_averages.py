"""
Averages of the parameters
==========================

With small batches the parameters keep jumping about the minimum. Their moving average, which
``ema_momentum`` updates in the same pass over memory, does not.
"""

import matplotlib.pyplot as plt
import numpy as np

import arrayoptim as ao

rng = np.random.default_rng(0)
x = rng.normal(size=(1000, 10))
y = x @ np.linspace(-1, 1, 10) + 2 * rng.normal(size=1000)
best = np.linalg.lstsq(x, y)[0]


def excess(w):
    """Return how much higher the loss over all data is than at its minimum."""
    return np.mean((x @ w - y) ** 2) - np.mean((x @ best - y) ** 2)


def train(optimizer, read):
    """Return the excess after each of 600 steps on batches of 10."""
    w, found = np.zeros(10), []
    for step in range(600):
        rows = np.random.default_rng(step).integers(0, 1000, size=10)
        w = optimizer.apply(2 * x[rows].T @ (x[rows] @ w - y[rows]) / 10, w)
        found.append(excess(read(optimizer, w)))
    return found


# %%
# `Optimizer.averages` returns the averages in the tree of the parameters, and leaves these alone.

runs = {
    "SGD, its parameters": (ao.SGD(lr=0.05), lambda optimizer, w: w),
    "SGD, their average": (
        ao.SGD(lr=0.05, ema_momentum=0.98),
        lambda optimizer, w: optimizer.averages(w),
    ),
    "SGD, falling rate": (ao.SGD(lr=ao.schedules.CosineDecay(0.05, 600)), lambda optimizer, w: w),
}
figure, axes = plt.subplots(figsize=(7.5, 4), layout="constrained")
for (name, (optimizer, read)), colour in zip(
    runs.items(), ["#BBBBBB", "#4477AA", "#EE6677"], strict=True
):
    axes.plot(train(optimizer, read), color=colour, label=name, linewidth=1.2)
axes.set(yscale="log", xlabel="step", ylabel="loss above the minimum")
axes.legend(frameon=False)
plt.show()
