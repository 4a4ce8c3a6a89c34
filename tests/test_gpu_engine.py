"""The GPU engine on the host: its kernels through a C++ compiler, all the rest as it is."""

from __future__ import annotations

import builtins
import math
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import arrayoptim as ao
from arrayoptim._norms import BLOCK, sum_of_squares
from arrayoptim._storage import Layout
from arrayoptim.engines import Step, sweep
from arrayoptim.engines._gpu_arrays import LIBRARIES, TorchLibrary
from arrayoptim.engines._gpu_batches import program_of
from arrayoptim.engines._gpu_device import Device, obstacle
from arrayoptim.engines._gpu_prelude import CHUNK
from arrayoptim.engines._gpu_printer import UnprintableError, printed
from arrayoptim.engines.gpu import Plan, refusal
from arrayoptim.gradients import global_norm
from backends import np_dtype
from cupy_on_host import Record, modules
from gpu_on_host import NumPyOnHost, TorchOnHost, compiler, launched, off_by_one
from optimizers_under_test import make, same
from test_cpu_engine import (
    PARTS,
    VALUES,
    coefficients,
    column,
    copies,
    draw,
    rules,
    state_of,
    typed,
)

pytestmark = pytest.mark.skipif(compiler() is None, reason="there is no C++ compiler")

SHAPES = [(3, 5), (), (0, 4), (2 * CHUNK + 13,), (17, 33), (1,), (CHUNK,)]


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> NumPyOnHost:
    """Take NumPy arrays for arrays on GPUs."""
    library = NumPyOnHost()
    monkeypatch.setitem(LIBRARIES, "numpy", library)
    return library


FORMS: list[tuple[str, str, dict[str, Any]]] = [
    ("float32", "float32", {}),
    ("float64", "float64", {}),
    ("float64", "float32", {"storage": "bfloat16"}),
    ("float32", "float64", {"storage": "bfloat16"}),
    ("float16", "float16", {"extras": ("master",)}),
    ("float16", "float32", {"extras": ("compensation",)}),
    ("bfloat16", "bfloat16", {"extras": ("master",), "storage": "bfloat16"}),
    ("bfloat16", "bfloat16", {"extras": ("compensation",)}),
    ("bfloat16", "float16", {}),
    ("complex64", "complex64", {}),
]
"""Data types of parameter and gradient, and how slots are stored."""
EXTENTS = [(), tuple(PARTS)]
"""Sets of stages that every form is tried with; float32 alone with each stage."""


def cases() -> Iterator[tuple[str, str, dict[str, Any], tuple[str, ...]]]:
    """Give data types, storage and stages."""
    yield from ((*form, stages) for form in FORMS for stages in EXTENTS)
    yield from (("float32", "float32", {}, (stage,)) for stage in PARTS)


def layout_of(rule: Any, form: dict[str, Any], stages: tuple[str, ...]) -> Layout:
    """Return the slots of a case."""
    extras = (*form.get("extras", ()), *["average"] * ("average" in stages))
    return Layout(rule, extras, form.get("storage"))


def numbers(rule: Any, stages: tuple[str, ...], seed: int = 3) -> dict[str, float]:
    """Return the numbers of a step."""
    return coefficients(rule, seed) | {name: VALUES[name] for s in stages for name in PARTS[s]}


def programs(rule: Any) -> list[Any]:
    """Return the kernels of all cases of a rule."""
    found = []
    for dtype, grad, form, stages in cases():
        slots = layout_of(rule, form, stages).slots(dtype)
        found.append(program_of(rule, {"p": dtype, **slots}, tuple(numbers(rule, stages)), grad))
    return found


def slots_of(layout: Layout, dtype: str, params: list[Any]) -> list[dict[str, Any]]:
    """Return slots that are not zero, in the form in which they are stored."""
    kinds = layout.slots(dtype)
    shapes = [p.shape for p in params]
    drawn = {
        name: draw(7 + k, shapes, kind, positive=True)
        for k, (name, kind) in enumerate(kinds.items())
    }
    if "compensation" in drawn:
        small = (np.asarray(x * x.dtype.type(1e-3)) for x in drawn["compensation"])
        drawn["compensation"] = list(small)
    if "master" in drawn:
        drawn["master"] = [p.astype(np.float32) for p in params]
    return [dict(zip(drawn, row, strict=True)) for row in zip(*drawn.values(), strict=True)]


@rules
def test_every_rule_bit_for_bit(rule: Any, host: NumPyOnHost) -> None:
    """In every form and with every stage, at odd sizes, aligned or not: the array engine's bits."""
    host.devices[0].compile(programs(rule))
    for number, (dtype, grad, form, stages) in enumerate(cases()):
        layout = layout_of(rule, form, stages)
        params = draw(1, SHAPES, dtype)
        slots = slots_of(layout, dtype, params)
        mine, state = [p.copy() for p in params], copies(slots)
        if number % 2:
            mine = [off_by_one(p) for p in mine]
        plan = Plan(rule, mine, state)
        for step in range(2):
            grads, values = draw(20 + step, SHAPES, grad), numbers(rule, stages, step)
            whole = Step(layout, typed(values), None, range(len(params)))
            new, after = sweep(whole, params, grads, slots, in_place=False)
            params, slots = list(new), list(after)
            plan.prepare(grads, typed(values))()
            same(mine, params)
            same(column(state), column(slots))


def test_special_values_bit_for_bit(host: NumPyOnHost) -> None:
    """NaN, infinities, subnormal numbers and zeros of either sign, through every function."""

    @ao.rule(slots=("a", "b"))
    def everything(p, g, a, b, c, d, xp):  # type: ignore[no-untyped-def]
        a = xp.maximum(a, g) - xp.minimum(p, g) * xp.sign(b)
        new = xp.abs(p) > xp.abs(g)
        b = xp.where(new, xp.copysign(xp.square(p), g), xp.sqrt(-b))
        return p + c * a / d, a, -b

    special = np.array([0.0, -0.0, 1.0, -1.5, 1e-40, -1e-45, 3e38, math.inf, -math.inf, math.nan])
    grid = np.stack(np.meshgrid(*[special] * 4), axis=-1).reshape(-1, 4).T
    params, grads, a, b = (np.ascontiguousarray(x, np.float32) for x in grid)
    with np.errstate(all="ignore"):
        wanted = everything(params, grads, a, b, np.float32(0.3), np.float32(0.7), np)
    plan = Plan(everything, [params], [{"a": a, "b": b}])
    plan.prepare([grads], typed({"c": 0.3, "d": 0.7}))()
    for found, want in zip((params, a, b), wanted, strict=True):
        np.testing.assert_array_equal(np.isnan(found), np.isnan(want))
        known = ~np.isnan(want)
        same([found[known]], [want[known]])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_sixteen_bits(dtype: str, host: NumPyOnHost) -> None:
    """Every 16-bit number widens, and float32 between and at them rounds, as in NumPy."""

    @ao.rule()
    def taken(p, g, one, xp):  # type: ignore[no-untyped-def]
        return g * one

    every = np.arange(1 << 16, dtype=np.uint16).view(np_dtype(dtype))
    wide = np.zeros(every.size, np.float32)
    Plan(taken, [wide], [{}]).prepare([every], typed({"one": 1.0}))()
    finite = np.sort(wide[np.isfinite(wide)])
    middle = finite[:-1] + np.diff(finite) / 2
    around = [np.nextafter(middle, np.float32(way)) for way in (-np.inf, np.inf)]
    edges = np.float32([65519.99, 65520, 3.4e38, 1e-45, -1e-45, np.inf, -np.inf, np.nan])
    floats = np.concatenate([finite, middle, *around, edges]).astype(np.float32)
    narrow = np.zeros(floats.size, np_dtype(dtype))
    Plan(taken, [narrow], [{}]).prepare([floats], typed({"one": 1.0}))()
    with np.errstate(over="ignore"):
        for found, want in (
            (wide, every.astype(np.float32)),
            (narrow, floats.astype(narrow.dtype)),
        ):
            known = ~np.isnan(want)
            np.testing.assert_array_equal(np.isnan(found), ~known)
            same([found[known]], [want[known]])


NORM_SHAPES = [*SHAPES, (BLOCK,), (BLOCK + 1,), (3 * BLOCK + 7,)]


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_norm_bit_for_bit(dtype: str, backwards: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums and norm follow the specification, and no thread depends on another of its phase."""
    library = NumPyOnHost(backwards)
    monkeypatch.setitem(LIBRARIES, "numpy", library)
    params, grads = draw(1, NORM_SHAPES, dtype), draw(2, NORM_SHAPES, dtype)
    plan = Plan(adam(), params, state_of(adam(), NORM_SHAPES, dtype))
    grads[4] = None
    sums = [0.0 if g is None else sum_of_squares(g) for g in grads]
    for _ in range(2):
        table = plan.norm(grads)
        assert table is not None
        assert table.memory[0] == global_norm(grads)
        assert plan.sums_of_squares(grads)[0] == sums


@pytest.mark.parametrize("scale", [1e200, 1e-200, 0.0, math.inf, math.nan])
def test_norm_of_extreme_gradients(scale: float, host: NumPyOnHost) -> None:
    """Squares that overflow or vanish do not, and what is not finite shows."""
    grads = [np.array([3.0, 4.0]) * scale, np.ones(3, np.float32) * np.float32(min(scale, 1.0))]
    plan = Plan(make("SGD").rule, [np.zeros(2), np.zeros(3, np.float32)], state_of_sgd())
    table = plan.norm(grads)
    assert table is not None
    np.testing.assert_array_equal(table.memory[0], global_norm(grads))


def state_of_sgd() -> list[dict[str, Any]]:
    """Return the slots of two parameters."""
    return [{"momentum": np.zeros(2)}, {"momentum": np.zeros(3, np.float32)}]


def adam() -> Any:
    """Return a rule to test with what does not depend on the rule."""
    return make("Adam").rule


def train(engine: str, optimizer: Any, dtypes: list[str], steps: int = 4) -> list[Any]:
    """Return parameters and weights after some steps."""
    shapes = [(40, 13), (), (300,), (0, 2), (CHUNK + 3,)]
    kinds = [dtypes[k % len(dtypes)] for k in range(len(shapes))]
    pairs = list(zip(shapes, kinds, strict=True))
    params = [draw(k, [shape], kind)[0] for k, (shape, kind) in enumerate(pairs)]
    with ao.engine(engine):
        for step in range(steps):
            grads = [draw(50 + 9 * step + k, [s], kind)[0] for k, (s, kind) in enumerate(pairs)]
            optimizer.apply(grads, params)
    return [*params, *optimizer.get_weights()]


OPTIONS: list[dict[str, Any]] = [
    {},
    {"clipnorm": 0.5},
    {"clipvalue": 0.1, "l2": 0.01},
    {"weight_decay": 0.1, "ema_momentum": 0.9, "clipnorm": 1e9},
    {"clipnorm": 3.0, "clipvalue": 0.5, "l2": 0.01, "weight_decay": 0.1, "exclude": ["0", "2"]},
    {"clipnorm": 0.5, "groups": [ao.group("2", lr=0.1)]},
    {"clipnorm": 0.5, "groups": [ao.group("2", freeze=True)], "nonfinite": "skip"},
    {"clipnorm": 0.5, "groups": [ao.group("2", optimizer=ao.SGD(lr=0.1))]},
    {"state_dtype": "bfloat16"},
    {"kahan": True, "clipnorm": 1.0},
]


@pytest.mark.parametrize("options", OPTIONS, ids="-".join)
def test_every_option(options: dict[str, Any], host: NumPyOnHost) -> None:
    """A whole optimizer gives the array engine's bits, on a tree of several data types."""
    dtypes = ["float32", "bfloat16", "float64"]
    found = train("gpu", make("Adam", **options), dtypes)
    assert host.devices[0].launches
    same(found, train("array", make("Adam", **options), dtypes))


def test_every_optimizer(name: str, host: NumPyOnHost) -> None:
    """With everything in one launch."""
    options = {"clipnorm": 0.5, "weight_decay": 0.1, "ema_momentum": 0.9}
    found = train("auto", make(name, **options), ["float32"])
    assert host.devices[0].launches
    same(found, train("array", make(name, **options), ["float32"]))


def test_one_launch_and_no_wait(host: NumPyOnHost) -> None:
    """One launch for each combination of data types, one more for a norm; nothing is read."""
    device, optimizer = host.devices[0], make("Adam")
    params = draw(1, [(5,)] * 40, "float32") + draw(2, [(3,)] * 20, "float64")
    grads = draw(3, [(5,)] * 40, "float32") + draw(4, [(3,)] * 20, "float64")
    optimizer.apply(grads, params)
    assert len(launched([device])) == 2
    copies = device.copies
    optimizer.lr = 0.5
    optimizer.apply(grads, params)
    assert len(launched([device])) == 2 and device.copies == copies
    grads[7] = grads[7].copy()
    optimizer.apply(grads, params)
    assert device.copies == copies + 1
    launched([device])
    optimizer.clipnorm = 0.1
    optimizer.apply(grads, params)
    assert [name.split("_")[0] for name in launched([device])] == ["norm", "adam", "adam"]
    assert device.waits == 0
    optimizer.nonfinite = "raise"
    optimizer.apply(grads, params)
    assert device.waits == 1


def test_several_devices(host: NumPyOnHost) -> None:
    """Each device has a launch of its own, and the host adds up their norms."""
    params, grads = draw(1, [(50,)] * 4, "float32"), draw(2, [(50,)] * 4, "float32")
    other = [p.copy() for p in params]
    host.second = [params[1], params[3], grads[1], grads[3]]
    optimizer, plain = make("Adam", clipnorm=0.5), make("Adam", clipnorm=0.5)
    # Slots lie with their parameters.
    optimizer.init(params)
    for k in (1, 3):
        host.second += optimizer._state.slots[k].values()
    optimizer.apply(grads, params)
    assert all(len(device.launches) == 2 and device.waits == 1 for device in host.devices)
    with ao.engine("array"):
        plain.apply(grads, other)
    same(params, other)
    with pytest.raises(ValueError, match="gradient elsewhere"):
        Plan(adam(), params, state_of(adam(), [(50,)] * 4, "float32")).prepare(
            [grads[1], *grads[1:]], {}
        )


def test_gradients_that_lie_in_parameters_are_copied(host: NumPyOnHost) -> None:
    """Threads that write do not race with others that read."""
    room = np.linspace(-1.0, 1.0, 30_000, dtype=np.float32)
    wanted = room[:20_000].copy()
    params = [room[:10_000], room[10_000:20_000]]
    with ao.engine("array"):
        expected = [p.copy() for p in params]
        ao.SGD(lr=0.5).apply([wanted[5_000:15_000].copy(), wanted[:10_000].copy()], expected)
    with ao.engine("gpu"):
        ao.SGD(lr=0.5).apply([room[5_000:15_000], room[:10_000]], params)
    same(params, expected)


def test_gradients_in_another_order(host: NumPyOnHost) -> None:
    """Those that one loop cannot go through are copied, and those of several types converted."""
    params = [np.asfortranarray(x) for x in draw(1, [(20, 30), (7, 9)], "float32")]
    grads = [draw(2, [(20, 30)], "float64")[0], draw(3, [(7, 18)], "float32")[0][:, ::2]]
    expected = [p.copy(order="K") for p in params]
    with ao.engine("array"):
        ao.SGD(lr=0.5, clipnorm=0.1).apply(grads, expected)
    with ao.engine("gpu"):
        ao.SGD(lr=0.5, clipnorm=0.1).apply(grads, params)
    same(params, expected)


def test_arrays_that_move(host: NumPyOnHost) -> None:
    """Other arrays in the places of the first are found, wherever they are."""
    optimizer, plain = make("Adam"), make("Adam")
    for step in range(3):
        params, grads = draw(step, SHAPES, "float32"), draw(9 + step, SHAPES, "float32")
        other = [p.copy() for p in params]
        optimizer.apply(grads, params)
        with ao.engine("array"):
            plain.apply(grads, other)
        same(params, other)


def test_torch_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Zero-copy, on torch's stream, and autograd notices the change."""
    torch = pytest.importorskip("torch")
    library = TorchOnHost()
    monkeypatch.setitem(LIBRARIES, "torch", library)
    start = draw(1, [(30, 7), (5,)], "float32")
    params = [torch.nn.Parameter(torch.from_numpy(p.copy()).to(torch.bfloat16)) for p in start]
    other = [p.detach().clone() for p in params]
    grads = [torch.from_numpy(g).to(torch.bfloat16) for g in draw(2, [(30, 7), (5,)], "float32")]
    version = params[0]._version
    optimizer, plain = make("Adam", clipnorm=0.5), make("Adam", clipnorm=0.5)
    optimizer.apply(grads, params)
    assert params[0]._version > version and set(library.only.streams) == {77}
    with ao.engine("array"):
        plain.apply(grads, other)
    assert all(torch.equal(a.detach(), b) for a, b in zip(params, other, strict=True))
    lazy = torch._neg_view(params[0].detach())
    assert "lazily" in str(refusal(adam(), lazy, {}))


def test_choice(host: NumPyOnHost) -> None:
    """The engine says whom it serves, and why not the others."""
    good, strided = np.ones(8, np.float32), np.ones((3, 2), np.float32)[:, 0]
    first, second = ao.explain([good, strided]).groups
    assert (first.engine, first.reason) == ("gpu", "one kernel serves all of this kind")
    assert (second.engine, second.reason) == ("array", "its elements are not side by side")
    with ao.engine("gpu"), pytest.raises(ValueError, match="cannot serve parameter '1': its elem"):
        ao.SGD().apply([good, good[:3]], [good, strided])
    with ao.engine("cpu"):
        assert ao.explain([good]).groups[0].engine == "cpu"
    coded = ao.explain([good], ao.Adam(state_dtype="int8")).groups[0]
    assert coded.engine == "array" and "8-bit codes serve arrays in host memory" in coded.reason
    by_chance = ao.Adam(state_dtype="bfloat16", stochastic_rounding=True)
    with pytest.raises(ValueError, match="stochastic rounding serves arrays in host memory"):
        by_chance.apply(np.ones(8, np.float32), good)
    assert good.tolist() == [1.0] * 8 and by_chance.iterations == 0


def test_rules_outside_the_grammar(host: NumPyOnHost) -> None:
    """What cannot be printed is left to the array engine, with the reason."""

    @ao.rule(slots=("m",))
    def curved(p, g, m, lr, xp):  # type: ignore[no-untyped-def]
        return p - lr * xp.tanh(g), m

    wanted = "xp.tanh is not in the exact vocabulary"
    assert wanted in str(refusal(curved, np.ones(3), {}))
    with pytest.raises(UnprintableError, match="p and g is outside the grammar"):
        printed(lambda_like, "rule")


def lambda_like(p, g, xp):  # type: ignore[no-untyped-def]
    """Leave the grammar."""
    return p and g


@pytest.mark.skipif(obstacle() is None, reason="a GPU is at hand")
def test_without_gpu() -> None:
    """The package works, and says what is missing."""
    assert "CuPy" in str(obstacle())
    with ao.engine("gpu"), pytest.raises(ValueError, match="neither a CuPy array nor a torch"):
        ao.SGD().apply(np.ones(2), np.ones(2))


def test_torch_tensors_without_cupy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The array engine serves them, and `explain` says what is missing."""
    torch = pytest.importorskip("torch")

    class Alone(TorchLibrary):
        def holds(self, array: Any) -> bool:
            return True

    monkeypatch.setitem(LIBRARIES, "torch", Alone())
    monkeypatch.setattr("arrayoptim.engines._gpu_arrays.obstacle", lambda: "CuPy is missing")
    p = torch.ones(3)
    group = ao.explain([p]).groups[0]
    assert (group.engine, group.reason) == ("array", "CuPy is missing")
    ao.SGD(lr=0.5).apply([torch.ones(3)], [p])
    assert p.tolist() == [0.5] * 3


@pytest.mark.parametrize(
    ("fault", "wanted"),
    [
        (ImportError("no"), "is not installed"),
        (OSError("libcudart is broken"), "import of CuPy fails with OSError: libcudart is broken"),
    ],
)
def test_a_cupy_that_cannot_be_imported(
    fault: Exception, wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it raises is a reason, not an error."""
    real = builtins.__import__

    def fail(name: str, *more: Any, **words: Any) -> Any:
        if name == "cupy":
            raise fault
        return real(name, *more, **words)

    monkeypatch.setattr(builtins, "__import__", fail)
    assert wanted in str(obstacle.__wrapped__())


def test_a_cupy_without_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver that is missing is a reason too, as is a CuPy for other GPUs."""

    def fail() -> int:
        raise RuntimeError("cudaErrorNoDevice:\n no device")

    runtime = SimpleNamespace(is_hip=False, getDeviceCount=fail)
    fake = SimpleNamespace(cuda=SimpleNamespace(runtime=runtime))
    monkeypatch.setitem(sys.modules, "cupy", fake)
    assert "finds no GPU" in str(obstacle.__wrapped__())
    assert "cudaErrorNoDevice: no device" in str(obstacle.__wrapped__())
    runtime.is_hip = True
    assert "ROCm" in str(obstacle.__wrapped__())


def test_mutants_are_noticed(host: NumPyOnHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """Faults in the kernel, put in on purpose, make a comparison fail."""
    from arrayoptim.engines import _gpu_batches, _gpu_sweep

    faults = [
        ("narrow(s0, q_s0.x[k]);", "narrow(s1, q_s0.x[k]);"),
        ("c.scale, c.bound", "c.bound, c.bound"),
        ("i < stop", "i < stop - 1"),
        ("gradients[leaves[t]]", "gradients[0]"),
    ]
    real = _gpu_sweep.sweep_program
    for number, (found, replaced) in enumerate(faults):

        def broken(*arguments: Any, words: Any = (found, replaced, number)) -> Any:
            program = real(*arguments)
            assert words[0] in program.body
            name = f"{program.name}_{words[2]}"
            body = program.body.replace(words[0], words[1]).replace(program.name, name)
            return _gpu_sweep.Program(name, body, program.numbers)

        with monkeypatch.context() as patch:
            patch.setattr(_gpu_batches, "sweep_program", broken)
            with pytest.raises(AssertionError):
                test_every_option({"clipvalue": 0.1}, host)


@pytest.mark.parametrize("newer", [False, True])
def test_how_cupy_is_used(newer: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels run on the stream of the arrays, and copies out of pinned memory on the same."""
    record = Record(newer)
    for name, module in modules(record).items():
        monkeypatch.setitem(sys.modules, name, module)
    device = Device(3)

    class Library(NumPyOnHost):
        def device(self, number: int) -> Any:
            return device

        def stream(self, number: int) -> int | None:
            return 77

    monkeypatch.setitem(LIBRARIES, "numpy", Library())
    optimizer, plain = make("Adam", clipnorm=0.5), make("Adam", clipnorm=0.5)
    params, grads = draw(1, SHAPES, "float32"), draw(2, SHAPES, "float32")
    other = [p.copy() for p in params]
    record.busy = True
    for step in range(4):
        # Gradients move at every step but the second.
        moved = grads if step == 1 else [g.copy() for g in grads]
        grads = moved
        optimizer.apply(grads, params)
        with ao.engine("array"):
            plain.apply(grads, other)
    same(params, other)
    assert {stream for _, _, stream in record.launches} == {("stream", 77)}
    assert len(record.launches) == 8 and len(record.options) == 2
    assert all("--fmad=false" in options for options in record.options)
    # While copies are under way their buffers stay as they are.
    assert record.copies == [("stream", 77)] * 2 and len(record.pinned) == 2
    assert record.waits == 0 and not record.active
    record.busy = False
    optimizer.nonfinite = "raise"
    optimizer.apply([g.copy() for g in grads], params)
    assert record.waits == 1 and len(record.pinned) == 3
    optimizer.apply([g.copy() for g in grads], params)
    assert len(record.pinned) == 3


def test_cupy_streams_are_left_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a stream of another library, CuPy's current one serves."""
    record = Record(True)
    for name, module in modules(record).items():
        monkeypatch.setitem(sys.modules, name, module)
    with Device(3).active(None):
        assert record.active == [("device", 3)]
    assert record.active == []
