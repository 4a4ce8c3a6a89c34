"""The GPU engine on the host: its kernels through a C++ compiler, all the rest as it is."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

import arrayoptim as ao
from arrayoptim.engines.gpu.arrays import LIBRARIES
from arrayoptim.engines.gpu.engine import Plan, refusal
from arrayoptim.engines.gpu.prelude import CHUNK
from arrayoptim.step.session import session_of
from engine_cases import (
    draw,
    state_of,
)
from gpu_cases import SHAPES, adam
from gpu_on_host import NumPyOnHost, TorchOnHost, compiler, launched
from gpu_options import OPTIONS
from optimizers_under_test import make, rules_of, same

pytestmark = pytest.mark.skipif(compiler() is None, reason="there is no C++ compiler")


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


@pytest.mark.parametrize("options", OPTIONS, ids="-".join)
def test_every_option(options: dict[str, Any], host: NumPyOnHost) -> None:
    """A whole optimizer gives the array engine's bits, on a tree of several data types."""
    dtypes = ["float32", "bfloat16", "float64"]
    found = train("gpu", make("Adam", **options), dtypes)
    assert host.devices[0].launches
    same(found, train("array", make("Adam", **options), dtypes))


def test_every_optimizer(name: str, host: NumPyOnHost) -> None:
    """With everything in one launch; rules that compare norms are left to the array engine."""
    options = {"clipnorm": 0.5, "weight_decay": 0.1, "ema_momentum": 0.9}
    found = train("auto", make(name, **options), ["float32"])
    rules = rules_of([(name, {})])
    served = any(rule.kind != "matrix" for rule in rules)
    assert bool(host.devices[0].launches) == served
    same(found, train("array", make(name, **options), ["float32"]))


def test_one_launch_and_no_wait(host: NumPyOnHost) -> None:
    """One launch for each combination of data types, one more for a norm; nothing is read."""
    device, optimizer = host.devices[0], make("Adam")
    params = draw(1, [(5,)] * 40, "float32") + draw(2, [(3,)] * 20, "float64")
    grads = draw(3, [(5,)] * 40, "float32") + draw(4, [(3,)] * 20, "float64")
    optimizer.apply(grads, params)
    assert len(launched([device])) == 2
    tables = device.tables
    optimizer.lr = 0.5
    optimizer.apply(grads, params)
    assert len(launched([device])) == 2 and device.tables == tables
    grads[7] = grads[7].copy()
    optimizer.apply(grads, params)
    assert device.tables == tables + 1
    launched([device])
    optimizer.clipnorm = 0.1
    optimizer.apply(grads, params)
    assert [name.split("_")[0] for name in launched([device])] == ["norm", "adam", "adam"]
    assert device.waits == 0
    optimizer.nonfinite = "raise"
    optimizer.apply(grads, params)
    assert device.waits == 1


def test_small_state_takes_no_launch_of_its_own(host: NumPyOnHost) -> None:
    """Codes are made, and random bits drawn, where the step is taken."""
    options = {"state_dtype": "int8", "stochastic_rounding": True, "clipnorm": 0.1}
    device, optimizer = host.devices[0], make("Adam", **options)
    params, grads = draw(1, [(500,)] * 40, "float32"), draw(3, [(500,)] * 40, "float32")
    optimizer.apply(grads, params)
    assert [name.split("_")[0] for name in launched([device])] == ["norm", "coded"]
    tables = device.tables
    optimizer.apply(grads, params)
    assert len(launched([device])) == 2 and (device.tables, device.waits) == (tables, 0)


def test_several_devices(host: NumPyOnHost) -> None:
    """Each device has a launch of its own, and the host adds up their norms."""
    params, grads = draw(1, [(50,)] * 4, "float32"), draw(2, [(50,)] * 4, "float32")
    other = [p.copy() for p in params]
    host.second = [params[1], params[3], grads[1], grads[3]]
    optimizer, plain = make("Adam", clipnorm=0.5), make("Adam", clipnorm=0.5)
    # Slots lie with their parameters.
    optimizer.init(params)
    for k in (1, 3):
        host.second += session_of(optimizer).state.slots[k].values()
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


def test_mutants_are_noticed(host: NumPyOnHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """Faults in the kernel, put in on purpose, make a comparison fail."""
    from arrayoptim.engines.gpu import batches as _gpu_batches
    from arrayoptim.engines.gpu import sweep as _gpu_sweep

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


def test_graphs_are_refused(host: NumPyOnHost) -> None:
    """A graph would repeat the numbers of one step; nothing has changed."""
    optimizer, params = make("Adam"), draw(1, SHAPES, "float32")
    before = [p.copy() for p in params]
    with host.captured(), pytest.raises(RuntimeError, match=r"with the optimizer's capture\(\)"):
        optimizer.apply(draw(2, SHAPES, "float32"), params)
    same(params, before)
    optimizer.apply(draw(2, SHAPES, "float32"), params)
    assert optimizer.iterations == 1


def test_scaled_gradients(host: NumPyOnHost) -> None:
    """The host finds the true norm of gradients that come scaled."""
    found = []
    for engine in ("gpu", "array"):
        optimizer, params = make("Adam", clipnorm=0.5), draw(1, SHAPES, "float32")
        with ao.engine(engine):
            session_of(optimizer).step(draw(2, SHAPES, "float32"), params, 0.125)
        found.append(params)
    assert host.devices[0].waits == 1
    same(*found)


@pytest.mark.parametrize("kind", ["Adam", "LAMB"])
def test_interrupts_between_launches(kind: str, host: NumPyOnHost) -> None:
    """Wherever they come, a step is taken whole, and what was raised is raised after it."""
    dtypes, taken = ["float32", "float64"], 0
    shapes = [(5, 7), (3,), (9,)]
    mine = [draw(k, [s], dtypes[k % 2])[0] for k, s in enumerate(shapes)]
    other = [p.copy() for p in mine]
    one, two = make(kind), make(kind)
    one.apply([np.zeros_like(p) for p in mine], mine)
    two.apply([np.zeros_like(p) for p in mine], other)
    for moment in range(1, 60):
        grads = [draw(9 + k, [s], dtypes[k % 2])[0] for k, s in enumerate(shapes)]
        seen = 0

        def note(frame: Any, event: str, argument: Any, moment: int = moment) -> Any:
            nonlocal seen
            inside = "engines" in frame.f_code.co_filename
            seen += inside and event == "call" and bool(host.devices[0].launches)
            if seen == moment and inside:
                sys.setprofile(None)
                raise KeyboardInterrupt
            return note

        host.devices[0].launches.clear()
        sys.setprofile(note)
        try:
            one.apply(grads, mine)
        except KeyboardInterrupt:
            taken += 1
        finally:
            sys.setprofile(None)
        two.apply(grads, other)
        same(mine, other)
        assert one.iterations == two.iterations
    assert taken
