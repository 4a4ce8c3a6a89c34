"""How far float32 strays from float64 over 1,000 steps, in this library and in torch."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = list[NDArray[Any]]
Errors = tuple[float, float]
Run = Callable[[str, Arrays, list[Arrays], type], Arrays]

NAMES = ("adam", "sgd", "nesterov", "rmsprop", "adagrad", "adadelta", "adamax", "nadam")
STEPS = 1000
EVERY = 50  # steps between comparisons: the last one alone depends much on chance


def record(steps: int = STEPS) -> tuple[Arrays, list[Arrays]]:
    """Train a small network on handwritten digits; return where it began and each gradient.

    All optimizers are then given these gradients, so that what differs is their arithmetic alone.
    """
    from sklearn.datasets import load_digits

    import arrayoptim as ao

    x, y = load_digits(return_X_y=True)
    x, wanted = x / 16.0, np.eye(10)[y]
    random = np.random.default_rng(0)
    params: Arrays = [
        random.standard_normal((64, 32)) / 8, np.zeros(32),
        random.standard_normal((32, 10)) / 6, np.zeros(10),
    ]  # fmt: skip
    begin = [p.astype(np.float32) for p in params]
    found, opt = [], ao.Adam(lr=1e-3)
    for _ in range(steps):
        batch = random.integers(0, len(x), 64)
        grads = _gradients(params, x[batch], wanted[batch])
        found.append([g.astype(np.float32) for g in grads])
        opt.apply(grads, params)
    return begin, found


def _gradients(params: Arrays, x: NDArray[Any], wanted: NDArray[Any]) -> Arrays:
    w1, b1, w2, b2 = params
    hidden = np.tanh(x @ w1 + b1)
    scores = np.exp(hidden @ w2 + b2)
    error = (scores / scores.sum(axis=1, keepdims=True) - wanted) / len(x)
    inner = (error @ w2.T) * (1.0 - hidden**2)
    return [x.T @ inner, inner.sum(axis=0), hidden.T @ error, error.sum(axis=0)]


def compare(steps: int = STEPS) -> list[tuple[str, Errors, Errors | None]]:
    """Return for each optimizer how far this library strays, and torch where it is installed."""
    begin, grads = record(steps)
    torch = find_spec("torch") is not None
    return [
        (
            name,
            _errors(name, begin, grads, _ours),
            _errors(name, begin, grads, _torch) if torch else None,
        )
        for name in NAMES
    ]


def _errors(name: str, begin: Arrays, grads: list[Arrays], run: Run) -> Errors:
    """Return the root mean square and the largest difference between float32 and float64."""
    single, double = (
        np.array(run(name, begin, grads, dtype)) for dtype in (np.float32, np.float64)
    )
    apart = single - double
    return float(np.sqrt(np.mean(apart**2))), float(np.max(np.abs(apart)))


def _ours(name: str, begin: Arrays, grads: list[Arrays], dtype: type) -> Arrays:
    """Run this library; return the parameters now and then."""
    from .peers.ours import optimizer

    params: Arrays = [p.astype(dtype) for p in begin]
    opt = optimizer(name)
    found = []
    for step, given in enumerate(grads, 1):
        opt.apply([g.astype(dtype) for g in given], params)
        if step % EVERY == 0:
            found.append(_joined(params))
    return found


def _torch(name: str, begin: Arrays, grads: list[Arrays], dtype: type) -> Arrays:
    """Run torch, fused where it has that."""
    import torch

    from .peers.torch_forms import optimizer

    params = [torch.nn.Parameter(torch.from_numpy(p.astype(dtype))) for p in begin]
    fused = name in ("adam", "sgd", "nesterov", "adagrad")
    opt = optimizer(name, "fused" if fused else "foreach", params)
    found = []
    for step, given in enumerate(grads, 1):
        for p, g in zip(params, given, strict=True):
            p.grad = torch.from_numpy(g.astype(dtype))
        opt.step()
        if step % EVERY == 0:
            found.append(_joined([p.detach().numpy() for p in params]))
    return found


def _joined(params: Arrays) -> NDArray[np.float64]:
    return np.concatenate([p.ravel() for p in params]).astype(np.float64)
