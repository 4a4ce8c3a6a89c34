"""GPUs without CUDA: the array engine serves, says so, and nothing asks for what is not there."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import arrayoptim as ao
from arrayoptim.arrays.libraries import backend_of
from arrayoptim.engines.gpu.arrays import LIBRARIES, TorchLibrary
from cupy_on_host import installed
from optimizers_under_test import make

OPTIONS: list[dict[str, Any]] = [
    {},
    {"clipnorm": 0.5, "weight_decay": 0.1, "ema_momentum": 0.9},
    {"clipnorm_per_tensor": 0.5, "agc": 0.1, "nonfinite": "skip"},
    {"nonfinite": "raise", "clipvalue": 0.1},
    {"cautious": True},
    {"constraint": ao.constraints.MaxNorm(1.0)},
]
SHAPES = [(4, 6), (3,), (2, 3, 4)]


def drawn(seed: int) -> list[np.ndarray]:
    """Return arrays."""
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape).astype(np.float32) for shape in SHAPES]


def trained(optimizer: Any, asarray: Any, steps: int = 3) -> list[Any]:
    """Return parameters after some steps."""
    params = [asarray(x) for x in drawn(1)]
    for step in range(steps):
        optimizer.apply([asarray(g) for g in drawn(7 + step)], params)
    return params


def close(found: list[Any], wanted: list[np.ndarray]) -> None:
    """Assert that arrays agree."""
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(backend_of(a).to_host(a), b, rtol=1e-4, atol=1e-6)


@pytest.fixture
def rocm() -> Iterator[Any]:
    """Let there be ROCm's CuPy."""
    with installed(rocm=True):
        import cupy

        yield cupy


@pytest.mark.parametrize("options", OPTIONS, ids="-".join)
def test_cupy_of_rocm(options: dict[str, Any], rocm: Any) -> None:
    """Its arrays are stepped, by no kernel of CUDA's."""
    close(
        trained(make("Adam", **options), rocm.asarray), trained(make("Adam", **options), np.asarray)
    )
    group = ao.explain([rocm.asarray(np.ones(3, np.float32))]).groups[0]
    assert group.engine == "array" and "this CuPy is for ROCm" in group.reason


def test_every_optimizer_on_rocm(name: str, rocm: Any) -> None:
    """Whatever its rule."""
    if name != "SOAP":  # its basis is not unique
        close(trained(make(name), rocm.asarray), trained(make(name), np.asarray))


def test_what_rocm_lacks_is_said(rocm: Any) -> None:
    """In words, before anything changes."""
    p, g = rocm.asarray(np.ones(3, np.float32)), rocm.asarray(np.ones(3, np.float32))
    with pytest.raises(ValueError, match=r"offload=True cannot serve.*this CuPy is for ROCm"):
        ao.Adam(offload=True).apply(g, p)
    with pytest.raises(ValueError, match=r"CUDA graph cannot hold.*this CuPy is for ROCm"):
        ao.Adam().capture([p])
    with ao.engine("gpu"), pytest.raises(ValueError, match="this CuPy is for ROCm"):
        ao.Adam().apply(g, p)
    assert p.get().tolist() == [1.0] * 3


def test_torch_of_rocm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its tensors call themselves CUDA's; the kernels are not for them."""
    torch = pytest.importorskip("torch")

    class There(TorchLibrary):
        def holds(self, array: Any) -> bool:
            return True

        def number(self, array: Any) -> int:
            return 0

        def captures(self, number: int) -> bool:
            return False

    monkeypatch.setitem(LIBRARIES, "torch", There())
    monkeypatch.setattr(torch.version, "hip", "6.2")
    close(trained(ao.Adam(), lambda x: torch.from_numpy(x.copy())), trained(ao.Adam(), np.asarray))
    group = ao.explain([torch.ones(3)]).groups[0]
    assert group.engine == "array" and "this torch is ROCm's" in group.reason


def fake(kind: str, double: bool, patch: pytest.MonkeyPatch) -> Any:
    """Return a maker of torch tensors that lie on another kind of device, as far as they say."""
    torch = pytest.importorskip("torch")

    class Tensor(torch.Tensor):  # type: ignore[misc,name-defined]
        """A tensor of such a device: what is made of it is one, and of the host's only numbers."""

        device = property(lambda self: torch.device(kind, 0))

        def numpy(self, *more: Any, **words: Any) -> Any:
            raise TypeError(f"can't convert {kind}:0 device type tensor to numpy.")

        def data_ptr(self) -> int:
            # As if all lay together, where it is the address of an object.
            return 64 if kind == "mps" else torch.Tensor.data_ptr(self)

        def cpu(self, *more: Any) -> Any:
            return self.as_subclass(torch.Tensor).clone()

        @classmethod
        def __torch_function__(
            cls, function: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            words = dict(kwargs or {})
            wide = any(x is torch.float64 for x in (*args, *words.values()))
            if wide and not double:
                raise TypeError(f"Cannot convert to float64, which {kind} doesn't support")
            name = getattr(function, "__name__", "")
            if name not in ("copy_", "__get__", "__set__"):
                for x in args:
                    if type(x) is torch.Tensor and x.ndim:
                        raise RuntimeError("Expected all tensors to be on the same device")
            words.pop("device", None)
            return super().__torch_function__(function, types, args, words)

    def asarray(x: Any, *more: Any, device: Any = None, **words: Any) -> Any:
        """Make a tensor there, or on the host."""
        made = real(x, *more, **words)
        return made if device is None or device.type == "cpu" else made.as_subclass(Tensor)

    real = torch.asarray
    patch.setattr(torch, "asarray", asarray)
    return lambda x: torch.from_numpy(np.array(x)).as_subclass(Tensor)


@pytest.mark.parametrize("options", OPTIONS, ids="-".join)
@pytest.mark.parametrize(("kind", "double"), [("mps", False), ("xpu", True), ("xpu", False)])
def test_torch_tensors_on_other_gpus(
    kind: str, double: bool, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is no float64 sums are in float32."""
    torch = pytest.importorskip("torch")
    found = SimpleNamespace(has_fp64=double)
    monkeypatch.setattr(torch.xpu, "get_device_properties", lambda device: found)
    asarray = fake(kind, double, monkeypatch)
    close(trained(make("Adam", **options), asarray), trained(make("Adam", **options), np.asarray))
    group = ao.explain([asarray(np.ones(3, np.float32))]).groups[0]
    assert group.engine == "array" and f"on device {kind}:0" in group.reason


def test_every_optimizer_on_other_gpus(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever its rule."""
    if name not in ("SOAP", "Shampoo", "Muon"):  # bases and iterations that float32 rounds
        asarray = fake("mps", False, monkeypatch)
        close(trained(make(name), asarray), trained(make(name), np.asarray))


def test_a_default_stream_that_waits_for_a_capture() -> None:
    """CUDA refuses even the question then: a step there is refused in words."""
    with installed():
        import cupy

        p, g = cupy.asarray(np.ones(3, np.float32)), cupy.asarray(np.ones(3, np.float32))
        stream = cupy.cuda.Stream()
        stream.begin_capture()
        with pytest.raises(RuntimeError, match="is being captured"):
            ao.SGD().apply(g, p)
        stream.end_capture()
        ao.SGD(lr=1.0).apply(g, p)
        assert p.get().tolist() == [0.0] * 3
