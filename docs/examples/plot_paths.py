"""
Paths down a valley
===================

Rosenbrock's valley is curved and flat along its floor. Each optimizer starts at the same point and
takes at most 300 steps; the star is the minimum.
"""

import matplotlib.pyplot as plt
import numpy as np

import arrayoptim as ao


def rosenbrock(point):
    """Return the height at a point, and the gradient there."""
    x, y = point
    height = 100 * (y - x**2) ** 2 + (1 - x) ** 2
    return height, np.array([-400 * x * (y - x**2) - 2 * (1 - x), 200 * (y - x**2)])


# %%
# `minimize` calls ``callback`` after every step, which is where the points of a path come from.


def path(optimizer, steps=300):
    """Return the points that an optimizer visits."""
    visited = [np.array([-1.2, 1.0])]
    ao.minimize(
        rosenbrock,
        visited[0].copy(),
        optimizer,
        steps=steps,
        callback=lambda found: visited.append(found.params.copy()),
    )
    return np.array(visited)


paths = {
    "SGD(lr=1e-3)": path(ao.SGD(lr=1e-3)),
    "SGD(lr=1e-3, momentum=0.9)": path(ao.SGD(lr=1e-3, momentum=0.9)),
    "Adam(lr=0.1)": path(ao.Adam(lr=0.1)),
    "Rprop(lr=0.1)": path(ao.Rprop(lr=0.1)),
    "LBFGS()": path(ao.LBFGS()),
}

# %%
# Without momentum, gradient descent crawls once it has reached the floor. `LBFGS` learns the
# curvature, and is there after a few dozen evaluations.

x, y = np.meshgrid(np.linspace(-1.7, 1.7, 200), np.linspace(-0.7, 2.2, 200))
figure, grid = plt.subplots(2, 3, figsize=(9, 5.4), layout="constrained", sharex=True, sharey=True)
for axes, (name, points) in zip(grid.flat, paths.items(), strict=False):
    levels = np.logspace(-1, 3.2, 12)
    axes.contour(x, y, rosenbrock((x, y))[0], levels, cmap="Greys_r", linewidths=0.6)
    axes.plot(*points.T, ".-", color="#4477AA", markersize=3, linewidth=0.9)
    axes.plot(1, 1, "*", color="#EE6677", markersize=11)
    axes.set_title(f"{name}\n{len(points) - 1} steps, loss {rosenbrock(points[-1])[0]:.1e}", size=9)
    axes.set(xlim=(-1.7, 1.7), ylim=(-0.7, 2.2))
grid.flat[-1].axis("off")
plt.show()
