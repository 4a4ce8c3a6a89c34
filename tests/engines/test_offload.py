"""Offload: parameters on a GPU, here the host in its place, with their state in host memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import arrayoptim as ao
from arrayoptim.engines.gpu.arrays import LIBRARIES
from arrayoptim.engines.gpu.copies import Copies
from arrayoptim.engines.offload import pieces
from engine_cases import draw
from gpu_on_host import NumPyOnHost, TorchOnHost, compiler, copied
from offload_options import OPTIONS
from optimizers_under_test import make, rules_of, same

pytestmark = pytest.mark.skipif(compiler() is None, reason="there is no C++ compiler")

SHAPES: list[tuple[int, ...]] = [(40, 13), (), (300,), (0, 2), (3, 1000), (700,), (21, 5)]


class There(NumPyOnHost):
    """NumPy arrays of which some lie on a GPU: those handed to `put`."""

    def __init__(self) -> None:
        super().__init__()
        self._there: list[np.ndarray] = []

    def put(self, arrays: list[np.ndarray]) -> list[np.ndarray]:
        self._there += arrays
        return arrays

    def holds(self, array: Any) -> bool:
        return any(np.shares_memory(array, other) for other in self._there)

    def conform(self, array: Any, like: Any, dtype: str) -> Any:
        return self.put([super().conform(array, like, dtype)])[0]


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch) -> There:
    """Take some NumPy arrays for arrays on a GPU, and let few bytes travel together."""
    library = There()
    monkeypatch.setitem(LIBRARIES, "numpy", library)
    monkeypatch.setattr(pieces, "BUCKET", 2048)
    return library


def train(optimizer: Any, dtypes: list[str], there: There | None = None) -> list[Any]:
    """Return parameters and weights after some steps, with gradients missing now and then."""
    rows = [(shape, dtypes[k % len(dtypes)]) for k, shape in enumerate(SHAPES)]
    params = [draw(k, [shape], kind)[0] for k, (shape, kind) in enumerate(rows)]
    move = there.put if there else list
    params = move(params)
    for step in range(4):
        grads = [draw(50 + 9 * step + k, [s], kind)[0] for k, (s, kind) in enumerate(rows)]
        given: list[Any] = move(grads)
        given[4 if step == 1 else 2] = None
        optimizer.apply(given, params)
    return [*params, *optimizer.get_weights()]


@pytest.mark.parametrize("options", OPTIONS, ids="-".join)
def test_every_option(options: dict[str, Any], there: There) -> None:
    """The bits are those of arrays in host memory."""
    dtypes = ["float32", "bfloat16", "float64", "float16"]
    found = train(make("Adam", offload=True, **options), dtypes, there)
    assert there.devices[0].rooms and not any(there.holds(x) for x in found[len(SHAPES) :])
    same(found, train(make("Adam", **options), dtypes))


def test_every_optimizer(name: str, there: There) -> None:
    """Tensorwise rules too, whose norms are taken on the host; complex numbers travel whole."""
    rules = rules_of([(name, {})])
    if any(rule.kind == "matrix" or rule.totals for rule in rules):
        with pytest.raises(ValueError, match="offload=True cannot serve parameter"):
            train(make(name, offload=True), ["float32"], there)
        return
    for dtypes in (["float32"], ["complex64", "complex128"]):
        found = train(make(name, offload=True, clipnorm=0.5), dtypes, there)
        same(found, train(make(name, clipnorm=0.5), dtypes))


def test_what_travels(there: There) -> None:
    """Three rooms serve all buckets; what has no gradient stays where it is."""
    optimizer = ao.Adam(offload=True)
    params = there.put(draw(1, [(1000,)] * 6, "float32"))
    grads: list[Any] = there.put(draw(2, [(1000,)] * 6, "float32"))
    optimizer.apply(grads, params)
    rooms = [room.size for room in there.devices[0].rooms]
    assert len(rooms) == 3 and max(rooms) <= 2 * 2048 + 4 * 64
    copied.clear()
    optimizer.apply([None, *grads[1:5], None], params)
    assert copied.count(2) == 2 * copied.count(1) == 2 * 4 * 2
    assert len(there.devices[0].rooms) == 3
    text = str(ao.explain(params, optimizer))
    assert "offload: 6 numpy arrays" in text and "on the host, where their state is" in text


def test_missing_waits_are_noticed(there: There, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a wait, in each of the places that have one, the result is another."""
    wanted = train(make("Adam"), ["float32"])
    fetch = Copies.fetch
    event = type("Event", (), {"synchronize": lambda self: None})
    faults: dict[str, Any] = {
        "fetch": lambda self, rows, after=None: fetch(self, rows),
        "put": lambda self, rows: event(),
    }
    for name, fault in faults.items():
        with monkeypatch.context() as patch:
            patch.setattr(Copies, name, fault)
            found = train(make("Adam", offload=True), ["float32"], there)
        with pytest.raises(AssertionError):
            same(found, wanted)


def test_gradients_of_every_kind(there: There) -> None:
    """Of other types and orders, and in the memory of parameters."""
    room = np.linspace(-1.0, 1.0, 3000, dtype=np.float32)
    strided = np.asfortranarray(room[:600].reshape(20, 30).copy())
    start = [room[:1000].copy(), room[1000:2000].copy(), strided.copy(order="K")]
    wide = draw(3, [(20, 60)], "float64")[0][:, ::2]
    grads = [room[500:1500].copy(), room[:1000].copy(), wide]
    ao.Adam(lr=0.5).apply(grads, start)
    there.put([room, strided, wide])
    params = [room[:1000], room[1000:2000], strided]
    ao.Adam(lr=0.5, offload=True).apply([room[500:1500], room[:1000], wide], params)
    same(params, start)


def test_everything_else_of_an_optimizer(there: There, tmp_path: Path) -> None:
    """Averages, updates that are computed first, files: all know where the state is."""
    options = {"ema_momentum": 0.5, "clipnorm": 1.0}
    here, gone = ao.Adam(**options), ao.Adam(offload=True, **options)
    other = draw(1, [(30, 7), (5,)], "float32")
    params = there.put(draw(1, [(30, 7), (5,)], "float32"))
    grads = draw(2, [(30, 7), (5,)], "float32")
    given = there.put([g.copy() for g in grads])
    for optimizer, mine, own in ((here, other, grads), (gone, params, given)):
        optimizer.apply(own, mine)
        optimizer.apply_updates(
            optimizer.get_updates(mine, lambda _, own=own: (0.0, own))  # type: ignore[misc]
        )
        optimizer.save_weights(tmp_path / "state.h5")
        optimizer.reset()
        optimizer.load_weights(tmp_path / "state.h5")
        optimizer.apply(own, mine)
    same([*params, *gone.get_weights()], [*other, *here.get_weights()])
    same(gone.averages(params), here.averages(other))
    assert ao.Adam.from_config(gone.get_config()).offload


def test_refusals(there: There) -> None:
    """What offload cannot serve is said before anything changes."""
    strided = there.put([np.ones((4, 4), np.float32)])[0][:, ::2]
    good = there.put([np.ones(4, np.float32)])[0]
    g = there.put([np.ones(4, np.float32)])[0]
    with pytest.raises(ValueError, match="offload=True cannot serve parameter 'w': its elem"):
        ao.Adam(offload=True).apply({"w": strided}, {"w": strided})
    with ao.engine("array"), pytest.raises(ValueError, match=r"offload=True cannot serve.*asked"):
        ao.Adam(offload=True).apply([g], [good])
    with pytest.raises(ValueError, match="offload=True keeps the state of apply"):
        ao.Adam(offload=True).init_state([good])
    assert good.tolist() == [1.0] * 4


def test_arrays_in_host_memory_are_served_as_ever() -> None:
    """Their state is there already."""
    p = np.ones(3, np.float32)
    ao.Adam(offload=True).apply(np.ones(3, np.float32), p)
    assert ao.explain([p], ao.Adam(offload=True)).groups[0].engine == "cpu"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_torch_tensors(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The state is in tensors of the CPU, and autograd notices the change."""
    torch = pytest.importorskip("torch")

    class Library(TorchOnHost):
        def holds(self, array: Any) -> bool:
            return getattr(array, "there", False) is True

        def conform(self, array: Any, like: Any, dtype: str) -> Any:
            copy = super().conform(array, like, dtype)
            copy.there = True
            return copy

    def tensors(seed: int) -> list[Any]:
        return [
            torch.from_numpy(x).to(getattr(torch, dtype)) for x in draw(seed, SHAPES, "float32")
        ]

    params, other = [torch.nn.Parameter(x) for x in tensors(1)], tensors(1)
    grads = tensors(2)
    for x in (*params, *grads):
        x.there = True
    ao.Adam(clipnorm=0.5).apply(tensors(2), other)
    monkeypatch.setitem(LIBRARIES, "torch", Library())
    monkeypatch.setattr(pieces, "BUCKET", 2048)
    version, optimizer = params[0]._version, ao.Adam(clipnorm=0.5, offload=True)
    optimizer.apply(grads, params)
    assert params[0]._version > version
    assert all(torch.equal(a.detach(), b) for a, b in zip(params, other, strict=True))
    assert type(optimizer.weights[1]) is torch.Tensor
