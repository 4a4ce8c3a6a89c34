"""The tutorial's file, as a user's program has it: it gets all that the library's own have."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import arrayoptim as ao
from arrayoptim.config.registry import OPTIMIZERS
from arrayoptim.engines.gpu.sweep import sweep_program
from arrayoptim.rules.grammar import grammar_errors
from arrayoptim.testing import check_optimizer
from backends import NUMPY
from optimizers_under_test import draw, same
from places import ROOT

EXAMPLES = ROOT / "docs" / "examples"


@pytest.fixture
def laprop(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Import the file, and let go of it afterwards."""
    monkeypatch.setattr(OPTIMIZERS, "_classes", dict(OPTIMIZERS._classes))
    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.delitem(sys.modules, "laprop", raising=False)
    import laprop

    yield laprop.LaProp
    sys.modules.pop("laprop", None)


def test_it_is_short() -> None:
    assert len((EXAMPLES / "laprop.py").read_text().splitlines()) <= 40


def test_it_conforms(laprop: Any) -> None:
    check_optimizer(laprop)


def test_it_is_what_the_paper_says(laprop: Any) -> None:
    """Three steps in plain floats."""
    opt, p, m, v, x = laprop(lr=0.1), np.array([2.0]), 0.0, 0.0, 2.0
    for t, g in enumerate((0.5, -3.0, 1.0), 1):
        opt.apply(np.array([g]), p)
        v = 0.999 * v + 0.001 * g * g
        m = 0.9 * m + 0.1 * g / ((v / (1 - 0.999**t)) ** 0.5 + 1e-15)
        x -= 0.1 * m / (1 - 0.9**t)
        assert p[0] == pytest.approx(x, rel=1e-12)


def test_engines(laprop: Any) -> None:
    """The fused loop gives the bits of the array engine; the kernel for GPUs can be printed."""
    results = []
    for engine in ("array", "cpu"):
        opt, params = laprop(clipnorm=0.5, weight_decay=0.1), NUMPY.tree(draw(0), "float32")
        with ao.engine(engine):
            for step in range(3):
                opt.apply(NUMPY.tree(draw(1 + step), "float32"), params)
        results.append([*params, *opt.get_weights()])
    same(*results)
    streams = [(name, "float32") for name in ("g", "p", "s0", "s1")]
    assert "laprop" in sweep_program(laprop().rule, (), streams, "float32").name


def test_files(laprop: Any, tmp_path: Path) -> None:
    """A file names the class, and a resumed run is the uninterrupted one."""
    opt, params = laprop(), NUMPY.tree(draw(0))
    opt.apply(NUMPY.tree(draw(1)), params)
    opt.save_weights(tmp_path / "state.h5")
    again, copy = ao.load(tmp_path / "state.h5"), [p.copy() for p in params]
    assert type(again) is laprop
    opt.apply(NUMPY.tree(draw(2)), params)
    again.apply(NUMPY.tree(draw(2)), copy)
    same(params, copy)
    assert ao.deserialize(ao.serialize(opt)).get_config() == opt.get_config()


@pytest.mark.needs("torch")
def test_torch(laprop: Any) -> None:
    """It is an optimizer of torch, and steps as on arrays."""
    import torch

    p, q = torch.nn.Parameter(torch.ones(3)), np.ones(3, np.float32)
    opt, other = ao.torch.LaProp([p], lr=0.1), laprop(lr=0.1)
    for step in range(3):
        grad = draw(step, [(3,)])[0].astype(np.float32)
        p.grad = torch.tensor(grad)
        opt.step()
        other.apply(grad, q)
    same([p.detach().numpy()], [q])


# ---- what a first rule gets wrong


def test_a_forgotten_slot_is_named() -> None:
    with pytest.raises(TypeError, match=r"rule heavy: line 4: found no tuple, wanted a tuple of 2"):

        @ao.rule(slots=("momentum",))
        def heavy(p, g, m, lr, mu, xp):
            m = mu * m - lr * g
            return p + m

    with pytest.raises(TypeError, match=r"rule three: line 3: found 3 values, wanted a tuple of 2"):

        @ao.rule(slots=("momentum",))
        def three(p, g, m, lr, xp):
            return p - lr * g, m, g


def test_one_value_is_a_tuple_too() -> None:
    with pytest.raises(TypeError, match=r"rule bare: line 3: found no tuple, wanted a tuple of 1"):

        @ao.rule(slots=())
        def bare(p, g, lr, xp):
            return p - lr * g


def test_an_undefined_name_is_named() -> None:
    with pytest.raises(TypeError, match=r"rule typing: line 3: the name 'mn' is not defined"):

        @ao.rule(slots=("momentum",))
        def typing(p, g, m, lr, mu, xp):
            m = mu * mn - lr * g  # noqa: F821
            return p + m, m


def test_directions_and_measures_are_read_too() -> None:
    def turned(p, g, m, xp):
        return g

    def measured(p, g, m, xp):
        return sqrt(p), g  # noqa: F821

    def step(p, g, m, lr, xp):
        return p - lr * g, m

    with pytest.raises(TypeError, match="direction: line 2: found no tuple, wanted a tuple of 2"):
        ao.rule(slots=("momentum",), direction=turned)(step)
    with pytest.raises(TypeError, match="measure: line 2: the name 'sqrt' is not defined"):
        ao.rule(slots=("momentum",), measure=measured, norms=("a", "b"))(step)


def test_a_lambda_is_no_rule() -> None:
    with pytest.raises(TypeError, match="found a lambda, wanted a function defined by def"):
        ao.rule(slots=())(lambda p, g, lr, xp: (p - lr * g,))


def test_without_its_text_a_rule_is_taken_as_it_is() -> None:
    scope: dict[str, Any] = {}
    exec("def plain(p, g, lr, xp):\n    return (p - lr * g,)", scope)
    assert ao.rule(slots=())(scope["plain"]).coefficients == ("lr",)


def test_helpers_of_matrix_rules_may_come_later() -> None:
    @ao.rule(slots=("momentum",), kind="matrix")
    def whole(p, g, m, lr, xp):
        return later(p, g, m, lr)

    def later(p: Any, g: Any, m: Any, lr: Any) -> Any:
        return p - lr * g, m

    assert whole.coefficients == ("lr",)


BASE = 1e-8


def test_a_number_of_the_module_is_no_coefficient() -> None:
    @ao.rule(slots=())
    def based(p, g, lr, xp):
        return (p - lr * g / (xp.abs(g) + BASE),)

    assert grammar_errors(based) == ["line 3: BASE is not a local variable; make it a coefficient"]


@ao.rule(slots=())
def plain(p, g, lr, xp):
    return (p - lr * g,)


class Plain(ao.Optimizer):
    lr: float = ao.hyper(default=0.1, interval="[0, inf)", doc="Step size.")
    rule = plain

    def coefficients(self, h: Any, it: Any, scalars: Any, xp: Any) -> Any:
        return {"lr": h.lr}


def test_a_missing_coefficient_is_named() -> None:
    class Renamed(Plain):
        def coefficients(self, h: Any, it: Any, scalars: Any, xp: Any) -> Any:
            return {"rate": h.lr}

    class Lost(Plain):
        def coefficients(self, h: Any, it: Any, scalars: Any, xp: Any) -> Any:
            {"lr": h.lr}  # noqa: B018

    class Counting(Plain):
        def initial_scalars(self) -> dict[str, float]:
            return {"product": 1.0}

    words = r"Renamed.coefficients: found rate, wanted 'lr' too, for the rule plain"
    for step in (
        lambda opt, p: opt.apply(p, p),
        lambda opt, p: opt.stateless_apply(opt.init_state(p), p, p),
    ):
        with pytest.raises(ValueError, match=words):
            step(Renamed(), np.ones(2))
        with pytest.raises(TypeError, match=r"Lost.coefficients: found None, wanted a dict"):
            step(Lost(), np.ones(2))
        with pytest.raises(ValueError, match="wanted 'product' too, for its scalar state"):
            step(Counting(), np.ones(2))


@ao.rule(slots=())
def hyperbolic(p, g, lr, xp):
    return (p - lr * xp.sinh(g),)


def test_a_rule_that_no_loop_can_be_made_of_is_named() -> None:
    class Hyperbolic(Plain):
        rule = hyperbolic

    p = np.ones(3)
    with ao.engine("array"):
        Hyperbolic().apply(np.zeros(3), p)
    words = r"rule hyperbolic: no loop can be compiled of it: .*'sinh'; .*check_optimizer says"
    with ao.engine("cpu"), pytest.raises(TypeError, match=words):
        Hyperbolic().apply(np.zeros(3), p)
    assert np.array_equal(p, np.ones(3))
