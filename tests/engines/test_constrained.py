"""Constraints by norms: the fused engines give what the array engine gives, to the last bit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import arrayoptim as ao
from arrayoptim import constraints as c
from arrayoptim.config.registry import CONSTRAINTS
from arrayoptim.numerics.sums import WIDTH, tile_height
from engine_cases import draw
from gpu_on_host import NumPyOnHost, compiler, launched
from optimizers_under_test import make, same

SHAPES = [(33, 50), (7,), (3, 3, 4, 5), (tile_height(9) + 5, 9), (3, WIDTH + 70), (1, 6), (0, 4)]

CASES: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {"momentum": 0.9, "constraint": c.MaxNorm(0.7)}),
    ("Adam", {"constraint": c.UnitNorm(-1), "weight_decay": 0.1, "l2": 0.01, "clipvalue": 0.5}),
    ("Adam", {"constraint": c.MinMaxNorm(0.5, 1.0, 0.25), "master": True, "ema_momentum": 0.9}),
    ("Lion", {"constraint": c.MaxNorm(0.7, -1), "kahan": True, "clipnorm": 0.5}),
    ("Adan", {"groups": [ao.group("2", constraint=c.MaxNorm(0.5, [0, 1, 2]))]}),
    ("Rprop", {"groups": [ao.group("2", constraint=c.UnitNorm([-1, 1, 2]))]}),
]

cases = pytest.mark.parametrize(
    ("name", "options"),
    [pytest.param(*case, marks=[pytest.mark.slow] * (k > 0)) for k, case in enumerate(CASES)],
    ids=lambda x: x if isinstance(x, str) else "",
)
on_host = pytest.mark.skipif(compiler() is None, reason="there is no C++ compiler")


def kinds(options: dict[str, Any]) -> list[str]:
    half = bool(options.keys() & {"master", "kahan"})
    return ["bfloat16" if half and k % 2 else ("float32", "float64")[k % 3 > 1] for k in range(7)]


def stepped(optimizer: Any, steps: int = 3) -> list[np.ndarray]:
    """Return parameters and weights after steps."""
    dtypes = kinds(optimizer.get_config() | dict(optimizer._hyper))
    pairs = list(zip(SHAPES, dtypes, strict=True))
    params = [draw(k, [s], d)[0] for k, (s, d) in enumerate(pairs)]
    for step in range(steps):
        grads = [draw(20 + 9 * step + k, [s], d)[0] for k, (s, d) in enumerate(pairs)]
        optimizer.apply(grads, params)
    return [*params, *optimizer.get_weights()]


def engines_of(optimizer: Any, shapes: Any = SHAPES) -> set[str]:
    params = [np.zeros(shape, np.float32) for shape in shapes]
    return {group.engine for group in ao.explain(params, optimizer).groups}


@cases
def test_cpu(name: str, options: dict[str, Any]) -> None:
    """In passes, on any number of threads."""
    with ao.engine("cpu"):
        found = stepped(make(name, **options, threads=2))
    with ao.engine("array"):
        same(found, stepped(make(name, **options)))


@on_host
@cases
def test_gpu(name: str, options: dict[str, Any], host: NumPyOnHost) -> None:
    """In three launches for those whose norms go the same way."""
    with ao.engine("gpu"):
        found = stepped(make(name, **options))
    with ao.engine("array"):
        same(found, stepped(make(name, **options)))


@on_host
def test_launches(host: NumPyOnHost) -> None:
    """As many for two matrices as for thirty; none waits."""
    for count in (2, 30):
        optimizer = make("SGD", momentum=0.9, constraint=c.MaxNorm(0.7))
        params = draw(1, [(5, 6)] * count, "float32")
        optimizer.apply(draw(2, [(5, 6)] * count, "float32"), params)
        names = [name.split("_")[0] for name in launched(host.devices)]
        assert names == ["totals1", "lines1", "stored"] and host.devices[0].waits == 0
        (group,) = ao.explain(params, optimizer).groups
        assert group.reason.startswith("3 kernels, one after another")


@on_host
def test_in_a_graph(host: NumPyOnHost) -> None:
    """A graph holds them, vectors and matrices together."""
    one, two = (make("Adam", lr=0.1, constraint=c.MaxNorm(0.7)) for _ in range(2))
    shapes = [(33, 50), (7,)]
    params, twin = draw(1, shapes, "float32"), draw(1, shapes, "float32")
    room = [np.zeros_like(p) for p in params]
    step = one.capture(params)
    with host.captured() as graph:
        step.apply(room)
    for k in range(3):
        grads = draw(5 + k, shapes, "float32")
        for to, g in zip(room, grads, strict=True):
            to[...] = g
        step.replay(graph)
        with ao.engine("array"):
            two.apply(grads, twin)
    same([*params, *one.get_weights()], [*twin, *two.get_weights()])
    assert host.devices[0].waits == 0


def test_norms_are_kept() -> None:
    """NaN and infinities reach just the rows that they belong to; zeros stay zero."""
    for engine in ("cpu", "array"):
        p = np.ones((4, 300), np.float32)
        g = np.zeros_like(p)
        g[1, 7], p[2] = np.nan, 0.0
        with ao.engine(engine):
            ao.SGD(lr=1.0, constraint=c.UnitNorm(axis=1)).apply(g, p)
        assert np.isnan(p[1]).all() and (p[2] == 0.0).all()
        np.testing.assert_allclose(p[[0, 3]], 1 / np.sqrt(300), rtol=1e-6)


@pytest.fixture
def own() -> Iterator[type[c.Constraint]]:
    """Yield a constraint of somebody's own, which a loop can do."""

    class Halved(c.Constraint):
        """Rows or columns that are too long, halved."""

        axis: Any = c._axes()

        def applied(self, p: Any, xp: Any) -> Any:
            squares = xp.sum(xp.square(p), axis=self.axis, keepdims=True)
            one = xp.ones_like(squares)
            return p * xp.where(squares > one, 0.5 * one, one)

    yield c.register(Halved)
    del CONSTRAINTS._classes["halved"]


def test_a_class_of_ones_own(own: type[c.Constraint]) -> None:
    """Whatever arithmetic and totals it has is compiled."""
    p, g = draw(1, [(40, 30)], "float32")[0], np.zeros((40, 30), np.float32)
    squares = np.square(p).astype(np.float64).sum(0, keepdims=True).astype(np.float32)
    p[:, 3] *= 1e-3
    squares[:, 3] *= 1e-6
    wanted = np.where(squares > 1.0, np.float32(0.5), np.float32(1.0)) * (p + 0.0)
    assert len(np.unique(squares > 1.0)) == 2
    optimizer = ao.SGD(lr=1.0, constraint=own(axis=0))
    assert engines_of(optimizer, [(40, 30)]) == {"cpu"}
    same([optimizer.apply(g, p)], [wanted])


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("LAMB", {"constraint": c.MaxNorm(0.7)}, "goes by norms of the new parameter"),
        ("Adam", {"constraint": c.MaxNorm(0.7), "cautious": True}, "norms of the new parameter"),
        ("Adam", {"constraint": c.MaxNorm(0.7, [0, 2])}, "norms of the new parameter"),
        ("Adam", {"constraint": c.MaxNorm(0.7), "state_dtype": "int8"}, "all of its bits"),
        (
            "Adam",
            {"constraint": c.MaxNorm(0.7), "cautious_decay": True, "weight_decay": 0.1},
            "norms of the new parameter",
        ),
    ],
)
def test_left_to_the_array_engine(name: str, options: dict[str, Any], words: str) -> None:
    """Steps with more between the rule and the norms, or whose norms go over axes in the middle."""
    params = draw(1, [(3, 4, 5)], "float32")
    grads, optimizer = draw(2, [(3, 4, 5)], "float32"), make(name, **options)
    (group,) = ao.explain(params, optimizer).groups
    assert group.engine == "array" and words in group.reason
    twin, other = [p.copy() for p in params], make(name, **options)
    optimizer.apply(grads, params)
    with ao.engine("array"):
        other.apply(grads, twin)
    same(params, twin)
    axes = options["constraint"].axis
    assert (np.sqrt((params[0] ** 2).sum(axes)) <= 0.7 * (1 + 1e-5)).all()
