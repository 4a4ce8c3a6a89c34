"""Steps recorded from rules that measure whole tensors: see ``golden_peers/measured.py``."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

import arrayoptim as ao
from backends import TestBackend
from optimizers_under_test import make
from places import TESTS

RECORDED = json.loads((TESTS / "golden_peers" / "measured.json").read_text())
TOLERANCE = 1e-10


@pytest.mark.parametrize("run", RECORDED["runs"], ids=lambda run: run["call"])
def test_case(run: dict[str, Any], backend: TestBackend, engine: str) -> None:
    """The parameters agree after every step, relative to 1 + |p|."""
    kwargs = dict(run["kwargs"])
    if "groups" in kwargs:
        each = {key: value for key, value in kwargs.items() if key != "groups"}
        kwargs["groups"] = [
            ao.group(path, optimizer=make(run["name"], **each)) for path in kwargs["groups"]
        ]
    opt = make(run["name"], **kwargs)
    params = backend.tree([np.array(p) for p in RECORDED["start"]], "float64")
    assert len(run["path"]) == len(RECORDED["grads"]) == 20
    with ao.engine(engine):
        for step, (grads, wanted) in enumerate(zip(RECORDED["grads"], run["path"], strict=True)):
            params = opt.apply(backend.tree([np.array(g) for g in grads], "float64"), params)
            for p, w in zip(backend.read(params), map(np.array, wanted), strict=True):
                error = np.max(np.abs(p - w) / (1 + np.abs(w)))
                assert error <= TOLERANCE, f"step {step + 1}: {error}"
