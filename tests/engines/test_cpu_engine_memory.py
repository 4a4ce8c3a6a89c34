"""Which arrays the CPU engine takes, and what it says of the others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from arrayoptim.engines.cpu import readers as _cpu_readers
from arrayoptim.engines.cpu.engine import Plan, refusal
from backends import TestBackend, np_dtype
from engine_cases import (
    SHAPES,
    adam,
    by_arrays,
    coefficients,
    column,
    copies,
    draw,
    state_of,
    typed,
)
from optimizers_under_test import same


@pytest.fixture(params=["objects", "attributes"])
def route(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Read addresses from the objects, or as where their layout is not known."""
    if request.param == "attributes":
        monkeypatch.setattr(_cpu_readers, "objects_as_expected", lambda: False)
    kernels = _cpu_readers.numpy_readers, _cpu_readers.torch_readers
    for kernel in kernels:
        kernel.cache_clear()
    yield str(request.param)
    for kernel in kernels:
        kernel.cache_clear()


def converted(backend: TestBackend, slots: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return slots as arrays of a backend."""
    return [{name: backend.asarray(x) for name, x in slot.items()} for slot in slots]


@pytest.mark.needs("numpy")
@pytest.mark.needs("torch")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_same_for_every_library(backend: TestBackend, route: str, dtype: str) -> None:
    """Arrays are changed in place, whoever owns the memory."""
    rule, shapes = adam(), SHAPES[:3] + SHAPES[4:]
    params, slots = draw(1, shapes, dtype), state_of(rule, shapes, dtype, "master")
    if dtype == "float32":
        slots = state_of(rule, shapes, dtype)
    mine, state = backend.tree(params), converted(backend, slots)
    plan, values = Plan(rule, mine, state), coefficients(rule)
    for step in range(2):
        grads = draw(20 + step, shapes, dtype)
        params, slots = by_arrays(rule, values, params, grads, slots)
        assert plan.fits(mine)
        plan.sweep(backend.tree(grads), typed(values))
    same(backend.read(mine), params)
    same(backend.read(column(state)), column(slots))


def test_orders_of_memory(route: str) -> None:
    """Fortran order is taken as it is; gradients of another order, stride or dtype are copied."""
    rule, shape, values = adam(), (30, 40), coefficients(adam())
    for dtype, other in (("float32", "float64"), ("float64", "float16")):
        wide = draw(2, [(60, 80)], dtype)[0]
        grads = [
            wide[:30, :40],
            np.asfortranarray(wide[:30, :40]),
            wide[::2, ::-2],
            wide[:30, :40].astype(other),
            wide[:30, :40].astype(np.dtype(dtype).newbyteorder()),
            wide[:30, :40].view(Labelled),
        ]
        for order in "CF":
            params = [np.array(p, order=order) for p in draw(1, [shape] * 6, dtype)]
            slots = state_of(rule, [shape] * 6, dtype)
            slots = [{k: np.array(v, order=order) for k, v in slot.items()} for slot in slots]
            mine, state = [p.copy(order="K") for p in params], copies(slots)
            Plan(rule, mine, state).sweep(grads, typed(values))
            params, slots = by_arrays(rule, values, params, grads, slots)
            same(mine, params)
            same(column(state), column(slots))


class Labelled(np.ndarray):
    """A subclass, as programs have them."""


def test_the_gradient_may_be_the_parameter(route: str) -> None:
    """The loss whose gradient is the parameter itself, or a view of it."""
    rule, values = adam(), coefficients(adam())
    params, slots = draw(1, SHAPES, "float32"), state_of(rule, SHAPES, "float32")
    mine, state = [p.copy() for p in params], copies(slots)
    Plan(rule, mine, state).sweep([*mine[:3], mine[3][:], *mine[4:]], typed(values))
    params, slots = by_arrays(rule, values, params, params, slots)
    same(mine, params)


def test_fits_only_the_same_memory(route: str) -> None:
    """A parameter that was replaced, reshaped or locked wants another plan."""
    rule = adam()
    params, slots = draw(1, SHAPES, "float32"), state_of(rule, SHAPES, "float32")
    plan = Plan(rule, params, slots)
    assert plan.fits(params) and plan.fits(tuple(params))
    assert plan.fits([p[...] for p in params])
    assert not plan.fits(params[:-1])
    for k in (0, 4):
        for other in (params[k].copy(), params[k].T, params[k].view(np.int32), params[k].tolist()):
            assert not plan.fits([*params[:k], other, *params[k + 1 :]])
    params[4].setflags(write=False)
    assert not plan.fits(params)


@pytest.mark.parametrize(
    ("grad", "error", "message"),
    [
        (np.zeros((5, 3), np.float32), ValueError, r"'a/b': found shape \(5, 3\), wanted \(3, 5\)"),
        (np.zeros((3, 5), np.int64), TypeError, "'a/b': found dtype int64, wanted float32"),
        (np.zeros((3, 5), np.complex64), TypeError, "'a/b': found dtype complex64, wanted float32"),
        ([[0.0] * 5] * 3, TypeError, "'a/b': found a list, wanted a NumPy array"),
    ],
)
def test_bad_gradients(route: str, grad: Any, error: type[Exception], message: str) -> None:
    """The message names the parameter, and nothing has changed."""
    rule, shapes = adam(), [(7,), (3, 5)]
    params, slots = draw(1, shapes, "float32"), state_of(rule, shapes, "float32")
    before = [p.copy() for p in params], copies(slots)
    plan = Plan(rule, params, slots, paths=["c", "a/b"])
    good = np.ones(7, np.float32)
    with pytest.raises(error, match=message):
        plan.sweep([good, grad], typed(coefficients(rule)))
    with pytest.raises(ValueError, match="found 1 gradients, wanted 2"):
        plan.sweep([good], typed(coefficients(rule)))
    same(params, before[0])
    same(column(slots), column(before[1]))


def test_what_is_refused() -> None:
    """The reason is in words."""
    rule, shape = adam(), (4, 6)

    def reason(param: Any, **changed: Any) -> str:
        slots = {name: np.zeros(shape, np.float32) for name in rule.slots}
        return refusal(rule, param, slots | changed) or "served"

    good = np.zeros(shape, np.float32)
    assert reason(good) == "served"
    assert "read-only" in reason(np.broadcast_to(np.float32(0), shape))
    locked = good.copy()
    locked.setflags(write=False)
    assert "read-only" in reason(locked)
    assert "not contiguous" in reason(np.zeros((8, 6), np.float32)[::2])
    assert "int32" in reason(np.zeros(shape, np.int32))
    assert "swapped" in reason(np.zeros(shape, ">f4"))
    assert "list is neither a NumPy array nor a torch tensor" in reason([1.0])
    assert "slot 'velocity'" in reason(good, velocity=np.zeros(shape, np.float32, order="F"))


@pytest.mark.needs("torch")
def test_torch_tensors(backend: TestBackend, route: str) -> None:
    """Parameters with `.grad`, any dense order of dimensions; autograd learns of the change."""
    import torch

    rule, values = adam(), coefficients(adam())
    weight = torch.nn.Parameter(torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last))
    bias = torch.nn.Parameter(torch.zeros(3))
    params = [weight, bias]
    loss = (weight.sum((0, 2, 3)) * torch.arange(3.0) + bias).square().sum()
    loss.backward()
    grads = [p.grad for p in params]
    assert all(g is not None for g in grads)
    slots = [{name: torch.zeros_like(p) for name in rule.slots} for p in params]
    host = [p.detach().numpy().copy() for p in params]
    zeros = [{name: np.zeros_like(p) for name in rule.slots} for p in host]
    assert all(refusal(rule, p, slot) is None for p, slot in zip(params, slots, strict=True))
    versions = [p._version for p in params]
    Plan(rule, params, slots).sweep(grads, typed(values))
    assert all(p._version > old for p, old in zip(params, versions, strict=True))
    wanted, _ = by_arrays(rule, values, host, [g.numpy() for g in grads], zeros)
    same([p.detach().numpy().copy(order="C") for p in params], [w.copy(order="C") for w in wanted])


@pytest.mark.needs("torch")
def test_torch_tensors_that_are_refused(backend: TestBackend) -> None:
    """No plain memory, gaps, or another device."""
    import torch

    rule = adam()

    def reason(param: Any) -> str:
        slots = {name: torch.zeros(tuple(param.shape)) for name in rule.slots}
        return refusal(rule, param, slots) or "served"

    assert reason(torch.zeros(3, 4)) == "served"
    assert "not contiguous" in reason(torch.zeros(6, 4)[::2])
    assert "not contiguous" in reason(torch.zeros(1, 4).expand(3, 4))
    assert "on device meta" in reason(torch.zeros(3, 4, device="meta"))
    assert "sparse" in reason(torch.zeros(3, 4).to_sparse())
    assert "int64" in reason(torch.zeros(3, 4, dtype=torch.int64))


@pytest.mark.needs("torch")
def test_torch_gradients_of_other_kinds(backend: TestBackend, route: str) -> None:
    """Transposed, expanded and wider gradients are copied; one of another device is an error."""
    import torch

    rule, values = adam(), coefficients(adam())
    for grad in (torch.randn(4, 3).T, torch.randn(3, 1).expand(3, 4), torch.randn(3, 4).double()):
        param = torch.randn(3, 4)
        state = {name: torch.zeros(3, 4) for name in rule.slots}
        host, zeros = param.numpy().copy(), {k: v.numpy().copy() for k, v in state.items()}
        Plan(rule, [param], [state]).sweep([grad], typed(values))
        wanted, _ = by_arrays(rule, values, [host], [grad.numpy()], [zeros])
        same([param.numpy()], wanted)
    plan = Plan(rule, [param], [state])
    with pytest.raises(TypeError, match="'0': the tensor is on device meta, wanted cpu"):
        plan.sweep([torch.zeros(3, 4, device="meta")], typed(values))


def test_bfloat16_slots(route: str) -> None:
    """State in half the memory, rounded to the nearest."""
    rule, values = adam(), coefficients(adam())
    params, slots = draw(1, SHAPES, "float32"), state_of(rule, SHAPES, "float32")
    kind = np_dtype("bfloat16")
    slots = [{name: x.astype(kind) for name, x in slot.items()} for slot in slots]
    mine, state = [p.copy() for p in params], copies(slots)
    grads = draw(2, SHAPES, "float32")
    Plan(rule, mine, state).sweep(grads, typed(values))
    params, slots = by_arrays(rule, values, params, grads, slots)
    same(mine, params)
    same(column(state), column(slots))


@pytest.mark.needs("torch")
def test_lazy_torch_gradients(backend: TestBackend, route: str) -> None:
    """A conjugate or a negative that was not written to memory is not missed."""
    import torch

    rule, values = adam(), coefficients(adam())
    z = torch.randn(1, dtype=torch.complex64)
    for grad in (z.conj().imag, z.conj(), torch.randn(4, dtype=torch.complex64).conj()):
        param = torch.zeros_like(grad).resolve_conj().resolve_neg()
        state = {name: torch.zeros_like(param) for name in rule.slots}
        plain = grad.resolve_conj().resolve_neg()
        host, zeros = param.numpy().copy(), {k: v.numpy().copy() for k, v in state.items()}
        Plan(rule, [param], [state]).sweep([grad], typed(values))
        wanted, _ = by_arrays(rule, values, [host], [plain.numpy()], [zeros])
        same([param.numpy()], wanted)
