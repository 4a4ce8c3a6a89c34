"""Sparse gradients: exact as a dense one with zeros, lazy as a step of the rows by themselves."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import arrayoptim as ao
from arrayoptim.numerics.rounding import GROUP
from backends import TestBackend
from optimizers_under_test import make, same

COUNT, WIDTH = 12, 5
STEPS = 4


def table(dtype: str = "float64", width: int = WIDTH) -> np.ndarray:
    """Return a parameter."""
    return np.random.default_rng(1).normal(size=(COUNT, width)).astype(dtype)


def drawn(step: int, dtype: str = "float64", width: int = WIDTH, rows: int = 6) -> Any:
    """Return indices, some of them several times, and rows."""
    rng = np.random.default_rng(40 + step)
    return rng.integers(0, COUNT - 2, rows), rng.normal(size=(rows, width)).astype(dtype)


def spread(indices: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return the dense form of a gradient."""
    new = np.zeros((COUNT, *rows.shape[1:]), rows.dtype)
    np.add.at(new, indices, rows)
    return new


def on(backend: TestBackend, indices: np.ndarray, rows: np.ndarray) -> ao.Rows:
    """Return a gradient of some library."""
    found = backend.convert(indices), backend.convert(rows)
    return ao.Rows(*found, (COUNT, *rows.shape[1:]))


def trained(optimizer: Any, dense: bool, dtype: str = "float64", width: int = WIDTH) -> list[Any]:
    """Return parameters and state after some steps on NumPy, of a table and of another array."""
    params = {"table": table(dtype, width), "bias": np.linspace(-1.0, 1.0, 7).astype(dtype)}
    for step in range(STEPS):
        indices, rows = drawn(step, dtype, width)
        g = spread(indices, rows) if dense else ao.Rows(indices, rows, params["table"].shape)
        optimizer.apply({"table": g, "bias": np.cos(params["bias"])}, params)
    return [*params.values(), *optimizer.get_weights()]


# ---- exact


def test_exact_is_the_dense_step(name: str, kwargs: dict[str, Any]) -> None:
    """Whatever the rule, to the last bit; so it is where nothing is said."""
    wanted = trained(make(name, **kwargs), dense=True)
    same(trained(make(name, sparse="exact", **kwargs), dense=False), wanted)
    same(trained(make(name, **kwargs), dense=False), wanted)


OPTIONS: list[dict[str, Any]] = [
    {"clipnorm": 0.5, "clipvalue": 0.2},
    {"clipnorm_per_tensor": 0.3},
    {"agc": 0.1},
    {"weight_decay": 0.1, "exclude": "bias"},
    {"l2": 0.1, "groups": [ao.group("bias", lr=0.5)]},
    {"ema_momentum": 0.9, "cautious": True},
    {"state_dtype": "int8"},
    {"state_dtype": "bfloat16", "stochastic_rounding": True},
    {"constraint": "maxnorm"},
    {"constraint": "nonneg"},
]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "-".join(o))
@pytest.mark.parametrize("name", ["SGD", "Adam"])
def test_exact_with_every_option(name: str, options: dict[str, Any]) -> None:
    found = trained(make(name, **options), dense=False, dtype="float32")
    wanted = trained(make(name, **options), dense=True, dtype="float32")
    if "clipnorm" not in "".join(options):
        same(found, wanted)
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-9)


def test_exact_where_a_zero_gradient_moves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the rows alone are stepped."""
    monkeypatch.setattr(ao.Rows, "dense", None)
    trained(make("Adagrad"), dense=False)
    for options in ({"l2": 0.1}, {"weight_decay": 0.1}, {"ema_momentum": 0.9}):
        with pytest.raises(TypeError):
            trained(make("Adagrad", **options), dense=False)
    with pytest.raises(TypeError):
        trained(make("Adam"), dense=False)


# ---- lazy


def by_themselves(optimizer: Any, dtype: str = "float64", width: int = WIDTH) -> list[Any]:
    """Return the same as `trained`, where each step takes the rows out and puts them back."""
    p, own = table(dtype, width), make(type(optimizer).__name__, **_own(optimizer))
    own.init(p)
    for step in range(STEPS):
        indices, rows = drawn(step, dtype, width)
        at = np.unique(indices)
        part = make(type(optimizer).__name__, **_own(optimizer))
        held, (count, *others) = p[at], own.get_weights()
        part.init(held)
        shaped = [w[at] if w.shape == p.shape else w for w in others]
        part.set_weights([count, *shaped])
        part.apply(spread(indices, rows)[at], held)
        p[at] = held
        new = []
        for old, w in zip([count, *others], part.get_weights(), strict=True):
            if old.shape == p.shape:
                old[at] = w
            new.append(old if old.shape == p.shape else w)
        own.set_weights(new)
    return [p, *own.get_weights()]


def _own(optimizer: Any) -> dict[str, Any]:
    return {**optimizer.get_config(), "sparse": None}


def alone(optimizer: Any, dtype: str = "float64", width: int = WIDTH) -> list[Any]:
    """Return a table and the state after some steps on NumPy."""
    p = table(dtype, width)
    for step in range(STEPS):
        optimizer.apply(ao.Rows(*drawn(step, dtype, width), p.shape), p)
    return [p, *optimizer.get_weights()]


@pytest.mark.parametrize("engine", ["array", "cpu"])
def test_lazy_is_a_step_of_the_rows(name: str, kwargs: dict[str, Any], engine: str) -> None:
    """Of every elementwise rule; all others are refused by name, and nothing has changed."""
    optimizer = make(name, sparse="lazy", **kwargs)
    if optimizer.rule.kind == "elementwise":
        with ao.engine(engine):
            same(alone(optimizer), by_themselves(optimizer))
        return
    p = table()
    with pytest.raises(ValueError, match=r'sparse="lazy" does not support.*sparse="exact"'):
        optimizer.apply(ao.Rows(*drawn(0), p.shape), p)
    assert optimizer.iterations == 0 and (p == table()).all()


LAZY: list[dict[str, Any]] = [
    {"clipnorm": 0.5, "clipvalue": 0.2, "weight_decay": 0.1},
    {"clipnorm_per_tensor": 0.3, "l2": 0.1},
    {"ema_momentum": 0.9, "constraint": "nonneg"},
    {"state_dtype": "bfloat16"},
]


@pytest.mark.parametrize("options", LAZY, ids=lambda o: "-".join(o))
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "complex64"])
def test_engines_agree(options: dict[str, Any], dtype: str) -> None:
    if dtype == "complex64" and "constraint" in options:
        return
    found = []
    for engine in ("array", "cpu"):
        with ao.engine(engine):
            found.append(trained(make("Adam", sparse="lazy", **options), False, dtype))
    same(*found)


@pytest.mark.parametrize("options", [{"kahan": True}, {"master": False}, {"master": True}])
def test_sixteen_bits(options: dict[str, Any]) -> None:
    """Masters and what rounding loses are of the rows too."""
    found = []
    for engine in ("array", "cpu"):
        with ao.engine(engine):
            found.append(trained(make("Adam", lr=1e-4, sparse="lazy", **options), False, "float16"))
    same(*found)
    assert (found[0][0][-2:] == table("float16")[-2:]).all()


def test_codes_of_eight_bits() -> None:
    """Rows of whole blocks are served, and give the bits of the same rows by themselves."""
    options = {"state_dtype": "int8", "sparse": "lazy"}
    found = []
    for engine in ("array", "cpu"):
        with ao.engine(engine):
            found.append(alone(make("Adam", **options), "float32", GROUP))
    same(*found)
    untouched = found[0][0][-2:]
    assert (untouched == table("float32", GROUP)[-2:]).all()
    wide = alone(make("Adam", sparse="lazy"), "float32", GROUP)[0]
    np.testing.assert_allclose(found[0][0], wide, atol=2e-4)
    with pytest.raises(ValueError, match=f"blocks of {GROUP} entries, and rows of {WIDTH}"):
        alone(make("Adam", **options), "float32")


def test_entries_in_the_place_of_rows() -> None:
    """Indices may count all axes of a parameter, in C order."""
    p, q = table(), table()
    at, values = np.array([3, 17, 3, 59]), np.arange(4.0)
    make("Adam", sparse="lazy").apply(ao.Rows(at, values, p.shape), p)
    whole = np.zeros(p.size)
    np.add.at(whole, at, values)
    make("Adam").apply(whole.reshape(p.shape), q)
    same([p], [q])


def test_orders_in_memory() -> None:
    """Other orders than C's are left to the array engine, where none else is asked for."""
    wanted = alone(make("Adam", sparse="lazy"))
    p = np.asfortranarray(table())
    optimizer = make("Adam", sparse="lazy")
    for step in range(STEPS):
        indices, rows = drawn(step)
        optimizer.apply(ao.Rows(indices, np.asfortranarray(rows)[:, ::1], p.shape), p)
    same([p], wanted[:1])
    with ao.engine("cpu"), pytest.raises(ValueError, match="rows are not contiguous"):
        optimizer.apply(ao.Rows(*drawn(0), p.shape), p)


def test_rows_that_lie_in_the_parameter() -> None:
    """They are read before they are written."""
    found = []
    for engine in ("array", "cpu"):
        p = table()
        with ao.engine(engine):
            make("SGD", lr=0.5).apply(ao.Rows(np.arange(1, 5), p[:4], p.shape), p)
        found.append(p)
    wanted = table()
    wanted[1:5] -= 0.5 * table()[:4]
    same(found, [wanted, wanted])


# ---- norms


@pytest.mark.parametrize("mode", ["exact", "lazy"])
@pytest.mark.parametrize("clip", ["clipnorm", "clipnorm_per_tensor"])
def test_norms_are_those_of_the_dense_gradient(mode: str, clip: str) -> None:
    """Of the rows when they have been added up."""
    p, q = ({"table": table(), "bias": np.ones(3)} for _ in range(2))
    indices, rows = np.array([4, 2, 4]), np.array([[3.0] * WIDTH, [1.0] * WIDTH, [-3.0] * WIDTH])
    bias = np.array([2.0, 0.0, 1.0])
    one, two = make("SGD", lr=1.0, sparse=mode, **{clip: 0.25}), make("SGD", lr=1.0, **{clip: 0.25})
    one.apply({"table": ao.Rows(indices, rows, p["table"].shape), "bias": bias}, p)
    two.apply({"table": spread(indices, rows), "bias": bias}, q)
    for key in p:
        np.testing.assert_allclose(p[key], q[key], rtol=1e-14)
    report, wanted = one.last_step, two.last_step
    np.testing.assert_allclose(report.global_norm, np.sqrt(WIDTH + 5.0), rtol=1e-15)
    np.testing.assert_allclose(report.tensor_norms or 0, wanted.tensor_norms or 0, rtol=1e-15)
    gradient = ao.Rows(indices, rows, p["table"].shape)
    np.testing.assert_allclose(ao.global_norm([gradient, bias]), report.global_norm, rtol=1e-15)


def test_infinite_rows() -> None:
    """They are found, as entries of a dense gradient are."""
    p, bad = table(), np.full((1, WIDTH), np.inf)
    optimizer = make("Adam", sparse="lazy", nonfinite="skip")
    optimizer.apply(ao.Rows(np.array([3]), bad, p.shape), p)
    assert optimizer.skipped == 1 and (p == table()).all()
    assert optimizer.last_step.nonfinite == WIDTH


def test_gradients_too_large_for_float32() -> None:
    p, q = table("float32"), table("float32")
    rows = np.full((1, WIDTH), 1e60)
    make("SGD", lr=1.0, clipnorm=1.0).apply(ao.Rows(np.array([3]), rows, p.shape), p)
    make("SGD", lr=1.0, clipnorm=1.0).apply(spread(np.array([3]), rows), q)
    np.testing.assert_allclose(p, q, rtol=1e-6)


# ---- every library, and what is around a step


@pytest.mark.parametrize("mode", ["exact", "lazy"])
def test_every_library(backend: TestBackend, mode: str) -> None:
    """Gives NumPy's numbers, duplicates and untouched rows included."""
    wanted = alone(make("Adam", sparse=mode, clipnorm=0.5), "float32")
    optimizer, p = make("Adam", sparse=mode, clipnorm=0.5), backend.convert(table("float32"))
    for step in range(STEPS):
        p = optimizer.apply(on(backend, *drawn(step, "float32")), p)
    np.testing.assert_allclose(backend.to_numpy(p), wanted[0], rtol=1e-5, atol=1e-6)
    for a, b in zip(optimizer.get_weights(), wanted[1:], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("mode", ["exact", "lazy"])
def test_pure_form(backend: TestBackend, mode: str) -> None:
    """Is the same step, and changes nothing."""
    optimizer, p = make("Adam", sparse=mode), backend.convert(table("float32"))
    before, state = backend.to_numpy(p).copy(), optimizer.init_state(p)
    for step in range(STEPS):
        new, state = optimizer.stateless_apply(state, on(backend, *drawn(step, "float32")), p)
        assert (backend.to_numpy(p) == before).all()
        p, before = new, backend.to_numpy(new).copy()
    np.testing.assert_allclose(
        before, alone(make("Adam", sparse=mode), "float32")[0], rtol=1e-5, atol=1e-6
    )


def test_resumes(tmp_path: Path) -> None:
    """A lazy run that was saved goes on as if it had not stopped; the mode is in the file."""
    wanted = alone(make("Adam", sparse="lazy"))
    p, optimizer = table(), make("Adam", sparse="lazy")
    for step in range(STEPS):
        if step == 2:
            optimizer.save_weights(tmp_path / "state.h5")
            optimizer = ao.load(tmp_path / "state.h5")
            assert optimizer.sparse == "lazy"
        optimizer.apply(ao.Rows(*drawn(step), p.shape), p)
    same([p, *optimizer.get_weights()], wanted)


def test_wrappers() -> None:
    """Each steps as with dense gradients, or says what it cannot do."""
    for wrap in (ao.GradientAccumulation, ao.Lookahead, ao.LossScale):
        found, wanted = (trained(wrap(make("Adam")), dense) for dense in (False, True))
        same(found, wanted)
    with pytest.raises(ValueError, match="what is gathered is dense"):
        trained(ao.GradientAccumulation(make("Adam", sparse="lazy")), dense=False)
    p = table()
    ao.Lookahead(make("Adam", sparse="lazy")).apply(ao.Rows(*drawn(0), p.shape), p)
    assert (p[-2:] == table()[-2:]).all() and (p != table()).any()
    found = []
    for dense in (False, True):
        q, sam = table(), ao.SAM(make("Adam"), rho=0.5)
        indices, rows = drawn(0)
        g = spread(indices, rows) if dense else ao.Rows(indices, rows, q.shape)
        sam.apply(g, sam.ascend(g, q))
        found.append(q)
    np.testing.assert_allclose(*found, rtol=1e-12)


def test_updates_and_gradients_of_a_loss() -> None:
    """What a loss gives as rows is clipped, listed and carried out like any gradient."""
    indices, rows = drawn(0)

    def loss(p: Any) -> Any:
        return 0.0, ao.Rows(indices, rows, p.shape)

    one, two = make("Adam", sparse="lazy", clipnorm=0.5), make("Adam", sparse="lazy", clipnorm=0.5)
    p, q = table(), table()
    g = one.get_gradients(loss, p)
    assert isinstance(g, ao.Rows)
    np.testing.assert_allclose(np.linalg.norm(g.rows), 0.5, rtol=1e-14)
    one.init(p)
    one.apply_updates(one.get_updates(p, loss))
    two.minimize(loss, q)
    same([p, *one.get_weights()], [q, *two.get_weights()])


def test_frozen_and_missing() -> None:
    """Frozen parameters stay, and None leaves a parameter alone."""
    params = {"a": table(), "b": table(), "c": table()}
    optimizer = make("Adam", sparse="lazy", groups=[ao.group("a", freeze=True)])
    g = ao.Rows(*drawn(0), (COUNT, WIDTH))
    optimizer.apply({"a": g, "b": g, "c": None}, params)
    assert (params["a"] == table()).all() and (params["c"] == table()).all()
    assert (params["b"] != table()).any()


def test_no_rows() -> None:
    """A batch without any is a step all the same."""
    p, optimizer = table(), make("Adam", sparse="lazy")
    optimizer.apply(ao.Rows(np.zeros(0, int), np.zeros((0, WIDTH)), p.shape), p)
    assert optimizer.iterations == 1 and (p == table()).all()


# ---- bad input


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"agc": 0.1}, "agc"),
    ({"constraint": "maxnorm"}, "MaxNorm"),
    ({"cautious": True}, "cautious"),
    ({"state_dtype": "bfloat16", "stochastic_rounding": True}, "stochastic_rounding"),
]


@pytest.mark.parametrize(("options", "word"), REFUSED, ids=[word for _, word in REFUSED])
def test_refused_by_name(options: dict[str, Any], word: str) -> None:
    p, optimizer = {"emb": table("float32")}, make("Adam", sparse="lazy", **options)
    with pytest.raises(ValueError, match=f"parameter 'emb': .*{word}"):
        optimizer.apply({"emb": ao.Rows(*drawn(0, "float32"), (COUNT, WIDTH))}, p)
    assert optimizer.iterations == 0 and (p["emb"] == table("float32")).all()


@pytest.mark.parametrize(
    ("indices", "rows", "shape", "error", "words"),
    [
        (np.zeros(2), np.zeros((2, 5)), (12, 5), TypeError, "indices of float64"),
        ([0, 1], np.zeros((2, 5)), (12, 5), TypeError, "list for indices"),
        (np.zeros(2, int), np.zeros((2, 4)), (12, 5), ValueError, r"\(2, 4\).*\(12, 5\)"),
        (np.zeros(3, int), np.zeros((2, 5)), (12, 5), ValueError, r"\(3,\)"),
        (np.zeros(2, int), np.zeros((2, 3, 5)), (12, 5), ValueError, "last axes"),
        (np.zeros((2, 1), int), np.zeros((2, 5)), (12, 5), ValueError, "one index for"),
    ],
)
def test_rows_that_do_not_fit(
    indices: Any, rows: Any, shape: Any, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        ao.Rows(indices, rows, shape)


@pytest.mark.parametrize("mode", ["exact", "lazy"])
def test_gradients_that_do_not_fit(mode: str) -> None:
    """The parameter is named, and nothing has changed."""
    rows = np.ones((1, WIDTH))
    p, optimizer = {"emb": table()}, make("Adam", sparse=mode)
    for g, words in (
        (ao.Rows(np.array([COUNT]), rows, (COUNT, WIDTH)), rf"row {COUNT} of {COUNT}"),
        (ao.Rows(np.array([-1]), rows, (COUNT, WIDTH)), "row -1"),
        (ao.Rows(np.array([0]), rows, (COUNT + 1, WIDTH)), "gradient of parameter 'emb'"),
    ):
        with pytest.raises(ValueError, match=words):
            optimizer.apply({"emb": g}, p)
    with pytest.raises(TypeError, match="int64"):
        optimizer.apply({"emb": ao.Rows(np.array([0]), rows.astype(int), (COUNT, WIDTH))}, p)
    assert optimizer.iterations == 0 and (p["emb"] == table()).all()
    with pytest.raises(TypeError, match="Rows"):
        optimizer.apply(p, {"emb": ao.Rows(np.array([0]), rows, (COUNT, WIDTH))})
    with pytest.raises(ValueError, match="sparse"):
        make("Adam", sparse="sometimes")


def test_matrices_of_scipy() -> None:
    """They are no arrays; the message names what is."""
    matrices = pytest.importorskip("scipy.sparse")
    with pytest.raises(TypeError, match=r"as arrayoptim\.Rows"):
        make("Adam").apply(matrices.eye(3).tocsr(), np.ones((3, 3)))


# ---- the sparse arrays of libraries


@pytest.mark.needs("torch")
@pytest.mark.parametrize("dims", [1, 2])
def test_tensors_in_coordinates(dims: int) -> None:
    """Of torch, with rows or with entries, added up or not; other layouts are refused."""
    import torch

    rng = np.random.default_rng(3)
    at = np.stack([rng.integers(0, n, 6) for n in (COUNT, WIDTH)[:dims]])
    values = rng.normal(size=(6, *(WIDTH,) * (2 - dims)))
    found = torch.sparse_coo_tensor(
        torch.tensor(at), torch.tensor(values), (COUNT, WIDTH), check_invariants=True
    )
    p, q = torch.tensor(table()), torch.tensor(table())
    theirs = torch.optim.SparseAdam([q.requires_grad_()], lr=0.1)
    optimizer = make("Adam", lr=0.1, epsilon=1e-8, sparse="lazy")
    for _ in range(3):
        optimizer.apply(found, p)
        q.grad = found
        theirs.step()
    torch.testing.assert_close(p, q.detach(), rtol=1e-12, atol=1e-12)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch, that this layout is new
        other = found.to_dense().to_sparse_csr()
    with pytest.raises(ValueError, match="coordinate"):
        optimizer.apply(other, p)


@pytest.mark.needs("jax")
@pytest.mark.parametrize("mode", ["exact", "lazy"])
def test_coordinates_of_jax(mode: str) -> None:
    """They go through `jax.jit`, as many rows as there are; what pads them is passed over."""
    import jax
    import jax.numpy as jnp
    from jax.experimental.sparse import BCOO

    indices, rows = drawn(0, "float32")
    padded = jnp.asarray([*indices, COUNT])[:, None]
    g = BCOO((jnp.asarray([*rows, rows[0]]), padded), shape=(COUNT, WIDTH))
    p, optimizer = jnp.asarray(table("float32")), make("Adam", sparse=mode, clipnorm=0.5)
    new, _ = jax.jit(optimizer.stateless_apply)(optimizer.init_state(p), g, p)
    q = table("float32")
    make("Adam", sparse=mode, clipnorm=0.5).apply(ao.Rows(indices, rows, q.shape), q)
    np.testing.assert_allclose(new, q, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(optimizer.apply(g, p), q, rtol=1e-5, atol=1e-6)
