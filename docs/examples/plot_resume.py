"""
Stopped, and the same to the last bit
=====================================

A run is stopped after 150 of 300 steps, and goes on from its checkpoint in a fresh optimizer. The
two runs are the same, bit for bit.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import arrayoptim as ao

rng = np.random.default_rng(0)
x = rng.normal(size=(500, 20))
y = x @ rng.normal(size=20) + rng.normal(size=500)


def train(params, optimizer, steps):
    """Step on batches that the number of the step chooses, and return the loss of each."""
    losses = []
    for step in steps:
        rows = np.random.default_rng(step).integers(0, 500, size=25)
        error = x[rows] @ params["w"] - y[rows]
        losses.append(np.mean(error**2))
        params = optimizer.apply({"w": 2 * x[rows].T @ error / 25}, params)
    return losses


def make():
    """Return an optimizer whose rate falls and whose momentum matters."""
    return ao.Nadam(lr=ao.schedules.CosineDecay(0.1, 300))


whole = {"w": np.zeros(20)}
all_losses = train(whole, make(), range(300))

# %%
# One file has parameters, optimizer and whatever else the run needs.

path = Path(tempfile.mkdtemp()) / "run.h5"
params, optimizer = {"w": np.zeros(20)}, make()
train(params, optimizer, range(150))
ao.save_checkpoint(path, params, optimizer, step=150)

resumed, again, extra = ao.load_checkpoint(path, {"w": np.zeros(20)})
losses = train(resumed, again, range(extra["step"], 300))
print(f"largest difference of a parameter: {np.max(np.abs(resumed['w'] - whole['w']))}")
assert losses == all_losses[150:]

# %%
# What happens if only the parameters are saved? The moments start from zero, the count of steps and
# with it the schedule start again, and the run takes another way.

params, optimizer = {"w": np.zeros(20)}, make()
train(params, optimizer, range(150))
forgetful = train(params, make(), range(150, 300))

after = range(150, 300)
figure, (above, below) = plt.subplots(
    2, 1, figsize=(7.5, 5), layout="constrained", sharex=True, height_ratios=[2, 1]
)
above.plot(all_losses, color="#4477AA", linewidth=1, label="never stopped")
above.plot(after[::8], losses[::8], "o", color="#4477AA", mfc="white", label="from the checkpoint")
above.plot(after, forgetful, color="#EE6677", linewidth=1, label="from the parameters alone")
above.axvline(150, color="#888888", linewidth=0.8)
above.set(yscale="log", ylabel="loss of the batch")
above.legend(frameon=False)
below.plot(after, np.subtract(losses, all_losses[150:]), color="#4477AA")
below.plot(after, np.subtract(forgetful, all_losses[150:]), color="#EE6677", linewidth=1)
below.set(ylabel="difference", xlabel="step")
plt.show()
