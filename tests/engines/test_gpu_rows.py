"""Sparse gradients on a GPU: rows by themselves in one launch, with the array engine's bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import arrayoptim as ao
from backends import TestBackend
from engine_cases import draw
from gpu_on_host import NumPyOnHost, compiler, launched
from optimizers_under_test import make, same

pytestmark = pytest.mark.skipif(compiler() is None, reason="there is no C++ compiler")

COUNT = 50
OPTIONS: list[dict[str, Any]] = [
    {},
    {"clipnorm": 0.1, "clipvalue": 0.05},
    {"clipnorm_per_tensor": 0.1, "weight_decay": 0.1, "l2": 0.01},
    {"ema_momentum": 0.9, "constraint": "nonneg"},
    {"state_dtype": "bfloat16"},
    {"kahan": True},
]


def trained(engine: str, optimizer: Any, dtype: str, width: int, order: str = "C") -> list[Any]:
    """Return a table, another parameter and the state after some steps."""
    p = {"table": draw(1, [(COUNT, width)], dtype)[0], "bias": draw(2, [(7,)], dtype)[0]}
    if order == "F":
        p["table"] = np.asfortranarray(p["table"])
    rng = np.random.default_rng(3)
    with ao.engine(engine):
        for step in range(4):
            indices = rng.integers(0, COUNT - 2, 9).astype("int32" if step else "int64")
            rows, bias = draw(10 + step, [(9, width), (7,)], "float32")
            if dtype.startswith("complex"):
                rows, bias = rows * (1 + 1j), bias * (1 - 1j)
            g = {"table": ao.Rows(indices, rows.astype(rows.dtype), (COUNT, width)), "bias": bias}
            optimizer.apply(g, p)
    return [*p.values(), *optimizer.get_weights()]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "-".join(o) or "plain")
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "complex64"])
@pytest.mark.parametrize("width", [8, 5])
def test_engines_agree(options: dict[str, Any], dtype: str, width: int, host: NumPyOnHost) -> None:
    """Rows in packs or, where these do not fit, element by element."""
    if dtype == "complex64" and "constraint" in options:
        return
    found = trained("gpu", make("Adam", sparse="lazy", **options), dtype, width)
    assert any(name.startswith("rows_") for name in launched(host.devices))
    same(found, trained("array", make("Adam", sparse="lazy", **options), dtype, width))


def test_every_optimizer(name: str, host: NumPyOnHost) -> None:
    optimizer = make(name, sparse="lazy")
    if optimizer.rule.kind != "elementwise":
        return
    found = trained("gpu", optimizer, "float32", 8)
    same(found, trained("array", make(name, sparse="lazy"), "float32", 8))


def test_what_a_row_costs(host: NumPyOnHost) -> None:
    """One launch of as many blocks as the rows need, whatever the length of the table."""
    device = host.devices[0]
    for count in (100, 100_000):
        p, optimizer = np.zeros((count, 64), np.float32), make("Adam", sparse="lazy")
        g = ao.Rows(np.arange(7), np.ones((7, 64), np.float32), p.shape)
        optimizer.apply(g, p)
        launched(host.devices)
        tables = device.tables
        optimizer.apply(g, p)
        assert [name.split("_")[0] for name in launched(host.devices)] == ["rows"]
        assert device.tables == tables


def test_graphs(host: NumPyOnHost) -> None:
    """None holds rows, which are others each time."""
    p, optimizer = np.ones((6, 2), np.float32), make("Adam", sparse="lazy")
    g = ao.Rows(np.array([1]), np.ones((1, 2), np.float32), p.shape)
    step = optimizer.capture(p)
    with host.captured(), pytest.raises(ValueError, match="cannot hold a step with sparse"):
        step.apply(g)
    with host.captured(), pytest.raises(RuntimeError, match="graph is being captured"):
        optimizer.apply(g, p)


def test_other_orders(host: NumPyOnHost) -> None:
    """The array engine steps rows that are not contiguous."""
    optimizer = make("Adam", sparse="lazy")
    found = trained("auto", optimizer, "float32", 8, "F")
    same(found, trained("array", make("Adam", sparse="lazy"), "float32", 8, "F"))
    with pytest.raises(ValueError, match="rows are not contiguous"):
        trained("gpu", make("Adam", sparse="lazy"), "float32", 8, "F")


def test_on_gpu(on_gpu: TestBackend) -> None:
    """Arrays of the libraries whose arrays lie there, duplicates and a bound on the norm too."""
    found = []
    for mode in ("lazy", "exact"):
        optimizer, p = make("Adam", sparse=mode, clipnorm=0.5), np.ones((20, 6), np.float32)
        there, rng = on_gpu.convert(p), np.random.default_rng(4)
        plain = make("Adam", sparse=mode, clipnorm=0.5)
        for _ in range(3):
            indices, rows = rng.integers(0, 20, 8), rng.normal(size=(8, 6)).astype("f4")
            optimizer.apply(ao.Rows(on_gpu.convert(indices), on_gpu.convert(rows), p.shape), there)
            plain.apply(ao.Rows(indices, rows, p.shape), p)
        np.testing.assert_allclose(on_gpu.to_numpy(there), p, rtol=1e-5)
        found.append(p)
    assert (found[0] != found[1]).any()
    bad = ao.Rows(on_gpu.convert(np.array([20])), on_gpu.convert(np.ones((1, 6), "f4")), (20, 6))
    with pytest.raises(ValueError, match="row 20 of 20"):
        optimizer.apply(bad, there)
