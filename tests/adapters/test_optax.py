"""The optimizers as gradient transformations of optax, in the spirit of optax's own alias tests."""

from __future__ import annotations

import inspect
import runpy
from typing import Any

import numpy as np
import pytest

import arrayoptim as ao
from optimizers_under_test import cls_of, draw, make
from places import ROOT
from tuned import tuned

optax = pytest.importorskip("optax")
jax = pytest.importorskip("jax")
jnp = jax.numpy
pytestmark = pytest.mark.needs("jax")

REAL_ONLY = {"Adadelta", "Lion"}
"""Too slow, or never at rest, in the valley of the complex function."""


def factory(name: str) -> Any:
    return getattr(ao.optax, name)


def tree(seed: int, dtype: str = "float32") -> dict[str, Any]:
    w, b = draw(seed, [(2, 3), ()])
    return {"w": jnp.asarray(w, dtype), "b": jnp.asarray(b, dtype)}


def stepped(tx: Any, steps: int, params: Any = None, jit: bool = True) -> tuple[Any, Any]:
    """Return parameters and state after steps with gradients that depend on the number only."""
    params = tree(1) if params is None else params
    state = tx.init(params)
    update = jax.jit(tx.update) if jit else tx.update
    for t in range(steps):
        dtype = jax.tree.leaves(params)[0].dtype
        updates, state = update(tree(10 + t, dtype), state, params)
        params = optax.apply_updates(params, updates)
    return params, state


def close(found: Any, wanted: Any, rtol: float = 1e-6, atol: float = 1e-7) -> None:
    """Assert that two trees have the same structure, types and, nearly, numbers."""
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=rtol, atol=atol)


def both_problems(dtype: str) -> tuple[Any, Any, Any]:
    """Return start, optimum and loss: a parabola and Rosenbrock's function side by side."""
    one = 1 + 1j if dtype.startswith("complex") else 1.0
    start = {"bowl": jnp.array([-1.0, 10.0, 1.0], dtype), "valley": jnp.zeros(2, dtype)}
    best = {"bowl": one * np.array([1.0, -1.0, 1.0]), "valley": np.array([one, one**2])}

    def loss(params: Any) -> Any:
        x, y = params["valley"]
        bowl = jnp.sum(jnp.abs(params["bowl"] - jnp.asarray(best["bowl"], dtype)) ** 2)
        return bowl + jnp.abs(one - x) ** 2 + 100.0 * jnp.abs(y - x**2) ** 2

    return start, best, loss


@pytest.mark.parametrize("dtype", ["float32", "complex64"])
def test_optimum(name: str, dtype: str) -> None:
    """Reached in a scan, with real numbers as they are and with complex ones injected."""
    hyper = tuned(name, "valley", lr=0.05)
    is_complex = dtype == "complex64"
    if is_complex and name in REAL_ONLY:
        return
    made = optax.inject_hyperparams(factory(name)) if is_complex else factory(name)
    tx = made(**hyper)
    start, best, loss = both_problems(dtype)

    @jax.jit
    def trained(params: Any) -> Any:
        def body(carry: Any, _: Any) -> Any:
            params, state = carry
            grads = jax.tree.map(jnp.conj, jax.grad(loss)(params))
            updates, state = tx.update(grads, state, params, unexpected=1)
            return (optax.apply_updates(params, updates), state), None

        return jax.lax.scan(body, (params, tx.init(params)), length=20_000)[0][0]

    found = trained(start)
    for key, x in best.items():
        assert found[key].dtype == dtype
        np.testing.assert_allclose(np.asarray(found[key]), x, rtol=3e-2, atol=3e-2)


def test_the_pure_form(name: str) -> None:
    """State and parameters are those of `stateless_apply`, but for the rounding of a difference."""
    opt = make(name, clipnorm=1.0)
    tx, params = ao.optax.wrap(opt), tree(1)

    @jax.jit
    def step(grads: Any, state: Any, params: Any) -> Any:
        updates, after = tx.update(grads, state, params)
        found = optax.apply_updates(params, updates), after
        return found, opt.stateless_apply(state, grads, params)

    def bare(state: Any) -> Any:
        """Leave out what stands for slots that a parameter lacks."""
        slots = jax.tree.map(lambda x: None if x.shape == (0,) else x, state["slots"])
        return {**state, "slots": {k: x for k, x in slots.items() if jax.tree.leaves(x)}}

    state = tx.init(params)
    close(bare(state), opt.init_state(params), rtol=0)
    for t in range(3):
        (found, after), (params, state) = step(tree(10 + t), state, params)
        close(found, params)
        close(bare(after), state, rtol=1e-6)
        state = after
    assert not opt.built


@pytest.mark.parametrize("kinds", [("jax", "numpy"), ("numpy", "jax"), ("numpy", "numpy")])
def test_numpy_arrays(kinds: tuple[str, str]) -> None:
    """They may stand in for JAX arrays, as with optax, and their memory stays the caller's."""
    made = {"jax": lambda x: x, "numpy": lambda x: jax.tree.map(np.array, x)}
    of_grads, of_params = (made[kind] for kind in kinds)
    for dtype in ("float32", "bfloat16"):
        tx, start = ao.optax.Adam(lr=0.1, ema_momentum=0.5), tree(1, dtype)
        wanted = [tx.init(start), *tx.update(tree(10, dtype), tx.init(start), start)]
        params = of_params(start)
        state = tx.init(params)
        updates, after = tx.update(of_grads(tree(10, dtype)), state, params)
        close([state, updates, after], wanted, rtol=0, atol=0)
        assert all(isinstance(x, jax.Array) for x in jax.tree.leaves([state, updates, after]))
    p = np.zeros(100_000, np.float32)
    state = ao.optax.SGD(ema_momentum=0.5).init(p)
    p += 1.0
    assert not np.any(state["slots"]["average"])


def test_a_small_step_is_exact() -> None:
    """A parameter that neither doubles nor halves is, to the last bit, that of the pure form."""
    opt, drawn = ao.Adam(lr=0.01), draw(1, [(100,)])[0]
    tx, params = ao.optax.wrap(opt), {"w": jnp.asarray(1.0 + np.abs(drawn), "float32")}
    grads = {"w": jnp.asarray(drawn, "float32")}
    updates, _ = jax.jit(tx.update)(grads, tx.init(params), params)
    exact, _ = jax.jit(opt.stateless_apply)(opt.init_state(params), grads, params)
    np.testing.assert_array_equal(optax.apply_updates(params, updates)["w"], exact["w"])


def injected_and_plain(name: str, **hyper: Any) -> None:
    """Assert that two compiled steps are the same."""
    plain, injected = factory(name)(**hyper), optax.inject_hyperparams(factory(name))(**hyper)

    @jax.jit
    def trained(params: Any, grads: Any) -> Any:
        found = []
        for tx in (plain, injected):
            p, state = params, tx.init(params)
            for g in grads:
                updates, state = tx.update(g, state, p)
                p = optax.apply_updates(p, updates)
            found.append((p, state))
        return found

    (wanted, inner), (found, state) = trained(tree(1), [tree(10), tree(11)])
    close(found, wanted, rtol=1e-5)
    close(state.inner_state, inner, rtol=1e-4)
    assert {k for k, v in hyper.items() if not isinstance(v, bool)} == set(state.hyperparams)


def test_injected(name: str) -> None:
    """Numbers as inputs of a compiled step give the same updates and the same state."""
    injected_and_plain(name, **{"clipnorm": 1.0, **tuned(name, "valley", lr=0.05)})


def test_injected_momentum() -> None:
    """A number whose being there chooses the rule, in the state or not."""
    injected_and_plain("RMSprop", lr=0.1, momentum=0.5, centered=True, ema_momentum=0.5)


def test_numbers_that_begin_slots_and_scalars_injected() -> None:
    """What the state begins with may be traced too."""
    for made, hyper in (
        (ao.optax.Adagrad, {"initial_accumulator_value": 0.3}),
        (ao.optax.SGD, {"momentum": 0.9, "schedule_decay": 0.02, "mom_iter_max": 6}),
    ):
        injected = optax.inject_hyperparams(made)(lr=0.1, **hyper)
        state = jax.jit(injected.init)(tree(1))
        close(state.inner_state, made(lr=0.1, **hyper).init(tree(1)))
        found, _ = stepped(injected, 2)
        close(found, stepped(made(lr=0.1, **hyper), 2)[0])
    start = optax.inject_hyperparams(ao.optax.Adagrad)(initial_accumulator_value=0.5)
    slot = start.init(jnp.zeros(2, "complex64")).inner_state["slots"]["accumulator"]
    assert slot.tolist() == [0.5 + 0.5j] * 2


def test_one_compile() -> None:
    """Whatever the step number and the learning rate, in the state or injected."""
    traces: list[str] = []
    for made in (ao.optax.Adam, optax.inject_hyperparams(ao.optax.Adam)):
        tx = optax.chain(optax.clip(1.0), made(learning_rate=0.1))

        @jax.jit
        def step(grads: Any, state: Any, params: Any, tx: Any = tx) -> Any:
            traces.append("trace")
            updates, state = tx.update(grads, state, params)
            return optax.apply_updates(params, updates), state

        params, state = tree(1), tx.init(tree(1))
        for lr in (0.1, 0.1, 0.0, 0.3):
            number = jnp.asarray(lr, optax.tree.get(state[1], "beta_1").dtype)
            name = "learning_rate" if hasattr(state[1], "hyperparams") else "lr"
            if name == "lr":
                state = optax.tree.set(state, lr=number)
            else:
                state[1].hyperparams[name] = jnp.asarray(lr, "float32")
            before = params
            params, state = step(tree(2), state, params)
            moved = bool(jnp.any(params["w"] != before["w"]))
            assert moved == (lr > 0)
    assert len(traces) == 2


def test_composes_with_masked_and_partition() -> None:
    """Parts of the tree that are masked out, in state and updates, stay as they are."""
    mask = {"w": True, "b": False}
    tx = optax.masked(ao.optax.Adam(lr=0.1), mask)
    updates, state = jax.jit(tx.update)(tree(10), tx.init(tree(1)), tree(1))
    assert updates["b"] == tree(10)["b"]
    assert len(jax.tree.leaves(state.inner_state["slots"])) == 2
    wanted, _ = stepped(ao.optax.Adam(lr=0.1), 1)
    close(tree(1)["w"] + updates["w"], wanted["w"])
    labels = {"w": "adam", "b": "sgd"}
    parts = {"adam": ao.optax.Adam(lr=0.1), "sgd": ao.optax.SGD(lr=0.5), "none": ao.optax.Lion()}
    found, state = stepped(optax.multi_transform(parts, labels), 3)
    close({"w": found["w"]}, {"w": stepped(parts["adam"], 3)[0]["w"]})
    close({"b": found["b"]}, {"b": stepped(parts["sgd"], 3)[0]["b"]})
    assert int(state.inner_states["none"].inner_state["iterations"]) == 3


def test_composes_with_accumulation_and_conditions() -> None:
    """MultiSteps steps every k-th time with the mean; apply_if_finite leaves a poisoned one out."""
    tx = optax.MultiSteps(ao.optax.Adam(lr=0.1), every_k_schedule=2)
    found, state = stepped(tx, 4)
    opt, params = ao.Adam(lr=0.1), tree(1)
    pure = opt.init_state(params)
    for t in (0, 2):
        grads = jax.tree.map(lambda a, b: (a + b) / 2, tree(10 + t), tree(11 + t))
        params, pure = opt.stateless_apply(pure, grads, params)
    close(found, params)
    assert int(state.inner_opt_state["iterations"]) == 2
    tx = optax.apply_if_finite(ao.optax.Adam(lr=0.1), max_consecutive_errors=3)
    params, state = stepped(tx, 1)
    bad = {**tree(3), "b": jnp.asarray(np.nan, "float32")}
    updates, after = jax.jit(tx.update)(bad, state, params)
    assert all(not np.any(u) for u in jax.tree.leaves(updates))
    close(after.inner_state, state.inner_state)


def test_map_params() -> None:
    """Optax finds what in the state is shaped like the parameters: for partition specs."""
    tx = optax.chain(optax.clip(1.0), ao.optax.Adam(lr=0.1, exclude="b", weight_decay=0.1))
    state, specs = tx.init(tree(1)), {"w": "rows", "b": "whole"}
    found = optax.tree.map_params(
        tx, lambda _, spec: spec, state, specs, transform_non_params=lambda _: None
    )
    assert found[1]["slots"] == {"momentum": specs, "velocity": specs}
    assert found[1]["hyper"]["lr"] is None
    abstract = tx.init(jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree(1)))
    assert jax.tree.structure(abstract) == jax.tree.structure(state)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_16_bits(dtype: str) -> None:
    """Updates keep the type, and steps smaller than the resolution add up in the master."""
    tx = ao.optax.SGD(lr=1e-4)
    params = jnp.ones(4, dtype)
    state = tx.init(params)

    @jax.jit
    def step(state: Any, params: Any) -> Any:
        updates, state = tx.update(jnp.ones(4, dtype), state, params)
        assert updates.dtype == dtype
        return state, optax.apply_updates(params, updates)

    for _ in range(200):
        state, params = step(state, params)
    assert params.dtype == dtype
    np.testing.assert_allclose(state["slots"]["master"], 0.98, rtol=1e-4)
    np.testing.assert_array_equal(params, state["slots"]["master"].astype(dtype))


def test_types_are_stable() -> None:
    """A branch and a scan take updates and state of one step for those of another."""
    for dtype in ("bfloat16", "float32", "complex64"):
        tx = optax.inject_hyperparams(ao.optax.AdamW)(lr=0.1)
        params = tree(1, dtype)
        state, grads = tx.init(params), tree(2, dtype)

        @jax.jit
        def step(flag: Any, state: Any, params: Any, tx: Any = tx, grads: Any = grads) -> Any:
            return jax.lax.cond(
                flag, lambda: tx.update(grads, state, params), lambda: (params, state)
            )

        updates, new = step(True, state, params)
        assert jax.tree.map(jax.typeof, new) == jax.tree.map(jax.typeof, state)
        assert {u.dtype for u in jax.tree.leaves(updates)} == {jnp.dtype(dtype)}


def test_vmap_over_learning_rates() -> None:
    """A hyperparameter that is an array holds in place of the state's."""

    def training(lr: Any) -> Any:
        return stepped(ao.optax.Adam(lr=lr), 3, jit=False)[0]

    found = jax.vmap(training)(jnp.array([0.01, 0.1], "float32"))
    for i, lr in enumerate((0.01, 0.1)):
        wanted, _ = stepped(ao.optax.Adam(lr=lr), 3)
        close(jax.tree.map(lambda x, i=i: x[i], found), wanted, rtol=1e-5)


def test_schedules_and_averages() -> None:
    """A schedule of optax is a function of the step; averages lie in the state."""
    rate = optax.linear_schedule(1.0, 0.0, 2)
    tx = ao.optax.SGD(lr=rate, ema_momentum=0.5)
    params, state = {"w": jnp.zeros(1, "float32")}, None
    state = tx.init(params)
    for _ in range(3):
        updates, state = jax.jit(tx.update)({"w": jnp.ones(1, "float32")}, state, params)
        params = optax.apply_updates(params, updates)
    assert params["w"].tolist() == [-1.5]
    assert state["slots"]["average"]["w"].tolist() == [-1.25]


def test_a_schedule_that_is_fed() -> None:
    """The state is that of the pure form, so what feeds a schedule there does so here."""
    opt = ao.SGD(lr=ao.schedules.Plateau(1.0, factor=0.5, patience=0))
    tx, params = ao.optax.wrap(opt), {"w": jnp.zeros(1, "float32")}
    state = tx.init(params)
    for metric in (1.0, 2.0):
        state = jax.jit(opt.stateless_observe)(state, metric)
    updates, state = jax.jit(tx.update)({"w": jnp.ones(1, "float32")}, state, params)
    assert updates["w"].tolist() == [-0.5]


def test_wrap_takes_state_along() -> None:
    """State of an optimizer over NumPy arrays, loaded or its own, is what init gives."""
    opt = ao.Adam(lr=0.1, groups=[ao.group("b", lr=0.5)])
    params = {k: np.array(v) for k, v in tree(1).items()}
    opt.apply({k: np.array(v) for k, v in tree(10).items()}, params)
    tx = ao.optax.wrap(opt)
    opt.lr = 0.7
    state = tx.init(jax.tree.map(jnp.asarray, params))
    assert int(state["iterations"]) == 1 and float(state["hyper"]["lr"]) == np.float32(0.1)
    _, wanted = stepped(ao.optax.wrap(ao.Adam(lr=0.1, groups=[ao.group("b", lr=0.5)])), 1)
    close(state, wanted, rtol=1e-5)


def test_containers_that_only_jax_knows() -> None:
    """Modules with static fields and None, as Equinox's are; None where there is no gradient."""

    @jax.tree_util.register_pytree_with_keys_class
    class Module:
        def __init__(self, weight: Any, name: str) -> None:
            self.weight, self.name = weight, name

        def tree_flatten_with_keys(self) -> Any:
            return [(jax.tree_util.GetAttrKey("weight"), self.weight)], self.name

        @classmethod
        def tree_unflatten(cls, name: str, children: Any) -> Any:
            return cls(children[0], name)

    params = {"layer": Module(jnp.ones(2), "dense"), "function": None}
    tx = ao.optax.SGD(lr=0.5)
    state = tx.init(params)
    assert isinstance(state["slots"]["momentum"]["layer"], Module)
    updates, state = tx.update(jax.tree.map(jnp.ones_like, params), state, params)
    found = optax.apply_updates(params, updates)
    assert found["layer"].weight.tolist() == [0.5, 0.5] and found["function"] is None


def test_equinox() -> None:
    """A module of Equinox, its arrays filtered."""
    eqx = pytest.importorskip("equinox")
    model = eqx.nn.Linear(2, 1, key=jax.random.key(0))
    tx = ao.optax.Adam(lr=0.1, exclude="*bias", weight_decay=0.1)
    state = tx.init(eqx.filter(model, eqx.is_inexact_array))

    @eqx.filter_jit
    def step(model: Any, state: Any) -> Any:
        loss, grads = eqx.filter_value_and_grad(lambda m: jnp.sum(m(jnp.ones(2)) ** 2))(model)
        updates, state = tx.update(grads, state, eqx.filter(model, eqx.is_inexact_array))
        return loss, eqx.apply_updates(model, updates), state

    losses = []
    for _ in range(50):
        loss, model, state = step(model, state)
        losses.append(float(loss))
    assert losses[-1] < 0.01 * losses[0]


def test_flax() -> None:
    """A model of Flax NNX with its Optimizer; the state as Flax's bytes and back."""
    nnx = pytest.importorskip("flax.nnx")
    serialization = pytest.importorskip("flax.serialization")
    model = nnx.Linear(2, 1, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, ao.optax.Adam(lr=0.1), wrt=nnx.Param)

    @nnx.jit
    def step(model: Any, optimizer: Any) -> Any:
        loss, grads = nnx.value_and_grad(lambda m: jnp.sum(m(jnp.ones(2)) ** 2))(model)
        optimizer.update(model, grads)
        return loss

    losses = [float(step(model, optimizer)) for _ in range(50)]
    assert losses[-1] < 0.01 * losses[0]
    tx = ao.optax.Adam(lr=0.1)
    _, state = stepped(tx, 2)
    back = serialization.from_bytes(tx.init(tree(1)), serialization.to_bytes(state))
    close(back, jax.tree.map(np.asarray, state), rtol=0, atol=0)


def test_signature() -> None:
    """Arguments are the class's, in its order; what is not given is not injected."""
    for name in ao.names():
        own = list(inspect.signature(cls_of(name)).parameters)
        assert list(inspect.signature(factory(name)).parameters) == [*own, "learning_rate"]
    assert "lr=0.001, beta_1=0.9" in str(inspect.signature(ao.optax.Adam))
    assert set(ao.names()) <= set(dir(ao.optax))


def test_bad_input() -> None:
    """What is wrong is said, with what to do."""
    tx = ao.optax.Adam()
    with pytest.raises(ValueError, match=r"Adam steps from the parameters; call update\(grads, st"):
        tx.update(tree(2), tx.init(tree(1)))
    with pytest.raises(TypeError, match="found 'adam', wanted an arrayoptim optimizer"):
        ao.optax.wrap("adam")
    with pytest.raises(TypeError, match=r"optax\.MultiSteps"):
        ao.optax.wrap(ao.GradientAccumulation(ao.Adam(), every=2))
    with pytest.raises(AttributeError, match="Adamm"):
        _ = ao.optax.Adamm
    with pytest.raises(TypeError, match="'lrr', did you mean 'lr'"):
        ao.optax.Adam(lrr=0.1)
    with pytest.raises(TypeError, match="got 'lr' twice"):
        ao.optax.Adam(0.1, learning_rate=0.1)
    with pytest.raises(ValueError, match=r"Adam\.lr must be a number in \[0, inf\), got .*-1"):
        optax.inject_hyperparams(ao.optax.Adam)(lr=-1.0).init(tree(1))
    with pytest.raises(ValueError, match=r"array of shape \(2,\), wanted a number"):
        ao.optax.Adam(lr=jnp.ones(2))
    with pytest.raises(ValueError, match=r"beta_2: found it in bfloat16.*hyperparam_dtype"):
        optax.inject_hyperparams(ao.optax.Adam)(beta_2=0.999).init(tree(1, "bfloat16"))
    with pytest.raises(ValueError, match="the gradients' tree differs"):
        tx.update({"w": tree(2)["w"]}, tx.init(tree(1)), tree(1))


def test_example(capsys: pytest.CaptureFixture[str]) -> None:
    """The example of the documentation learns, and going over is as good as staying."""
    path = ROOT / "docs" / "examples" / "optax_training.py"
    runpy.run_path(str(path), run_name="__main__")
    first, second = capsys.readouterr().out.splitlines()
    assert float(first.split()[-1]) < 0.004
    stayed, moved = (part.split()[-1] for part in second.split(";"))
    assert abs(float(stayed) - float(moved)) <= 2e-6
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 66
