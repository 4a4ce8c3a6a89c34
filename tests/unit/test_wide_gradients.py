"""Gradients of more bits than their parameters are clipped before they are rounded."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import arrayoptim as ao

CLIPS: dict[str, dict[str, Any]] = {
    "norm": {"clipnorm": 1.0},
    "per tensor": {"clipnorm_per_tensor": 1.0},
    "both": {"clipnorm": 2.0, "clipnorm_per_tensor": 1.0},
    "norm and value": {"clipnorm": 1.0, "clipvalue": 0.75},
    "value": {"clipvalue": 0.5},
    "agc": {"agc": 1000.0},
}


def ways(opt: Any, g: Any, p: Any) -> Any:
    """Yield the parameter after a step, by each way of stepping."""
    state = opt.init_state(p)
    yield opt.stateless_apply(state, g, p)[0]
    yield opt.get_updates(p, lambda x: (1.0, g))[-1][1]
    yield opt.apply(g, p)


@pytest.mark.parametrize("engine", ["array", "cpu"])
@pytest.mark.parametrize("size", [1e39, 1e200])
@pytest.mark.parametrize("clip", CLIPS)
def test_numpy(clip: str, size: float, engine: str) -> None:
    """A finite gradient makes a finite step; what is small beside it stays what it is."""
    with ao.engine(engine):
        for new in ways(ao.SGD(lr=1.0, **CLIPS[clip]), np.full(4, size), np.zeros(4, np.float32)):
            assert np.allclose(new, -0.5, rtol=1e-6)


@pytest.mark.parametrize("engine", ["array", "cpu"])
def test_each_by_its_own(engine: str) -> None:
    """What brings one gradient into range leaves the others their bits, and the report is true."""
    params = {"a": np.zeros(4, np.float32), "b": np.zeros(4, np.float32)}
    opt = ao.SGD(lr=1.0, clipnorm_per_tensor=1.0)
    with ao.engine(engine):
        opt.apply({"a": np.full(4, 1e150), "b": np.full(4, 0.1, np.float32)}, params)
    assert np.array_equal(params["b"], np.full(4, -0.1, np.float32))
    assert np.allclose(params["a"], -0.5, rtol=1e-6)
    assert opt.last_step is not None
    assert opt.last_step.global_norm == pytest.approx(2e150)


@pytest.mark.needs("torch")
def test_torch() -> None:
    """Complex numbers too."""
    import torch

    for kind, wide in ((torch.float32, torch.float64), (torch.complex64, torch.complex128)):
        g = torch.full((4,), 1e39, dtype=wide)
        for new in ways(ao.SGD(lr=1.0, clipnorm=1.0), g, torch.zeros(4, dtype=kind)):
            assert torch.allclose(new.real, torch.tensor(-0.5))


@pytest.mark.needs("jax")
@pytest.mark.parametrize("clip", CLIPS)
def test_jax(clip: str) -> None:
    """Compiled and not."""
    import jax
    import jax.numpy as jnp

    opt = ao.SGD(lr=1.0, **CLIPS[clip])
    with jax.enable_x64(True):
        g, p = jnp.full(4, 1e39, jnp.float64), jnp.zeros(4, jnp.float32)
        step = jax.jit(opt.stateless_apply)
        for new in (opt.apply(g, p), step(opt.init_state(p), g, p)[0]):
            assert new.dtype == jnp.float32
            assert np.allclose(new, -0.5, rtol=1e-6)
