"""Rules with totals over all tensors on a GPU: what follows from them stays there."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

import arrayoptim as ao
from arrayoptim.numerics.formulas import FORMULAS, Number, UnwritableError
from arrayoptim.numerics.recalled import Recalled
from arrayoptim.step.session import session_of
from engine_cases import draw
from gpu_cases import SHAPES
from gpu_on_host import NumPyOnHost, compiler, launched
from optimizers_under_test import NAMES, make, same, together, variants

pytestmark = pytest.mark.skipif(compiler() is None, reason="there is no C++ compiler")

STEPS = 4
TOTALLED = [name for name in NAMES if together(name)]
FORMS = [(name, own) for name in TOTALLED for own in variants(name)]
DECAY = ao.schedules.ExponentialDecay(1.0, 2, 0.5)
OPTIONS: list[dict[str, Any]] = [
    {"lr": DECAY, "weight_decay": 0.1},
    {"groups": [ao.group("0", lr=0.5), ao.group("3", weight_decay=0.1)], "clipnorm": 1.0},
    {"groups": [ao.group("4", freeze=True)], "exclude": "3", "weight_decay": 0.1},
    {"clipnorm_per_tensor": 0.5, "agc": 0.1, "l2": 0.01},
    {"ema_momentum": 0.9, "master": True, "nonfinite": "skip"},
    {"state_dtype": "bfloat16", "stochastic_rounding": True, "kahan": True},
]


def kinds(*dtypes: str) -> list[str]:
    return [dtypes[k % len(dtypes)] for k in range(len(SHAPES))]


MIXED = kinds("float32", "bfloat16", "float64")


def start(dtypes: list[str]) -> list[np.ndarray]:
    return [draw(k, [s], d)[0] for k, (s, d) in enumerate(zip(SHAPES, dtypes, strict=True))]


def drawn(step: int, dtypes: list[str]) -> list[Any]:
    """Return the gradients of a step; one is missing in one of them."""
    rows = enumerate(zip(SHAPES, dtypes, strict=True))
    found = [draw(50 + 9 * step + k, [shape], dtype)[0] for k, (shape, dtype) in rows]
    return [None if (step, k) == (1, 4) else g for k, g in enumerate(found)]


def stepped(optimizer: Any, dtypes: list[str], steps: range = range(STEPS)) -> list[np.ndarray]:
    params = start(dtypes)
    for step in steps:
        optimizer.apply(drawn(step, dtypes), params)
    return params


def by_arrays(optimizer: Any, dtypes: list[str]) -> list[np.ndarray]:
    with ao.engine("array"):
        return [*stepped(optimizer, dtypes), *optimizer.get_weights()]


@pytest.mark.parametrize(("name", "own"), FORMS, ids=str)
def test_every_variant(name: str, own: dict[str, Any], host: NumPyOnHost) -> None:
    """The bits of the array engine, and the host waits for nothing."""
    optimizer = make(name, **own)
    params = stepped(optimizer, MIXED)
    assert host.devices[0].waits == 0
    same([*params, *optimizer.get_weights()], by_arrays(make(name, **own), MIXED))


@pytest.mark.parametrize("name", TOTALLED)
@pytest.mark.parametrize("options", OPTIONS, ids="-".join)
def test_options(name: str, options: dict[str, Any], host: NumPyOnHost) -> None:
    """With whatever else a step may do."""
    optimizer = make(name, **options)
    params = stepped(optimizer, MIXED)
    # Whether a norm is finite, the host asks for.
    waits = STEPS * ("nonfinite" in options)
    assert host.devices[0].waits == waits
    same([*params, *optimizer.get_weights()], by_arrays(make(name, **options), MIXED))


@pytest.mark.parametrize(
    ("name", "kernels"),
    [("DoG", ["measure", "derived", "dog"]),
     ("Prodigy", ["derived", "measure", "derived", "prodigy"])],
)  # fmt: skip
def test_launches(name: str, kernels: list[str], host: NumPyOnHost) -> None:
    """One launch more than totals and sweep, and one before where state is in the measure."""
    optimizer, dtypes = make(name), kinds("float32")
    params, grads = start(dtypes), drawn(0, dtypes)
    optimizer.apply(grads, params)
    launched(host.devices)
    host.devices[0].sent.clear()
    for _ in range(3):
        optimizer.apply(grads, params)
        assert [each.split("_")[0] for each in launched(host.devices)] == kernels
    # Neither a number nor an address has changed.
    assert host.devices[0].sent == [] and host.devices[0].waits == 0
    (group,) = ao.explain(params, optimizer).groups
    assert group.reason == "2 kernels, one after another, go through all of this kind"


@pytest.mark.parametrize("name", TOTALLED)
def test_in_a_graph(name: str, host: NumPyOnHost) -> None:
    """A graph holds such a step, outside of which others may be taken."""
    groups = [ao.group("0", lr=0.5)]
    one, two = (make(name, lr=DECAY, groups=groups, clipnorm=1.0) for _ in range(2))
    dtypes = kinds("float32", "float64")
    params, given = start(dtypes), [np.zeros_like(p) for p in start(dtypes)]
    step = one.capture(params)
    with host.captured() as graph:
        step.apply(given)
    twin = start(dtypes)
    for k, outside in enumerate((False, False, True, False, False)):
        found = draw(90 + k, SHAPES, "float64")
        grads = [g.astype(d) for g, d in zip(found, dtypes, strict=True)]
        with ao.engine("array"):
            two.apply(grads, twin)
        if outside:
            one.apply(grads, params)
            continue
        for room, g in zip(given, grads, strict=True):
            room[...] = g
        waits = host.devices[0].waits
        step.replay(graph)
        # After a step outside the state comes from the tables of that.
        assert host.devices[0].waits == waits + (k == 3)
    same([*params, *one.get_weights()], [*twin, *two.get_weights()])


def test_a_graph_of_another_formula(host: NumPyOnHost) -> None:
    """What a graph does not compute cannot be had later."""
    optimizer, params = make("Prodigy"), start(kinds("float32"))
    step = optimizer.capture(params)
    with host.captured() as graph:
        step.apply([np.ones_like(p) for p in params])
    optimizer.growth_rate, before = 1.5, [p.copy() for p in params]
    with pytest.raises(ValueError, match=r"in another way .*: capture it again"):
        step.replay(graph)
    same(params, before)
    assert optimizer.iterations == 0


@pytest.mark.parametrize("name", TOTALLED)
def test_the_state_is_read_when_asked_for(name: str, host: NumPyOnHost, tmp_path: Any) -> None:
    """By its name, copied, pickled and saved, each the state of then; it can be set."""
    optimizer, other, dtypes = make(name), make(name), kinds("float32")
    params, twin = start(dtypes), start(dtypes)
    device = host.devices[0]
    words = list(optimizer.initial_scalars())

    def numbers(of: Any) -> list[float]:
        return [getattr(of, word) for word in words]

    for step in range(3):
        with ao.engine("array"):
            other.apply(drawn(step, dtypes), twin)
        optimizer.apply(drawn(step, dtypes), params)
    assert device.waits == 0
    assert numbers(optimizer) == numbers(other) and device.waits == 1
    optimizer.apply(drawn(3, dtypes), params)
    with ao.engine("array"):
        other.apply(drawn(3, dtypes), twin)
    copies = [copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))]
    optimizer.save_weights(tmp_path / "state.h5")
    copies.append(make(name))
    copies[-1].load_weights(tmp_path / "state.h5")
    rows = [[p.copy() for p in params] for _ in copies]
    word = words[-1]
    for each in (optimizer, other, *copies):
        # The last one learns of its parameters first.
        each.init(params)
        setattr(each, word, 2.0 * getattr(each, word))
    with ao.engine("array"):
        other.apply(drawn(4, dtypes), twin)
    for each, row in zip((optimizer, *copies), (params, *rows), strict=True):
        each.apply(drawn(4, dtypes), row)
        same(row, twin)
        assert numbers(each) == numbers(other)


class Deciding(ao.DoG):
    """A formula with a branch, by a number that only the device knows."""

    def coefficients(self, h: Any, it: Any, scalars: Any, xp: Any) -> Any:
        found = super().coefficients(h, it, scalars, xp)
        if scalars["slope"] > 3.0:
            found["rate"] = found["rate"] * 0.5
        return found


def test_a_formula_that_decides(host: NumPyOnHost) -> None:
    """The host reads the totals for it, in every step, and a graph cannot hold it."""
    dtypes = kinds("float32")
    optimizer, other = Deciding(), Deciding()
    params = stepped(optimizer, dtypes)
    assert host.devices[0].waits == STEPS
    with ao.engine("array"):
        same(params, stepped(other, dtypes))
    assert optimizer.energy == other.energy
    with pytest.raises(ValueError, match="dog: what follows from its totals over all tensors"):
        Deciding().capture(params)


def test_on_two_devices(host: NumPyOnHost) -> None:
    """There is no device that could add up all of them."""
    dtypes, optimizer = kinds("float32"), make("DoG")
    params = start(dtypes)
    optimizer.init(params)
    host.second += [params[3], *session_of(optimizer).state.slots[3].values()]
    for step in range(STEPS):
        grads = drawn(step, dtypes)
        host.second.append(grads[3])
        optimizer.apply(grads, params)
    assert all(device.waits == STEPS for device in host.devices)
    same([*params, *optimizer.get_weights()], by_arrays(make("DoG"), dtypes))


def test_guards(host: NumPyOnHost) -> None:
    """Numbers of the host beside those of the device: steps that are left out change neither."""
    dtypes = kinds("float32")
    one, two = (make("DoG", skip_spikes=3.0, spike_window=2) for _ in range(2))
    params, twin = start(dtypes), start(dtypes)
    for step in range(6):
        size = 1e4 if step == 4 else 1.0
        grads = [None if g is None else np.asarray(g * size, g.dtype) for g in drawn(step, dtypes)]
        one.apply(grads, params)
        with ao.engine("array"):
            two.apply(grads, twin)
    assert one.spikes == two.spikes > 0 and one.iterations == two.iterations > 0
    same([*params, *one.get_weights()], [*twin, *two.get_weights()])


def test_symbols() -> None:
    """They take part in arithmetic, and refuse what a device would compute with other bits."""
    x = Number("state", name="x")
    found = [np.float64(2.0) * x, 1.0 / x, -x, abs(x), FORMULAS.maximum(x, 2.0), (x > 0) & (x < 1)]
    assert [each.op for each in found] == ["*", "/", "neg", "abs", "maximum", "&"]
    assert found[0].args[1] is x
    assert FORMULAS.sqrt(4.0) == 2.0 and FORMULAS.pi == np.pi
    for what in (bool, float, FORMULAS.sort, lambda y: max(y, 1.0)):
        with pytest.raises(UnwritableError):
            what(x)
    held = {"x": x}
    for inexact in (x**2, FORMULAS.exp(x), FORMULAS.asarray(x, FORMULAS.float32)):
        with pytest.raises(UnwritableError, match="other bits"):
            Recalled().of(lambda it, y=inexact: {"y": y}, None, 0, held)


def test_what_follows_is_recalled() -> None:
    """As long as hyperparameters, state and, where it is looked at, the count are the same."""
    x, h, asked = Number("state", name="x"), object(), []
    for formula, wanted in ((lambda it: x * 2.0, 1), (lambda it: x * (it + 1), 4)):
        recalled = Recalled()

        def compute(it: Any, formula: Any = formula) -> dict[str, Any]:
            found = {"y": formula(it)}
            asked.append(it)
            return found

        asked.clear()
        for it in range(4):
            recalled.of(compute, h, it, {"x": x})
        assert len([it for it in asked if isinstance(it, int)]) == wanted
        asked.clear()
        recalled.of(compute, object(), 9, {"x": x})
        recalled.of(compute, h, 9, {"x": 1.0})
        assert asked == [9, 9]
