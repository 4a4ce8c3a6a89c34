"""Steps in CUDA graphs, on the host: launches that are repeated with what is in memory then."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import arrayoptim as ao
from arrayoptim.engines.gpu.engine import unprintable
from arrayoptim.step.session import session_of
from call_counts import counted
from engine_cases import draw
from gpu_cases import SHAPES
from gpu_on_host import HostGraph, NumPyOnHost, compiler, launched
from gpu_options import OPTIONS
from optimizers_under_test import make, rules_of, same

pytestmark = pytest.mark.skipif(compiler() is None, reason="there is no C++ compiler")

STEPS = 4
SERVED = [row for row in OPTIONS if "nonfinite" not in row]
SERVED = [row for row in SERVED if not any(g.optimizer for g in row.get("groups", ()))]


def drawn(step: int, dtypes: Sequence[str]) -> list[np.ndarray]:
    """Return the gradients of a step."""
    rows = enumerate(zip(SHAPES, dtypes, strict=True))
    return [draw(50 + 9 * step + k, [shape], dtype)[0] for k, (shape, dtype) in rows]


def kinds(dtypes: Sequence[str]) -> list[str]:
    return [dtypes[k % len(dtypes)] for k in range(len(SHAPES))]


def eager(optimizer: Any, dtypes: Sequence[str]) -> list[np.ndarray]:
    """Return parameters and weights after steps of the array engine."""
    params = [draw(k, [s], d)[0] for k, (s, d) in enumerate(zip(SHAPES, dtypes, strict=True))]
    with ao.engine("array"):
        for step in range(STEPS):
            optimizer.apply(drawn(step, dtypes), params)
    return [*params, *optimizer.get_weights()]


class Loop:
    """A training loop whose graph reads gradients out of buffers of its own."""

    def __init__(self, host: NumPyOnHost, optimizer: Any, dtypes: Sequence[str]) -> None:
        rows = enumerate(zip(SHAPES, dtypes, strict=True))
        self.params = [draw(k, [shape], dtype)[0] for k, (shape, dtype) in rows]
        self.optimizer, self.dtypes = optimizer, dtypes
        self.buffers = [np.zeros_like(p) for p in self.params]
        self.step = optimizer.capture(self.params)
        launched(host.devices)
        with host.captured() as self.graph:
            self.step.apply(self.buffers)

    def run(self, steps: int = STEPS) -> list[np.ndarray]:
        """Take steps; return parameters and weights."""
        for _ in range(steps):
            for room, g in zip(self.buffers, drawn(self.taken, self.dtypes), strict=True):
                room[...] = g
            self.step.replay(self.graph)
        return [*self.params, *self.optimizer.get_weights()]

    @property
    def taken(self) -> int:
        return self.optimizer.iterations


@pytest.mark.parametrize("options", SERVED, ids="-".join)
def test_every_option(options: dict[str, Any], host: NumPyOnHost) -> None:
    """A step of a graph has the bits of one outside."""
    dtypes = kinds(["float32", "bfloat16", "float64"])
    loop = Loop(host, make("Adam", **options), dtypes)
    same(loop.run(), eager(make("Adam", **options), dtypes))
    assert loop.taken == STEPS and host.devices[0].waits == 0


def test_every_optimizer(name: str, host: NumPyOnHost) -> None:
    """Each step has its own numbers, with a schedule among them."""
    lr = ao.schedules.ExponentialDecay(0.1, 2, 0.5)
    options: dict[str, Any] = {"clipnorm": 0.5, "weight_decay": 0.1, "ema_momentum": 0.9}
    if "lr" in ao.get(name).hyperparameters:
        options["lr"] = lr
    rules = rules_of([(name, {})])
    if any(map(unprintable, rules)):
        with pytest.raises(ValueError, match="a CUDA graph cannot hold a step of"):
            make(name, **options).capture([np.zeros((2, 3), np.float32)])
        return
    dtypes = kinds(["float32"])
    same(Loop(host, make(name, **options), dtypes).run(), eager(make(name, **options), dtypes))


def test_launches(host: NumPyOnHost) -> None:
    """A graph holds two launches where a norm is wanted, and capturing changes nothing."""
    optimizer = make("Adam", clipnorm=0.5)
    loop = Loop(host, optimizer, kinds(["float32"]))
    assert len(launched(host.devices)) == 2
    assert optimizer.iterations == 0 and optimizer.last_step is None
    same(loop.params, [draw(k, [shape], "float32")[0] for k, shape in enumerate(SHAPES)])


def test_calls_of_a_step(host: NumPyOnHost) -> None:
    """A step outside of graphs makes few calls, and no more of them for more tensors."""
    counts = []
    for count in (200, 500):
        optimizer, params = make("Adam"), draw(1, [(3,)] * count, "float32")
        grads = [np.zeros_like(p) for p in params]
        with ao.engine("gpu"):
            for _ in range(4):
                optimizer.apply(grads, params)
            with counted() as found:
                optimizer.apply(grads, params)
        counts.append(found.count)
    assert counts[1] == counts[0] <= 170


def test_a_replay_asks_no_tensor(host: NumPyOnHost) -> None:
    """What the host does for a step of a graph does not depend on how many tensors there are."""
    calls = []
    for count in (10, 500):
        optimizer, params = make("Adam"), draw(1, [(3,)] * count, "float32")
        step = optimizer.capture(params)
        with host.captured() as graph:
            step.apply([np.zeros_like(p) for p in params])
        step.replay(graph)
        with counted() as found:
            step.replay(graph)
        calls.append(found.count)
    assert calls[1] == calls[0] <= 110


def test_set_and_reported(host: NumPyOnHost) -> None:
    """Hyperparameters can be set between the steps, and last_step tells them."""
    dtypes = kinds(["float32"])
    found, wanted = [], []
    loop, other = Loop(host, make("SGD", clipnorm=0.5), dtypes), make("SGD", clipnorm=0.5)
    params = [p.copy() for p in loop.params]
    for lr in (0.5, 0.25):
        loop.optimizer.lr = other.lr = lr
        with ao.engine("array"):
            other.apply(drawn(other.iterations, dtypes), params)
        loop.run(1)
        found.append(loop.optimizer.last_step)
        wanted.append(other.last_step)
    same(loop.params, params)
    assert found == wanted and found[1].hyperparameters["lr"] == 0.25


def test_steps_outside_between(host: NumPyOnHost) -> None:
    """A graph does not mind steps outside of it, nor other gradients there."""
    dtypes = kinds(["float32"])
    loop = Loop(host, make("Adam", clipnorm=0.5), dtypes)
    loop.run(1)
    loop.optimizer.apply(drawn(1, dtypes), loop.params)
    loop.run(1)
    loop.optimizer.apply(drawn(3, dtypes), loop.params)
    same([*loop.params, *loop.optimizer.get_weights()], eager(make("Adam", clipnorm=0.5), dtypes))


def test_missing_and_gapped_gradients(host: NumPyOnHost) -> None:
    """None leaves its parameter alone; a gradient in another order is copied in the graph."""
    params = draw(1, [(4, 6), (3,)], "float32")
    optimizer, before = make("SGD", lr=1.0), [p.copy() for p in params]
    step = optimizer.capture(params)
    with host.captured() as graph:
        step.apply([np.asfortranarray(np.ones((4, 6), np.float32)), None])
    step.replay(graph)
    same(params, [before[0] - 1, before[1]])


def test_resumed(host: NumPyOnHost, tmp_path: Any) -> None:
    """A checkpoint of a run in a graph goes on outside of one."""
    dtypes = kinds(["float32"])
    loop = Loop(host, make("Adam"), dtypes)
    loop.run(2)
    loop.optimizer.save_weights(tmp_path / "half.h5")
    params, other = [p.copy() for p in loop.params], make("Adam")
    other.load_weights(tmp_path / "half.h5")
    for step in (2, 3):
        other.apply(drawn(step, dtypes), params)
    same([*params, *other.get_weights()], loop.run(2))


def test_a_replaced_state(host: NumPyOnHost, tmp_path: Any) -> None:
    """A graph would go on stepping the old state: it is refused, and nothing has changed."""
    loop = Loop(host, make("Adam"), kinds(["float32"]))
    loop.run(1)
    loop.optimizer.save_weights(tmp_path / "weights.h5")
    loop.optimizer.load_weights(tmp_path / "weights.h5")
    before = [p.copy() for p in loop.params]
    with pytest.raises(RuntimeError, match="replaced since the graph was captured"):
        loop.run(1)
    same(loop.params, before)
    assert loop.taken == 1


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("clipvalue", None, 0.1),
        ("clipnorm", None, 0.1),
        ("clipnorm", 0.1, None),
        ("clipnorm_per_tensor", None, 0.1),
        ("agc", None, 0.1),
        ("agc", 0.1, None),
        ("nesterov", False, True),
        ("cautious", False, True),
        ("constraint", None, ao.constraints.Box(-1.0, 1.0)),
        ("groups", (), (ao.group("0", freeze=True),)),
        ("groups", (ao.group("0", freeze=True),), ()),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_other_stages(name: str, before: Any, after: Any, host: NumPyOnHost) -> None:
    """A stage that the graph does not hold cannot be had later; the old ones can."""
    options = {"momentum": 0.9, "clipvalue": 1.0} | {name: before}
    loop = Loop(host, make("SGD", **options), kinds(["float32"]))
    setattr(loop.optimizer, name, after)
    kept = [p.copy() for p in loop.params]
    with pytest.raises(ValueError, match="capture it again"):
        loop.run(1)
    assert loop.taken == 0
    same(loop.params, kept)
    setattr(loop.optimizer, name, before)
    same(loop.run(), eager(make("SGD", **options), loop.dtypes))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"nonfinite": "skip"}, "nonfinite='skip' needs the host"),
        (
            {"clipnorm_per_tensor": 1.0, "groups": [ao.group("0", optimizer=ao.SGD())]},
            "clipnorm_per_tensor with several rules or storage formats needs the host",
        ),
        ({"offload": True}, "offload=True needs the host"),
        (
            {"constraint": ao.constraints.MaxNorm(1.0), "cautious": True},
            "parameter '0': .* norms of the new",
        ),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_what_needs_the_host(options: dict[str, Any], words: str, host: NumPyOnHost) -> None:
    """It is said when the step is made ready."""
    with pytest.raises(ValueError, match=words):
        make("Adam", **options).capture([np.zeros(3, np.float32), np.zeros(2, np.float32)])


def test_parameters_elsewhere(host: NumPyOnHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """On no GPU, or on two."""
    params = [np.zeros(3, np.float32), np.zeros(3, np.float32)]
    optimizer = make("SGD", momentum=0.0)
    optimizer.init(params)
    host.second += [params[1], *session_of(optimizer).state.slots[1].values()]
    with pytest.raises(ValueError, match="parameter '1': it is on another device"):
        optimizer.capture(params)
    monkeypatch.undo()
    with pytest.raises(ValueError, match="parameter '0': it is on no GPU"):
        make("Adam").capture([np.zeros(3, np.float32)])


def test_what_capture_has_not_seen(host: NumPyOnHost) -> None:
    """No kernel can be compiled while a graph is captured."""
    optimizer, params = make("SGD"), draw(1, SHAPES, "float32")
    step = optimizer.capture(params)
    with host.captured(), pytest.raises(RuntimeError, match="ready for gradients of float64"):
        step.apply(draw(1, SHAPES, "float64"))
    optimizer.clipvalue = 0.1
    with host.captured(), pytest.raises(RuntimeError, match="let capture see the hyperparam"):
        step.apply(draw(1, SHAPES, "float32"))
    optimizer.clipvalue, optimizer.clipnorm = None, 0.1
    with host.captured(), pytest.raises(ValueError, match="capture it again"):
        step.apply(draw(1, SHAPES, "float32"))


def test_in_the_wrong_order(host: NumPyOnHost) -> None:
    """Each call says what should have come before."""
    params, grads = draw(1, SHAPES, "float32"), draw(2, SHAPES, "float32")
    optimizer = make("Adam")
    with host.captured(), pytest.raises(RuntimeError, match="call capture before"):
        optimizer.capture(params)
    step = optimizer.capture(params)
    with pytest.raises(RuntimeError, match="no CUDA graph is being captured"):
        step.apply(grads)
    with pytest.raises(RuntimeError, match="no step is in a CUDA graph"):
        step.replay(HostGraph())
    with host.captured():
        with pytest.raises(ValueError, match=r"gradient of parameter '0'"):
            step.apply([g[:0] if g.ndim else g for g in grads])
        step.apply(grads)
        with pytest.raises(RuntimeError, match="in a CUDA graph already"):
            step.apply(grads)
    with pytest.raises(TypeError, match="found None, wanted a torch"):
        step.replay(None)
    assert optimizer.iterations == 0


@pytest.mark.parametrize("options", [{}, {"clipnorm": 0.5, "groups": [ao.group("2", lr=0.1)]}])
def test_what_is_sent_for_a_step(options: dict[str, Any], host: NumPyOnHost) -> None:
    """One row of numbers in one copy where all tensors share them, however many there are."""
    optimizer, device = make("Adam", **options), host.devices[0]
    loop = Loop(host, optimizer, kinds(["float32"]))
    loop.run(2)
    device.sent.clear()
    loop.run(3)
    assert len(device.sent) == 3 and len(set(device.sent)) == 1
    # A group with a number of its own wants a row for each tensor.
    assert (device.sent[0] <= 128) == ("groups" not in options)


def test_groups_part_in_a_graph(host: NumPyOnHost) -> None:
    """Numbers that all tensors shared when the graph was captured, and no longer share."""
    groups = [ao.group("2", lr=0.1)]
    dtypes = kinds(["float32"])
    one, two = make("SGD", lr=0.1, groups=groups), make("SGD", lr=0.1, groups=groups)
    loop = Loop(host, one, dtypes)
    params = [p.copy() for p in loop.params]
    for lr in (0.1, 0.5, 0.1):
        one.lr = two.lr = lr
        with ao.engine("array"):
            two.apply(drawn(two.iterations, dtypes), params)
        loop.run(1)
        same(loop.params, params)
