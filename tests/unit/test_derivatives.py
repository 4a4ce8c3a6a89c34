"""Derivatives through steps of the pure form."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import arrayoptim as ao
from optimizers_under_test import cls_of, make, variants

OPTIONS: dict[str, dict[str, Any]] = {
    "clipnorm": {"clipnorm": 0.5},
    "per tensor": {"clipnorm_per_tensor": 0.5},
    "agc": {"agc": 0.1},
    "cautious": {"cautious": True},
    "decay": {"weight_decay": 0.1},
    "cautious decay": {"weight_decay": 0.1, "cautious_decay": True},
    "l2": {"l2": 0.1},
    "average": {"ema_momentum": 0.9},
    "skip": {"nonfinite": "skip"},
    "group": {"groups": [ao.group("b", lr=0.3)]},
    "constraint": {"constraint": "UnitNorm"},
}


def torch_course(optimizer: Any, w: Any, rate: Any) -> Any:
    """Return a loss after three steps, from where and at which rate they begin."""
    import torch

    fixed = torch.tensor(np.random.default_rng(0).normal(size=(3, 3)))

    def loss(p: Any) -> Any:
        return ((fixed @ p["k"]).tanh() ** 2).sum() + 0.1 * p["k"].sum() * (p["b"] ** 2).sum()

    p = {"k": w[:9].reshape(3, 3), "b": w[9:]}
    state = optimizer.init_state(p)
    state = {**state, "hyper": {**state["hyper"], "lr": rate}}
    for _ in range(3):
        p, state = optimizer.stateless_apply(state, torch.func.grad(loss)(p), p)
    return loss(p)


def agrees_with_differences(optimizer: Any) -> None:
    """Compare with central differences, along a direction and along the rate."""
    import torch

    random = np.random.default_rng(1)
    w, d = (torch.tensor(random.normal(size=11)) for _ in range(2))
    rate = torch.tensor(min(float(optimizer.lr), 0.1), dtype=torch.float64)
    of_w, of_rate = torch.func.grad(torch_course, (1, 2))(optimizer, w, rate)
    h = 1e-6

    def apart(up: Any, down: Any) -> float:
        return float(torch_course(optimizer, *up) - torch_course(optimizer, *down)) / (2 * h)

    found = float((of_w * d).sum())
    assert found == pytest.approx(apart((w + h * d, rate), (w - h * d, rate)), rel=1e-4, abs=1e-7)
    wanted = apart((w, rate * (1 + h)), (w, rate * (1 - h)))
    assert float(of_rate * rate) == pytest.approx(wanted, rel=1e-4, abs=1e-7)


@pytest.mark.needs("torch")
def test_torch_differentiates_through_every_rule(name: str) -> None:
    """Neither the parameters' nor the rate's part is lost."""
    agrees_with_differences(make(name))


@pytest.mark.needs("torch")
@pytest.mark.parametrize("option", OPTIONS)
def test_torch_differentiates_through_every_stage(option: str) -> None:
    """The norms that gradients are clipped by depend on them too."""
    agrees_with_differences(ao.Adam(lr=0.1, **OPTIONS[option]))


@pytest.mark.needs("torch")
def test_torch_records_where_it_is_asked_to() -> None:
    """By create_graph, by a rate to learn, and by parameters that are results; not without."""
    import torch

    optimizer, w = ao.Adam(lr=0.1), torch.ones(2, requires_grad=True)
    state = optimizer.init_state(w)
    (plain,) = torch.autograd.grad((w**3).sum(), w)
    (recorded,) = torch.autograd.grad((w**3).sum(), w, create_graph=True)
    rate = torch.tensor(0.1, requires_grad=True)
    learned = {**state, "hyper": {**state["hyper"], "lr": rate}}
    asked = [
        optimizer.stateless_apply(*given)[0]
        for given in ((state, recorded, w), (learned, plain, w), (state, plain, w * 1.0))
    ]
    assert [x.requires_grad for x in asked] == [True, True, True]
    (slope,) = torch.autograd.grad(asked[1].sum(), rate)
    assert float(slope) == pytest.approx(-2.0, rel=1e-5)
    new, held = optimizer.stateless_apply(state, plain, w)
    assert not new.requires_grad
    assert type(held["iterations"]) is int
    with torch.no_grad():
        assert not optimizer.stateless_apply(state, recorded, w)[0].requires_grad
    assert torch.equal(asked[0].detach(), new)


@pytest.mark.needs("torch")
def test_torch_steps_many_models_at_once() -> None:
    """Under vmap each has a rate, a state and a norm of its own; nothing waits for a value."""
    import torch

    optimizer = ao.Adam(lr=0.1, clipnorm=1.0, nonfinite="skip")
    models = torch.tensor(np.random.default_rng(2).normal(size=(4, 3)))
    rates = torch.linspace(0.1, 0.4, 4, dtype=torch.float64)

    def course(w: Any, rate: Any) -> Any:
        state = optimizer.init_state(w)
        state = {**state, "hyper": {**state["hyper"], "lr": rate}}
        for _ in range(3):
            w, state = optimizer.stateless_apply(state, w.sin() * 3.0, w)
        return w

    together = torch.func.vmap(course)(models, rates)
    alone = torch.stack([course(w, rate) for w, rate in zip(models, rates, strict=True)])
    assert torch.allclose(together, alone, rtol=1e-12, atol=1e-12)


@pytest.mark.needs("torch")
@pytest.mark.parametrize("name", ["ScheduleFreeSGD", "ASGD"])
def test_torch_averages_are_differentiated(name: str) -> None:
    """What is evaluated depends on where the training began, by the slots too."""
    import torch

    optimizer = make(name, lr=0.1)
    w = torch.ones(2, dtype=torch.float64, requires_grad=True)
    state = optimizer.init_state(w)
    (g,) = torch.autograd.grad((w**2).sum(), w, create_graph=True)
    new, state = optimizer.stateless_apply(state, g, w)
    (slope,) = torch.autograd.grad(optimizer.stateless_averages(state, new).sum(), w)
    assert torch.all(slope > 0.5)


@pytest.mark.slow
@pytest.mark.needs("jax")
@pytest.mark.parametrize("options", [{}, {"clipnorm": 1.0}, {"clipnorm_per_tensor": 1.0}], ids=str)
@pytest.mark.parametrize("name", ["Adam", "AdaBelief", "LAMB", "LARS", "RMSprop", "DoG", "Muon"])
def test_no_derivative_is_nan_where_a_gradient_is_zero(name: str, options: Any) -> None:
    """A root of 0 has no derivative of its own, and the step has one."""
    import jax
    import jax.numpy as jnp

    optimizer = make(name, **options)

    def after(w: Any) -> Any:
        state = optimizer.init_state(w)
        for _ in range(2):
            w, state = optimizer.stateless_apply(state, jax.tree.map(lambda x: 2 * x, w), w)
        return sum(jnp.sum(x**2) for x in jax.tree.leaves(w))

    for start in (jnp.zeros((2, 2)), jnp.array([[0.0, 1.0], [0.0, 0.0]])):
        slopes = jax.grad(after)([start, jnp.zeros(2)])
        assert all(bool(jnp.all(jnp.isfinite(x))) for x in slopes)


SMALL = [0.0, 1e-18, 1e-12]
"""Sizes of gradients; the squares of the second are near the end of float32's range."""


def asked(optimizer: Any, kind: str, size: float, start: float) -> tuple[Any, ...]:
    """Return gradients, parameters, numbers and slots, on the host, of a state with a history."""
    random = np.random.default_rng(0)
    shapes: list[tuple[int, ...]] = [(2, 3), (4,), ()]
    grads, params = (
        [np.asarray(random.normal(size=shape) * scale, kind) for shape in shapes]
        for scale in (size, start)
    )
    state = optimizer.init_state([p.copy() for p in params])
    hyper = {k: np.float64(v) for k, v in state["hyper"].items() if isinstance(v, float)}
    return grads, params, hyper, state["slots"], state


def course(optimizer: Any, grads: Any, params: Any, hyper: Any, slots: Any, state: Any) -> Any:
    """Take two steps."""
    state = {**state, "slots": slots, "hyper": {**state["hyper"], **hyper}}
    for _ in range(2):
        params, state = optimizer.stateless_apply(state, grads, params)
    return params


CORNERS = [
    (kind, size, start) for kind in ("float32", "float64") for size in SMALL for start in (0, 1)
]


def finite_on_torch(optimizer: Any) -> None:
    """Assert that nothing is NaN or infinite."""
    import optree
    import torch

    def leaf(x: Any) -> Any:
        return torch.tensor(x, requires_grad=np.asarray(x).dtype.kind == "f")

    for corner in CORNERS:
        *given, state = asked(optimizer, *corner)
        given = optree.tree_map(leaf, given)
        after = course(optimizer, *given, state)
        wanted = [x for x in optree.tree_leaves(given) if x.requires_grad]
        slopes = torch.autograd.grad(sum(p.sum() for p in after), wanted, allow_unused=True)
        assert all(bool(x.isfinite().all()) for x in slopes if x is not None), corner


@pytest.mark.needs("torch")
@pytest.mark.parametrize("name", ["Adafactor", "Shampoo", "SOAP"])
def test_derivatives_at_small_gradients_are_finite(name: str) -> None:
    """Those of gradients, parameters, slots and numbers; quickly."""
    finite_on_torch(make(name))


@pytest.mark.slow
@pytest.mark.needs("torch")
def test_every_derivative_at_small_gradients_is_finite(name: str) -> None:
    for kwargs in variants(name):
        finite_on_torch(make(name, **kwargs))


@pytest.mark.slow
@pytest.mark.needs("jax")
def test_every_derivative_at_small_gradients_is_finite_on_jax(name: str) -> None:
    import jax
    import jax.numpy as jnp

    for kwargs in variants(name):
        for kind in ("float32", "float64"):
            with jax.enable_x64(kind == "float64"):
                optimizer = make(name, **kwargs)
                *_, state = asked(optimizer, kind, 1.0, 1.0)

                def total(given: Any, optimizer: Any = optimizer, state: Any = state) -> Any:
                    return sum(map(jnp.sum, course(optimizer, *given, state)))

                slopes = jax.jit(jax.grad(total))
                for corner in (corner for corner in CORNERS if corner[0] == kind):
                    *given, _ = asked(optimizer, *corner)
                    for x in jax.tree.leaves(slopes(jax.tree.map(jnp.asarray, given))):
                        assert bool(jnp.all(jnp.isfinite(x))), (kwargs, corner)


@pytest.mark.needs("jax")
def test_the_derivative_where_a_gradient_is_zero() -> None:
    """It is that of the limit: Adam's first step is in proportion to g / (|g| + eps)."""
    import jax
    import jax.numpy as jnp

    optimizer = ao.Adam(lr=0.5, epsilon=0.25, preset="optax")

    def after(g: Any) -> Any:
        w = jnp.zeros(2)
        return optimizer.stateless_apply(optimizer.init_state(w), g, w)[0]

    slope = jnp.diag(jax.jacobian(after)(jnp.array([0.0, 1.0])))
    assert np.allclose(slope, [-0.5 / 0.25, -0.5 * 0.25 / 1.25**2], rtol=1e-5)


@pytest.mark.needs("jax")
def test_traced_hyperparameters() -> None:
    """A constructor keeps no stand-in for a number, and says where one is taken."""
    import jax
    import jax.numpy as jnp

    def course(rate: Any) -> Any:
        optimizer, w = ao.SGD(lr=0.5), jnp.zeros(2)
        state = optimizer.init_state(w)
        state = {**state, "hyper": {**state["hyper"], "lr": rate}}
        return optimizer.stateless_apply(state, jnp.ones(2), w)[0]

    new = jax.vmap(course)(jnp.array([0.1, 0.2]))
    assert np.allclose(new, [[-0.1, -0.1], [-0.2, -0.2]])
    for make_one in (lambda x: ao.SGD(lr=x), lambda x: setattr(ao.Adam(), "beta_1", x)):
        for trace in (jax.jit, jax.vmap, jax.grad):
            argument = jnp.ones(2) if trace is jax.vmap else 0.5
            with pytest.raises(TypeError, match=r'in state\["hyper"\]\["(lr|beta_1)"\]'):
                trace(make_one)(argument)
    assert ao.SGD(lr=jnp.asarray(0.25)).lr == 0.25


@pytest.mark.needs("torch")
def test_hyperparameters_under_vmap() -> None:
    """torch's are refused in the same words."""
    import torch

    of_many = torch.func.vmap(lambda rate: ao.SGD(lr=rate) and rate)
    with pytest.raises(TypeError, match=r'in state\["hyper"\]\["lr"\]'):
        of_many(torch.ones(2))


@pytest.mark.needs("jax")
def test_counters_do_not_wrap() -> None:
    """At the end of their type they stay, so that schedules stay where they are."""
    import jax
    import jax.numpy as jnp

    rate = ao.schedules.ExponentialDecay(0.1, 2**30, 0.5)
    optimizer, w = ao.Adam(lr=rate, nonfinite="skip"), jnp.zeros(2)
    state = optimizer.init_state(w)
    top = jnp.iinfo(state["iterations"].dtype).max
    state = {**state, "iterations": top - 1, "skipped": jnp.asarray(top - 1)}
    state["iterations"] = jnp.asarray(state["iterations"], state["skipped"].dtype)
    step = jax.jit(optimizer.stateless_apply)
    for g in (jnp.ones(2), jnp.ones(2), jnp.ones(2) * jnp.nan, jnp.ones(2) * jnp.nan):
        new, state = step(state, g, w)
        assert bool(jnp.all(jnp.isfinite(new)))
    assert int(state["iterations"]) == int(state["skipped"]) == top


DONATED: dict[str, dict[str, Any]] = {
    "plain": {},
    "average": {"ema_momentum": 0.9},
    "kahan": {"kahan": True},
}


@pytest.mark.slow
@pytest.mark.needs("jax")
@pytest.mark.parametrize("option", DONATED)
@pytest.mark.parametrize("kind", ["float32", "bfloat16"])
def test_a_fresh_state_shares_no_memory(name: str, option: str, kind: str) -> None:
    """So parameters and state can both be donated to a compiled step."""
    import jax
    import jax.numpy as jnp

    optimizer = cls_of(name)(**DONATED[option])
    params = {"w": jnp.ones((2, 3), kind), "b": jnp.ones(3, kind)}
    found = jax.tree.leaves((params, optimizer.init_state(params)))
    places = [x.unsafe_buffer_pointer() for x in found]
    assert len(set(places)) == len(places)


@pytest.mark.needs("jax")
@pytest.mark.parametrize("name", ["ScheduleFreeSGD", "ASGD", "DoG", "Prodigy", "Adam"])
def test_donation(name: str) -> None:
    """The step runs, and leaves what the next one can be given too."""
    import jax
    import jax.numpy as jnp

    optimizer, params = make(name), {"w": jnp.ones((2, 3))}
    step = jax.jit(lambda s, p: optimizer.stateless_apply(s, p, p)[::-1], donate_argnums=(0, 1))
    given = optimizer.init_state(params), params
    for _ in range(2):
        given = step(*given)
    assert bool(jnp.all(jnp.isfinite(given[1]["w"])))
