"""Steps recorded from torch, optax and pytorch_optimizer: see ``golden_peers/adam_family.py``."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

import arrayoptim as ao
from backends import TestBackend
from optimizers_under_test import make
from places import TESTS

INDEX = TESTS / "golden_peers" / "adam_family.json"
RECORDED = dict(np.load(INDEX.with_suffix(".npz")))
CASES = json.loads(INDEX.read_text(encoding="utf-8"))
TOLERANCE = 1e-10


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['path']}-{case['package']}")
def test_case(case: dict[str, Any], backend: TestBackend, engine: str) -> None:
    """The parameters agree after every step, relative to 1 + |p|."""
    opt = make(case["optimizer"], **case["hyperparameters"])
    params, wanted = [backend.asarray(RECORDED["start"])], RECORDED[case["path"]]
    assert len(wanted) == len(RECORDED["gradients"]) == 20
    with ao.engine(engine):
        for step, g in enumerate(RECORDED["gradients"]):
            params = opt.apply([backend.asarray(g)], params)
            error = np.abs(backend.read(params)[0] - wanted[step]) / (1 + np.abs(wanted[step]))
            assert np.max(error) <= TOLERANCE, f"step {step + 1}: {np.max(error)}"
