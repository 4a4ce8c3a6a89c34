"""Rules that need norms of each tensor: against optax's, and on tensors of any size."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

import arrayoptim as ao
from backends import NUMPY, TestBackend
from optimizers_under_test import NAMES, cls_of, make, same
from places import TESTS

RECORDING = json.loads((TESTS / "golden_peers" / "layerwise.json").read_text())
TENSORWISE = [name for name in NAMES if cls_of(name)().rule.kind == "tensorwise"]
BLOCKS = [(40, 900), (70_001,), (7,), (1,), (), (0, 3)]
"""More than a block of the norm's sum, parts of one, one entry and none."""


@pytest.mark.parametrize("run", RECORDING["runs"], ids=lambda run: f"{run['name']}{run['kwargs']}")
def test_optax_does_the_same(run: dict[str, Any], backend: TestBackend, engine: str) -> None:
    """Twenty recorded steps in double precision."""
    with ao.engine(engine):
        opt = make(run["name"], **run["kwargs"])
        params = backend.tree([np.array(p) for p in RECORDING["start"]], "float64")
        for grads, wanted in zip(RECORDING["grads"], run["path"], strict=True):
            params = opt.apply(backend.tree([np.array(g) for g in grads], "float64"), params)
            for p, w in zip(backend.read(params), wanted, strict=True):
                np.testing.assert_allclose(p, w, rtol=1e-11, atol=1e-13)


OPTIONS: list[dict[str, Any]] = [
    {},
    {"clipnorm": 0.5, "l2": 0.1, "weight_decay": 0.1, "exclude": "0", "ema_momentum": 0.9},
    {"state_dtype": "bfloat16", "stochastic_rounding": True},
    {"state_dtype": "int8", "weight_decay": 0.1},
]


@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float64"])
@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(options) or "none")
@pytest.mark.parametrize("name", TENSORWISE)
def test_engines_agree(name: str, options: dict[str, Any], dtype: str) -> None:
    """To the last bit, on one thread and on two, with a parameter that has no gradient."""
    rng = np.random.default_rng(0)
    start = [rng.standard_normal(shape) for shape in BLOCKS]
    steps = [[rng.standard_normal(shape) for shape in BLOCKS] for _ in range(3)]
    results = []
    for engine, threads in (("array", 1), ("cpu", 1), ("cpu", 2)):
        opt, params = make(name, threads=threads, **options), NUMPY.tree(start, dtype)
        with ao.engine(engine):
            for grads in steps:
                opt.apply(
                    [*NUMPY.tree(grads[:2], dtype), None, *NUMPY.tree(grads[3:], dtype)], params
                )
        results.append([*params, *opt.get_weights()])
    same(results[1], results[0])
    same(results[2], results[0])


@pytest.mark.parametrize("name", TENSORWISE)
def test_a_parameter_or_gradient_of_zeros(name: str, backend: TestBackend) -> None:
    """Without a norm to compare with, the plain learning rate holds, and nothing is NaN."""
    opt = make(name, lr=0.1)
    params = backend.tree([np.zeros(3), np.ones(3)], "float32")
    grads = backend.tree([np.ones(3), np.zeros(3)], "float32")
    first, second = backend.read(opt.apply(grads, params))
    assert np.all(first < 0) and np.all(np.isfinite(first))
    same([second], [np.ones(3, "float32")])
