"""Clipping on a GPU by norms that the host does not know."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import arrayoptim as ao
from arrayoptim.engines.gpu import unit_batches
from arrayoptim.engines.gpu.program import Program
from engine_cases import draw
from gpu_cases import SHAPES
from gpu_on_host import NumPyOnHost, compiler, launched
from optimizers_under_test import make, same

pytestmark = pytest.mark.skipif(compiler() is None, reason="there is no C++ compiler")

SLOW = pytest.mark.slow
STEPS = 3
GROUPS = [ao.group("0", clipnorm_per_tensor=0.1), ao.group("3", clipnorm_per_tensor=None)]
EACH: list[dict[str, Any]] = [
    {"clipnorm_per_tensor": 0.5},
    {"clipnorm_per_tensor": 0.5, "clipnorm": 3.0, "clipvalue": 0.1, "weight_decay": 0.1},
    {"clipnorm_per_tensor": 0.5, "groups": GROUPS, "l2": 0.01},
    {"clipnorm_per_tensor": 0.5, "clipnorm": 3.0, "groups": GROUPS, "state_dtype": "int8"},
    {"clipnorm_per_tensor": 0.0, "cautious": True},
    {"clipnorm_per_tensor": math.inf, "measure": ["gradient"]},
]
MIXED = ["float32", "bfloat16", "float64"]


def drawn(seed: int, dtypes: list[str]) -> list[np.ndarray]:
    """Return arrays of several data types."""
    kinds = [dtypes[k % len(dtypes)] for k in range(len(SHAPES))]
    return [draw(seed + k, [s], d)[0] for k, (s, d) in enumerate(zip(SHAPES, kinds, strict=True))]


def trained(
    optimizer: Any, dtypes: list[str], size: float = 1.0, tells: bool = True
) -> tuple[list[Any], list[Any]]:
    """Return parameters and weights, and the reports of the steps; a gradient is missing once."""
    params, reports = drawn(0, dtypes), []
    for step in range(STEPS):
        grads = drawn(50 + 9 * step, dtypes)
        with np.errstate(all="ignore"):
            grads = [np.asarray(g * g.dtype.type(size)) for g in grads]
        optimizer.apply([None if (step, k) == (1, 2) else g for k, g in enumerate(grads)], params)
        if tells:
            reports.append(optimizer.last_step)
    return [*params, *optimizer.get_weights()], reports


RULES: list[tuple[str, dict[str, Any]]] = [
    ("Adafactor", {}),
    ("SM3", {"weight_decay": 0.1}),
    ("MARS", {}),
    ("Adam", {"groups": [ao.group("1", optimizer=ao.SGD(lr=0.1)), ao.group("2", freeze=True)]}),
]


@pytest.mark.parametrize(("name", "options"), RULES, ids=[name for name, _ in RULES])
def test_one_norm_for_several_rules(name: str, options: dict[str, Any], host: NumPyOnHost) -> None:
    """The bits of the array engine, without a wait before somebody reads the norm."""
    options, device = {"clipnorm": 0.5, **options}, host.devices[0]
    optimizer = make(name, **options)
    trained(optimizer, ["float32"], tells=False)
    assert device.waits == 0 and device.launches.count("norm_of_gradients") == STEPS
    found, reports = trained(make(name, **options), ["float32"])
    assert device.waits > 0
    with ao.engine("array"):
        wanted, told = trained(make(name, **options), ["float32"])
    same(found, wanted)
    assert [each.global_norm for each in reports] == [each.global_norm for each in told]


def test_wide_gradients_of_several_rules(host: NumPyOnHost) -> None:
    """The host scales down what would overflow float32, and a wrong gradient changes nothing."""
    start, grads = draw(1, [(3, 4), (5,)], "float32"), [np.full((3, 4), 1e200), np.ones(5)]
    found = []
    for engine in ("auto", "array"):
        optimizer, params = make("Adafactor", clipnorm=1.0), [p.copy() for p in start]
        with ao.engine(engine):
            with pytest.raises(ValueError, match=r"'1': found shape \(6,\), wanted \(5,\)"):
                optimizer.apply([np.ones((3, 4)), np.ones(6)], params)
            same(params, start)
            optimizer.apply(grads, params)
        assert optimizer.last_step.global_norm > 1e200
        found.append(params)
    same(*found)
    assert host.devices[0].waits > 0 and np.isfinite(found[0][0]).all()


@pytest.mark.parametrize("name", ["Adam", "LAMB", "Adafactor"])
@pytest.mark.parametrize("options", EACH, ids="-".join)
def test_each_norm(name: str, options: dict[str, Any], host: NumPyOnHost) -> None:
    """The bits of the array engine, without a wait before somebody reads a norm."""
    if name != "Adam" and {"state_dtype", "cautious"} & options.keys():
        return
    device, (optimizer, other) = host.devices[0], (make(name, **options) for _ in range(2))
    params = drawn(0, MIXED)
    optimizer.apply(drawn(50, MIXED), params)
    several = name == "Adafactor"
    assert (device.waits > 0) == several
    optimizer = make(name, **options)
    found, reports = trained(optimizer, MIXED)
    with ao.engine("array"):
        wanted, told = trained(other, MIXED)
    same(found, wanted)
    assert reports == told
    assert [k for k, x in enumerate(reports[1].tensor_norms) if x is None] == [2]


def test_each_norm_takes_one_launch(host: NumPyOnHost) -> None:
    """However many tensors there are; the tables stay where they are."""
    device = host.devices[0]
    for count in (3, 40):
        optimizer = make("Adam", clipnorm_per_tensor=0.1, clipnorm=1.0)
        params, grads = draw(1, [(50,)] * count, "float32"), draw(3, [(50,)] * count, "float32")
        optimizer.apply(grads, params)
        launched([device])
        tables = device.tables
        optimizer.apply(grads, params)
        assert [name.split("_")[0] for name in launched([device])] == ["norm", "adam"]
        assert (device.tables, device.waits) == (tables, 0)


@pytest.mark.parametrize("size", [1e200, 1e-200, math.inf, math.nan])
@pytest.mark.parametrize("dtypes", [["float64"], ["float64", "float32"]], ids="-".join)
def test_norms_out_of_range(size: float, dtypes: list[str], host: NumPyOnHost) -> None:
    """Squares that overflow or underflow, and what is not finite, in any of several types."""
    options = {"clipnorm_per_tensor": 0.5, "clipnorm": 2.0}
    found, reports = trained(make("SGD", **options), dtypes, size)
    with ao.engine("array"):
        wanted, told = trained(make("SGD", **options), dtypes, size)
    same(found, wanted)
    np.testing.assert_array_equal(reports[-1].tensor_norms, told[-1].tensor_norms)
    np.testing.assert_array_equal(reports[-1].global_norm, told[-1].global_norm)


@pytest.mark.parametrize("bound", [{"clipnorm": 1.0}, {"clipnorm_per_tensor": 1.0}], ids="-".join)
def test_gradients_wider_than_their_parameters(bound: dict[str, float], host: NumPyOnHost) -> None:
    """They might overflow where they are narrowed: the host scales them down before."""
    found = []
    for engine in ("gpu", "array"):
        params = draw(1, [(4,), (3, 2)], "float32")
        with ao.engine(engine):
            make("SGD", **bound).apply([np.full(4, 1e300), np.full((3, 2), 2.0)], params)
        found.append(params)
    same(*found)
    assert all(np.isfinite(p).all() for p in found[0])


# ---- units

KINDS = ["float32", "bfloat16", "float64", "float16", "complex64", "complex128"]
MORE = [
    (4, 3),
    (5,),
    (),
    (2, 3, 4),
    (0, 2),
    (2, 0),
    (1, 7),
    (7, 1),
    (3, 1, 5),
    (40, 2100),
    (3000, 5),
]
UNITS = ["last", "first", "tensor"]


def clipped(engine: str, kind: str, given: str, orders: bool, **options: Any) -> list[Any]:
    """Return parameters and weights after steps over arrays of many shapes, in several orders."""
    params = [
        np.asarray(
            p.transpose(np.roll(range(p.ndim), k))
            .copy()
            .transpose(np.argsort(np.roll(range(p.ndim), k))),
            order="K",
        )
        if orders
        else p
        for k, p in enumerate(draw(1, MORE, kind))
    ]
    optimizer = make("SGD", lr=0.5, **options)
    with ao.engine(engine):
        for step in range(2):
            grads = draw(7 + step, MORE, given)
            optimizer.apply(
                [None if (step, k) == (1, 3) else g for k, g in enumerate(grads)], params
            )
    return [*params, *optimizer.get_weights()]


@pytest.mark.parametrize("orders", [False, True])
@pytest.mark.parametrize("units", UNITS)
@pytest.mark.parametrize("kind", KINDS)
def test_units(kind: str, units: str, orders: bool, host: NumPyOnHost) -> None:
    """The bits of the array engine, whatever the shape and the order in memory."""
    options = {"agc": 0.1, "agc_units": units, "clipvalue": 0.1}
    found = clipped("gpu", kind, kind, orders, **options)
    assert host.devices[0].waits == 0
    same(found, clipped("array", kind, kind, orders, **options))


@pytest.mark.parametrize("units", UNITS)
@pytest.mark.parametrize(
    ("kind", "given"), [("float32", "float64"), ("float64", "float32"), ("bfloat16", "float32")]
)
def test_units_of_other_types(kind: str, given: str, units: str, host: NumPyOnHost) -> None:
    """Gradients of more or fewer bits than their parameters."""
    options = {"agc": 0.1, "agc_units": units}
    same(
        clipped("gpu", kind, given, False, **options),
        clipped("array", kind, given, False, **options),
    )


OPTIONS: list[tuple[str, dict[str, Any]]] = [
    ("Adam", {"clipnorm": 3.0, "clipnorm_per_tensor": 0.5, "weight_decay": 0.1}),
    ("Adam", {"groups": [ao.group("0", agc=0.02), ao.group("3", agc=None)], "clipvalue": 0.01}),
    ("Adam", {"state_dtype": "int8", "stochastic_rounding": True, "clipnorm": 3.0}),
    ("Adam", {"cautious": True, "kahan": True, "l2": 0.01}),
    ("LAMB", {"clipnorm_per_tensor": 0.5, "groups": [ao.group("0", agc=0.02)]}),
    ("Adafactor", {"clipvalue": 0.5}),
    ("SM3", {"agc": 0}),
    ("DoG", {"clipnorm": 3.0}),
    ("Prodigy", {"agc": math.inf}),
    ("SGD", {"nonfinite": "skip", "constraint": ao.constraints.Box(-0.7, 0.7)}),
    ("MARS", {"clipnorm": 1.0}),
]


@pytest.mark.parametrize("units", [UNITS[0], *(pytest.param(x, marks=SLOW) for x in UNITS[1:])])
@pytest.mark.parametrize(("name", "options"), OPTIONS, ids=str)
def test_units_with_other_options(
    name: str, options: dict[str, Any], units: str, host: NumPyOnHost
) -> None:
    """Other clipping before and after it, and rules of every kind."""
    options = {"agc": 0.1, "agc_units": units, **options}
    found, _ = trained(make(name, **options), MIXED, tells=False)
    # The scalar state of two of them is read once, with the weights.
    read = name in ("DoG", "Prodigy")
    assert (host.devices[0].waits > read) == ("nonfinite" in options)
    with ao.engine("array"):
        wanted, _ = trained(make(name, **options), MIXED, tells=False)
    same(found, wanted)


def test_units_take_three_launches(host: NumPyOnHost) -> None:
    """However many tensors there are; what they leave stays where it is."""
    device = host.devices[0]
    for count in (3, 40):
        optimizer = make("Adam", agc=0.1, clipnorm=1.0)
        params, grads = draw(1, [(5, 6)] * count, "float32"), draw(3, [(5, 6)] * count, "float32")
        optimizer.apply(grads, params)
        launched([device])
        tables = device.tables
        optimizer.apply(grads, params)
        names = [name.rsplit("_", 1)[0] for name in launched([device])]
        assert names == ["norm_of", "unit_squares", "unit_factors", "unit_result", "adam"]
        assert (device.tables, device.waits) == (tables, 0)


@pytest.mark.parametrize("size", [1e200, 1e-200, math.inf, math.nan])
@pytest.mark.parametrize("units", UNITS)
def test_units_out_of_range(size: float, units: str, host: NumPyOnHost) -> None:
    """Squares that overflow or underflow, and what is not finite."""
    options = {"agc": 0.1, "agc_units": units}
    found, _ = trained(make("SGD", **options), ["float64", "float32"], size)
    with ao.engine("array"):
        wanted, _ = trained(make("SGD", **options), ["float64", "float32"], size)
    same(found, wanted)


FAULTS = [
    ("squares", "float32", "first", "* lines + y]", "* lines]"),
    ("squares", "complex64", "last", "x + y * s.length + PARTS * k", "x + y * s.length + k"),
    ("squares", "float64", "tensor", "sums[w * s.tiles + chunk[6]]", "sums[chunk[6]]"),
    ("factors", "float32", "last", "sums[tile * lines + y", "sums[y"),
    ("factors", "float64", "first", "sum += sums", "sum = sums"),
    ("result", "complex64", "last", "x / PARTS", "x % PARTS"),
    ("result", "float32", "first", "row + 1 + further", "row + further"),
]


@pytest.mark.parametrize(("program", "kind", "units", "right", "wrong"), FAULTS, ids=str)
def test_mutants_are_noticed(
    program: str,
    kind: str,
    units: str,
    right: str,
    wrong: str,
    host: NumPyOnHost,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Faults in the kernels, put in on purpose, make a comparison fail."""
    real = getattr(unit_batches, program)

    def broken(*arguments: Any) -> Program:
        found = real(*arguments)
        assert right in found.body
        body = found.body.replace(right, wrong).replace(found.name, f"{found.name}_broken")
        return Program(f"{found.name}_broken", body, found.numbers)

    monkeypatch.setattr(unit_batches, program, broken)
    with pytest.raises(AssertionError, match="array"):
        test_units(kind, units, False, host)
