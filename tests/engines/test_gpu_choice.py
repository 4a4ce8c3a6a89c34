"""Whom the GPU engine serves, what is in its way, and how it uses CuPy."""

from __future__ import annotations

import builtins
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import arrayoptim as ao
from arrayoptim.engines.gpu.arrays import LIBRARIES, TorchLibrary
from arrayoptim.engines.gpu.device import obstacle
from arrayoptim.engines.gpu.engine import refusal
from arrayoptim.engines.gpu.printer import UnprintableError, printed
from gpu_on_host import NumPyOnHost, compiler

pytestmark = pytest.mark.skipif(compiler() is None, reason="there is no C++ compiler")


def test_choice(host: NumPyOnHost) -> None:
    """The engine says whom it serves, and why not the others."""
    good, strided = np.ones(8, np.float32), np.ones((3, 2), np.float32)[:, 0]
    first, second = ao.explain([good, strided]).groups
    assert (first.engine, first.reason) == ("gpu", "one kernel serves all of this kind")
    assert (second.engine, second.reason) == ("array", "its elements are not contiguous")
    with ao.engine("gpu"), pytest.raises(ValueError, match="cannot serve parameter '1': its elem"):
        ao.SGD().apply([good, good[:3]], [good, strided])
    with ao.engine("cpu"):
        assert ao.explain([good]).groups[0].engine == "cpu"
    assert ao.explain([good], ao.Adam(state_dtype="int8")).groups[0].engine == "gpu"
    slots = {f"s{k}": np.zeros(8, np.uint8) for k in range(6)}
    slots |= {f"{name}_exponents": np.zeros(1, np.int16) for name in slots}
    assert "more than 5 slots in 8-bit codes" in str(refusal(ao.SGD().rule, good, slots))


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

        def captures(self, number: int) -> bool:
            return False

    monkeypatch.setitem(LIBRARIES, "torch", Alone())
    monkeypatch.setattr("arrayoptim.engines.gpu.device.obstacle", lambda: "CuPy is missing")
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
