"""optax's own names: its signatures and numbers, with this library behind them."""

from __future__ import annotations

import inspect
from typing import Any
from unittest import mock

import numpy as np
import pytest

pytestmark = pytest.mark.needs("jax")

NAMES = [
    *("adabelief", "adadelta", "adagrad", "adam", "adamax", "adamaxw", "adamw", "adan", "amsgrad"),
    *("lamb", "lars", "lion", "nadam", "nadamw", "radam", "rmsprop", "rprop", "sgd", "sign_sgd"),
    *("signum", "yogi", "adopt", "ademamix"),
]


def found(module: Any, name: str) -> Any:
    """Return a function of optax or its contributed part."""
    return getattr(module.contrib if name in {"adopt", "ademamix"} else module, name)


def modules() -> tuple[Any, Any]:
    """Return optax and what stands for it."""
    import optax

    import arrayoptim as ao

    return optax, ao.optax


def test_these_are_all() -> None:
    """Each that the library stands for is compared here."""
    from arrayoptim.adapters.optax.aliases import TABLE

    assert list(TABLE) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_signatures(name: str) -> None:
    """They are those of the installed optax, defaults included."""
    theirs, ours = (inspect.signature(found(module, name)) for module in modules())
    assert list(ours.parameters) == list(theirs.parameters)
    for key, row in theirs.parameters.items():
        assert ours.parameters[key].default == row.default
        assert ours.parameters[key].kind == row.kind


def courses(name: str, steps: int = 8, **words: Any) -> list[tuple[Any, Any]]:
    """Return the parameters and the state that optax and we come to."""
    import jax
    import jax.numpy as jnp

    random = np.random.default_rng(0)
    start = {"k": random.normal(size=(3, 4)), "b": random.normal(size=4)}
    ends = []
    with jax.enable_x64(True):
        for module in modules():
            tx = found(module, name)(0.05, **words)
            params = jax.tree.map(jnp.asarray, start)
            state = tx.init(params)
            for t in range(steps):
                grads = jax.tree.map(lambda x, t=t: 0.1 * x + jnp.cos(x.size * 3.0 + t), params)
                updates, state = tx.update(grads, state, params)
                params = jax.tree.map(jnp.add, params, updates)
            ends.append((jax.tree.map(np.asarray, params), state))
    return ends


def same_courses(name: str, *, ours: bool, **words: Any) -> None:
    """Compare, state and all, and see who carried out the steps."""
    import jax

    import arrayoptim as ao

    step = ao.Optimizer.stateless_apply
    with mock.patch.object(ao.Optimizer, "stateless_apply", autospec=True, side_effect=step) as spy:
        (wanted, state), (got, held) = courses(name, **words)
    assert bool(spy.called) == ours
    for key in wanted:
        assert np.allclose(got[key], wanted[key], rtol=1e-12, atol=1e-12)
    assert jax.tree.structure(held) == jax.tree.structure(state)
    for a, b in zip(jax.tree.leaves(held), jax.tree.leaves(state), strict=True):
        assert np.allclose(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_numbers_by_default(name: str) -> None:
    """Nothing but the learning rate is said."""
    same_courses(name, ours=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("adam", {"b1": 0.8, "b2": 0.95, "eps": 1e-3}),
        ("adamw", {"weight_decay": 0.1}),
        ("adamaxw", {"weight_decay": 0.1}),
        ("adadelta", {"weight_decay": 0.1}),
        ("adan", {"weight_decay": 0.1, "b3": 0.9}),
        ("amsgrad", {"b2": 0.9}),
        ("lars", {"weight_decay": 0.1, "trust_coefficient": 0.05, "momentum": 0.5}),
        ("rmsprop", {"decay": 0.5, "centered": True, "momentum": 0.5}),
        ("rprop", {"eta_plus": 1.5, "min_step_size": 0.01}),
        ("sgd", {"momentum": 0.9, "nesterov": True}),
        ("signum", {"beta": 0.5}),
        ("signum", {"beta": 1.0}),
        ("sgd", {"momentum": 1.5, "nesterov": 1}),
        ("lars", {"momentum": 1.0}),
        ("lion", {"b1": 1.0, "b2": 1.0}),
        ("rmsprop", {"decay": 1.0, "centered": 1, "momentum": 1.5}),
        ("adadelta", {"rho": 1.0}),
        ("adamax", {"b2": 1.0}),
        ("rprop", {"eta_minus": 1.0, "eta_plus": 1.0}),
        ("ademamix", {"alpha": 2.0, "weight_decay": 0.1}),
    ],
)
def test_numbers_of_arguments(name: str, words: Any) -> None:
    """What we have a word for is ours."""
    same_courses(name, ours=True, **words)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("adam", {"eps_root": 1e-4}),
        ("adam", {"nesterov": True}),
        ("adabelief", {"eps": 1e-3}),
        ("lars", {"nesterov": True}),
        ("sgd", {"momentum": 0.0}),
        ("rmsprop", {"momentum": 0.0}),
        ("rmsprop", {"initial_scale": 0.5}),
        ("adopt", {"nesterov": True}),
    ],
)
def test_what_optax_has_alone(name: str, words: Any) -> None:
    """It is served by optax itself, and nothing is dropped."""
    same_courses(name, ours=False, **words)


@pytest.mark.parametrize("name", ["adamw", "lion", "lamb"])
def test_masks_of_decay(name: str) -> None:
    """As a function and as a tree, of which a part may stand for all below it."""
    for mask in (
        lambda p: {"k": True, "b": False},
        {"k": True, "b": False},
        {"k": False, "b": False},
    ):
        same_courses(name, ours=True, weight_decay=0.1, mask=mask)


def test_a_mask_of_ours() -> None:
    """Our own names take it too, and optax's words."""
    import jax.numpy as jnp

    import arrayoptim as ao

    params = {"a*": jnp.ones(2), "a": {"b": jnp.ones(2), "c": jnp.ones(2)}}
    grads = {"a*": jnp.zeros(2), "a": {"b": jnp.zeros(2), "c": jnp.zeros(2)}}
    tx = ao.optax.Lion(0.5, b1=0.8, weight_decay=0.5, mask={"a*": False, "a": True})
    updates, _ = tx.update(grads, tx.init(params), params)
    assert float(updates["a*"][0]) == 0.0
    assert float(updates["a"]["b"][0]) == -0.25
    first = ao.optax.RMSprop(0.1, decay=0.5, eps=1e-3).init(params)
    assert float(first["hyper"]["rho"]) == 0.5
    assert float(first["hyper"]["decay"]) == 0.0


def test_without_parameters() -> None:
    """Where optax asks for none, so do we; elsewhere the message says so."""
    import jax.numpy as jnp

    import arrayoptim as ao

    params, grads = {"w": jnp.ones(3)}, {"w": jnp.arange(3.0)}
    for name in ("adam", "sgd", "rmsprop", "adagrad"):
        optax = modules()[0]
        pair = found(optax, name)(0.1), found(ao.optax, name)(0.1)
        both = [tx.update(grads, tx.init(params))[0]["w"] for tx in pair]
        assert np.allclose(*both, rtol=1e-6)
    tx = ao.optax.adamw(0.1)
    with pytest.raises(ValueError, match=r"call update\(grads, state, params\)"):
        tx.update(grads, tx.init(params))


def test_complex_parameters() -> None:
    """optax takes the magnitude of a complex number, and its names do so here."""
    import jax.numpy as jnp

    params, grads = jnp.ones(2, jnp.complex64), jnp.array([3.0 + 4.0j, 1.0j])
    for name in ("adam", "adagrad", "rmsprop"):
        both = []
        for module in modules():
            tx = found(module, name)(0.1)
            both.append(tx.update(grads, tx.init(params), params)[0])
        assert np.allclose(*both, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_16_bit_parameters(dtype: str) -> None:
    """A name of optax has optax's numbers, and its state takes no more memory than there."""
    import jax
    import jax.numpy as jnp

    params = {"w": jnp.ones(3, dtype), "b": jnp.ones(2)}
    for name in ("adamw", "sgd", "lion"):
        rows = []
        for module in modules():
            words = {"momentum": 0.9} if name == "sgd" else {}
            tx = found(module, name)(0.1, **words)
            state = tx.init(params)
            for _ in range(3):
                updates, state = tx.update(params, state, params)
            rows.append((updates, jax.tree.map(lambda x: x.dtype, state)))
        assert jax.tree.leaves(rows[0][1]) == jax.tree.leaves(rows[1][1])
        assert np.array_equal(rows[0][0]["w"], rows[1][0]["w"])
    held = modules()[1].Adam(0.1).init(params)
    assert held["slots"]["momentum"]["w"].dtype == "float32"


def test_numbers_as_leaves() -> None:
    """Parameters and updates may be numbers of Python, as they are for optax's own ``sgd``."""
    import jax
    import jax.numpy as jnp

    optax, ours = modules()
    params, grads = {"a": 1.0, "b": 2.0}, {"a": 3.0, "b": 4.0}
    rows = []
    for module, kind in ((optax, jnp.asarray), (ours, float)):
        tx = module.chain(module.identity(), module.adagrad(1.0))
        at, g = jax.tree.map(kind, params), jax.tree.map(kind, grads)
        updates, _ = tx.update(g, tx.init(at), at)
        rows.append([float(x) for x in updates.values()])
    np.testing.assert_allclose(rows[1], rows[0], rtol=1e-6)


def test_a_state_goes_on_elsewhere() -> None:
    """That of optax's own function goes on here, and ours there, within a compiled step too."""
    import jax
    import jax.numpy as jnp

    optax, ours = modules()
    rate = optax.linear_schedule(0.1, 0.0, 10)
    params = {"mu": jnp.arange(3.0), "count": jnp.ones((2, 2)), "none": None}
    pair = optax.rmsprop(rate, momentum=0.9), ours.rmsprop(rate, momentum=0.9)
    ends = []
    for order in (0, 0, 0, 0), (1, 0, 1, 0), (1, 1, 0, 1):
        at, state = params, pair[order[0]].init(params)
        for which in order:
            updates, state = jax.jit(pair[which].update)(at, state, at)
            at = optax.apply_updates(at, updates)
        ends.append((at, state))
    for end in ends[1:]:
        assert jax.tree.structure(end) == jax.tree.structure(ends[0])
        for a, b in zip(jax.tree.leaves(end), jax.tree.leaves(ends[0]), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_names_of_fields() -> None:
    """A count and moments are found under optax's names, in chains too."""
    import jax.numpy as jnp

    optax, ours = modules()
    tx = optax.chain(optax.clip(1.0), ours.adamw(0.1))
    params = {"w": jnp.ones(3)}
    state = tx.init(params)
    _, state = tx.update(params, state, params)
    assert int(optax.tree.get(state, "count")) == 1
    assert np.allclose(optax.tree.get(state, "mu")["w"], 0.1)
    ours_again = ours.inject_hyperparams(ours.adam)(learning_rate=0.1, b1=0.5)
    held = ours_again.init(params)
    _, held = ours_again.update(params, held, params)
    assert np.allclose(optax.tree.get(held, "mu")["w"], 0.5)


def test_the_rest_of_optax_is_there() -> None:
    """So that one changed line is enough."""
    optax, ours = modules()
    assert ours.chain is optax.chain
    assert ours.lbfgs is optax.lbfgs
    assert ours.contrib.prodigy is optax.contrib.prodigy
    assert {"adam", "apply_updates", "Adam"} <= set(dir(ours))
    with pytest.raises(AttributeError, match="has no attribute 'adamm'"):
        ours.adamm  # noqa: B018


def test_schedule_free_evaluation() -> None:
    """The function of optax takes states of both."""
    import jax.numpy as jnp

    import arrayoptim as ao

    params, opt = {"w": jnp.ones(3)}, ao.ScheduleFreeSGD(lr=0.1)
    tx = ao.optax.wrap(opt)
    state = tx.init(params)
    for _ in range(2):
        updates, state = tx.update(params, state, params)
        params = ao.optax.apply_updates(params, updates)
    evaluated = ao.optax.contrib.schedule_free_eval_params(state, params)
    assert np.allclose(evaluated["w"], opt.stateless_averages(state, params)["w"], rtol=1e-6)
    theirs = ao.optax.contrib.schedule_free_sgd(0.1)
    held = theirs.init(params)
    assert "w" in ao.optax.schedule_free_eval_params(held, params)


@pytest.mark.parametrize("name", ["Adafactor", "Muon", "SM3", "Shampoo", "SOAP", "Adam"])
def test_map_params(name: str) -> None:
    """Every slot has a leaf for each parameter, and a step goes on from what was mapped."""
    import jax
    import jax.numpy as jnp

    import arrayoptim as ao

    optax = modules()[0]
    for params in ({"k": jnp.ones((2, 3)), "b": jnp.ones(3)}, {"k": jnp.ones((2, 3))}):
        tx = getattr(ao.optax, name)(0.1)
        state = tx.init(params)
        seen: list[Any] = []

        def mark(x: Any, p: Any, seen: list[Any] = seen) -> Any:
            seen.append(p)
            return x

        mapped = optax.tree.map_params(tx, mark, state, params)
        assert jax.tree.structure(mapped) == jax.tree.structure(state)
        assert len(seen) == len(state["slots"]) * len(params)
        step = jax.jit(tx.update)
        _, new = step(params, mapped, params)
        assert jax.tree.structure(new) == jax.tree.structure(state)
        assert jax.tree.map(jnp.shape, new) == jax.tree.map(jnp.shape, state)


def test_kernels_of_jax() -> None:
    """Of an array of more than two axes the last one counts outputs, as flax has them."""
    import jax.numpy as jnp

    import arrayoptim as ao

    kernel = {"k": jnp.ones((2, 3, 4))}
    slots = ao.optax.Adafactor().init(kernel)["slots"]
    assert slots["column_velocity"]["k"].shape == (4,)
    assert ao.optax.Adafactor(outputs="first").init(kernel)["slots"]["row_velocity"]["k"].shape == (
        2,
    )
