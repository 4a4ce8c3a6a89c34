"""The report of the last step: what it says, and that it costs nothing unless it is read."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

import arrayoptim as ao
import arrayoptim.optimizer as _optimizer
from backends import TestBackend
from gpu_on_host import NumPyOnHost
from optimizers_under_test import make


def test_what_it_says(name: str, backend: TestBackend, engine: str) -> None:
    """Norm, clip factor, counts, and the hyperparameters of the step as numbers."""
    rate = ao.schedules.LinearWarmup(0.5, 4, initial_learning_rate=0.25)
    optimizer = make(name, lr=rate, clipnorm=2.5, groups=[ao.group("1", weight_decay=0.125)])
    assert optimizer.last_step is None
    params = [backend.asarray(np.ones(2)), backend.asarray(np.ones(1))]
    grads = [backend.asarray(np.array([3.0, 0.0])), backend.asarray(np.array([-4.0]))]
    with ao.engine(engine):
        for _ in range(3):
            params = optimizer.apply(grads, params)
    report = optimizer.last_step
    assert report.applied and report.step == 3 and report.nonfinite == 0
    assert report.global_norm == pytest.approx(5.0) and report.clip_factor == pytest.approx(0.5)
    assert report.hyperparameters["lr"] == 0.375 and optimizer.lr == 0.4375
    assert report.hyperparameters["1.weight_decay"] == 0.125
    assert "global_norm=5.0" in repr(report) and "clip_factor=0.5" in repr(report)


def test_the_learning_rate_is_decayed() -> None:
    """It is the one that the step had; other numbers are as they were set."""
    optimizer, p = ao.SGD(lr=1.0, decay=1.0, weight_decay=0.5, peak_lr=2.0), np.ones(1)
    for _ in range(2):
        optimizer.apply(np.ones(1), p)
    found = optimizer.last_step.hyperparameters
    assert (found["lr"], found["weight_decay"], found["peak_lr"]) == (0.5, 0.5, 2.0)
    optimizer.lr = 9.0
    assert optimizer.last_step.hyperparameters["lr"] == 0.5


def test_nothing_is_measured_for_it() -> None:
    """A norm that no stage needs is not there."""
    optimizer = ao.Adam()
    optimizer.apply(np.ones(2), np.ones(2))
    report = optimizer.last_step
    assert (report.global_norm, report.clip_factor, report.tensor_norms) == (None, None, None)
    assert report.nonfinite is None and report.applied


def test_it_costs_nothing_unless_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step makes no report."""
    monkeypatch.setattr(_optimizer, "report", lambda _: 1 / 0)
    optimizer = ao.Adam(clipnorm=1.0)
    optimizer.apply(np.ones(2), np.ones(2))
    with pytest.raises(ZeroDivisionError):
        _ = optimizer.last_step


def test_a_step_left_out(backend: TestBackend, engine: str) -> None:
    """Its number comes again, and the entries that were not finite are counted."""
    optimizer = ao.SGD(nonfinite="skip", clipnorm_per_tensor=1.0)
    params = [backend.asarray(np.ones(3)), backend.asarray(np.ones(2))]
    bad = [backend.asarray([np.nan, np.inf, 1.0]), backend.asarray([-np.inf, 0.0])]
    good = [backend.asarray(np.array([3.0, 0.0, 4.0])), backend.asarray(np.array([0.0, 2.0]))]
    with ao.engine(engine):
        params = optimizer.apply(good, params)
        params = optimizer.apply(bad, params)
        report = optimizer.last_step
        assert not report.applied and report.step == 2 and optimizer.skipped == 1
        assert not np.isfinite(report.global_norm)
        assert report.nonfinite in (3, None) and (backend.name == "jax" or report.nonfinite == 3)
        optimizer.apply(good, params)
    report = optimizer.last_step
    assert report.applied and report.step == 2 and report.nonfinite == 0
    assert report.tensor_norms == pytest.approx((5.0, 2.0))


def test_an_error_leaves_it() -> None:
    """It is about the last step that was taken or left out."""
    optimizer, p = ao.SGD(nonfinite="raise"), np.ones(1)
    optimizer.apply(np.ones(1), p)
    before = optimizer.last_step
    with pytest.raises(ValueError, match="nothing has changed"):
        optimizer.apply(np.array([np.inf]), p)
    assert optimizer.last_step == before


def test_copies_and_reset() -> None:
    """What a device may hold does not go along."""
    optimizer = ao.SGD(clipnorm=1.0)
    optimizer.apply(np.ones(1), np.ones(1))
    assert pickle.loads(pickle.dumps(optimizer)).last_step is None
    optimizer.reset()
    assert optimizer.last_step is None


WRAPPED: dict[str, Any] = {
    "loss_scale": lambda inner: ao.LossScale(inner, scale=8.0),
    "lookahead": lambda inner: ao.Lookahead(inner, k=1),
    "accumulation": lambda inner: ao.GradientAccumulation(inner, every=2),
}


@pytest.mark.parametrize("kind", WRAPPED)
def test_wrappers_give_theirs(kind: str) -> None:
    """The norm is that of what the optimizer inside steps with, in its true size."""
    optimizer, p = WRAPPED[kind](ao.SGD(clipnorm=1.0)), np.ones(2)
    assert optimizer.last_step is None
    scale = 8.0 if kind == "loss_scale" else 1.0
    for _ in range(2):
        optimizer.apply(scale * np.array([3.0, 4.0]), p)
    report = optimizer.last_step
    assert report.global_norm == 5.0 and report.clip_factor == 0.2
    assert report.step == (1 if kind == "accumulation" else 2)


def test_sam_gives_its_own() -> None:
    """That of the second gradient, with which it steps."""
    optimizer, p = ao.SAM(ao.SGD(clipnorm=1.0)), np.ones(2)
    optimizer.ascend(np.ones(2), p)
    optimizer.apply(np.array([3.0, 4.0]), p)
    assert optimizer.last_step.global_norm == 5.0


def test_a_gpu_is_waited_for_only_then(host: NumPyOnHost) -> None:
    """The norm stays on the device until the report is read."""
    device, optimizer = host.devices[0], ao.Adam(clipnorm=1.0)
    params, grads = [np.ones(5, np.float32)] * 1, [np.full(5, 2.0, np.float32)]
    with ao.engine("gpu"):
        optimizer.apply(grads, params)
        copies = device.copies
        optimizer.apply(grads, params)
        assert device.copies == copies
        report = optimizer.last_step
    assert report.global_norm == pytest.approx(20.0**0.5) and report.nonfinite == 0
