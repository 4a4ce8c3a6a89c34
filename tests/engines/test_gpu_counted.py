"""Numbers of steps that a kernel computes from counts on the device, on the host."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import arrayoptim as ao
from arrayoptim.arrays.trees import flatten
from arrayoptim.config.hyper import bias_correction
from arrayoptim.engines.gpu.counter import counter_program
from arrayoptim.numerics.formulas import FORMULAS, Cell, Number, UnwritableError
from arrayoptim.step.counted import Counted
from arrayoptim.step.session import session_of
from engine_cases import draw
from gpu_on_host import HostDevice, NumPyOnHost, compiler
from optimizers_under_test import fused, make, same

pytestmark = pytest.mark.skipif(compiler() is None, reason="there is no C++ compiler")

SHAPES = [(5, 3), (4,), (), (2, 6)]


def counted(optimizer: Any, params: list[Any]) -> tuple[Counted, list[list[np.ndarray]]]:
    """Return the steps of an optimizer, and the state that they are counted in."""
    leaves, structure = flatten(params)
    session = session_of(optimizer)
    scalars = session.ready(leaves, structure).scalars
    held = [[np.array(x) for x in (0.0, *scalars.values())] for _ in params]
    return Counted(session, leaves, structure, held), held


def stepped(optimizer: Any, steps: int, missing: Any = ()) -> tuple[list[Any], list[list[Any]]]:
    """Return parameters and slots, and the counted state, after steps."""
    params = draw(1, SHAPES, "float32")
    steps_of, held = counted(optimizer, params)
    for step in range(steps):
        grads: list[Any] = draw(10 + step, SHAPES, "float32")
        for k in missing:
            grads[k] = None
        steps_of.step(grads, {})
    state = session_of(optimizer).state
    assert state is not None
    return [*params, *(x for slots in state.slots for x in slots.values())], held


def plain(optimizer: Any, steps: int) -> list[Any]:
    """Return parameters and slots after steps whose numbers the host computes."""
    params = draw(1, SHAPES, "float32")
    with ao.engine("array"):
        for step in range(steps):
            optimizer.apply(draw(10 + step, SHAPES, "float32"), params)
    state = session_of(optimizer).state
    return [*params, *(x for slots in state.slots for x in slots.values())]


def test_every_optimizer(name: str, host: NumPyOnHost) -> None:
    """Bits and scalar state are those of the host."""
    options = {"weight_decay": 0.1, "clipvalue": 0.5}
    options |= {"decay": 0.1} if "decay" in ao.get(name).hyperparameters else {}
    one, two = make(name, **options), make(name, **options)
    if not fused(name, "gpu") or one.rule.totals:
        with pytest.raises(ValueError, match=r"no loop over elements|needs the host"):
            counted(one, draw(1, SHAPES, "float32"))
        return
    found, held = stepped(one, 4)
    same(found, plain(two, 4))
    wanted = [4.0, *session_of(two).state.scalars.values()]
    assert [[float(x) for x in row] for row in held] == [wanted] * len(SHAPES)


def test_groups(host: NumPyOnHost) -> None:
    """Tensors of several groups have formulas of their own."""
    options: dict[str, Any] = {"lr": 0.1, "weight_decay": 0.1, "exclude": ["3"]}
    options["groups"] = [ao.group("0", lr=0.5), ao.group("[12]", beta_1=0.5, epsilon=1e-3)]
    same(stepped(make("Adam", **options), 3)[0], plain(make("Adam", **options), 3))


def test_a_missing_gradient(host: NumPyOnHost) -> None:
    """Its parameter does not count."""
    found, held = stepped(make("Nadam"), 3, missing=[1])
    same(found[1:2], draw(1, SHAPES, "float32")[1:2])
    assert [float(row[0]) for row in held] == [3.0, 0.0, 3.0, 3.0]
    assert float(held[1][1]) == 1.0


def test_set_between(host: NumPyOnHost) -> None:
    """Numbers that are set go to the kernel as they are; others of a step compile it anew."""
    one, two, params = make("Adam"), make("Adam"), draw(1, SHAPES, "float32")
    others, (steps_of, _) = [p.copy() for p in params], counted(one, params)
    kernels = []
    for step, lr in enumerate((0.1, 0.5, 0.25)):
        one.lr = two.lr = lr
        if step == 2:
            one.clipvalue = two.clipvalue = 0.01
        grads = draw(10 + step, SHAPES, "float32")
        steps_of.step(grads, {})
        kernels.append(len(host.devices[0]._kernels))
        with ao.engine("array"):
            two.apply(grads, others)
    same(params, others)
    assert kernels[0] == kernels[1] < kernels[2]


def test_coefficients_of_ones_own(host: NumPyOnHost) -> None:
    """Formulas are written; a branch on a number, or a function of another module, is said."""

    class Mine(ao.SGD):
        def coefficients(self, h: Any, it: Any, scalars: Any, xp: Any) -> Any:
            found = super().coefficients(h, it, scalars, xp)
            return found | {"lr": h.lr * self.factor(it, xp), "take": h.lr * self.factor(it, xp)}

        def factor(self, it: Any, xp: Any) -> Any:
            return xp.where((it % 3 == 0) & (it // 2 < 5), 1.0 + it, xp.tanh(it) ** 2)

    class Branching(Mine):
        def factor(self, it: Any, xp: Any) -> Any:
            return 1.0 if it < 2 else 0.5

    class Foreign(Mine):
        def factor(self, it: Any, xp: Any) -> Any:
            return math.sqrt(it)

    class Milestones(Mine):
        def factor(self, it: Any, xp: Any) -> Any:
            return 0.5 if it in {1, 2} else 1.0

    class Method(Mine):
        def factor(self, it: Any, xp: Any) -> Any:
            return 0.5 if it.is_integer() else 1.0

    class Matrices(Mine):
        def factor(self, it: Any, xp: Any) -> Any:
            return xp.linalg.norm(it)

    same(stepped(Mine(lr=0.1), 7)[0], plain(Mine(lr=0.1), 7))
    for cls in (Branching, Foreign, Milestones, Method, Matrices):
        with pytest.raises(ValueError, match="computed by Python on the host, as"):
            counted(cls(lr=0.1), draw(1, SHAPES, "float32"))


def evaluated(value: Number, state: float, given: Any = 0.0) -> float:
    """Return what a kernel makes of a formula."""
    cells = [Cell("x", given)]
    kind = "" if isinstance(given, float) else str(given.dtype)
    cell = Number("input", name="x", cell=cells[0])
    program = counter_program([[value + cell]], ["t"], {"t": value}, cells, (kind,))
    device, held, row = HostDevice(), np.array(state), np.zeros(2)
    pointers = [np.array(x) for x in (np.zeros(1, np.int32), np.ones(1, np.int64))]
    at, variants = np.array([held.ctypes.data]), np.zeros(1, np.int32)
    arrays = [*pointers, at, variants, row]
    argument = given if kind == "" else given.ctypes.data
    with device.active(None):
        launch = device.kernel(program)
        launch((1,), (256,), (*(int(x.ctypes.data) for x in arrays), 1, argument))
    assert row[1] == float(held) + float(given) or math.isnan(row[1])
    return float(held)


@pytest.mark.slow
@pytest.mark.parametrize(
    "formula",
    [
        lambda t, xp: -xp.expm1(t * xp.log(0.999)),
        lambda t, xp: (t + 1.0) ** -0.8 - t**0.5,
        lambda t, xp: xp.where(t > 2, xp.sqrt(t), -t) + xp.maximum(t, 2) * xp.minimum(t, 2),
        lambda t, xp: (7 - t) % 3 + (t - 10) // 4 + abs(t - 5),
        lambda t, xp: xp.exp(-t) * xp.log1p(t) / xp.cos(t) + xp.floor(t / 2) - xp.sign(-t),
        lambda t, xp: xp.where((t >= 1) & ~(t == 3) | (t != t), 2.0, math.inf),
        lambda t, xp: xp.asarray(xp.asarray(t / 3, dtype=xp.float32), dtype=xp.float64),
        lambda t, xp: bias_correction(0.9, t + 1, xp),
    ],
)
def test_formulas(formula: Any) -> None:
    """They give what NumPy gives; numbers from outside may lie in arrays of any precision."""
    for t in (0.0, 1.0, 3.0, 12345.0):
        found = evaluated(formula(Number("state", name="t"), FORMULAS), t)
        with np.errstate(all="ignore"):
            wanted = float(formula(np.float64(t), np))
        assert found == pytest.approx(wanted, rel=1e-15) or found == wanted
    for dtype in ("float64", "float32", "float16"):
        assert evaluated(Number("state", name="t") * 2.0, 1.5, np.array(0.5, dtype)) == 3.0


def test_what_no_formula_says() -> None:
    """It is refused where it happens."""
    x = Number("state", name="t")
    for ask in (bool, float, int, list, hash, math.sqrt, math.floor, lambda t: t < 1 < t):
        with pytest.raises(TypeError):
            ask(x < 2 if ask is bool else x)
    for wrong in ("1", None, [1.0]):
        with pytest.raises(UnwritableError, match="wanted a number"):
            x + wrong
    assert np.float64(2.0) * x is not None and not isinstance(np.float64(2.0) * x, np.ndarray)
