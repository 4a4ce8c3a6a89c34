"""From a loss: gradients, a step, and a step as a list of updates that are carried out later."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import arrayoptim as ao
from backends import TestBackend
from optimizers_under_test import make, same, snapshot, unchanged

TARGET = [np.array([[1.0, -2.0, 0.5]]), np.array(3.0)]
START = [np.array([[0.5, 1.0, -1.0]]), np.array(-1.0)]
WANTED = [2 * (p - t) for p, t in zip(START, TARGET, strict=True)]


def loss_on(backend: TestBackend) -> Any:
    """Return the sum of squared distances from the target, as the library differentiates it."""
    target = backend.tree(TARGET)
    if backend.name in ("array_api_strict", "cupy", "dpnp"):
        return lambda params: (
            0.0,
            [2.0 * (p - t) for p, t in zip(params, target, strict=True)],
        )
    return lambda params: sum(((p - t) ** 2).sum() for p, t in zip(params, target, strict=True))


def test_get_gradients(name: str, backend: TestBackend) -> None:
    """The library's own differentiation; nothing has changed."""
    opt, params = make(name), backend.tree(START)
    found = opt.get_gradients(loss_on(backend), params)
    for a, b in zip(backend.read(found), WANTED, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-14)
    same(backend.read(params), START)
    assert opt.iterations == 0


def test_get_gradients_clips(name: str, backend: TestBackend) -> None:
    """By the global norm first, then by value, as a step does."""
    opt = make(name, clipnorm=2.0, clipvalue=0.9)
    found = backend.read(opt.get_gradients(loss_on(backend), backend.tree(START)))
    norm = np.sqrt(sum(np.sum(w * w) for w in WANTED))
    for a, w in zip(found, WANTED, strict=True):
        np.testing.assert_allclose(a, np.clip(w * 2.0 / norm, -0.9, 0.9), rtol=1e-14)


def agree(name: str, backend: TestBackend, found: list[Any], wanted: list[Any]) -> None:
    """Require the same bits, but of sums along axes in a GPU library's own order."""
    if name == "Adafactor" and "gpu" in backend.engines:
        for a, b in zip(found, wanted, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-13)
    else:
        same(found, wanted)


@pytest.mark.parametrize("swapped", [False, True])
def test_updates_are_a_step(
    name: str, kwargs: dict[str, Any], backend: TestBackend, swapped: bool
) -> None:
    """Computing them changes nothing, carrying them out is `minimize`; in Keras's order or not."""
    hyper = kwargs | {"clipnorm": 1.0}
    one, two, loss = make(name, **hyper), make(name, **hyper), loss_on(backend)
    params, twins = backend.tree(START), backend.tree(START)
    one.init(params)
    for _ in range(3):
        before, values = snapshot(one), backend.read(params)
        pair = (loss, params) if swapped else (params, loss)
        updates = one.get_updates(*pair)
        unchanged(one, before)
        same(backend.read(params), values)
        params = one.apply_updates(updates)
        twins = two.minimize(loss, twins)
        agree(name, backend, backend.read(params), backend.read(twins))
        agree(name, backend, one.get_weights(), two.get_weights())


def test_minimize_reaches_the_target(backend: TestBackend) -> None:
    """A whole training."""
    opt, params, loss = make("Adam", lr=0.2), backend.tree(START), loss_on(backend)
    for _ in range(300):
        params = opt.minimize(loss, params)
    for a, b in zip(backend.read(params), TARGET, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-3)


DIFFERENTIATE_COMPLEX = {
    "numpy": lambda p, c: (abs(p[0] - c) ** 2).sum(),
    "torch": lambda p, c: ((p[0] - c).abs() ** 2).sum(),
    "jax": lambda p, c: (abs(p[0] - c) ** 2).sum(),
}


def test_complex_losses_go_down(backend: TestBackend) -> None:
    """JAX and autograd give the conjugate of the direction of ascent, torch the direction."""
    if backend.name not in DIFFERENTIATE_COMPLEX:
        return
    loss = DIFFERENTIATE_COMPLEX[backend.name]
    params, target = [backend.asarray(np.zeros(2, complex))], 1.0 + 2.0j
    params = ao.SGD(lr=0.5).minimize(lambda p: loss(p, target), params)
    np.testing.assert_allclose(backend.read(params)[0], np.full(2, target), rtol=1e-12)


@pytest.mark.needs("torch")
def test_a_torch_scalar_is_a_loss(name: str) -> None:
    """As Keras's callers have it: the loss was computed before."""
    import torch

    params = [torch.tensor(p, requires_grad=True) for p in START]

    def loss() -> torch.Tensor:
        pairs = zip(params, TARGET, strict=True)
        return sum(((p - torch.tensor(t)) ** 2).sum() for p, t in pairs)

    found = make(name).get_gradients(loss(), params)
    for a, b in zip(found, WANTED, strict=True):
        np.testing.assert_allclose(a.numpy(), b, rtol=1e-14)
    make(name).minimize(loss(), params)
    assert all(p.requires_grad and p.is_leaf for p in params)


def test_gradients_of_another_shape(name: str, backend: TestBackend) -> None:
    """A loss that brings its own gradients is checked as `apply` checks them."""
    opt, params = make(name), backend.tree(START)
    wrong = [backend.asarray(np.ones((1, 1))), backend.asarray(np.array(1.0))]
    for call in (opt.minimize, opt.get_updates):
        with pytest.raises(ValueError, match="'0'"):
            call(lambda _: (0.0, wrong), params)
        with pytest.raises(ValueError, match="1"):
            call(lambda _: (0.0, wrong[:1]), params)
    same(backend.read(params), START)
    assert opt.iterations == 0


@pytest.mark.parametrize("loss", [3.0, None, "loss"])
def test_what_is_no_loss(name: str, backend: TestBackend, loss: Any) -> None:
    """The message says what was found."""
    opt, params = make(name), backend.tree(START)
    for call in (opt.minimize, opt.get_gradients):
        with pytest.raises(TypeError, match="loss"):
            call(loss, params)
    assert opt.iterations == 0


@pytest.mark.needs("torch")
def test_a_loss_without_a_parameter(name: str) -> None:
    """A parameter that the loss does not depend on is named."""
    import torch

    params = [torch.ones(2, requires_grad=True), torch.ones(3, requires_grad=True)]
    with pytest.raises(ValueError, match="'1'"):
        make(name).minimize(params[0].sum(), params)


def test_updates_of_another_optimizer(name: str, backend: TestBackend) -> None:
    """They are refused whole."""
    one, two, params = make(name), make(name), backend.tree(START)
    updates = one.get_updates(params, loss_on(backend))
    two.init(params)
    before = snapshot(two)
    with pytest.raises(ValueError, match="another optimizer"):
        two.apply_updates(updates)
    unchanged(two, before)
    same(backend.read(params), START)


CONVERTED = ["numpy", "torch", "jax"]


def two(backend: TestBackend) -> dict[str, Any]:
    """Return two parameters, and a third that is None."""
    return {"a": backend.asarray([1.0, 2.0]), "b": backend.asarray([3.0]), "none": None}


def test_every_parameter_has_a_part(backend: TestBackend) -> None:
    """One that the loss does not depend on is named, also where the library gives zeros for it."""
    if backend.name not in CONVERTED:
        return

    def without(p: Any) -> Any:
        return ((p["a"] - 1.0) ** 2).sum()

    for _ in range(2):
        with pytest.raises(ValueError, match="does not depend on parameter 'b'"):
            ao.SGD().minimize(without, two(backend))
    found = ao.SGD().get_gradients(lambda p: without(p) + (0.0 * p["b"]).sum(), two(backend))
    same(backend.read([found["a"], found["b"]]), [np.array([0.0, 2.0]), np.zeros(1)])
    assert found["none"] is None


@pytest.mark.needs("jax")
def test_jax_by_the_traced_program() -> None:
    """What a compiled function ignores, and what has its gradient stopped, has no part either."""
    import jax

    params = {"a": jax.numpy.ones(2), "b": jax.numpy.ones(2)}
    hidden = jax.jit(lambda p: jax.numpy.sum(p["a"]) + 0 * p["b"].size)
    stopped = lambda p: jax.numpy.sum(p["a"] * jax.lax.stop_gradient(p["b"]))  # noqa: E731
    for loss in (hidden, stopped):
        with pytest.raises(ValueError, match="'b'"):
            ao.SGD().minimize(loss, params)
        with pytest.raises(ValueError, match="'b'"):
            jax.jit(lambda p, loss=loss: ao.SGD().get_gradients(loss, p))(params)


def test_one_evaluation(backend: TestBackend) -> None:
    """Value and gradient come of one; a NumPy loss is tried once more, the first time."""
    from arrayoptim.arrays.derivatives import value_and_gradients

    if backend.name not in CONVERTED:
        return
    calls: list[int] = []

    def loss(p: Any) -> Any:
        calls.append(1)
        return (p**2).sum()

    params = backend.asarray([1.0, 2.0])
    for _ in range(2):
        calls.clear()
        value, (g,), _, _ = value_and_gradients(loss, params)
        assert float(value) == 5.0
        same(backend.read([g]), [np.array([2.0, 4.0])])
    assert len(calls) == 1


def test_gradients_by_hand_have_their_own_form(backend: TestBackend) -> None:
    """The pair is checked: as many as there are parameters, in their tree."""
    params = [[backend.asarray([1.0])], [backend.asarray([2.0])]]
    found = ao.SGD().get_gradients(lambda p: (0.0, p), params)
    same(backend.read([found[0][0], found[1][0]]), [np.array([1.0]), np.array([2.0])])
    with pytest.raises(ValueError, match="returned 3 things"):
        ao.SGD().get_gradients(lambda p: (0.0, p, p), params)
    with pytest.raises(ValueError, match="a tree of 2 leaves: 0, 1; wanted"):
        ao.SGD().get_gradients(lambda p: (0.0, [p[0][0], p[1][0]]), params)


NO_SCALARS: dict[str, tuple[Any, str]] = {
    "float": (
        lambda value: float(value),
        "its value into a float.*return the scalar itself",
    ),
    "nothing": (lambda value: None, "the loss returned None, wanted a scalar"),
}


@pytest.mark.filterwarnings("ignore:Converting a tensor with requires_grad:UserWarning")
@pytest.mark.parametrize(("spoil", "words"), NO_SCALARS.values(), ids=list(NO_SCALARS))
def test_a_loss_that_gives_no_scalar(backend: TestBackend, spoil: Any, words: str) -> None:
    """What it gave cannot be differentiated; each time that it is asked."""
    good, opt = loss_on(backend), make("SGD")
    if isinstance(good(backend.tree(START)), tuple):
        pytest.skip("a library without differentiation")
    # JAX says itself what it wants in place of None.
    words = words if backend.name != "jax" or "float" in words else "scalar-output"
    params = backend.tree(START)
    for _ in range(2):
        with pytest.raises(TypeError, match=words):
            opt.minimize(lambda params: spoil(good(params)), params)
    same(backend.read(params), START)
    assert opt.iterations == 0
