"""The summary of state: bytes and arrays, before there is any and after."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import arrayoptim as ao

OPTIMIZERS: dict[str, Any] = {
    "int8": lambda: ao.Adam(state_dtype="int8", ema_momentum=0.9),
    "bfloat16": lambda: ao.Lion(state_dtype="bfloat16", kahan=True, master=False),
    "factors": ao.Adafactor,
    "matrices": ao.Muon,
    "groups": lambda: ao.Adam(groups=[ao.group("b", optimizer=ao.SGD(momentum=0.9))]),
    "offload": lambda: ao.Adam(offload=True),
    "gathered": lambda: ao.GradientAccumulation(ao.LossScale("adam")),
    "slow": lambda: ao.Lookahead("sgd"),
}


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_it_is_what_there_will_be(kind: str) -> None:
    """Its bytes are those of the arrays that a first step makes, and it is the same then."""
    optimizer = OPTIMIZERS[kind]()
    params = {"b": np.zeros(3, np.float32), "w": np.zeros((300, 5), np.float16)}
    summary = optimizer.summary(params)
    assert not optimizer.built
    optimizer.init(params)
    # Scalar state is in numbers.
    held = [x for x in optimizer.weights if isinstance(x, np.ndarray)]
    assert summary.bytes == sum(x.nbytes for x in held)
    assert len(summary.slots) == len(held)
    assert sorted(map(str, (s.shape for s in summary.slots))) == sorted(str(x.shape) for x in held)
    assert optimizer.summary(params) == summary
    assert summary.parameter_bytes == 3012
    assert ("host memory" in str(summary)) is (kind == "offload")


def test_of_other_parameters() -> None:
    """State is of the parameters that it was made for."""
    optimizer = ao.Adam()
    optimizer.init([np.zeros(3)])
    with pytest.raises(ValueError, match="misshapen"):
        optimizer.summary([np.zeros(4)])
    with pytest.raises(TypeError):
        optimizer.summary([3])


def test_of_a_torch_optimizer() -> None:
    """It is that of all groups."""
    torch = pytest.importorskip("torch")
    model = torch.nn.Linear(3, 2)
    groups = [{"params": [("w", model.weight)]}, {"params": [("b", model.bias)], "lr": 0.1}]
    optimizer = ao.torch.Adam(groups)
    summary = optimizer.summary()
    assert [leaf.path for leaf in summary.parameters] == ["w", "b"] and summary.bytes == 64
    assert not optimizer.state


@pytest.mark.parametrize("state_dtype", [None, "bfloat16"])
def test_of_a_keras_optimizer(state_dtype: str | None) -> None:
    """Before it is built that of variables that are given; then that of its own."""
    keras = pytest.importorskip("keras")
    variables = [
        keras.Variable(np.zeros(shape, "float32"), name=str(shape[0])) for shape in ((3, 2), (5,))
    ]
    optimizer = ao.keras.Adam(state_dtype=state_dtype, nonfinite="skip")
    with pytest.raises(ValueError, match="found no variables, wanted those to be"):
        optimizer.summary()
    summary = optimizer.summary(variables)
    optimizer.build(variables)
    held = [slot for slots in optimizer._held.slots for slot in slots.values()]
    sizes = [np.prod(v.shape) * (2 if state_dtype else 4) for v in held]
    for each in (summary, optimizer.summary()):
        assert each.bytes == sum(sizes)
        assert sorted(s.shape for s in each.slots) == sorted(tuple(v.shape) for v in held)
        assert each.parameter_bytes == 44


def test_in_notebooks() -> None:
    """Names are escaped."""
    summary = ao.Adam(name="<i>").summary({"<b>": np.zeros(2)})
    assert "&lt;b&gt;" in summary._repr_html_() and "<i>" not in summary._repr_html_()
    shown = ao.Adam(0.5, name="<i>")._repr_html_()
    assert "<b>0.5</b>" in shown and "&lt;i&gt;" in shown and "<b>0.9</b>" not in shown
    assert "CosineDecay" in ao.schedules.CosineDecay(0.1, 10)._repr_html_()
    assert "SGD" in ao.LossScale("sgd")._repr_html_()
