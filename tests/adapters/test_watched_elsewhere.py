"""Norms by path and the guard against spikes, in torch's and optax's form and under a compiler."""

from __future__ import annotations

from typing import Any

import pytest

import arrayoptim as ao

WORDS = ("gradient", "update", "weight")
GRADIENTS = (1.0, 1.5, 0.5, 1.0, 90.0, 1.0)


def test_in_a_compiled_step() -> None:
    """The state has the norms, and nothing but the count of spikes changes where one is skipped."""
    jax = pytest.importorskip("jax")
    optimizer = ao.SGD(1.0, measure=WORDS, skip_spikes=6.0, spike_window=4)
    params = {"a": jax.numpy.zeros(4), "b": jax.numpy.zeros(2)}
    state, step = optimizer.init_state(params), jax.jit(optimizer.stateless_apply)
    shape = jax.tree.structure(state)
    for x in GRADIENTS:
        grads = {"a": jax.numpy.full(4, x), "b": jax.numpy.zeros(2)}
        params, state = step(state, grads, params)
        assert jax.tree.structure(state) == shape
        assert float(state["norms"]["gradient"]["a"]) == 2.0 * x
        assert float(state["norms"]["update"]["a"]) == (1.0 if x == 90.0 else x) * 2.0
    assert step._cache_size() == 1
    assert float(params["a"][0]) == -5.0 and float(state["norms"]["weight"]["a"]) == 10.0
    assert int(state["iterations"]) == 5 and int(state["skipped"]) == 0
    assert float(state["scalars"]["spikes"]) == 1.0


def test_in_optax() -> None:
    """The transformation's state has them."""
    jax, optax = pytest.importorskip("jax"), pytest.importorskip("optax")
    tx = ao.optax.SGD(1.0, measure="gradient", skip_spikes=6.0, spike_window=4)
    params = {"w": jax.numpy.zeros(1)}
    state = tx.init(params)
    for x in GRADIENTS:
        updates, state = tx.update({"w": jax.numpy.full(1, x)}, state, params)
        params = optax.apply_updates(params, updates)
        assert float(state["norms"]["gradient"]["w"]) == x
    assert float(params["w"][0]) == -5.0


def test_loss_in_optax() -> None:
    """It comes by optax's own word, through a chain too; without it the error says which."""
    jax, optax = pytest.importorskip("jax"), pytest.importorskip("optax")
    ours = ao.optax.SGD(1.0, skip_loss_spikes=6.0, spike_window=4)
    tx, params = optax.chain(optax.clip(1.0), ours), {"w": jax.numpy.zeros(1)}
    grads, state = {"w": jax.numpy.ones(1)}, tx.init(params)

    @jax.jit
    def step(state: Any, params: Any, loss: Any) -> Any:
        updates, state = tx.update(grads, state, params, value=loss)
        return state, optax.apply_updates(params, updates)

    for x in GRADIENTS:
        state, params = step(state, params, x)
    assert float(params["w"][0]) == -5.0
    with pytest.raises(ValueError, match="value=loss"):
        tx.update(grads, state, params)


def stepped(torch: Any, optimizer: Any, params: list[Any], rows: Any) -> None:
    """Step with the same gradient for all parameters that is given."""
    for x in rows:
        for p in params:
            p.grad = torch.full_like(p, x)
        optimizer.step()


def test_in_torch() -> None:
    """All groups are judged together, by the norm over both, and resume to the bit."""
    torch = pytest.importorskip("torch")
    options: dict[str, Any] = {"measure": WORDS, "skip_spikes": 6.0, "spike_window": 4}

    def made() -> tuple[Any, list[Any]]:
        params = [torch.nn.Parameter(torch.zeros(4)), torch.nn.Parameter(torch.zeros(9))]
        pairs = [("a", params[0])], [("b", params[1])]
        return ao.torch.Adam([{"params": p} for p in pairs], lr=0.1, **options), params

    whole, wanted = made()
    stepped(torch, whole, wanted, GRADIENTS)
    first, second = whole.last_step
    assert first.norms["gradient"] == {"a": 2.0} and second.norms["gradient"] == {"b": 3.0}
    assert first.global_norm == second.global_norm == pytest.approx(13.0**0.5)
    held = whole.state[wanted[0]]
    assert (float(held["spikes"]), float(held["step"])) == (1.0, 5.0)
    before, params = made()
    stepped(torch, before, params, GRADIENTS[:3])
    after, same = made()
    after.load_state_dict(before.state_dict())
    for p, q in zip(same, params, strict=True):
        p.data.copy_(q.data)
    stepped(torch, after, same, GRADIENTS[3:])
    assert all(torch.equal(p, q) for p, q in zip(same, wanted, strict=True))
    assert float(after.state[same[0]]["norm_mean"]) == float(held["norm_mean"])


def test_refused_in_torch() -> None:
    """Groups that differ, and steps in the midst of a backward pass."""
    torch = pytest.importorskip("torch")
    params = [torch.nn.Parameter(torch.zeros(4)) for _ in range(2)]
    groups = [{"params": [params[0]], "skip_spikes": 6.0}, {"params": [params[1]]}]
    with pytest.raises(
        ValueError, match="skip_spikes, measure, skip_loss_spikes hold for a step as a whole"
    ):
        stepped(torch, ao.torch.SGD(groups, lr=0.1), params, [1.0])
    with pytest.raises(ValueError, match="needs all gradients"):
        ao.torch.SGD(params, lr=0.1, measure="update").step_in_backward()
