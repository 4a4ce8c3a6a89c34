"""Matrices of equal shape, stepped as one stack: more of them, and larger ones, on a GPU."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import pytest

import arrayoptim as ao
from arrayoptim.arrays.libraries import backend_of
from arrayoptim.engines import Step
from arrayoptim.engines.array import stacks as _stacks
from arrayoptim.engines.array.engine import sweep
from arrayoptim.engines.array.stacks import stacks
from arrayoptim.numerics.slots import Layout
from arrayoptim.optimizers.shampoo import multiplied_out
from backends import emulated
from call_counts import counted
from engine_cases import draw
from optimizers_under_test import make


def split(arrays: list[Any], name: str = "Muon") -> list[list[int]]:
    """Return how the places of some arrays are parted."""
    step = Step(Layout(make(name).rule), {"float32": {}}, None, range(len(arrays)))
    return stacks(step, arrays, arrays, range(len(arrays)))


def test_how_large_they_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the host small ones are stacked; on a GPU all that a stack has room for."""
    shapes = [(16, 16), (100, 120), (16, 16), (100, 120), (100, 120), (120, 100)]
    here = draw(1, shapes, "float32")
    assert split(here) == [[0, 2], [1], [3], [4], [5]]
    with emulated("cupy_on_host"):
        import cupy

        there = [cupy.asarray(x) for x in here]
        assert split(there) == [[0, 2], [1, 3, 4], [5]]
        monkeypatch.setattr(_stacks, "MOST_ON_GPU", 2 * 100 * 120)
        assert split(there) == [[0, 2], [1, 3], [4], [5]]
        monkeypatch.setattr(_stacks, "LARGEST_ON_GPU", 100)
        assert split(there) == [[k] for k in range(6)]
        assert split(there, "Adam") == [[k] for k in range(6)]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Muon", "Shampoo", "SOAP"])
def test_the_calls_of_a_step_on_a_gpu(name: str) -> None:
    """Eight matrices take hardly more than two, and are stepped as one by one."""
    with emulated("cupy_on_host"):
        import cupy

        counts = []
        for many in (2, 8):
            start = draw(1, [(100, 90)] * many, "float32")
            optimizer, params = make(name), [cupy.asarray(x) for x in start]
            for seed in range(2):
                grads = [cupy.asarray(g) for g in draw(5 + seed, [(100, 90)] * many, "float32")]
                with counted() as calls:
                    optimizer.apply(grads, params)
            counts.append(calls.count)
        together = [p.get() for p in params]
    assert counts[1] < 2.5 * counts[0]
    if name == "SOAP":  # its basis is not unique
        return
    for k, p in enumerate(start):
        alone, single = make(name), p.copy()
        with ao.engine("array"):
            for seed in range(2):
                alone.apply([draw(5 + seed, [(100, 90)] * 8, "float32")[k]], [single])
        # Roots of Shampoo are products of matrices there, decompositions here.
        np.testing.assert_allclose(together[k], single, rtol=1e-3, atol=1e-3)


SHAPES = [(16, 48), (16, 16), (16, 64), (64, 16)] * 2
"""Those of two layers of a transformer."""


@pytest.mark.parametrize(
    ("name", "settings", "most"),
    [
        ("Muon", {}, 155),
        ("Muon", {"ns_dtype": "bfloat16"}, 165),
        ("Muon", {"split": {"[37]": 4}}, 270),
        ("NorMuon", {}, 260),
        ("AdaMuon", {}, 250),
        ("SOAP", {}, 300),
        ("Shampoo", {"precondition_frequency": 10}, 200),
        ("GaLore", {}, 185),
        ("APOLLO", {}, 305),
    ],
)
def test_the_array_functions_of_a_step_on_a_gpu(
    name: str, settings: dict[str, Any], most: int
) -> None:
    """All matrices take few calls, as each costs more than its arithmetic; views are counted."""
    torch = pytest.importorskip("torch")
    modes = pytest.importorskip("torch.utils._python_dispatch")
    calls: list[Any] = []

    class Counting(modes.TorchDispatchMode):  # type: ignore[misc,name-defined]
        def __torch_dispatch__(self, function: Any, types: Any, args: Any, words: Any) -> Any:
            calls.append(function)
            return function(*args, **(words or {}))

    with emulated("torch_on_gpu"):
        optimizer = getattr(ao, name)(**settings)
        params, *grads = ([torch.tensor(x) for x in draw(k, SHAPES, "float32")] for k in range(4))
        for each in grads[:2]:
            optimizer.apply(each, params)
        with Counting():
            optimizer.apply(grads[2], params)
    assert len(calls) <= most


def _require(library: str) -> None:
    """Skip a test of torch tensors without torch."""
    if library.startswith("torch"):
        pytest.importorskip("torch")


@pytest.mark.parametrize("name", ["Muon", "NorMuon", "AdaMuon", "Shampoo"])
@pytest.mark.parametrize("library", ["cupy_on_host", "torch_on_gpu"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_matrices_stepped_together_on_a_gpu(name: str, library: str, dtype: str) -> None:
    """Matrices of several shapes move as they do on the host, each by itself."""
    _require(library)
    shapes = [*SHAPES, (3, 16, 20), (5, 7)]
    start, *slopes = (draw(k, shapes, dtype) for k in range(4))
    groups = [ao.group("1", lr=0.3), ao.group("2", weight_decay=0.1)]
    here, there = (make(name, groups=groups) for _ in range(2))
    params = [x.copy() for x in start]
    for each in slopes:
        here.apply(each, params)
    with emulated(library) as backend:
        others = backend.tree(start)
        for each in slopes:
            there.apply(backend.tree(each), others)
        found = backend.read(others)
    near = 1e-3 if dtype == "float32" else 1e-9
    for x, y in zip(params, found, strict=True):
        np.testing.assert_allclose(y, x, rtol=near, atol=near)


@pytest.mark.parametrize("library", ["numpy", "cupy_on_host", "torch_on_gpu"])
def test_slots_are_rows_of_a_stack(library: str) -> None:
    """The next step takes that as it is; what is written into one of them counts."""
    _require(library)
    with contextlib.ExitStack() as stack:
        backend = stack.enter_context(emulated(library)) if library != "numpy" else None
        convert = backend.asarray if backend else np.array
        optimizer, p = make("Muon"), [convert(np.ones((4, 3), "f4")) for _ in range(3)]
        g = [convert(np.full((4, 3), k, "f4")) for k in range(3)]
        with ao.engine("array" if library == "numpy" else "auto"):
            optimizer.apply(g, p)
        slots = [own["momentum"] for own in optimizer._session.state.slots]
        own = backend_of(slots[0])
        whole = own.stacked(slots)
        own.store(slots[1], 5 * slots[1])
        host = own.to_host(whole)
        np.testing.assert_allclose(host[:, 0, 0], [0.0, 5 * 0.05, 2 * 0.05], rtol=1e-6)
        for others in (slots[::-1], slots[:2], [slots[0], slots[0], slots[2]]):
            apart, before = own.stacked(others), [own.to_host(x) for x in others]
            own.store(others[0], 7 + slots[0])
            np.testing.assert_array_equal(own.to_host(apart), before)


@pytest.mark.parametrize("power", [2, 4])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("decades", [0, 3, 6])
def test_roots_by_products_alone(power: int, dtype: str, decades: int) -> None:
    """They are those of a decomposition, but for rounding."""
    q = np.linalg.qr(np.random.default_rng(3).normal(size=(2, 40, 40)))[0]
    s = (q * np.logspace(2, 2 - decades, 40)) @ q.mT
    s = ((s + s.mT) / 2).astype(dtype)
    values, q = np.linalg.eigh(s.astype("float64"))
    wanted = (q * (np.maximum(values, 0) + 1e-3)[:, None, :] ** (-1 / power)) @ q.mT
    found = multiplied_out(s, np.dtype(dtype).type(1e-3), power, np)
    worst = np.abs(found - wanted).max() / np.abs(wanted).max()
    assert worst < (1e-3 if dtype == "float32" else 1e-10)
    s[1, 3, 4] = np.nan
    with np.errstate(all="ignore"):
        found = multiplied_out(s, np.dtype(dtype).type(1e-3), power, np)
    assert np.isfinite(found[0]).all() and np.isnan(found[1]).all()


def test_large_matrices_are_decomposed_one_by_one() -> None:
    """By CuPy alone, whose function for stacks is slow there; the result is the same."""
    s = np.random.default_rng(3).normal(size=(2, 256, 256))
    s = s + s.mT
    with emulated("cupy_on_host"):
        import cupy

        found = backend_of(cupy.asarray(s)).xp.linalg.eigh(cupy.asarray(s))
        values, vectors = (x.get() for x in found)
    for each, wanted in zip((values, vectors), np.linalg.eigh(s), strict=True):
        np.testing.assert_array_equal(each, wanted)


@pytest.mark.parametrize("units", ["last", "first", "tensor"])
def test_clipping_by_units_in_stacks_has_the_bits_of_one_by_one(
    units: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the shape; bounds of groups and gradients of another type are kept apart."""
    shapes = [(4, 3), (5,), (4, 3), (), (2, 3, 4), (5,), (0, 2), (2, 3, 4), (4, 3), (0, 2), ()]
    groups = [ao.group("8", agc=0.02), ao.group("4", agc=None)]

    def moved(kind: str) -> list[Any]:
        params, grads = draw(1, shapes, kind), draw(2, shapes, kind)
        grads[2] = grads[2].astype("float64" if kind == "float32" else kind)
        optimizer = ao.SGD(lr=1.0, agc=0.1, agc_units=units, groups=groups)
        optimizer.apply(grads, params)
        return [*params, *grads]

    for kind in ("float32", "float64", "complex64"):
        together = moved(kind)
        with monkeypatch.context() as patch:
            patch.setattr(_stacks, "LARGEST", -1)
            alone = moved(kind)
        for x, y in zip(together, alone, strict=True):
            np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("options", [{}, {"clipnorm": 0.5}])
def test_the_calls_of_clipping_by_units_on_a_gpu(options: dict[str, float]) -> None:
    """A further array takes some calls, those of the emulation included; by itself thousands."""

    def calls(many: int) -> int:
        optimizer, shapes = ao.SGD(lr=0.1, agc=0.1, **options), [(20, 10)] * many
        params = [cupy.asarray(x) for x in draw(1, shapes, "float32")]
        for seed in range(2):
            grads = [cupy.asarray(g) for g in draw(2 + seed, shapes, "float32")]
            with counted() as found:
                optimizer.apply(grads, params)
        return found.count

    with emulated("cupy_on_host"):
        import cupy

        each = (calls(40) - calls(20)) / 20
    assert each < 400


def test_a_rule_with_a_joint_of_your_own() -> None:
    """It receives the directions of all matrices, on the host one by one, and nothing else may."""
    seen: list[int] = []

    def doubled(p, g, m, mu, xp):  # type: ignore[no-untyped-def]
        return mu * m + g, m

    def joint(directions, gain, xp):  # type: ignore[no-untyped-def]
        seen.append(len(directions))
        return [gain * xp.matmul(x, xp.matrix_transpose(x)) for x in directions]

    with pytest.raises(TypeError, match="found a joint and kind 'elementwise'; wanted kind"):
        ao.rule(slots=("momentum",), direction=doubled, joint=joint)(doubled)

    @ao.rule(slots=("momentum",), kind="matrix", direction=doubled, joint=joint)
    def squared(p, g, m, lr, xp):  # type: ignore[no-untyped-def]
        return p - lr * g, m

    assert squared.coefficients == ("lr", "mu", "gain")
    p, g = (x.astype("float64") for x in draw(1, [(4, 4)] * 2, "float32"))
    m = np.zeros((4, 4))
    new, _ = squared(p, g, m, 0.5, 0.0, 2.0, np)
    np.testing.assert_allclose(new, p - g @ g.T, rtol=1e-12)
    values = {"float64": {"lr": 0.5, "mu": 0.0, "gain": 2.0}}
    for library, counts in (("numpy", [1, 1]), ("cupy_on_host", [2])):
        with contextlib.ExitStack() as stack:
            backend = stack.enter_context(emulated(library)) if library != "numpy" else None
            convert = backend.asarray if backend else np.array
            params = [convert(p), convert(p[:3, :3])]
            grads = [convert(g), convert(g[:3, :3])]
            slots = [{"momentum": convert(0 * x)} for x in (p, p[:3, :3])]
            seen.clear()
            step = Step(Layout(squared), values, None, range(2))
            found, _ = sweep(step, params, grads, slots)
            first = backend_of(found[0]).to_host(found[0])
        assert seen == counts
        np.testing.assert_allclose(first, new, rtol=1e-12)
