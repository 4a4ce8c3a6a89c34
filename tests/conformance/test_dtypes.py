"""Every data type, and every way an array can lie in memory."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

import arrayoptim as ao
from backends import BACKENDS, NUMPY, TestBackend, np_dtype, precision
from optimizers_under_test import (
    SHAPES,
    cls_of,
    draw,
    draw_for,
    make,
    rules_of,
    same,
    together,
    train,
)

STEPS = 5


def wide(array: np.ndarray) -> np.ndarray:
    """Return the values in double precision."""
    return array.astype("complex128" if array.dtype.kind == "c" else "float64")


def rounded(arrays: list[np.ndarray], dtype: str) -> list[np.ndarray]:
    """Return double-precision values that the dtype can hold."""
    return [wide(array.astype(np_dtype(dtype))) for array in arrays]


def run(opt: Any, backend: TestBackend, dtype: str, as_dtype: str, steps: int) -> list[np.ndarray]:
    """Train on values that `as_dtype` can hold, stored as `dtype`."""
    params = backend.tree(rounded(draw_for(1, as_dtype), as_dtype), dtype)
    for step in range(steps):
        grads = rounded(draw_for(50 + step, as_dtype), as_dtype)
        params = opt.apply(backend.tree(grads, dtype), params)
    return backend.read(params)


def test_close_to_double_precision(
    name: str, kwargs: dict[str, Any], backend: TestBackend, dtype: str
) -> None:
    """The same training in double precision, rounded."""
    found = run(make(name, **kwargs), backend, dtype, dtype, STEPS)
    twin = "complex128" if dtype.startswith("complex") else "float64"
    wanted = run(make(name, **kwargs), NUMPY, twin, dtype, STEPS)
    for a, b in zip(found, wanted, strict=True):
        assert a.dtype == np_dtype(dtype)
        single = dtype not in ("float64", "complex128")
        compute = precision("float32") if single else precision("float64")
        np.testing.assert_allclose(
            wide(a), b, rtol=precision(dtype) / 2 + 32 * compute, atol=64 * compute
        )


@pytest.mark.parametrize("lr", [1e-4, 1e-3, 1e-2, 1e-1])
def test_half_precision_follows_single(
    name: str, backend: TestBackend, half: str, lr: float
) -> None:
    """50 steps end where float32 ends, rounded: small steps are not lost."""
    found = run(make(name, lr=lr), backend, half, half, 50)
    wanted = run(make(name, lr=lr), NUMPY, "float32", half, 50)
    moved = 0.0
    for a, b, start in zip(found, wanted, rounded(draw(1), half), strict=True):
        unit = np.maximum(np.abs(b), 2.0**-14) * precision(half)
        assert np.all(np.abs(wide(a) - wide(b)) <= unit)
        moved = max(moved, np.max(np.abs(wide(b) - start)))
    # Those that find the size of a step themselves begin with one that float32 may lose too.
    assert moved > 0 or together(name)


def test_half_precision_state_is_single(name: str, backend: TestBackend, half: str) -> None:
    """Slots and masters are float32, and the master is the parameter before rounding."""
    opt = make(name)
    params = train(opt, backend, backend.tree(draw(1), half), range(3), half)
    state = opt.get_weights()
    arrays = [array for array in state if array.shape in SHAPES and array.dtype != np.int64]
    arrays = [array for array in arrays if array.dtype != np.float64]
    assert all(array.dtype == np.float32 for array in arrays)
    masters = state[-len(params) :]
    same([m.astype(np_dtype(half)) for m in masters], backend.read(params))


def test_without_master(name: str, backend: TestBackend, half: str) -> None:
    """One slot fewer; large steps still arrive, rounded at each."""
    with_master, without = make(name), make(name, master=False)
    a = run(with_master, backend, half, half, 1)
    b = run(without, backend, half, half, 1)
    same(a, b)
    assert len(with_master.get_weights()) - len(without.get_weights()) == len(SHAPES)


def test_a_parameter_written_by_hand_wins_over_its_master(
    name: str, backend: TestBackend, half: str
) -> None:
    """Loading other weights into a half-precision model is not undone by the next step."""
    opt = make(name, lr=1e-3)
    train(opt, backend, backend.tree(draw(1), half), range(2), half)
    other = backend.tree([8 + 0 * p for p in draw(1)], half)
    twin = copy.deepcopy(opt)
    new = backend.read(opt.apply(backend.tree(draw(3), half), other))
    kept = backend.read(twin.apply(backend.tree(draw(3), half), backend.tree(draw(1), half)))
    assert not any(np.any(a == b) for a, b in zip(new, kept, strict=True))
    assert not opt.rests or all(np.all(np.abs(wide(p) - 8) < 4) for p in new)


def test_complex_numbers_are_pairs(
    name: str, kwargs: dict[str, Any], backend: TestBackend, complex_dtype: str
) -> None:
    """Real and imaginary parts train as two real numbers do, clipping included."""
    real = "float32" if complex_dtype == "complex64" else "float64"

    hyper = kwargs | {"clipnorm": 1.0, "clipvalue": 0.3}
    one, two = make(name, **hyper), make(name, **hyper)
    flat = one.rule_for("", (2, 3)).kind == "matrix"  # which complex numbers are never

    def pairs(values: list[np.ndarray]) -> list[np.ndarray]:
        both = [np.stack([v.real, v.imag], axis=-1) for v in values]
        return [x.ravel() if flat else x.reshape((*x.shape[:-2], -1)) for x in both]

    whole = backend.tree(draw_for(1, complex_dtype), complex_dtype)
    split = backend.tree(pairs(draw_for(1, complex_dtype)), real)
    for step in range(STEPS):
        grads = draw_for(60 + step, complex_dtype)
        whole = one.apply(backend.tree(grads, complex_dtype), whole)
        split = two.apply(backend.tree(pairs(grads), real), split)
    tolerance = 4 * precision(real)
    for a, b in zip(pairs(backend.read(whole)), backend.read(split), strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


TORCH_TWINS = {
    "SGD": ("SGD", {"lr": 0.1}, {"lr": 0.1}),
    "Adam": ("Adam", {"lr": 0.1, "epsilon": 1e-30}, {"lr": 0.1, "eps": 1e-30}),
    "Adagrad": ("Adagrad", {"lr": 0.1, "epsilon": 1e-30}, {"lr": 0.1, "eps": 1e-30}),
    "RMSprop": ("RMSprop", {"rho": 0.9, "epsilon": 1e-30}, {"alpha": 0.9, "eps": 1e-30}),
}


@pytest.mark.needs("torch")
@pytest.mark.parametrize("twin", TORCH_TWINS)
def test_complex_numbers_as_in_torch(twin: str) -> None:
    """Where epsilon does not matter, the steps are those of torch.optim."""
    import torch

    theirs, ours_kwargs, their_kwargs = TORCH_TWINS[twin]
    start, opt = draw_for(1, "complex128")[0], make(twin, **({"lr": 0.01} | ours_kwargs))
    ours, other = torch.from_numpy(start.copy()), torch.from_numpy(start.copy())
    other.requires_grad_()
    peer = getattr(torch.optim, theirs)([other], **({"lr": 0.01} | their_kwargs))
    for step in range(STEPS):
        grad = torch.from_numpy(draw_for(70 + step, "complex128")[0])
        ours = opt.apply([grad], [ours])[0]
        other.grad = grad.clone()
        peer.step()
    torch.testing.assert_close(ours, other.detach(), rtol=1e-12, atol=1e-12)


def test_empty_arrays(name: str, kwargs: dict[str, Any], backend: TestBackend) -> None:
    """Nothing in them, and nothing happens to them, beside arrays with entries."""
    opt = make(name, **kwargs, clipnorm=1.0, clipvalue=0.5)
    params = backend.tree([np.ones((0, 3)), np.ones(2), np.ones(0)])
    grads = [np.ones((0, 3)), np.ones(2), np.ones(0)]
    for _ in range(2):
        params = opt.apply(backend.tree(grads), params)
    found = backend.read(params)
    assert [p.shape for p in found] == [(0, 3), (2,), (0,)]
    assert np.all(found[1] < 1)
    assert make(name, **kwargs).apply([], []) == []


def layouts() -> dict[str, Any]:
    """Return ways to lay out a copy of a 4 by 6 array; the second entry is what it is a part of."""

    def strided(a: Any) -> tuple[Any, Any]:
        base = np.zeros((9, 13))
        base[1::2, 1::2] = a
        return base[1::2, 1::2], base

    def transposed(a: Any) -> tuple[Any, Any]:
        base = np.ascontiguousarray(a.T)
        return base.T, base

    def fortran(a: Any) -> tuple[Any, Any]:
        base = np.asfortranarray(a)
        return base, base

    def reversed_(a: Any) -> tuple[Any, Any]:
        base = np.ascontiguousarray(a[::-1, ::-1])
        return base[::-1, ::-1], base

    def unaligned(a: Any) -> tuple[Any, Any]:
        base = np.zeros(a.nbytes + 1, np.uint8)
        view = base[1:].view(a.dtype).reshape(a.shape)
        view[...] = a
        return view, base

    def big_endian(a: Any) -> tuple[Any, Any]:
        base = a.astype(">f8")
        return base, base

    return {f.__name__: f for f in (strided, transposed, fortran, reversed_, unaligned, big_endian)}


@pytest.mark.parametrize("layout", layouts().values(), ids=list(layouts()))
def test_memory_layout(name: str, kwargs: dict[str, Any], layout: Any) -> None:
    """The result does not depend on it, the update reaches the buffer and nothing beside it."""
    start, grads = draw(1, [(4, 6)])[0], [draw(90 + t, [(4, 6)])[0] for t in range(3)]
    plain, opt, other = np.array(start), make(name, **kwargs), make(name, **kwargs)
    view, base = layout(start)
    outside = base.astype("float64").sum() - start.sum() if base.dtype.kind == "f" else 0
    for grad in grads:
        plain = opt.apply([grad], [plain])[0]
        assert other.apply([layout(grad)[0]], [view])[0] is view
    # The order of additions in a norm or in a product of matrices depends on it.
    exact = all(rule.kind == "elementwise" for rule in rules_of([(name, kwargs)]))
    rtol = 0 if exact else 1e-12
    np.testing.assert_allclose(view, plain, rtol=rtol, atol=rtol)
    if base.dtype.kind == "f":
        assert abs(base.astype("float64").sum() - plain.sum() - outside) < 1e-12


def test_views_of_one_buffer(name: str, kwargs: dict[str, Any], viewing: TestBackend) -> None:
    """A flat buffer cut into parameters, as data-parallel training keeps it."""
    flat, start = viewing.asarray(np.arange(12.0)), np.arange(12.0)
    params = [flat[:4], flat[4:10:2], flat[11]] if viewing.name != "numpy" else [
        flat[:4], flat[4:10:2], flat[11:12].reshape(())
    ]  # fmt: skip
    grads = [np.ones(4), np.ones(3), np.asarray(1.0)]
    opt = make(name, **kwargs)
    for _ in range(2):  # the first step of some rules only starts their state
        opt.apply(viewing.tree(grads), params)
    moved = viewing.read([flat])[0] != start
    assert moved.tolist() == [True] * 4 + [True, False] * 3 + [False, True]


def test_trees_of_two_libraries(name: str) -> None:
    """Arrays of several libraries in one tree train as they would alone, or all alike."""
    others = [b for b in BACKENDS if b is not NUMPY]
    params = {b.name: b.asarray(np.arange(3.0)) for b in BACKENDS}
    alone = {b.name: b.asarray(np.arange(3.0)) for b in BACKENDS}
    opt, separate = make(name), {b.name: make(name) for b in BACKENDS}
    for step in range(3):
        grad = draw(step, [(3,)])[0]
        params = opt.apply({b.name: b.asarray(grad) for b in BACKENDS}, params)
        for b in BACKENDS:
            alone[b.name] = separate[b.name].apply(b.asarray(grad), alone[b.name])
    if together(name):
        alone = {
            b.name: b.asarray(BACKENDS[0].to_numpy(params[BACKENDS[0].name])) for b in BACKENDS
        }
    for b in [NUMPY, *others] if NUMPY.name in params else others:
        np.testing.assert_allclose(
            b.to_numpy(params[b.name]), b.to_numpy(alone[b.name]), rtol=1e-15
        )
    assert cls_of(name) is type(opt)


@ao.rule(slots=("before", "slope", "after"))
def remembering(p, g, a, b, c, lr, xp):  # type: ignore[no-untyped-def]
    q = p - lr * g
    return q, p, g, q


class Remembering(ao.Optimizer):
    """It keeps parameter and gradient themselves."""

    lr: Any = ao.hyper(default=0.5, interval="[0, inf)", doc="Step size.")
    rule = remembering

    def coefficients(self, h: Any, it: Any, scalars: Any, xp: Any) -> dict[str, Any]:
        """Compute the coefficients of one step."""
        return {"lr": h.lr}


@pytest.mark.parametrize("writeable", [True, False])
def test_slots_have_memory_of_their_own(backend: TestBackend, writeable: bool) -> None:
    """A rule may return the parameter and the gradient as slots."""
    with ao.engine("array"):
        opt, p, g = Remembering(), backend.asarray(np.ones(3)), backend.asarray(np.full(3, 2.0))
        if not writeable and backend is NUMPY:
            p.flags.writeable = False
        new = opt.apply(g, p)
        if backend.in_place:
            new += 5.0
            g += 5.0
    same([w for w in opt.get_weights() if w.shape], [np.ones(3), np.full(3, 2.0), np.zeros(3)])
