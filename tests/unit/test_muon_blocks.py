"""Muon on stacks of matrices, on matrices side by side, and with other polynomials."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import arrayoptim as ao
from arrayoptim.optimizers._polynomials import POLAR_EXPRESS, polar_express
from backends import TestBackend

RNG = np.random.default_rng(7)


def array_of(backend: TestBackend, x: np.ndarray) -> Any:
    """Return an array of its library."""
    return backend.tree([x])[0]


def stepped(backend: TestBackend, start: np.ndarray, slopes: Any, **settings: Any) -> np.ndarray:
    """Return a parameter after some steps."""
    optimizer, p = ao.Muon(lr=0.1, weight_decay=0.1, **settings), array_of(backend, start)
    for g in slopes:
        p = optimizer.apply(array_of(backend, g), p)
    found: np.ndarray = backend.read([p])[0]
    return found


def drawn(*shape: int, dtype: Any = np.float32) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return a parameter and gradients of three steps."""
    start, *slopes = RNG.normal(size=(4, *shape)).astype(dtype)
    return start, slopes


def require_equal(backend: TestBackend, found: np.ndarray, wanted: np.ndarray) -> None:
    """Require the same bits, but of libraries that order their sums anew for each shape."""
    if backend.name in ("jax", "mlx", "cupy", "torch_cuda"):
        np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=2e-6)
    else:
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("shape", [(3, 4, 5), (3, 5, 4), (2, 33, 20)])
@pytest.mark.parametrize("scaling", ["rms", "shape"])
def test_experts(shape: tuple[int, ...], scaling: str, backend: TestBackend) -> None:
    """Each matrix of a stack is stepped as it is alone."""
    start, slopes = drawn(*shape)
    found = stepped(backend, start, slopes, scaling=scaling)
    for k in range(shape[0]):
        wanted = stepped(backend, start[k], [g[k] for g in slopes], scaling=scaling)
        require_equal(backend, found[k], wanted)


def test_more_axes(backend: TestBackend) -> None:
    """Kernels of convolutions are one matrix, unless they are called stacks; and the reverse."""
    start, slopes = drawn(2, 3, 4, 5)
    usual = stepped(backend, start, slopes)
    flat = stepped(backend, start.reshape(2, 60), [g.reshape(2, 60) for g in slopes])
    require_equal(backend, usual.reshape(2, 60), flat)
    batch = stepped(backend, start, slopes, leading_axes="batch")
    alone = stepped(backend, start[1, 2], [g[1, 2] for g in slopes])
    require_equal(backend, batch[1, 2], alone)
    start, slopes = drawn(3, 4, 5)
    whole = stepped(backend, start, slopes, leading_axes="flatten", outputs="last")
    flat = stepped(
        backend, start.reshape(12, 5), [g.reshape(12, 5) for g in slopes], outputs="last"
    )
    require_equal(backend, whole.reshape(12, 5), flat)


@pytest.mark.parametrize(("outputs", "axis"), [("first", -2), ("last", -1)])
@pytest.mark.parametrize("parts", [3, (6, 2, 1)])
@pytest.mark.parametrize("stacked", [False, True])
def test_queries_keys_and_values(
    outputs: str, axis: int, parts: Any, stacked: bool, backend: TestBackend
) -> None:
    """Each block of a fused matrix is stepped as it is alone."""
    shape = [2] * stacked + ([9, 7] if axis == -2 else [7, 9])
    start, slopes = drawn(*shape)
    tree = {"attention/qkv": start, "out": start}
    optimizer = ao.Muon(lr=0.1, weight_decay=0.1, split={"*qkv": parts}, outputs=outputs)
    found = {name: array_of(backend, x) for name, x in tree.items()}
    for g in slopes:
        found = optimizer.apply({name: array_of(backend, g) for name in tree}, found)
    cuts = (3, 6) if parts == 3 else (6, 8)
    blocks = [np.split(x, cuts, axis) for x in (start, *slopes)]
    alone = [
        stepped(backend, first, [b[k] for b in blocks[1:]], outputs=outputs)
        for k, first in enumerate(blocks[0])
    ]
    require_equal(backend, backend.read([found["attention/qkv"]])[0], np.concatenate(alone, axis))
    whole = stepped(backend, start, slopes, outputs=outputs)
    require_equal(backend, backend.read([found["out"]])[0], whole)


@pytest.mark.parametrize("steps", [8, 11])
def test_polar_express_ends_with_singular_values_of_1(steps: int) -> None:
    """All from a thousandth of the norm on, against a decomposition by LAPACK."""
    u, v = (np.linalg.qr(RNG.normal(size=(48, 48)))[0] for _ in range(2))
    s = np.geomspace(1.2e-3, 1.0, 48)
    s[1:] *= np.sqrt((1 - s[-1] ** 2 * 0.5) / np.sum(s**2))
    g = u * (s / np.linalg.norm(s)) @ v
    settings = {"momentum": 0.0, "scaling": "none", "ns_steps": steps}
    step = -ao.Muon(lr=1.0, ns_schedule="polar_express", **settings).apply(g, np.zeros((48, 48)))
    assert np.abs(np.linalg.svd(step)[1] - 1).max() < 0.01
    np.testing.assert_allclose(step, u @ v, atol=0.02)
    step = -ao.Muon(lr=1.0, **settings).apply(g, np.zeros((48, 48)))
    assert np.abs(np.linalg.svd(step)[1] - 1).max() > 0.1


def test_a_triple_for_each_iteration(backend: TestBackend) -> None:
    """They are taken one after the other, and the last goes on."""
    start, slopes = drawn(6, 4, dtype=np.float64)
    g = slopes[0]
    x = g / np.linalg.norm(g)
    triples = [(3.0, -3.0, 1.0), (1.5, -0.5, 0.0)]
    for a, b, c in [triples[0], triples[1], triples[1]]:
        x = a * x + b * x @ x.T @ x + c * x @ x.T @ x @ x.T @ x
    settings = {"ns_schedule": triples, "ns_steps": 3, "scaling": "none", "momentum": 0.0}
    found = ao.Muon(lr=1.0, epsilon=0.0, **settings).apply(
        array_of(backend, g), array_of(backend, start)
    )
    kind = {"jax": 1e-5, "mlx": 1e-5}.get(backend.name, 1e-13)
    np.testing.assert_allclose(backend.read([found])[0], start - x, rtol=kind, atol=kind)
    same = stepped(backend, start, slopes, ns_schedule=[(3.4445, -4.775, 2.0315)])
    np.testing.assert_allclose(same, stepped(backend, start, slopes), rtol=1e-6, atol=1e-7)


def in_sixteen_bits(x: np.ndarray, factors: tuple[float, float, float], steps: int) -> np.ndarray:
    """Return what the iteration makes of a wide matrix, each product rounded to bfloat16 once."""
    ml_dtypes = pytest.importorskip("ml_dtypes")

    def rounded(y: np.ndarray) -> np.ndarray:
        return y.astype(ml_dtypes.bfloat16).astype(np.float32)

    (a, b, c), x = factors, rounded(x)
    x = rounded(x / rounded(np.sqrt(np.sum(x * x))))
    for _ in range(steps):
        s = rounded(x @ x.T)
        x = rounded(a * x + rounded(b * s + c * (s @ s)) @ x)
    return x


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_iterations_in_bfloat16(dtype: str, backend: TestBackend) -> None:
    """All libraries round in the same places; one of ten thousand numbers may fall elsewhere."""
    start, slopes = drawn(8, 20, dtype=dtype)
    settings = {"scaling": "none", "ns_dtype": "bfloat16", "nesterov": False}
    found = stepped(backend, start, slopes[:1], **settings)
    wanted = in_sixteen_bits(np.asarray(slopes[0] * 0.05, np.float32), (3.4445, -4.775, 2.0315), 5)
    np.testing.assert_allclose(found, start * 0.99 - 0.1 * wanted, rtol=0, atol=2e-4)
    exact = stepped(backend, start, slopes[:1], **settings | {"ns_dtype": "compute"})
    assert 1e-4 < np.abs(found - exact).max() < 1e-2


@pytest.mark.parametrize("cls", [ao.Muon, ao.NorMuon, ao.AdaMuon])
def test_stacks_in_bfloat16(cls: Any, backend: TestBackend) -> None:
    """Each matrix of a stack is stepped as it is alone, and one of zeros stays."""
    start, slopes = drawn(3, 6, 5)
    for g in slopes:
        g[1] = 0.0
    whole, alone = (cls(lr=0.1, ns_dtype="bfloat16") for _ in range(2))
    p, single = array_of(backend, start), array_of(backend, start[2])
    for g in slopes:
        p = whole.apply(array_of(backend, g), p)
        single = alone.apply(array_of(backend, g[2]), single)
    found, wanted = backend.read([p])[0], backend.read([single])[0]
    np.testing.assert_allclose(found[2], wanted, rtol=0, atol=2e-3)
    np.testing.assert_array_equal(found[1], start[1])
    assert np.isfinite(found).all()
    with pytest.raises(ValueError, match="ns_dtype"):
        cls(ns_dtype="float16")


def test_the_table_of_polar_express() -> None:
    """Each polynomial is the best of its degree: its extremes have equal errors around 1."""
    low = 1e-3
    for a, b, c in POLAR_EXPRESS:
        x = np.linspace(low, 1.0 if low == 1e-3 else 2 - low, 20001)
        y = a * x + b * x**3 + c * x**5
        assert y.max() < 2.0 and y.min() >= low
        low = y.min()
    assert low > 0.99
    assert len(polar_express()) == 8 and polar_express()[-1] == POLAR_EXPRESS[-1]


@pytest.mark.parametrize(
    ("settings", "error", "said"),
    [
        ({"split": "qkv"}, TypeError, "must be a dict such as"),
        ({"split": {"*": 0}}, ValueError, "at least 1"),
        ({"split": {"*": "x"}}, TypeError, "must be a dict such as"),
        ({"split": {"*": ()}}, ValueError, "at least 1"),
        ({"split": {3: 3}}, TypeError, "must be a dict such as"),
        ({"ns_schedule": "polar"}, ValueError, '"polar_express", a sequence of triples'),
        ({"ns_schedule": []}, ValueError, "a sequence of triples"),
        ({"ns_schedule": [(1, 2)]}, TypeError, "a sequence of triples"),
        ({"ns_schedule": [(1, 2, float("nan"))]}, ValueError, "of finite numbers"),
        ({"ns_schedule": 3}, TypeError, "a sequence of triples"),
        ({"leading_axes": "all"}, ValueError, "'auto' or 'batch' or 'flatten'"),
    ],
)
def test_wrong_settings(settings: Any, error: type[Exception], said: str) -> None:
    """What was found and what was wanted is said at once."""
    with pytest.raises(error, match=said):
        ao.Muon(**settings)


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        (4, "'w' has 9 outputs, which do not split into 4 equal"),
        ((4, 4), r"blocks \(4, 4\) add up to 8"),
    ],
)
def test_parts_that_do_not_fit(parts: Any, said: str) -> None:
    """The parameter is named, and nothing has changed."""
    params = {"w": np.ones((9, 2))}
    with pytest.raises(ValueError, match=said):
        ao.Muon(split={"w": parts}).apply({"w": np.ones((9, 2))}, params)
    np.testing.assert_array_equal(params["w"], 1.0)


def test_configurations_and_files_keep_them(tmp_path: Any) -> None:
    """They come back as they were; a configuration without them means none."""
    settings = {"split": {"*qkv": (2, 1)}, "ns_schedule": [(1, 2, 3)], "leading_axes": "batch"}
    optimizer = ao.Muon(**settings)
    optimizer.apply({"qkv": np.ones((3, 2))}, {"qkv": np.ones((3, 2))})
    optimizer.save_weights(tmp_path / "m.h5")
    for again in (ao.load(tmp_path / "m.h5"), ao.Muon.from_config(optimizer.get_config())):
        assert again.split == (("*qkv", (2, 1)),)
        assert again.ns_schedule == ((1.0, 2.0, 3.0),)
        assert again.leading_axes == "batch"
    assert "split" not in ao.Muon().get_config()


# ---- which parameters Muon is for


def test_groups_of_a_tree() -> None:
    """Embeddings, heads, norms, biases and vectors go to the other optimizer."""
    shapes = {
        "wte": (9, 4),
        "blocks/0/ln_1/weight": (4, 4),
        "blocks/0/attention/kernel": (4, 4),
        "blocks/0/attention/heads.0/kernel": (4, 4),
        "blocks/0/mlp/bias": (4,),
        "blocks/[1]/mlp/kernel": (4, 4),
        "patch_embed/kernel": (2, 2, 3, 4),
        "lm_head/kernel": (4, 9),
        "final_norm/scale": (4,),
        "router/kernel": (4, 4),
    }
    params = {name: np.ones(shape) for name, shape in shapes.items()}
    (rest,) = groups = ao.muon_groups(params, "adam", adam=["router/*"])
    optimizer = ao.Muon(groups=groups)
    optimizer.init(params)
    by_muon = {p.split(" of ")[1] for p in _velocity(optimizer, params, False)}
    assert by_muon == {
        "blocks/0/attention/kernel",
        "blocks/0/attention/heads.0/kernel",
        "blocks/[1]/mlp/kernel",
    }
    assert len(rest.patterns) == 7
    assert ao.muon_groups({"a": np.ones((2, 2))}) == []
    found = ao.muon_groups(params, muon=["wte"])
    assert "wte" not in found[0].patterns


def _velocity(optimizer: Any, params: Any, there: bool) -> list[str]:
    """Return "slot of path" of parameters that have Adam's second slot, or have not."""
    from arrayoptim.step.session import session_of

    state = session_of(optimizer).state
    assert state is not None
    from arrayoptim.arrays.trees import plain

    rows = zip(state.leaves, state.slots, strict=True)
    return [f"x of {plain(leaf.path)}" for leaf, s in rows if leaf and ("velocity" in s) is there]


def test_wrong_groups() -> None:
    """What does not belong together is said."""
    params = {"a": np.ones((2, 2))}
    with pytest.raises(ValueError, match="'b' matches none of a"):
        ao.muon_groups(params, adam=["b"])
    with pytest.raises(TypeError, match="found lr; parameters that are no model of torch"):
        ao.muon_groups(params, lr=0.1)
    with pytest.raises(ValueError, match="found no parameters"):
        ao.muon_groups({})
