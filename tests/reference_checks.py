"""Training beside a reference in plain Python floats."""

from __future__ import annotations

from typing import Any

import numpy as np

from backends import TestBackend
from optimizers_under_test import make
from references import Reference

FLOOR = 1e-290

WIDTH = 6  # numbers that are trained side by side

STEPS = 6


def agree(
    found: np.ndarray, wanted: np.ndarray, what: str, tolerance: float, together: bool = False
) -> None:
    """Assert agreement of whole trajectories, relative to the largest value on the way.

    It is the largest of all entries where these are computed from one another.
    """
    scale = np.maximum.accumulate(np.abs(wanted), axis=0)
    scale = scale.max(axis=1, keepdims=True) if together else scale
    error = np.abs(found - wanted)
    # Squares of very small gradients are subnormal: they have few digits, or JAX has none of them.
    assert np.all(error <= tolerance * scale + FLOOR), f"{what}: {np.max(error / (scale + FLOOR))}"


def compare(
    name: str, ref: Reference, backend: TestBackend, hyper: dict[str, Any], start: Any, table: Any
) -> None:
    """Train `WIDTH` numbers with the library and with the reference."""
    if ref.shape is not None:
        compare_arrays(name, ref, backend, hyper, start, table)
        return
    opt, params = make(name, **hyper, **ref.words), [backend.asarray(np.array(start), "float64")]
    opt.init(params)
    path, slots = [np.array(start)], []
    for row in table:
        params = opt.apply([backend.asarray(np.array(row), "float64")], params)
        path.append(backend.read(params)[0])
        slots.append([weight for weight in opt.get_weights() if weight.shape == (WIDTH,)])
    if ref.whole:
        steps = list(ref.steps(list(start), table, **hyper))
        agree(
            np.array(path), np.array([start, *(p for p, _ in steps)]), "parameters", ref.tolerance
        )
        agree(np.array(slots), np.array([state for _, state in steps]), "slots", ref.tolerance)
        return
    columns = [list(ref.steps(p, [row[i] for row in table], **hyper)) for i, p in enumerate(start)]
    wanted = np.array([start] + [[column[t][0] for column in columns] for t in range(STEPS)])
    agree(np.array(path), wanted, "parameters", ref.tolerance)
    if opt.rule.slots:
        wanted = np.array([[column[t][1] for column in columns] for t in range(STEPS)])
        agree(np.moveaxis(np.array(slots), 2, 1), wanted, "slots", ref.tolerance)


def compare_arrays(
    name: str, ref: Reference, backend: TestBackend, hyper: dict[str, Any], start: Any, table: Any
) -> None:
    """Train one array with the library and with the reference."""
    first, grads = np.reshape(start, ref.shape), [np.reshape(row, ref.shape) for row in table]
    opt, params = make(name, **hyper), [backend.asarray(first, "float64")]
    for t, (p, state) in enumerate(ref.steps(first, grads, **hyper)):
        params = opt.apply([backend.asarray(grads[t], "float64")], params)
        pairs = [(backend.read(params)[0], p), *zip(opt.get_weights()[1:], state, strict=True)]
        for place, (found, wanted) in enumerate(pairs):
            if wanted is None:
                continue
            what = f"array {place} after step {t + 1}"
            agree(found.reshape(1, -1), np.reshape(wanted, (1, -1)), what, ref.tolerance, True)
