"""Machine code that asks all arrays of a step at once: torch's, and CuPy's if it is installed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import arrayoptim as ao
from arrayoptim.engines.gpu.arrays import LIBRARIES, CuPyLibrary
from arrayoptim.engines.gpu.walks import Walk
from arrayoptim.step.session import session_of
from call_counts import counted
from engine_cases import draw
from gpu_on_host import TorchOnHost, compiler
from optimizers_under_test import make

SHAPES = [(30, 7), (5,), (4, 3, 2), (1,), (), (64, 64)]

on_host = pytest.mark.skipif(compiler() is None, reason="there is no C++ compiler")


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> TorchOnHost:
    """Take torch tensors of the CPU for those of a GPU."""
    pytest.importorskip("torch")
    found = TorchOnHost()
    monkeypatch.setitem(LIBRARIES, "torch", found)
    return found


def tensors(seed: int, dtype: str = "float32", shapes: Any = SHAPES) -> list[Any]:
    """Return tensors."""
    torch = pytest.importorskip("torch")
    return [torch.from_numpy(x).to(getattr(torch, dtype)) for x in draw(seed, shapes, "float32")]


def walk_of(library: Any, arrays: list[Any]) -> Walk:
    """Return a walk through arrays, which there is."""
    found = library.walk(arrays, 0)
    assert found is not None
    return found


def stepped(optimizer: Any, library: Any, seeds: Any, change: Any = None) -> list[Any]:
    """Return parameters after steps with new gradients, each of them changed first."""
    params = tensors(1)
    for seed in seeds:
        grads = tensors(seed)
        optimizer.apply(grads if change is None else change(seed, grads), params)
    return params


@on_host
def test_what_a_walk_finds(library: TorchOnHost) -> None:
    """Arrays in other memory are as expected; None has the address 0."""
    first, second = tensors(1), tensors(2)
    walk = walk_of(library, first)
    assert walk.read(tuple(first)) and not walk.moved
    assert walk.read(tuple(second)) and walk.moved
    assert walk.found.tolist() == [x.data_ptr() for x in second]
    assert walk.read(tuple(second)) and not walk.moved
    second[2] = None
    assert walk.read(tuple(second)) and walk.moved and walk.found[2] == 0


CHANGES: dict[str, Any] = {
    "shape": lambda torch, x: x.reshape(7, 30),
    "order": lambda torch, x: x.T.contiguous().T,
    "gaps": lambda torch, x: torch.stack([x, x], -1)[..., 0],
    "dtype": lambda torch, x: x.double(),
    "dimensions": lambda torch, x: x[None],
    "layout": lambda torch, x: x.to_sparse(),
    "library": lambda torch, x: x.numpy(),
    "kind": lambda torch, x: x.as_subclass(type("Own", (torch.Tensor,), {})),
}


@on_host
@pytest.mark.parametrize("change", CHANGES)
def test_what_a_walk_refuses(change: str, library: TorchOnHost) -> None:
    """Whatever is not as the array that was there."""
    torch = pytest.importorskip("torch")
    first, second = tensors(1), tensors(2)
    walk = walk_of(library, first)
    second[0] = CHANGES[change](torch, second[0])
    assert not walk.read(tuple(second))
    assert walk.read(tuple(first)), "and goes on with others"


@on_host
def test_lazily_negated_numbers(library: TorchOnHost) -> None:
    """One number of a conjugated complex one cannot be told by where it lies."""
    torch = pytest.importorskip("torch")
    first, second = tensors(1), tensors(2)
    second[3] = torch.conj(torch.tensor([1.0 + 2.0j])).imag
    assert second[3].is_neg()
    assert not walk_of(library, first).read(tuple(second))


@on_host
def test_another_device(library: TorchOnHost) -> None:
    """A walk over arrays that are not on the device there is not."""
    assert library.walk(tensors(1), 3) is None


@on_host
@pytest.mark.slow
def test_steps_of_whatever_comes(library: TorchOnHost) -> None:
    """New gradients, in other orders and dtypes, none at times: as the array engine does."""
    torch = pytest.importorskip("torch")

    def change(seed: int, grads: list[Any]) -> list[Any]:
        if seed == 12:
            grads[0] = grads[0].T.contiguous().T
        if seed in (13, 14):
            grads[seed - 13] = None
        if seed == 15:
            grads = [g.to(torch.bfloat16) for g in grads]
        return grads

    seeds = range(10, 18)
    found = stepped(make("Adam"), library, seeds, change)
    with ao.engine("array"):
        wanted = stepped(make("Adam"), library, seeds, change)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-7)


@on_host
def test_parameters_that_move(library: TorchOnHost) -> None:
    """Other memory of the same tensors is stepped, and that is found each time it is asked."""
    torch = pytest.importorskip("torch")
    found = []
    for engine in ("gpu", "array"):
        optimizer, params = make("Adam"), tensors(1)
        with ao.engine(engine):
            for seed in range(5):
                if seed in (2, 3):
                    params[5].data = params[5].data.clone()
                optimizer.apply(tensors(20 + seed), params)
        found.append(params)
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-7)
    optimizer = make("Adam")
    optimizer.apply(tensors(9), params)
    params[0].data = params[0].data.clone()
    for _ in range(2):
        assert not _plan(optimizer).fits(params)


def _plan(optimizer: Any) -> Any:
    (share,) = session_of(optimizer)._made.engines._shares.values()
    return share.plan


@on_host
def test_an_error_between(library: TorchOnHost) -> None:
    """Gradients that were seen by a step that failed are read by the next one where they are."""
    torch = pytest.importorskip("torch")
    found = []
    for fails in (False, True):
        optimizer, params = make("Adam"), tensors(1)
        optimizer.apply(tensors(3), params)
        for seed in (4, 5):
            grads = tensors(seed)
            for part in _plan(optimizer)._parts if fails else ():
                part.check(grads)  # as where another device's part refuses its gradients
            optimizer.apply(grads, params)
        found.append(params)
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@on_host
def test_a_list_that_changes_after_an_error(library: TorchOnHost) -> None:
    """What a step that failed has checked is checked again, though in the same list."""
    torch = pytest.importorskip("torch")
    found = []
    for fails in (False, True):
        optimizer, params = make("Adam", nonfinite="raise"), tensors(1)
        optimizer.apply(tensors(3), params)
        grads = tensors(4)
        if fails:
            whole, grads[0] = grads[0], torch.full_like(grads[0], torch.nan)
            with pytest.raises(ValueError, match="NaN"):
                optimizer.apply(grads, params)
            grads[0] = whole
        optimizer.apply(grads, params)
        found.append(params)
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@on_host
@pytest.mark.parametrize("clipnorm", [None, 1.0])
def test_calls_per_tensor(library: TorchOnHost, clipnorm: float | None) -> None:
    """A step over more tensors makes hardly more calls, though all gradients are new."""
    found = []
    for count in (100, 300):
        shapes = [(3, 4)] * count
        params, optimizer = tensors(1, shapes=shapes), ao.Adam(clipnorm=clipnorm)
        for seed in range(3):
            optimizer.apply(tensors(seed, shapes=shapes), params)
        grads = tensors(9, shapes=shapes)
        with counted() as calls:
            optimizer.apply(grads, params)
        found.append(calls.count)
    assert found[1] - found[0] < 0.1 * 200


# ---- CuPy


def array(
    shape: tuple[int, ...], dtype: Any = np.float32, order: Any = "C", device: int = 0
) -> Any:
    """Return an array of CuPy's over memory of the host, which nobody reads."""
    cupy = pytest.importorskip("cupy")
    host = np.zeros(shape, dtype, order=order)
    memory = cupy.cuda.UnownedMemory(host.ctypes.data, max(host.nbytes, 1), host, device)
    place = cupy.cuda.MemoryPointer(memory, 0)
    return cupy.ndarray(shape, dtype, place, host.strides)


def arrays() -> list[Any]:
    """Return arrays."""
    kinds = [np.float32, np.float64, np.float16]
    return [array(shape, kinds[k % 3]) for k, shape in enumerate(SHAPES)]


def test_a_walk_through_cupy_arrays() -> None:
    """It finds them in other memory, in whichever order."""
    library, first, second = CuPyLibrary(), arrays(), arrays()
    walk = walk_of(library, first)
    assert walk.read(tuple(first)) and not walk.moved
    assert walk.read(tuple(second)) and walk.moved
    assert walk.found.tolist() == [x.data.ptr for x in second]
    second[1] = None
    assert walk.read(tuple(second)) and walk.found[1] == 0


CUPY_CHANGES: dict[str, Any] = {
    "shape": lambda: array((7, 30)),
    "order": lambda: array((30, 7), order="F"),
    "gaps": lambda: array((30, 14))[:, ::2],
    "dtype": lambda: array((30, 7), np.float64),
    "dimensions": lambda: array((1, 30, 7)),
    "device": lambda: array((30, 7), device=1),
    "library": lambda: np.zeros((30, 7), np.float32),
    "None": lambda: (),
}


@pytest.mark.parametrize("change", CUPY_CHANGES)
def test_what_a_walk_through_cupy_arrays_refuses(change: str) -> None:
    """Whatever is not as the array that was there."""
    pytest.importorskip("cupy")
    first, second = arrays(), arrays()
    walk = walk_of(CuPyLibrary(), first)
    second[0] = CUPY_CHANGES[change]()
    assert not walk.read(tuple(second))
    assert walk.read(tuple(first))


def test_arrays_that_only_look_like_cupys() -> None:
    """Machine code looks at no object whose memory is laid out in another way."""
    assert CuPyLibrary().walk([np.zeros(3, np.float32)], 0) is None


def test_nothing_is_known_where_there_is_no_array() -> None:
    """Gradients that are all missing say nothing of the memory of those that come later."""
    assert CuPyLibrary().walk([None, None], 0) is None
