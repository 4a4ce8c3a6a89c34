"""Estimates of the curvature, which the caller gives to Sophia."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import arrayoptim as ao
from backends import TestBackend


def drawn(seed: int) -> dict[str, np.ndarray]:
    """Return arrays of two shapes."""
    rng = np.random.default_rng(seed)
    return {"a": rng.normal(size=(2, 3)), "b": rng.normal(size=4)}


def stepped(p: Any, m: Any, h: Any, g: Any, lr: float) -> tuple[Any, Any]:
    """Return parameter and momentum after a step of the paper, with gamma 2 and beta_1 0.5."""
    m = 0.5 * m + 0.5 * g
    return p - lr * np.clip(m / np.maximum(2.0 * h, 1e-12), -1, 1), m


def test_estimates_count_from_the_next_step(backend: TestBackend, engine: str) -> None:
    """Their running mean divides, a group has its own rate and decay, None leaves it alone."""
    groups = [ao.group("b", lr=0.2, beta_2=0.5)]
    opt = ao.Sophia(lr=0.1, beta_1=0.5, beta_2=0.9, gamma=2.0, groups=groups)
    wanted = {k: (p, 0.0, np.zeros(p.shape)) for k, p in drawn(0).items()}
    params = {k: backend.asarray(p) for k, p in drawn(0).items()}
    with ao.engine(engine):
        for t in range(6):
            grads, estimates = drawn(10 + t), drawn(20 + t)
            params = opt.apply({k: backend.asarray(g) for k, g in grads.items()}, params)
            for k, lr in (("a", 0.1), ("b", 0.2)):
                p, m, h = wanted[k]
                wanted[k] = (*stepped(p, m, h, grads[k], lr), h)
            if t % 2 == 0:
                given: dict[str, Any] = {k: backend.asarray(x) for k, x in estimates.items()}
                opt.update_hessian(given | ({"b": None} if t == 2 else {}), params)
                for k, keep in (("a", 0.9), ("b", 1.0 if t == 2 else 0.5)):
                    p, m, h = wanted[k]
                    wanted[k] = p, m, keep * h + (1 - keep) * estimates[k]
            for k, (p, _, _) in wanted.items():
                np.testing.assert_allclose(backend.to_numpy(params[k]), p, rtol=1e-12)


def test_the_mean_is_saved(tmp_path: Any) -> None:
    """A run resumed after an estimate is the uninterrupted one, with small state too."""
    params = drawn(0)
    opt, other = (ao.Sophia(lr=0.1, state_dtype="int8") for _ in range(2))
    opt.apply(drawn(1), params)
    opt.update_hessian(drawn(2), params)
    opt.save_weights(tmp_path / "state.h5")
    other.load_weights(tmp_path / "state.h5")
    copied = {k: p.copy() for k, p in params.items()}
    for o, p in ((opt, params), (other, copied)):
        o.apply(drawn(3), p)
        o.update_hessian(drawn(4), p)
        o.apply(drawn(5), p)
    for k, p in params.items():
        assert p.tobytes() == copied[k].tobytes()


def test_pure_form_takes_the_same() -> None:
    """`stateless_update_hessian` gives what `update_hessian` does, and changes no argument."""
    groups = [ao.group("b", beta_2=0.5)]
    opt, params, pure = ao.Sophia(lr=0.1, groups=groups), drawn(0), drawn(0)
    state = ao.Sophia(lr=0.1, groups=groups).init_state(pure)
    opt.update_hessian(drawn(1), params)
    new = opt.stateless_update_hessian(state, drawn(1), pure)
    assert not any(np.any(x) for x in state["slots"]["hessian"].values())
    pure, new = opt.stateless_apply(new, drawn(2), pure)
    opt.apply(drawn(2), params)
    for k, p in params.items():
        assert p.tobytes() == pure[k].tobytes()


@pytest.mark.parametrize("compiled", [False, True])
def test_in_jax(compiled: bool) -> None:
    """A compiler traces it, with beta_2 as a number of the state."""
    jax = pytest.importorskip("jax")
    opt = ao.Sophia(beta_2=0.75)
    params = jax.numpy.ones(3)
    take = jax.jit(opt.stateless_update_hessian) if compiled else opt.stateless_update_hessian
    state = take(opt.init_state(params), 4 * params, params)
    np.testing.assert_allclose(state["slots"]["hessian"], 1.0)
    np.testing.assert_allclose(take(state, params, params)["slots"]["hessian"], 1.0)


def test_in_torch() -> None:
    """The classes for torch take a list; groups have their own numbers."""
    torch = pytest.importorskip("torch")
    first, second = (torch.nn.Parameter(torch.ones(3)) for _ in range(2))
    groups = [{"params": [first], "betas": (0.9, 0.75)}, {"params": [second]}]
    opt = ao.torch.Sophia(groups, lr=0.1, betas=(0.9, 0.5))
    with pytest.raises(ValueError, match=r"parameter 0 has no state yet; take a step first"):
        opt.update_hessian([torch.ones(3), None])
    for p in (first, second):
        p.grad = torch.ones(3)
    opt.step()
    opt.update_hessian([4 * torch.ones(3), torch.ones(3)])
    means = [opt.state[p]["hessian"] for p in (first, second)]
    assert [x.tolist() for x in means] == [[1.0] * 3, [0.5] * 3]
    with pytest.raises(ValueError, match=r"found 1 estimates, wanted 2"):
        opt.update_hessian([torch.ones(3)])
    with pytest.raises(ValueError, match=r"estimate 1 has shape \(2,\), wanted \(3,\)"):
        opt.update_hessian([torch.ones(3), torch.ones(2)])
    assert [x.tolist() for x in means] == [[1.0] * 3, [0.5] * 3]


@pytest.mark.parametrize(
    ("estimates", "message"),
    [
        ({"a": np.ones((2, 3))}, "update_hessian: the estimates' tree differs"),
        (
            {"a": np.ones((3, 2)), "b": np.ones(4)},
            r"'a': found shape \(3, 2\)",
        ),
        (
            {"a": np.ones((2, 3), int), "b": np.ones(4)},
            "'a': found data type int64",
        ),
    ],
)
def test_estimates_that_do_not_fit(estimates: Any, message: str) -> None:
    """An error says what was found; nothing has changed."""
    opt, params = ao.Sophia(), drawn(0)
    opt.update_hessian(drawn(1), params)
    before = opt.get_weights()
    with pytest.raises((TypeError, ValueError), match=message):
        opt.update_hessian(estimates, params)
    for a, b in zip(opt.get_weights(), before, strict=True):
        assert a.tobytes() == b.tobytes()


def test_many_models_have_no_estimates() -> None:
    """They are refused, as each model would want its own decay."""
    with pytest.raises(ValueError, match="supports one model only"):
        ao.Sophia(models=2).update_hessian(np.ones((2, 3)), np.ones((2, 3)))
