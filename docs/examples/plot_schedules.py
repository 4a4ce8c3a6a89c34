"""
Schedules
=========

Every number that an optimizer has may be a function of the step. These are some that the
library has ready made, see :doc:`/schedules`; ``python -m arrayoptim plot-schedule``
draws any of them.
"""

import matplotlib.pyplot as plt

import arrayoptim as ao

s = ao.schedules
STEPS = 1000
shown = {
    "CosineDecay, with a warm-up": s.CosineDecay(0.0, 900, warmup_target=1.0, warmup_steps=100),
    "CosineDecayRestarts": s.CosineDecayRestarts(1.0, 200, t_mul=1.5, m_mul=0.8),
    "WarmupStableDecay": s.WarmupStableDecay(1.0, 100, 600, 300),
    "OneCycle": s.OneCycle(1.0, STEPS),
    "ExponentialDecay": s.ExponentialDecay(1.0, 200, 0.5),
    "PiecewiseConstantDecay": s.PiecewiseConstantDecay([400, 700], [1.0, 0.3, 0.1]),
}

figure, grid = plt.subplots(2, 3, figsize=(9, 4.6), layout="constrained", sharex=True, sharey=True)
for axes, (name, schedule) in zip(grid.flat, shown.items(), strict=True):
    axes.plot([schedule(step) for step in range(STEPS)], color="#4477AA")
    axes.set_title(name, size=9)
for axes in grid[-1]:
    axes.set_xlabel("step")
plt.show()

# %%
# A function of your own serves as well; a named one can also be saved with the optimizer.

optimizer = ao.Adam(lr=lambda step: 0.1 / (1 + step) ** 0.5, clipnorm=shown["OneCycle"])
optimizer.iterations = 99
print(f"lr {optimizer.lr:.3f}, clipnorm {optimizer.clipnorm:.3f} at step {optimizer.iterations}")
