"""The recordings of Keras 2.0.9 and natural_bm, and how one is replayed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from backends import TestBackend
from golden.load_case import Golden
from optimizers_under_test import make

GOLDEN = Golden(str(Path(__file__).parent / "golden"))

GOLDEN.npz = dict(GOLDEN.npz)  # an open npz reads the file again at every access

TOLERANCE = {"float64": 1e-12, "float32": 3e-5}

RAMP = {"schedule_decay": 0.004, "mom_iter_max": 475000}

SCALARS = {"iterations": "iterations", "m_schedule": "m_schedule", "momentum": "ramped_momentum"}


def build(case: dict[str, Any]) -> Any:
    """Return our optimizer for a case."""
    kwargs = dict(case["kwargs"])
    if has_ramp(case):
        kwargs = RAMP | kwargs
    return make(case["class_name"], **kwargs)


def has_ramp(case: dict[str, Any]) -> bool:
    """Whether the momentum of the case follows natural_bm's ramp."""
    return case["library"] == "natural_bm" and case["class_name"] == "SGD"


def close(found: list[np.ndarray], wanted: list[np.ndarray], tolerance: float, what: str) -> None:
    """Assert agreement relative to 1 + |x|."""
    for index, (a, b) in enumerate(zip(found, wanted, strict=True)):
        assert np.shape(a) == np.shape(b)
        error = np.abs(np.asarray(a, "float64") - b) / (1 + np.abs(b))
        assert np.max(error, initial=0.0) <= tolerance, f"{what}, entry {index}: {np.max(error)}"


def recorded_order(opt: Any, case: dict[str, Any], step: int) -> list[np.ndarray]:
    """Return our weights without what the original did not save."""
    ours, wanted, n = opt.get_weights(), case["opt_weights"][step], len(case["p0"])
    counted, slots = len(wanted) % n, len(wanted) // n
    scalars = ("m_schedule" in case["scalars"]) + has_ramp(case)
    assert len(ours) == 1 + scalars + slots * n
    assert ours[0].dtype == np.int64 and ours[0].shape == ()
    return ours[:counted] + ours[len(ours) - slots * n :]


def check_scalars(opt: Any, case: dict[str, Any], step: int) -> None:
    """Compare the scalars that the original recorded after each step."""
    for scalar, values in case["scalars"].items():
        if scalar == "momentum" and not has_ramp(case):
            assert abs(opt.momentum - values[step - 1]) <= 1e-7
            continue
        tolerance = TOLERANCE[case["floatx"]]
        assert abs(getattr(opt, SCALARS[scalar]) - values[step - 1]) <= tolerance, scalar


def after_step(opt: Any, case: dict[str, Any], step: int, params: list[Any]) -> Any:
    """Carry out the events of a step; return the optimizer to go on with."""
    for event in case["events"]:
        if event["after_step"] != step:
            continue
        if event["action"] == "set":
            setattr(opt, event["attr"], event["value"])
        else:
            assert event["action"] == "restart"
            weights = recorded_order(opt, case, step)
            opt = build(case)
            opt.init(params)
            opt.set_weights(weights)
    return opt


def replay(case: dict[str, Any], backend: TestBackend) -> None:
    """Run a case and compare everything that was recorded."""
    opt, params = build(case), backend.tree(case["p0"])
    opt.init(params)
    tolerance = TOLERANCE[case["floatx"]]
    frozen = has_ramp(case) and not case["kwargs"].get("decay")
    for step in range(1, 31):
        params = opt.apply(backend.tree(case["grads"][step - 1]), params)
        if frozen:
            opt.iterations = 0  # natural_bm counts only where the constructor's decay > 0
        check_scalars(opt, case, step)
        if step in GOLDEN.snap_steps:
            found = backend.read(params)
            assert all(a.dtype == case["floatx"] for a in found)
            close(found, case["params"][step], tolerance, f"parameters after step {step}")
        if step in case["opt_weights"]:
            found = recorded_order(opt, case, step)
            close(found, case["opt_weights"][step], tolerance, f"weights after step {step}")
        opt = after_step(opt, case, step, params)
