"""Steps of younger rules recorded from other programs: see ``golden_peers/modern.py``."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

import arrayoptim as ao
from backends import TestBackend
from optimizers_under_test import make
from places import TESTS

INDEX = TESTS / "golden_peers" / "modern.json"
RECORDED = dict(np.load(INDEX.with_suffix(".npz")))
CASES = json.loads(INDEX.read_text(encoding="utf-8"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['path']}-{case['package']}")
def test_case(case: dict[str, Any], backend: TestBackend, engine: str) -> None:
    """The parameters agree after every step, relative to 1 + |p|."""
    words, places = case["hyperparameters"], case["arrays"]
    if "inner" in words:
        opt = ao.get({"class_name": case["optimizer"], "config": words})
    else:
        opt = make(case["optimizer"], **words)
    if case["falling"]:
        peak = opt.lr
        opt.lr = lambda t: peak * (1.0 - t / 20)
    params = [backend.asarray(RECORDED[f"start/{i}"]) for i in places]
    wanted = [RECORDED[f"{case['path']}/{i}"] for i in places]
    assert {len(rows) for rows in wanted} == {20}
    # What a fused engine cannot serve, as products of matrices, the array engine steps.
    with ao.engine("auto" if engine in ("cpu", "gpu") else engine):
        for step in range(20):
            grads = [backend.asarray(RECORDED[f"gradients/{i}"][step]) for i in places]
            params = opt.apply(grads, params)
            if case.get("estimates") and step % case["estimates"] == 0:
                opt.update_hessian([g * g for g in grads], params)
            for p, rows in zip(backend.read(params), wanted, strict=True):
                error = np.max(np.abs(p - rows[step]) / (1 + np.abs(rows[step])))
                assert error <= case["tolerance"], f"step {step + 1}: {error}"
