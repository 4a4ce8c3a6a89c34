"""Matrices that are decomposed now and then: when they are, and what nothing may depend on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import arrayoptim as ao
from backends import TestBackend
from optimizers_under_test import NAMES, cls_of, draw, make

EVERY = [name for name in NAMES if hasattr(cls_of(name), "precondition_frequency")]
SQUARE = [(3, 3), (3, 3)]


def run(opt: Any, backend: TestBackend, rows: list[list[Any]], shapes: Any = SQUARE) -> Any:
    """Return the parameters after each step."""
    params, path = backend.tree(draw(0, shapes)), []
    for row in rows:
        params = opt.apply([None if g is None else backend.asarray(g) for g in row], params)
        path.append(backend.read(params))
    return path


@pytest.mark.parametrize("name", EVERY)
def test_decomposed_where_it_is_due(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In no other step; once for both sides of all matrices of a stack."""
    calls: list[str] = []

    def counted(function: Any) -> Any:
        def call(x: Any) -> Any:
            calls.append(function.__name__)
            return function(x)

        return call

    for function in (np.linalg.eigh, np.linalg.qr):
        monkeypatch.setattr(np.linalg, function.__name__, counted(function))
    opt, params, found = make(name, precondition_frequency=3), draw(0, SQUARE), []
    for step in range(7):
        calls.clear()
        opt.apply(draw(step, SQUARE), params)
        found.append(calls.count("eigh") or calls.count("qr"))
    assert found == [2, 0, 0, 2, 0, 0, 2]
    if name == "SOAP":
        assert set(calls) == {"qr"}


def test_compiled_steps_branch() -> None:
    """JAX carries out one of the two as well, and does not choose between two results."""
    jax = pytest.importorskip("jax")
    for name in EVERY:
        opt, p = make(name), jax.numpy.ones((3, 2))
        text = str(jax.make_jaxpr(opt.stateless_apply)(opt.init_state(p), p, p))
        assert "cond[" in text and "eigh" in text.partition("cond[")[2], name


@pytest.mark.parametrize("name", EVERY)
def test_a_gradient_that_comes_late(name: str, backend: TestBackend) -> None:
    """Its matrix begins to move with the next step that is due, beside one that went on."""
    rows = [draw(step, SQUARE) for step in range(1, 8)]
    late = [[a, None if step < 2 else b] for step, (a, b) in enumerate(rows)]
    both = run(make(name, precondition_frequency=4), backend, rows)
    path = run(make(name, precondition_frequency=4), backend, late)
    moved = [not np.array_equal(x[1], draw(0, SQUARE)[1]) for x in path]
    # What begins with the statistics of a step takes that step itself, or the next.
    assert moved in ([step >= start for step in range(7)] for start in (4, 5))
    for a, b in zip(both, path, strict=True):
        np.testing.assert_allclose(a[0], b[0], rtol=1e-9)


@pytest.mark.parametrize("name", EVERY)
def test_what_is_not_finite(name: str, backend: TestBackend) -> None:
    """It makes its own matrix NaN, raises nothing, and leaves the others alone."""
    for bad in (np.nan, np.inf, 1e200):  # the last one has an infinite square
        rows = [draw(step, SQUARE) for step in range(1, 5)]
        wanted = run(make(name, precondition_frequency=1), backend, rows)
        rows[0][0][0, 1] = bad
        path = run(make(name, precondition_frequency=1), backend, rows)
        assert np.isnan(path[-1][0]).all(), path[-1][0]
        np.testing.assert_allclose(path[-1][1], wanted[-1][1], rtol=1e-9)


def test_eigenvalues_that_rounding_makes_negative() -> None:
    """They have a root all the same."""
    (x,), opt = draw(0, [(30,)]), make("Shampoo", epsilon=1e-40)
    assert np.isfinite(opt.apply(np.outer(x, x), np.zeros((30, 30)))).all()


def test_signs_of_eigenvectors_make_no_difference() -> None:
    """Turned round in the state, they leave the path as it is."""
    params = draw(0, [(3, 4)])
    opt = make("SOAP", precondition_frequency=2)
    for step in range(5):
        opt.apply(draw(step, [(3, 4)]), params)
    other, turned = make("SOAP", precondition_frequency=2), [np.array(p) for p in params]
    other.init(turned)
    *rest, rows, columns = opt.get_weights()
    signs = np.array([1.0, -1.0, -1.0, 1.0])
    other.set_weights([*rest, rows * signs[:3], columns * signs])
    for step in range(5, 10):
        opt.apply(draw(step, [(3, 4)]), params)
        other.apply(draw(step, [(3, 4)]), turned)
    np.testing.assert_allclose(turned[0], params[0], rtol=1e-12)


@pytest.mark.parametrize("name", EVERY)
def test_long_sides(name: str) -> None:
    """They have no statistics; a matrix with two of them has the rule of vectors."""
    opt, shapes = make(name, max_precondition_dim=3), [(3, 5), (4, 2), (4, 5), (2, 2, 2)]
    opt.apply(draw(1, shapes), draw(0, shapes))
    slots = opt.rule.slots
    for shape, rows, columns in [((3, 5), 3, 0), ((4, 2), 0, 2), ((2, 2, 2), 2, 0)]:
        found = opt.rule_for("", shape).slot_shapes(shape)
        for slot in slots:
            n = rows if slot.startswith("row") else columns
            assert found[slot] == (shape if slot in slots[:-4] else (n, n))
    assert opt.rule_for("", (4, 5)) is opt.rule_for("", (4,))


def test_renewals_follow_a_schedule() -> None:
    """The number of steps between them is no part of the rule."""
    frequency = ao.schedules.PiecewiseConstantDecay([4], [1, 2])
    a, b = make("SOAP", precondition_frequency=frequency), make("SOAP", precondition_frequency=1)
    assert a.rule is b.rule
    p, q = draw(0, SQUARE), draw(0, SQUARE)
    for step in range(5):
        a.apply(draw(step, SQUARE), p)
        b.apply(draw(step, SQUARE), q)
    np.testing.assert_array_equal(p, q)
