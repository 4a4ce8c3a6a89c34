"""
A thousand fits at once
=======================

`LBFGS` with ``batched=True`` searches many problems side by side: here the amplitude, rate and
offset of a thousand noisy decays, each at its own pace.
"""

import matplotlib.pyplot as plt
import numpy as np

import arrayoptim as ao

rng = np.random.default_rng(0)
t = np.linspace(0, 5, 40)
true = np.column_stack(
    [rng.uniform(1, 3, 1000), rng.uniform(0.5, 2, 1000), rng.uniform(-1, 1, 1000)]
)
data = true[:, :1] * np.exp(-true[:, 1:2] * t) + true[:, 2:] + rng.normal(0, 0.1, (1000, 40))


def loss_and_grads(params):
    """Return the mean square of each fit, shape (1000,), and the gradients."""
    amplitude, rate, offset = params[:, :1], params[:, 1:2], params[:, 2:]
    decay = np.exp(-rate * t)
    error = 2 * (amplitude * decay + offset - data) / len(t)
    grads = np.column_stack(
        [(error * decay).sum(1), (-error * amplitude * t * decay).sum(1), error.sum(1)]
    )
    return (error**2).sum(1) * len(t) / 4, grads


# %%
# Bounds keep the rate positive while the search is far away.

optimizer = ao.LBFGS(batched=True, lower=np.array([-np.inf, 0.0, -np.inf]) * np.ones((1000, 3)))
fitted = optimizer.solve(loss_and_grads, np.tile([1.0, 1.0, 0.0], (1000, 1)))
print(f"{int(np.sum(optimizer.converged))} of 1000 converged")

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
for k, colour in enumerate(["#4477AA", "#EE6677", "#228833"]):
    left.plot(t, data[k], ".", color=colour)
    left.plot(t, fitted[k, 0] * np.exp(-fitted[k, 1] * t) + fitted[k, 2], color=colour)
left.set(title="three of them", xlabel="time")
right.plot(true[:, 1], fitted[:, 1], ".", color="#4477AA", markersize=3)
right.plot([0.4, 2.1], [0.4, 2.1], color="#888888", linewidth=0.8)
right.set(title="rates", xlabel="true", ylabel="fitted", xlim=(0.4, 2.1), ylim=(0, 3))
plt.show()
