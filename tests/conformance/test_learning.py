"""Every registered optimizer learns at its defaults, or with the step size that is listed."""

from __future__ import annotations

from typing import Any

import numpy as np

from optimizers_under_test import make
from tuned import tuned

STEPS = 1500


def problem() -> tuple[np.ndarray, np.ndarray]:
    """Return inputs of unlike sizes, about 10, and labels that a line does not part cleanly."""
    rng = np.random.default_rng(12)
    x = rng.normal(size=(200, 6)) * [20.0, 15.0, 10.0, 10.0, 5.0, 5.0]
    weights = np.array([0.05, -0.1, 0.1, 0.15, -0.2, 0.1])
    y = rng.random(200) < 1 / (1 + np.exp(-(x @ weights + 0.1)))
    return x, y.astype(float)


def loss_and_gradients(params: Any, x: np.ndarray, y: np.ndarray) -> tuple[float, Any]:
    """Return the mean logistic loss and its gradients."""
    z = x @ params["weight"] + params["bias"]
    error = (0.5 * (1 + np.tanh(z / 2)) - y) / len(y)  # 1 / (1 + exp(-z)) could overflow
    loss = float(np.mean(np.logaddexp(0.0, z) - y * z))
    return loss, {"weight": x.T @ error, "bias": np.sum(error)}


def least_loss(x: np.ndarray, y: np.ndarray) -> float:
    """Return the loss at its minimum, by Newton's method."""
    design, theta = np.column_stack([x, np.ones(len(x))]), np.zeros(x.shape[1] + 1)
    for _ in range(30):
        q = 1 / (1 + np.exp(-design @ theta))
        hessian = design.T @ (design * (q * (1 - q))[:, None])
        theta -= np.linalg.solve(hessian, design.T @ (q - y))
    return loss_and_gradients({"weight": theta[:-1], "bias": theta[-1]}, x, y)[0]


def test_logistic_regression(name: str, kwargs: dict[str, Any]) -> None:
    """What can be learnt but for two parts in a hundred, from noise-free gradients."""
    x, y = problem()
    best = least_loss(x, y)
    opt, params = (
        make(name, **tuned(name, "logistic"), **kwargs),
        {"weight": np.zeros(6), "bias": np.zeros(())},
    )
    start, _ = loss_and_gradients(params, x, y)
    for _ in range(STEPS):
        _, gradients = loss_and_gradients(params, x, y)
        params = opt.apply(gradients, params)
    loss, _ = loss_and_gradients(params, x, y)
    assert best - 1e-9 <= loss
    assert loss - best <= 0.02 * (start - best), f"{start} to {loss}, best {best}"


RATES = {"lr": [3e-4, 1e-3, 1e-2, 0.1, 1.0]}
VALLEY = 1000
"""Steps in Rosenbrock's valley: with one of these rates, each optimizer comes a good part of it."""


def rosenbrock(p: np.ndarray) -> tuple[float, np.ndarray]:
    """Return the value and the gradient at a column of two numbers."""
    x, y = p[:, 0]
    slope = [-400 * x * (y - x * x) - 2 * (1 - x), 200 * (y - x * x)]
    return float(100 * (y - x * x) ** 2 + (1 - x) ** 2), np.array(slope)[:, None]


def test_rosenbrock(name: str) -> None:
    """Down into the valley and along it, with the best of a few step sizes."""
    found = []
    for lr in RATES["lr"]:
        opt, p = make(name, lr=lr, clipnorm=1.0), np.array([[-1.2], [1.0]])
        for _ in range(VALLEY):
            p = opt.apply(rosenbrock(p)[1], p)
        found.append(rosenbrock(p)[0])
    assert np.nanmin(found) < 4.0, f"from {rosenbrock(np.array([[-1.2], [1.0]]))[0]} to {found}"
